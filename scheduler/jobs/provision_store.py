"""Stored provisions, and what jobs want of machines, one transaction a call."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import delete, func, select

from bitdew.core.ids import Uid
from bitdew.core.states import JOB, JobState

from ...catalog.database import Database
from ...catalog.upsert import upsert
from .provisions import Demand, Provision
from .rows import job_from
from .tables import JobRow, ProvisionRow

_ENDS: Final = sorted(JOB.ends())
_TABLE: Final = ProvisionRow.metadata.tables[ProvisionRow.__tablename__]


class ProvisionStore:
    """Reads and writes provisions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def demands(self) -> list[Demand]:
        """What jobs that name a disk want, by user and disk."""
        query = (
            select(JobRow.owner, JobRow.provision, func.count(), func.max(JobRow.machines), func.min(JobRow.uid))
            .where(JobRow.provision.is_not(None), JobRow.state.not_in(_ENDS))
            .group_by(JobRow.owner, JobRow.provision)
        )
        found = []
        async with self._database.read() as session:
            for owner, disk, jobs, machines, sample in (await session.execute(query)).all():
                waiting = select(func.min(JobRow.since)).where(
                    JobRow.owner == owner, JobRow.provision == disk, JobRow.state == JobState.QUEUED
                )
                since, one = await session.scalar(waiting), await session.get_one(JobRow, sample)
                found.append(Demand(owner, Uid(disk or ""), jobs, machines, since, job_from(one)))
        return found

    async def provisions(self) -> list[Provision]:
        """All that were made, and not ended."""
        async with self._database.read() as session:
            rows = await session.scalars(select(ProvisionRow).order_by(ProvisionRow.owner, ProvisionRow.disk))
            return [Provision(row.owner, Uid(row.disk), Uid(row.deployment), row.count, row.idle_since) for row in rows]

    async def keep_provision(self, provision: Provision, *, count: int, idle_since: datetime | None) -> Provision:
        """Store how a provision is now."""
        row = {
            "owner": provision.owner,
            "disk": provision.disk,
            "deployment": provision.deployment,
            "count": count,
            "idle_since": idle_since,
        }
        async with self._database.write() as session:
            await upsert(session, _TABLE, [row])
        return replace(provision, count=count, idle_since=idle_since)

    async def forget_provision(self, provision: Provision) -> None:
        """It was ended."""
        async with self._database.write() as session:
            await session.execute(
                delete(ProvisionRow).where(ProvisionRow.owner == provision.owner, ProvisionRow.disk == provision.disk)
            )
