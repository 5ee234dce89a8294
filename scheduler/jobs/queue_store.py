"""What waits for a run and what runs, as stored: what matching is done from, at a cost that follows what can begin.

Owns the way through the queue: of each kind of job of each user the first ones, by an index, however many wait behind
them. What is read for people stands in `store`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import Select, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.states import JobState

from ...catalog.among import among
from ...catalog.database import Database
from .records import JobRecord, RunRecord
from .rows import run_from
from .store import AT_WORK, RUN_COLUMNS, with_inputs
from .tables import JobRow, RunRow

TOGETHER: Final = 50
"""Kinds of jobs that one statement asks for."""


class QueueStore:
    """Reads what waits and what runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, most: int) -> list[JobRecord]:
        """Queued jobs: of each kind of each user the first `most`, in the order of service."""
        found: list[str] = []
        async with self._database.read() as session:
            shapes = await _shapes(session)
            for begin in range(0, len(shapes), TOGETHER):
                firsts = [_first(shape, most).subquery() for shape in shapes[begin : begin + TOGETHER]]
                found += await session.scalars(union_all(*(select(first.c.uid) for first in firsts)))
            if not found:
                return []
            rows = await session.scalars(select(JobRow).where(among(JobRow.uid, found)))
            return await with_inputs(session, list(rows))

    async def live_runs(self) -> list[RunRecord]:
        """All runs that have not ended."""
        query = RUN_COLUMNS.where(RunRow.state.in_(AT_WORK)).order_by(RunRow.started, RunRow.uid)
        async with self._database.read() as session:
            return [run_from(row) for row in await session.execute(query)]

    async def served(self, owners: Collection[str]) -> dict[str, datetime]:
        """For each of these users when a run of theirs last began. Costs as much as they ever had runs."""
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


async def _shapes(session: AsyncSession) -> list[str]:
    """The kinds of jobs of which some are queued; from one to the next by the index, past all jobs of each."""
    queued = JobRow.state == JobState.QUEUED
    first = select(func.min(JobRow.shape).label("shape")).where(queued).cte("shapes", recursive=True)
    following = select(func.min(JobRow.shape)).where(queued, JobRow.shape > first.c.shape).scalar_subquery()
    every = first.union_all(select(following).where(first.c.shape.is_not(None)))
    return [shape for shape in await session.scalars(select(every.c.shape)) if shape is not None]


def _first(shape: str, most: int) -> Select[str]:
    its = JobRow.state == JobState.QUEUED, JobRow.shape == shape
    order = JobRow.priority.desc(), JobRow.created, JobRow.array, JobRow.place
    return select(JobRow.uid).where(*its).order_by(*order).limit(most)
