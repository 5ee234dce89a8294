"""What is stored, counted: the figures that no one keeps in memory. Reads; never decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, func, select

from bitdew.core.states import JobState, MachineState, PlacementState

from ..catalog.database import Database
from ..catalog.tables import DataRow
from .jobs.tables import JobRow
from .tables import MachineRow, OrderRow, PlacementRow


@dataclass(frozen=True, slots=True)
class Counted:
    """What was stored at one moment.

    Attributes:
        data: Living data.
        size: Their bytes, each datum once.
        awaited: Those whose bytes have not come yet.
        damaged: Those whose file in the repository is damaged.
        copies: Placements of all data in each state but `gone`.
        machines: Machines in each state; what ended a week ago is not counted any more.
        jobs: Jobs in each state.
        queued_since: Since when the job that waits longest has waited; None if none does.
        orders: Orders that no host has shown done yet.
    """

    data: int
    size: int
    awaited: int
    damaged: int
    copies: dict[str, int]
    machines: dict[str, int]
    jobs: dict[str, int]
    queued_since: datetime | None
    orders: int


class FigureStore:
    """Counts what the database holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answers(self) -> None:
        """Return once the database has answered.

        Raises:
            HostError: `storage.failed`.
        """
        async with self._database.read() as session:
            await session.execute(select(1))

    async def count(self) -> Counted:
        """Everything, in one consistent view.

        Raises:
            HostError: `storage.failed`.
        """
        living = select(func.count(), func.coalesce(func.sum(DataRow.size), 0)).where(DataRow.alive)
        one = select(func.count()).select_from(DataRow).where(DataRow.alive)
        placed = select(PlacementRow.state, func.count()).group_by(PlacementRow.state)
        async with self._database.read() as session:
            data, size = (await session.execute(living)).one()
            copies = _all_states(PlacementState, (await session.execute(placed)).all())
            del copies[PlacementState.GONE]
            ran = select(MachineRow.state, func.count()).group_by(MachineRow.state)
            wanted = select(JobRow.state, func.count()).group_by(JobRow.state)
            queued = select(func.min(JobRow.since)).where(JobRow.state == JobState.QUEUED)
            opened = select(func.count()).select_from(OrderRow).where(OrderRow.closed.is_(None))
            return Counted(
                data=int(data),
                size=int(size),
                awaited=await session.scalar(one.where(DataRow.awaited)) or 0,
                damaged=await session.scalar(one.where(DataRow.damaged)) or 0,
                copies=copies,
                machines=_all_states(MachineState, (await session.execute(ran)).all()),
                jobs=_all_states(JobState, (await session.execute(wanted)).all()),
                queued_since=await session.scalar(queued),
                orders=await session.scalar(opened) or 0,
            )


def _all_states(states: Iterable[str], found: Iterable[Row[str, int]]) -> dict[str, int]:
    """How many are in each of `states`, nothing left out: a series that vanishes at 0 can't be watched."""
    return {str(state): 0 for state in states} | {row[0]: row[1] for row in found}
