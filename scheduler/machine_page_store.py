"""Stored deployments and machines, a page at a time, in an order that their states don't change.

Owns that order: deployments from the oldest on, and their machines by uid. Reads; never writes.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, case, func, or_, select

from bitdew.core.ids import Uid
from bitdew.core.states import MachineState

from ..catalog.among import among
from ..catalog.database import Database
from .machine_store import ENDS, MACHINES, deployment_from, machine_from
from .records import DeploymentRecord, MachineRecord
from .tables import DeploymentRow, MachineRow

_BY_AGE: Final = DeploymentRow.created, DeploymentRow.uid


class MachinePageStore:
    """Reads pages of deployments and machines, one transaction a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def deployment_page(self, after: tuple[datetime, Uid] | None, limit: int) -> list[DeploymentRecord]:
        """At most `limit` deployments, from the one behind `after` on, which may be gone."""
        query = select(DeploymentRow).order_by(*_BY_AGE).limit(limit)
        if after is not None:
            query = query.where(_behind(*after))
        async with self._database.read() as session:
            return [deployment_from(row) for row in await session.scalars(query)]

    async def machine_page(
        self, after: tuple[datetime, Uid, Uid] | None, limit: int, deployment: Uid | None = None
    ) -> list[tuple[datetime, MachineRecord]]:
        """At most `limit` machines, each with the time at which its deployment was made, or those of one deployment."""
        query = (
            MACHINES.add_columns(DeploymentRow.created)
            .join(DeploymentRow, DeploymentRow.uid == MachineRow.deployment)
            .order_by(*_BY_AGE, MachineRow.uid)
            .limit(limit)
        )
        if deployment is not None:
            query = query.where(MachineRow.deployment == deployment)
        if after is not None:
            created, its, machine = after
            same = and_(DeploymentRow.created == created, DeploymentRow.uid == its, MachineRow.uid > machine)
            query = query.where(or_(_behind(created, its), same))
        async with self._database.read() as session:
            return [(row.created, machine_from(row)) for row in await session.execute(query)]

    async def latest_machines(self, deployment: Uid, most: int) -> list[MachineRecord]:
        """Its machines, oldest first: of more than `most` those are left out that ended longest ago."""
        ended = case((MachineRow.state.in_(ENDS), 1), else_=0)
        query = MACHINES.where(MachineRow.deployment == deployment)
        query = query.order_by(ended, MachineRow.since.desc(), MachineRow.uid).limit(most)
        async with self._database.read() as session:
            found = [machine_from(row) for row in await session.execute(query)]
        return sorted(found, key=lambda machine: (machine.since, machine.uid))

    async def machine_states(self, deployments: Collection[Uid]) -> dict[Uid, dict[MachineState, int]]:
        """For each of these deployments, how many of its machines that no other took the place of are in each state."""
        query = (
            select(MachineRow.deployment, MachineRow.state, func.count())
            .where(among(MachineRow.deployment, deployments), MachineRow.successor.is_(None))
            .group_by(MachineRow.deployment, MachineRow.state)
        )
        found: dict[Uid, dict[MachineState, int]] = {uid: {} for uid in deployments}
        async with self._database.read() as session:
            for uid, state, number in await session.execute(query):
                found[Uid(uid)][MachineState(state)] = number
        return found

    async def machine_count(self, deployment: Uid) -> int:
        """How many machines of a deployment are known."""
        query = select(func.count()).select_from(MachineRow).where(MachineRow.deployment == deployment)
        async with self._database.read() as session:
            return (await session.execute(query)).scalar_one()


def _behind(created: datetime, uid: Uid) -> Any:
    same = and_(DeploymentRow.created == created, DeploymentRow.uid > uid)
    return or_(DeploymentRow.created > created, same)
