"""How many there are of everything, at a cost that does not follow how many there are.

Owns the reading of tallies, and their folding. The database keeps them: its triggers write down with each row that
comes, goes or changes its state, in the same transaction, that there is one more or one fewer. Nobody here counts rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import BigInteger, ColumnElement, SQLColumnExpression, Table, cast, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.clock import Clock
from bitdew.core.errors import BitDewError

from .database import Database
from .leadership import Leadership
from .tables import TallyRow

log = structlog.get_logger(__name__)

EVERY: Final = 10.0
"""Seconds between two looks whether there is something to fold."""
MANY: Final = 2_000
"""Rows that are worth to be folded."""
AT_ONCE: Final = 50_000
"""Rows that are folded in one transaction: few enough that nobody has to wait for long."""

_NAMES: Final = ("kind", "state", "owner", "number", "size")
_TABLE: Final[Table] = TallyRow.metadata.tables[TallyRow.__tablename__]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many there are, and their bytes in sum where they have any."""

    number: int
    size: int


async def tallies(session: AsyncSession) -> defaultdict[tuple[str, str], Tally]:
    """What there is, by kind and state."""
    query = select(TallyRow.kind, TallyRow.state, _sum(TallyRow.number), _sum(TallyRow.size))
    rows = await session.execute(query.group_by(TallyRow.kind, TallyRow.state))
    found = {(kind, state): Tally(number, size) for kind, state, number, size in rows}
    return defaultdict(lambda: Tally(0, 0), found)


async def tallied_by_owner(session: AsyncSession, kind: str, states: Collection[str]) -> list[tuple[str, str, int]]:
    """How many of a kind each owner has in each of these states: `(owner, state, number)`, if there are any."""
    number = _sum(TallyRow.number)
    query = select(TallyRow.owner, TallyRow.state, number).where(TallyRow.kind == kind, TallyRow.state.in_(states))
    rows = await session.execute(query.group_by(TallyRow.owner, TallyRow.state).having(number > 0))
    return [(owner, state, count) for owner, state, count in rows]


class Tallying:
    """Keeps the tallies few: many small ones become one of each kind."""

    def __init__(self, database: Database, leadership: Leadership, clock: Clock) -> None:
        self._database = database
        self._leadership = leadership
        self._clock = clock
        self._many = MANY

    async def run(self) -> None:
        """Fold them now and then, where this process leads, until cancelled."""
        while True:
            await self._clock.sleep(EVERY)
            if not self._leadership.held:
                continue
            try:
                await self.fold()
            except BitDewError as fault:
                log.warning("tallies could not be folded; it is tried again", why=str(fault))

    async def fold(self) -> int:
        """Make few rows of many, if there are many; by how many they are fewer. The sums stay what they are."""
        fewer = 0
        while (last := await self._last_of_many()) is not None:
            old, number, size = _TABLE.c.seq <= last, _sum(_TABLE.c.number), _sum(_TABLE.c.size)
            keys = _TABLE.c.kind, _TABLE.c.state, _TABLE.c.owner
            sums = select(*keys, number, size).where(old).group_by(*keys).having((number != 0) | (size != 0))
            async with self._database.write() as session:
                connection = await session.connection()
                rows = (await connection.execute(sums)).all()
                gone = (await connection.execute(delete(_TABLE).where(old))).rowcount
                if rows:
                    await connection.execute(insert(_TABLE), [dict(zip(_NAMES, row, strict=True)) for row in rows])
            fewer += gone - len(rows)
            if len(rows) > gone // 2:  # they are of so many owners: it is not worth it before there are more
                self._many = max(MANY, 4 * len(rows))
                break
        return fewer

    async def _last_of_many(self) -> int | None:
        """The last of those to fold, or None if they are not worth it."""
        many = select(TallyRow.seq).order_by(TallyRow.seq).offset(self._many).limit(1)
        async with self._database.read() as session:
            if await session.scalar(many) is None:
                return None
            first = await session.scalar(select(func.min(TallyRow.seq))) or 0
            last = await session.scalar(select(func.max(TallyRow.seq))) or 0
            return min(first + AT_ONCE, last)


def _sum(column: SQLColumnExpression[int]) -> ColumnElement[int]:
    return cast(func.sum(column), BigInteger)
