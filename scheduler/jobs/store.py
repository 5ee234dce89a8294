"""Stored jobs, their runs and results, one transaction a call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Table, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.states import JOB, RUN, JobState
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
"""What whoever matches jobs waits for."""
_JOBS: Final[Table] = JobRow.metadata.tables[JobRow.__tablename__]
_RUNS: Final[Table] = RunRow.metadata.tables[RunRow.__tablename__]
_RUN_COLUMNS: Final = select(*(column for column in _RUNS.columns if column.name != "log"))
_IN_ORDER: Final = (JobRow.created, JobRow.array, JobRow.place)
_JOB_ENDS: Final = sorted(JOB.ends())
_RUN_ENDS: Final = sorted(RUN.ends())


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
            along(session, Told(topics=(TOPIC,)))
        return True

    # Reading --------------------------------------------------------------------------------------------------------

    async def jobs(self, uids: Collection[Uid]) -> dict[Uid, JobRecord]:
        """These jobs."""
        if not uids:
            return {}
        async with self._database.read() as session:
            rows = list(await session.scalars(select(JobRow).where(among(JobRow.uid, uids))))
            return {job.uid: job for job in await _with_inputs(session, rows)}

    async def find(self, prefix: str, most: int) -> list[JobRecord]:
        """Jobs whose uid, or whose array's, begins so; in their order."""
        condition = or_(
            JobRow.uid.startswith(prefix, autoescape=True), JobRow.array.startswith(prefix, autoescape=True)
        )
        query = select(JobRow).where(condition).order_by(*_IN_ORDER).limit(most)
        async with self._database.read() as session:
            return await _with_inputs(session, list(await session.scalars(query)))

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
            query = query.where(
                or_(JobRow.uid.startswith(prefix, autoescape=True), JobRow.array.startswith(prefix, autoescape=True))
            )
        if after is not None:
            created, array, place = after
            behind = or_(JobRow.array > array, and_(JobRow.array == array, JobRow.place > place))
            query = query.where(or_(JobRow.created > created, and_(JobRow.created == created, behind)))
        async with self._database.read() as session:
            return await _with_inputs(session, list(await session.scalars(query)))

    async def counts(self, array: Uid | None = None) -> dict[JobState, int]:
        """How many jobs are in which state, of all or of one array."""
        query = select(JobRow.state, func.count()).group_by(JobRow.state)
        if array is not None:
            query = query.where(JobRow.array == array)
        async with self._database.read() as session:
            return {JobState(state): number for state, number in await session.execute(query)}

    async def unfinished(self, most: int) -> list[JobRecord]:
        """Jobs that may need a run: of each kind of each user the first `most`, in the order of service."""
        place = func.row_number().over(partition_by=JobRow.shape, order_by=(JobRow.priority.desc(), *_IN_ORDER))
        ranked = select(JobRow.uid, place.label("place")).where(JobRow.state == JobState.QUEUED).subquery()
        first = select(ranked.c.uid).where(ranked.c.place <= most)
        # One with several replicas may need another run although some go on.
        begun = and_(JobRow.state.not_in([*_JOB_ENDS, JobState.QUEUED]), _is_many())
        query = select(JobRow).where(or_(JobRow.uid.in_(first), begun))
        async with self._database.read() as session:
            return await _with_inputs(session, list(await session.scalars(query)))

    async def runs(self, jobs: Collection[Uid]) -> dict[Uid, list[RunRecord]]:
        """All runs of these jobs, by job, in their order."""
        found: dict[Uid, list[RunRecord]] = {uid: [] for uid in jobs}
        if jobs:
            query = _RUN_COLUMNS.where(among(RunRow.job, jobs)).order_by(RunRow.job, RunRow.number)
            async with self._database.read() as session:
                for row in await session.execute(query):
                    found[Uid(row.job)].append(run_from(row))
        return found

    async def run(self, uid: Uid) -> RunRecord | None:
        """One run."""
        async with self._database.read() as session:
            row = (await session.execute(_RUN_COLUMNS.where(RunRow.uid == uid))).first()
            return run_from(row) if row else None

    async def runs_by_uid(self, uids: Collection[Uid]) -> dict[Uid, RunRecord]:
        """These runs."""
        if not uids:
            return {}
        async with self._database.read() as session:
            return {Uid(r.uid): run_from(r) for r in await session.execute(_RUN_COLUMNS.where(among(RunRow.uid, uids)))}

    async def live_runs(self) -> list[RunRecord]:
        """All runs that have not ended."""
        async with self._database.read() as session:
            query = _RUN_COLUMNS.where(RunRow.state.not_in(_RUN_ENDS)).order_by(RunRow.started, RunRow.uid)
            return [run_from(row) for row in await session.execute(query)]

    async def live_on(self, hosts: Collection[HostId]) -> dict[HostId, int]:
        """How many runs have not ended, for each of these hosts that has any."""
        query = (
            select(RunRow.host, func.count())
            .where(among(RunRow.host, hosts), RunRow.state.not_in(_RUN_ENDS))
            .group_by(RunRow.host)
        )
        async with self._database.read() as session:
            return {HostId(host): number for host, number in await session.execute(query)}

    async def hosts_reading(self, data: Collection[Uid]) -> dict[Uid, set[HostId]]:
        """For each of these data the hosts with a run that reads it and has not ended."""
        if not data:
            return {}
        query = (
            select(JobInputRow.data, RunRow.host)
            .join(RunRow, RunRow.job == JobInputRow.job)
            .where(among(JobInputRow.data, data), RunRow.state.not_in(_RUN_ENDS))
            .distinct()
        )
        found: dict[Uid, set[HostId]] = {}
        async with self._database.read() as session:
            for uid, host in await session.execute(query):
                found.setdefault(Uid(uid), set()).add(HostId(host))
        return found

    async def served(self, owners: Collection[str]) -> dict[str, datetime]:
        """For each of these users when a run of theirs last began."""
        if not owners:
            return {}
        query = (
            select(JobRow.owner, func.max(RunRow.started))
            .join(RunRow, RunRow.job == JobRow.uid)
            .where(among(JobRow.owner, owners))
            .group_by(JobRow.owner)
        )
        async with self._database.read() as session:
            rows = await session.execute(query)
            return {owner: moment for owner, moment in rows}  # noqa: C416 (rows are no pairs to a type checker)

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
    ) -> None:
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
        """
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
                await _append_log(session, uid, chunk)
            if told is not None:
                along(session, told)

    async def add_result(self, result: ResultRecord) -> None:
        """Store that an output of a run is a datum now. Said twice, it is stored once."""
        async with self._database.write() as session:
            if await session.get(ResultRow, (result.run, result.path)) is None:
                session.add(
                    ResultRow(run=result.run, path=result.path, data=result.data, root=result.root, size=result.size)
                )


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


async def _with_inputs(session: AsyncSession, rows: Sequence[JobRow]) -> list[JobRecord]:
    jobs = [job_from(row) for row in rows]
    if not jobs:
        return jobs
    query = select(JobInputRow).where(among(JobInputRow.job, [job.uid for job in jobs])).order_by(JobInputRow.path)
    inputs: dict[str, list[JobInput]] = {}
    for row in await session.scalars(query):
        inputs.setdefault(row.job, []).append(JobInput(Uid(row.data), row.path))
    return [replace(job, inputs=tuple(inputs.get(job.uid, ()))) for job in jobs]


def _is_many() -> Any:
    return JobRow.spec["replicas"].as_integer() > 1


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


async def _append_log(session: AsyncSession, uid: Uid, chunk: LogChunk) -> None:
    """Add what a run wrote."""
    row = await session.get(RunRow, uid, options=[undefer(RunRow.log)])
    if row is None:
        return
    written = Written(row.log, row.log_end).after(chunk, limits.RUN_LOG)
    row.log, row.log_end = written.kept, written.end
