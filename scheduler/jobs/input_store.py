"""Stored data that users put for their jobs: how much they have, and which of them no job reads any more."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import exists, func, or_, select

from bitdew.core.ids import Uid
from bitdew.core.states import JOB, JobState

from ...catalog.among import among
from ...catalog.database import Database
from ...catalog.tables import DataRow
from .tables import JobInputRow, JobRow, StandingRow

_AT_WORK: Final = sorted(set(JobState) - JOB.ends())
_PUT: Final = DataRow.for_jobs & DataRow.alive


class InputStore:
    """Reads what users put for their jobs. What makes and ends them is the catalog's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def used(self, owner: str) -> int:
        """Bytes that this user has put for jobs."""
        query = select(func.coalesce(func.sum(DataRow.size), 0)).where(_PUT, DataRow.owner == owner)
        async with self._database.read() as session:
            return await session.scalar(query) or 0

    async def idle(self, put: datetime, ended: datetime, of: Collection[Uid] | None = None) -> list[Uid]:
        """Those that no job reads and no standing job hands on.

        Args:
            put: Only those that were put before then: whoever puts one submits a job next.
            ended: A job that ended after then still reads it: it may be submitted again.
            of: Only some of these.
        """
        its = (JobInputRow.data == DataRow.uid, JobRow.uid == JobInputRow.job)
        read = exists().where(*its, or_(JobRow.state.in_(_AT_WORK), JobRow.since >= ended))
        query = select(DataRow.uid).where(_PUT, DataRow.created < put, ~read)
        if of is not None:
            query = query.where(among(DataRow.uid, of))
        async with self._database.read() as session:
            found = [Uid(uid) for uid in await session.scalars(query.order_by(DataRow.created))]
            if not found:
                return []
            standing = await session.scalars(select(StandingRow.inputs).where(StandingRow.ended.is_(None)))
            handed_on = {data for inputs in standing for _path, data in inputs}
        return [uid for uid in found if uid not in handed_on]

    async def read_by(self, jobs: Collection[Uid]) -> list[Uid]:
        """Those that these jobs read."""
        query = select(DataRow.uid).join(JobInputRow, JobInputRow.data == DataRow.uid)
        async with self._database.read() as session:
            rows = await session.scalars(query.where(_PUT, among(JobInputRow.job, jobs)).distinct())
            return [Uid(uid) for uid in rows]
