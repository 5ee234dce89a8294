"""Stored jobs, their runs and results, one transaction a call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Table, and_, bindparam, cast, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.states import RUN, JobState, RunState
from bitdew.wire import limits
from bitdew.wire.models import LogChunk, SpecModel

from ...catalog.among import among
from ...catalog.database import Database
from ...catalog.feed import Told, along
from ..host_store import Check, raise_generations
from ..records import OrderRecord
from ..store import add_orders, close_orders, newest
from ..written import Written
from .records import JobInput, JobRecord, ResultRecord, RunRecord
from .rows import fixed_values, job_from, job_values, run_from, run_values, shape_of
from .tables import JobInputRow, JobRow, ResultRow, RunRow, StandingRow

TOPIC: Final = "jobs"
"""The topic of all jobs: for people, who see every change."""
QUEUE: Final = "job queue"
"""The topic of what begins and ends: a job came or needs another run, or a run is over; not of what only goes on."""
_JOBS: Final[Table] = JobRow.metadata.tables[JobRow.__tablename__]
_RUNS: Final[Table] = RunRow.metadata.tables[RunRow.__tablename__]
RUN_COLUMNS: Final = select(*(column for column in _RUNS.columns if column.name != "log"))
_IN_ORDER: Final = (JobRow.created, JobRow.array, JobRow.place)
AT_WORK: Final = sorted(set(RunState) - RUN.ends())
"""The states of runs that have not ended, named one by one, so that an index is used."""


class JobStore:
    """Reads and writes jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, jobs: Sequence[JobRecord]) -> bool:
        """Store new jobs; False, and nothing is stored, if jobs of that array are there already."""
        if not jobs:
            return False
        async with self._database.write() as session:
            array = jobs[0].array
            if await session.scalar(select(JobRow.uid).where(JobRow.array == array).limit(1)):
                return False
            if await session.get(StandingRow, array) is not None:  # its jobs alone have its uid for their array
                return False
            await insert_jobs(session, jobs)
            along(session, Told(topics=(TOPIC, QUEUE)))
        return True

    # Reading --------------------------------------------------------------------------------------------------------

    async def jobs(self, uids: Collection[Uid]) -> dict[Uid, JobRecord]:
        """These jobs."""
        if not uids:
            return {}
        async with self._database.read() as session:
            rows = list(await session.scalars(select(JobRow).where(among(JobRow.uid, uids))))
            return {job.uid: job for job in await with_inputs(session, rows)}

    async def find(self, prefix: str, most: int) -> list[JobRecord]:
        """Jobs whose uid, or whose array's, begins so; in their order."""
        query = select(JobRow).where(_called(prefix)).order_by(*_IN_ORDER).limit(most)
        async with self._database.read() as session:
            return await with_inputs(session, list(await session.scalars(query)))

    async def page(
        self,
        *,
        owner: str | None,
        states: Collection[JobState] | None,
        prefix: str,
        after: tuple[datetime, Uid, int] | None,
        limit: int,
    ) -> list[JobRecord]:
        """Jobs, oldest first; every condition that is given must hold."""
        query = select(JobRow).order_by(*_IN_ORDER).limit(limit)
        if owner is not None:
            query = query.where(JobRow.owner == owner)
        if states is not None:
            query = query.where(JobRow.state.in_(sorted(states)))
        if prefix:
            query = query.where(_called(prefix))
        if after is not None:
            created, array, place = after
            behind = or_(JobRow.array > array, and_(JobRow.array == array, JobRow.place > place))
            query = query.where(or_(JobRow.created > created, and_(JobRow.created == created, behind)))
        async with self._database.read() as session:
            return await with_inputs(session, list(await session.scalars(query)))

    async def counts(self, array: Uid | None = None) -> dict[JobState, int]:
        """How many jobs are in which state, of all or of one array."""
        query = select(JobRow.state, func.count()).group_by(JobRow.state)
        if array is not None:
            query = query.where(JobRow.array == array)
        async with self._database.read() as session:
            return {JobState(state): number for state, number in await session.execute(query)}

    async def runs(self, jobs: Collection[Uid]) -> dict[Uid, list[RunRecord]]:
        """All runs of these jobs, by job, in their order."""
        found: dict[Uid, list[RunRecord]] = {uid: [] for uid in jobs}
        if jobs:
            query = RUN_COLUMNS.where(among(RunRow.job, jobs)).order_by(RunRow.job, RunRow.number)
            async with self._database.read() as session:
                for row in await session.execute(query):
                    found[Uid(row.job)].append(run_from(row))
        return found

    async def run(self, uid: Uid) -> RunRecord | None:
        """One run."""
        async with self._database.read() as session:
            row = (await session.execute(RUN_COLUMNS.where(RunRow.uid == uid))).first()
            return run_from(row) if row else None

    async def runs_by_uid(self, uids: Collection[Uid]) -> dict[Uid, RunRecord]:
        """These runs."""
        if not uids:
            return {}
        async with self._database.read() as session:
            return {Uid(r.uid): run_from(r) for r in await session.execute(RUN_COLUMNS.where(among(RunRow.uid, uids)))}

    async def with_runs(self, runs: Collection[Uid]) -> tuple[list[JobRecord], dict[Uid, list[RunRecord]]]:
        """The jobs that these runs are of, and all runs of each of them, by job, in their order."""
        async with self._database.read() as session:
            of = select(RunRow.job).where(among(RunRow.uid, runs))
            rows = list(await session.scalars(select(JobRow).where(JobRow.uid.in_(of))))
            found: dict[Uid, list[RunRecord]] = {Uid(row.uid): [] for row in rows}
            query = RUN_COLUMNS.where(among(RunRow.job, list(found))).order_by(RunRow.job, RunRow.number)
            for row in await session.execute(query):
                found[Uid(row.job)].append(run_from(row))
            return await with_inputs(session, rows), found

    async def live_on(self, hosts: Collection[HostId]) -> dict[HostId, int]:
        """How many runs have not ended, for each of these hosts that has any."""
        query = (
            select(RunRow.host, func.count())
            .where(among(RunRow.host, hosts), RunRow.state.in_(AT_WORK))
            .group_by(RunRow.host)
        )
        async with self._database.read() as session:
            return {HostId(host): number for host, number in await session.execute(query)}

    async def taken_on(self, hosts: Collection[HostId] | None = None) -> dict[HostId, tuple[int, int]]:
        """Bytes of memory and processors that runs have which have not ended, for each host, or for each of these."""
        caps = JobRow.spec["caps"]
        memory = func.sum(cast(caps["memory"].as_string(), BigInteger))
        query = (
            select(RunRow.host, memory, func.sum(caps["cpus"].as_integer()))
            .join(JobRow, JobRow.uid == RunRow.job)
            .where(RunRow.state.in_(AT_WORK))
            .group_by(RunRow.host)
        )
        if hosts is not None:
            query = query.where(among(RunRow.host, hosts))
        async with self._database.read() as session:
            return {HostId(host): (int(held), int(cpus)) for host, held, cpus in await session.execute(query)}

    async def hosts_reading(self, data: Collection[Uid]) -> dict[Uid, set[HostId]]:
        """For each of these data the hosts with a run that reads it and has not ended."""
        if not data:
            return {}
        query = (
            select(JobInputRow.data, RunRow.host)
            .join(RunRow, RunRow.job == JobInputRow.job)
            .where(among(JobInputRow.data, data), RunRow.state.in_(AT_WORK))
            .distinct()
        )
        found: dict[Uid, set[HostId]] = {}
        async with self._database.read() as session:
            for uid, host in await session.execute(query):
                found.setdefault(Uid(uid), set()).add(HostId(host))
        return found

    async def log(self, uid: Uid) -> Written:
        """What a run wrote, as far as it is kept."""
        async with self._database.read() as session:
            row = (await session.execute(select(RunRow.log, RunRow.log_end).where(RunRow.uid == uid))).one()
            return Written(row.log, row.log_end)

    async def results(self, runs: Collection[Uid]) -> dict[Uid, list[ResultRecord]]:
        """What these runs left as data, by run, by path."""
        found: dict[Uid, list[ResultRecord]] = {}
        if runs:
            query = select(ResultRow).where(among(ResultRow.run, runs)).order_by(ResultRow.run, ResultRow.path)
            async with self._database.read() as session:
                for row in await session.scalars(query):
                    found.setdefault(Uid(row.run), []).append(
                        ResultRecord(Uid(row.run), row.path, Uid(row.data), ContentRoot(row.root), row.size)
                    )
        return found

    # Writing --------------------------------------------------------------------------------------------------------

    async def record(
        self,
        *,
        now: datetime,
        jobs: Collection[JobRecord] = (),
        begun: Collection[RunRecord] = (),
        runs: Collection[RunRecord] = (),
        orders: Collection[OrderRecord] = (),
        done: Collection[tuple[HostId, Uid]] = (),
        logs: Mapping[Uid, LogChunk] | None = None,
        check: Check | None = None,
        told: Told | None = None,
    ) -> dict[Uid, int]:
        """Store changes that belong together: all of them or none.

        Args:
            now: The moment of change, UTC.
            jobs: Jobs as they are now.
            begun: Runs that are new.
            runs: Runs as they are now.
            orders: New orders; an older open one on the same run is thereby closed.
            done: Hosts and runs whose open orders were carried out.
            logs: What runs wrote.
            check: Asked first, within the transaction: if it raises, nothing is stored.
            told: What other processes hear of it.

        Returns:
            For each run that wrote something, the characters that its log has now.
        """
        ends = {}
        async with self._database.write() as session:
            if check is not None:
                await check(session)
            await raise_generations(session, newest(orders))
            await _put_jobs(session, jobs)
            if begun:
                await session.execute(insert(RunRow), [{**run_values(run), **fixed_values(run)} for run in begun])
            await _put_runs(session, runs)
            await close_orders(session, {*done, *((order.host, order.subject) for order in orders)}, now)
            await add_orders(session, orders, now)
            for uid, chunk in (logs or {}).items():
                ends[uid] = await _append_log(session, uid, chunk)
            if told is not None:
                along(session, told)
        return ends


def _called(prefix: str) -> ColumnElement[bool]:
    """Whose uid, or whose array's, begins so: digits from 0 to f, so that an index gives those between two texts."""
    columns = JobRow.uid, JobRow.array
    between = (and_(column >= prefix, column < f"{prefix}g") for column in columns)
    return or_(*between)


async def insert_jobs(session: AsyncSession, jobs: Sequence[JobRecord]) -> None:
    """Insert new jobs with their inputs."""
    shapes: dict[int, str] = {}
    rows = []
    for job in jobs:
        spec = SpecModel.of(job.spec).model_dump(mode="json")
        shape = shapes.setdefault(id(job.spec), shape_of(job.owner, spec))
        rows.append(job_values(job, spec, shape))
    await session.execute(insert(JobRow), rows)
    inputs = [{"job": job.uid, "path": one.path, "data": one.data} for job in jobs for one in job.inputs]
    if inputs:
        await session.execute(insert(JobInputRow), inputs)


async def with_inputs(session: AsyncSession, rows: Sequence[JobRow]) -> list[JobRecord]:
    """The jobs of these rows."""
    jobs = [job_from(row) for row in rows]
    if not jobs:
        return jobs
    query = select(JobInputRow).where(among(JobInputRow.job, [job.uid for job in jobs])).order_by(JobInputRow.path)
    inputs: dict[str, list[JobInput]] = {}
    for row in await session.scalars(query):
        inputs.setdefault(row.job, []).append(JobInput(Uid(row.data), row.path))
    return [replace(job, inputs=tuple(inputs.get(job.uid, ()))) for job in jobs]


async def _put_jobs(session: AsyncSession, jobs: Collection[JobRecord]) -> None:
    if not jobs:
        return
    change = (
        update(_JOBS)
        .where(_JOBS.c.uid == bindparam("job"))
        .values({name: bindparam(f"new_{name}") for name in ("state", "since", "reason", "kept")})
    )
    rows = [
        {
            "job": job.uid,
            "new_state": job.state,
            "new_since": job.since or job.created,
            "new_reason": job.reason,
            "new_kept": job.kept,
        }
        for job in sorted(jobs, key=lambda job: job.uid)
    ]
    await (await session.connection()).execute(change, rows)


async def _put_runs(session: AsyncSession, runs: Collection[RunRecord]) -> None:
    if not runs:
        return
    rows = [
        {"run": run.uid, **{f"new_{name}": value for name, value in run_values(run).items()}}
        for run in sorted(runs, key=lambda run: run.uid)
    ]
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in run_values(next(iter(runs)))}
    change = update(_RUNS).where(_RUNS.c.uid == bindparam("run")).values(values)
    await (await session.connection()).execute(change, rows)


async def _append_log(session: AsyncSession, uid: Uid, chunk: LogChunk) -> int:
    """Add what a run wrote; how much it wrote in all."""
    row = await session.get(RunRow, uid, options=[undefer(RunRow.log)])
    if row is None:
        return 0
    written = Written(row.log, row.log_end).after(chunk, limits.RUN_LOG)
    row.log, row.log_end = written.kept, written.end
    return written.end
