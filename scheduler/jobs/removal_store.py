"""Jobs that are forgotten, with their runs, logs and the marks of standing jobs, one transaction a call."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, exists, select, update

from bitdew.core.ids import Uid
from bitdew.core.states import JOB

from ...catalog.among import among
from ...catalog.database import Database
from ..tables import OrderRow
from .tables import JobInputRow, JobRow, ResultRow, RunRow, StandingMatchRow, StandingRow

KEPT_BY_NOBODY: Final = {"replica": 0}
"""The wishes of results of which nothing was said: they live as long as their job is known."""
_ENDS: Final = sorted(JOB.ends())


class JobRemovalStore:
    """Finds and forgets jobs that have ended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ended(self, *, prefix: str = "", before: datetime | None = None, most: int) -> list[Uid]:
        """Jobs that have ended, the oldest first: whose uid, or array's, begins with `prefix`; or before then."""
        query = select(JobRow.uid).where(JobRow.state.in_(_ENDS)).order_by(JobRow.since, JobRow.uid).limit(most)
        if prefix:
            its = JobRow.uid.startswith(prefix, autoescape=True) | JobRow.array.startswith(prefix, autoescape=True)
            query = query.where(its)
        if before is not None:
            query = query.where(JobRow.since < before)
        async with self._database.read() as session:
            return [Uid(uid) for uid in await session.scalars(query)]

    async def unkept_results(self, jobs: Collection[Uid]) -> list[Uid]:
        """What these jobs left as data, also in runs that were lost, and nobody wants: no attribute, no reader."""
        reader = JobRow.__table__.alias("reader")
        reads = exists().where(
            JobInputRow.data == ResultRow.data, JobInputRow.job == reader.c.uid, reader.c.state.not_in(_ENDS)
        )
        query = (
            select(ResultRow.data, JobRow.results)
            .join(RunRow, RunRow.uid == ResultRow.run)
            .join(JobRow, JobRow.uid == RunRow.job)
            .where(among(JobRow.uid, jobs), ~reads)
        )
        async with self._database.read() as session:
            return [Uid(data) for data, wishes in await session.execute(query) if wishes == KEPT_BY_NOBODY]

    async def remove(self, jobs: Collection[Uid], now: datetime) -> int:
        """Forget those of these jobs that have ended; how many these were.

        A host that never heard that a run of theirs is over hears it when it next speaks of it: there is no such run.
        """
        async with self._database.write() as session:
            its = select(JobRow.uid).where(among(JobRow.uid, jobs), JobRow.state.in_(_ENDS))
            gone = list(await session.scalars(its))
            runs: Any = select(RunRow.uid).where(among(RunRow.job, gone))
            open_ones = OrderRow.subject.in_(runs), OrderRow.closed.is_(None)
            await session.execute(update(OrderRow).where(*open_ones).values(closed=now))
            await session.execute(delete(ResultRow).where(ResultRow.run.in_(runs)))
            await session.execute(delete(RunRow).where(among(RunRow.job, gone)))
            await session.execute(delete(JobInputRow).where(among(JobInputRow.job, gone)))
            await session.execute(delete(JobRow).where(among(JobRow.uid, gone)))
        return len(gone)

    async def remove_standing(self, *, prefix: str = "", before: datetime | None = None) -> int:
        """Forget standing jobs that were cancelled and have no jobs any more; how many these were."""
        query = select(StandingRow.uid).where(
            StandingRow.ended.is_not(None), ~exists().where(JobRow.array == StandingRow.uid)
        )
        if prefix:
            query = query.where(StandingRow.uid.startswith(prefix, autoescape=True))
        if before is not None:
            query = query.where(StandingRow.ended < before)
        async with self._database.write() as session:
            gone = list(await session.scalars(query))
            await session.execute(delete(StandingMatchRow).where(among(StandingMatchRow.standing, gone)))
            await session.execute(delete(StandingRow).where(among(StandingRow.uid, gone)))
        return len(gone)
