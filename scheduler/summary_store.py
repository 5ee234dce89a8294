"""What is stored, read for a summary: of each kind the few that are busiest. Reads; never decides.

What a reading costs follows what is going on, never what there is: indexes hold what has not ended, and nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import JOB, MACHINE, RUN, JobState, MachineState, PlacementState, RunState

from ..catalog.among import among
from ..catalog.database import Database
from ..catalog.tables import CertificateRow
from ..catalog.tallies import tallied_by_owner
from .jobs.tables import JobRow, RunRow
from .tables import FAILED, MOVING, MachineRow, PlacementRow

_LIVE_MACHINES = sorted(set(MachineState) - MACHINE.ends())
_LIVE_JOBS = sorted(set(JobState) - JOB.ends())
_LIVE_RUNS = sorted(set(RunState) - RUN.ends())
_moving = (
    select(PlacementRow.data, PlacementRow.host, PlacementRow.done)
    .where(MOVING)
    .cte("moving")
    # Made first: to have them in groups, SQLite would read all copies by an index that has them so.
    .prefix_with("MATERIALIZED")
)


@dataclass(frozen=True, slots=True)
class Filling:
    """A datum of which copies are on their way; `done` is what is stored of their bytes."""

    data: Uid
    intended: int
    done: int
    held: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Something that failed, and when."""

    uid: Uid
    host: HostId | None
    name: str
    since: datetime
    reason: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class LiveMachine:
    """A machine that has not ended."""

    uid: Uid
    host: HostId | None
    disk: Uid
    state: MachineState
    since: datetime


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run that has not ended, with the job that it is of."""

    job: Uid
    host: HostId
    name: str
    owner: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Busiest:
    """The busiest at one moment.

    Attributes:
        filling: Data of which copies are on their way.
        swarms: How many such data there are in all.
        transfers: Copies on their way, by host.
        machines_on: Machines that have not ended, by host.
        runs_on: Runs of jobs that have not ended, by host.
        machines: Machines that have not ended.
        runs: Runs that have not ended.
        owners: Jobs that have not ended, by who submitted them and by state.
        copies_failed: Copies that are not tried again yet.
        machines_failed: Machines that failed lately.
        jobs_failed: Jobs that failed lately.
    """

    filling: list[Filling]
    swarms: int
    transfers: Counter[HostId]
    machines_on: Counter[HostId]
    runs_on: Counter[HostId]
    machines: list[LiveMachine]
    runs: list[LiveRun]
    owners: dict[str, dict[JobState, int]]
    copies_failed: list[Failed]
    machines_failed: list[Failed]
    jobs_failed: list[Failed]


class SummaryStore:
    """Reads what a summary tells of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def names(self, owners: Collection[str]) -> dict[str, str]:
        """What people are called. Raises HostError `storage.failed`."""
        query = select(CertificateRow.subject_id, CertificateRow.name).order_by(CertificateRow.expires)
        async with self._database.read() as session:
            rows = await session.execute(query.where(among(CertificateRow.subject_id, owners)))
            return {row[0]: row[1] for row in rows}  # the newest certificate's is the last

    async def busiest(self, most: int, lately: datetime) -> Busiest:
        """So many of each kind at most; of what failed, what did since `lately`. In one consistent view.

        Raises:
            HostError: `storage.failed`.
        """
        swarms = select(func.count(func.distinct(_moving.c.data)))
        async with self._database.read() as session:
            return Busiest(
                filling=await _filling(session, most),
                swarms=await session.scalar(swarms) or 0,
                transfers=await _by_host(session, _moving.c.host),
                machines_on=await _by_host(session, MachineRow.host, MachineRow.state.in_(_LIVE_MACHINES)),
                runs_on=await _by_host(session, RunRow.host, RunRow.state.in_(_LIVE_RUNS)),
                machines=await _machines(session, most),
                runs=await _runs(session, most),
                owners=await _owners(session),
                copies_failed=await _copies_failed(session, most),
                machines_failed=await _machines_failed(session, most, lately),
                jobs_failed=await _jobs_failed(session, most, lately),
            )


async def _filling(session: AsyncSession, most: int) -> list[Filling]:
    number = func.count()
    query = select(_moving.c.data, number, func.sum(_moving.c.done)).group_by(_moving.c.data)
    found = (await session.execute(query.order_by(number.desc(), _moving.c.data).limit(most))).all()
    held = select(PlacementRow.data, func.count()).group_by(PlacementRow.data)
    held = held.where(among(PlacementRow.data, [row[0] for row in found]), PlacementRow.state == PlacementState.HELD)
    counts: dict[str, int] = {row[0]: row[1] for row in await session.execute(held)}
    return [Filling(Uid(data), n, int(done or 0), counts.get(data, 0)) for data, n, done in found]


async def _by_host(session: AsyncSession, column: Any, *conditions: Any) -> Counter[HostId]:
    rows = await session.execute(select(column, func.count()).where(*conditions).group_by(column))
    return Counter({HostId(host): number for host, number in rows if host is not None})


async def _machines(session: AsyncSession, most: int) -> list[LiveMachine]:
    columns = (MachineRow.uid, MachineRow.host, MachineRow.data, MachineRow.state, MachineRow.since)
    query = select(*columns).where(MachineRow.state.in_(_LIVE_MACHINES))
    rows = await session.execute(query.order_by(MachineRow.since.desc(), MachineRow.uid).limit(most))
    return [
        LiveMachine(Uid(uid), _host(host), Uid(data), MachineState(state), since)
        for uid, host, data, state, since in rows
    ]


async def _runs(session: AsyncSession, most: int) -> list[LiveRun]:
    columns = (JobRow.uid, RunRow.host, JobRow.name, JobRow.owner, RunRow.since)
    query = select(*columns).join(JobRow, JobRow.uid == RunRow.job).where(RunRow.state.in_(_LIVE_RUNS))
    rows = await session.execute(query.order_by(RunRow.since.desc(), RunRow.uid).limit(most))
    return [LiveRun(Uid(uid), HostId(host), name, owner, since) for uid, host, name, owner, since in rows]


async def _owners(session: AsyncSession) -> dict[str, dict[JobState, int]]:
    found: defaultdict[str, dict[JobState, int]] = defaultdict(dict)
    for owner, state, number in await tallied_by_owner(session, "jobs", _LIVE_JOBS):
        found[owner][JobState(state)] = number
    return dict(found)


async def _copies_failed(session: AsyncSession, most: int) -> list[Failed]:
    query = select(PlacementRow.data, PlacementRow.host, PlacementRow.since, PlacementRow.reason)
    query = query.where(FAILED).order_by(PlacementRow.since.desc()).limit(most)
    rows = await session.execute(query)
    return [Failed(Uid(data), _host(host), "", since, reason) for data, host, since, reason in rows]


async def _machines_failed(session: AsyncSession, most: int, lately: datetime) -> list[Failed]:
    query = select(MachineRow.uid, MachineRow.host, MachineRow.since, MachineRow.reason)
    query = query.where(MachineRow.state == MachineState.FAILED, MachineRow.since > lately)
    rows = await session.execute(query.order_by(MachineRow.since.desc()).limit(most))
    return [Failed(Uid(uid), _host(host), "", since, reason) for uid, host, since, reason in rows]


async def _jobs_failed(session: AsyncSession, most: int, lately: datetime) -> list[Failed]:
    query = select(JobRow.uid, JobRow.name, JobRow.since, JobRow.reason)
    query = query.where(JobRow.state == JobState.FAILED, JobRow.since > lately)
    rows = await session.execute(query.order_by(JobRow.since.desc()).limit(most))
    return [Failed(Uid(uid), None, name, since, reason) for uid, name, since, reason in rows]


def _host(host: str | None) -> HostId | None:
    return None if host is None else HostId(host)
