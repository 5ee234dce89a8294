"""What is stored, counted: the figures that no one keeps in memory. Reads; never decides.

Nothing is counted here by reading it: the database keeps tallies, so that a reading costs the same in every grid.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from bitdew.core.states import JobState, MachineState, PlacementState

from ..catalog.database import Database
from ..catalog.tallies import Tally, tallies
from .jobs.tables import JobRow


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
        queued = select(func.min(JobRow.since)).where(JobRow.state == JobState.QUEUED)
        async with self._database.read() as session:
            tallied = await tallies(session)
            since = await session.scalar(queued)
        data = {state: tally for (kind, state), tally in tallied.items() if kind == "data"}
        copies = _all_states("copies", PlacementState, tallied)
        del copies[PlacementState.GONE]
        return Counted(
            data=sum(tally.number for tally in data.values()),
            size=sum(tally.size for tally in data.values()),
            awaited=sum(tally.number for state, tally in data.items() if "awaited" in state),
            damaged=sum(tally.number for state, tally in data.items() if "damaged" in state),
            copies=copies,
            machines=_all_states("machines", MachineState, tallied),
            jobs=_all_states("jobs", JobState, tallied),
            queued_since=since,
            orders=tallied["orders", "open"].number,
        )


def _all_states(kind: str, states: Iterable[str], tallied: defaultdict[tuple[str, str], Tally]) -> dict[str, int]:
    """How many are in each of `states`, nothing left out: a series that vanishes at 0 can't be watched."""
    return {str(state): tallied[kind, state].number for state in states}
