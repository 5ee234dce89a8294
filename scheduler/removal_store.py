"""Stored machines and deployments that are over, as they are forgotten."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, exists, func, select, update

from bitdew.core.ids import Uid

from ..catalog.among import among
from ..catalog.database import Database
from .machine_store import ENDS, FILLING, MACHINES, STANDING, machine_from
from .records import MachineRecord
from .tables import DeploymentRow, ErrandRow, MachineRow, OrderRow


class RemovalStore:
    """Finds and removes what is over, one transaction a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ended_machines(self, before: datetime, most: int) -> list[MachineRecord]:
        """Machines that ended before then and whose place no other is to take, oldest first."""
        query = (
            MACHINES.join(DeploymentRow, DeploymentRow.uid == MachineRow.deployment)
            .where(MachineRow.state.in_(ENDS), MachineRow.since < before, ~STANDING)
            .order_by(MachineRow.since, MachineRow.uid)
            .limit(most)
        )
        async with self._database.read() as session:
            return [machine_from(row) for row in await session.execute(query)]

    async def in_orders(self, uids: Collection[Uid]) -> set[Uid]:
        """Those of these machines about which a host has still to hear something."""
        query = select(OrderRow.subject).where(among(OrderRow.subject, uids), OrderRow.closed.is_(None))
        async with self._database.read() as session:
            return {Uid(subject) for subject in await session.scalars(query)}

    async def remove_machines(self, uids: Collection[Uid]) -> None:
        """Forget these machines. Of deployments that counted them so many less are wanted from then on."""
        async with self._database.write() as session:
            its = among(MachineRow.uid, uids)
            counted = its & MachineRow.successor.is_(None) & FILLING
            fewer = select(MachineRow.deployment, func.count()).where(counted).group_by(MachineRow.deployment)
            for deployment, number in (await session.execute(fewer)).all():
                known = DeploymentRow.uid == deployment
                left = update(DeploymentRow).where(known, DeploymentRow.count >= number)
                await session.execute(left.values(count=DeploymentRow.count - number))
            await session.execute(delete(ErrandRow).where(among(ErrandRow.machine, uids)))
            await session.execute(delete(MachineRow).where(its))

    async def empty_deployments(self, before: datetime) -> list[Uid]:
        """Deployments of no machine that were made before then, and have none any more."""
        none_left = ~exists().where(MachineRow.deployment == DeploymentRow.uid)
        query = select(DeploymentRow.uid).where(DeploymentRow.created < before, DeploymentRow.count == 0, none_left)
        async with self._database.read() as session:
            return [Uid(uid) for uid in await session.scalars(query)]

    async def remove_deployments(self, uids: Collection[Uid]) -> None:
        """Forget these deployments, which have no machines any more."""
        none_left = ~exists().where(MachineRow.deployment == DeploymentRow.uid)
        async with self._database.write() as session:
            await session.execute(delete(DeploymentRow).where(among(DeploymentRow.uid, uids), none_left))
