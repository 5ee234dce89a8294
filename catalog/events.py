"""The log of events: what happened to data and to their copies, in the order in which it was stored.

Owns the log's rows, its cursors and its bounds. Events are written in the transaction that makes them true; since
transactions that write follow one upon the other, whoever has read up to a cursor has missed nothing before it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.errors import error
from bitdew.core.ids import HostId, Uid

from .database import Database
from .tables import AttributeRow, DataRow, EventRow

TOPIC: Final = "events"
"""What whoever waits for events waits for."""
SCANNED: Final = 20_000
"""Events that are looked at for one page: one that asks for a rare kind is answered in bounded time."""
MOST: Final = 1_000_000
"""Events that are kept at most."""
WHY: Final = 500
"""Characters of a reason; more are cut off."""

_TABLE: Final[Table] = EventRow.metadata.tables[EventRow.__tablename__]
_CURSOR: Final = re.compile(r"(\d{1,18})-(\d{1,15})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Happened:
    """One event as it is written.

    Attributes:
        kind: A datum's `created`, `arrived`, `changed`, `damaged`, `mended` or `ended`; or the state that a copy came
            to.
        data: The datum.
        at: When, UTC.
        host: The host, if it is about a copy.
        why: The reason, in words.
    """

    kind: str
    data: Uid
    at: datetime
    host: HostId | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the log: behind the event `seq`, which happened at `stamp`, in milliseconds.

    The stamp tells another log from this one: after a restore the same numbers are given to other events.
    """

    seq: int = 0
    stamp: int = 0

    def __str__(self) -> str:
        return f"{self.seq}-{self.stamp}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor that `text` spells.

        Raises:
            UserError: `input.invalid`.
        """
        found = _CURSOR.fullmatch(text)
        if found is None:
            do = "Hand back what `next` said, or leave it out to begin with the oldest event."
            raise error("input.invalid", f"{text[:60]!r} is no place in the log of events", do=do)
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Logged:
    """One event as it is read, with what is known of its datum."""

    cursor: Cursor
    kind: str
    data: Uid
    name: str
    size: int
    at: datetime
    host: HostId | None
    why: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some events in order.

    Attributes:
        events: Those that were asked for.
        next: Where the next page begins.
        missed: Whether events between the cursor and these are not kept any more, or the cursor is of another log.
        more: Whether there is something behind them already.
    """

    events: list[Logged]
    next: Cursor
    missed: bool
    more: bool


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are asked for; what is not said lets all pass.

    Of data that were put for jobs only the `viewer`'s own are told; None hears of all.
    """

    viewer: str | None
    data: Uid | None = None
    attribute: Uid | None = None
    kinds: frozenset[str] = frozenset()


class EventLog:
    """Reads the log, and forgets what is old."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self) -> Cursor:
        """The place behind everything that has happened."""
        async with self._database.read() as session:
            return await _last(session)

    async def page(self, after: Cursor | None, wanted: Filter, limit: int) -> Page:
        """The events that are `wanted` after a cursor, or from the oldest on: at most `limit`."""
        async with self._database.read() as session:
            oldest = await session.scalar(select(func.min(EventRow.seq))) or 1
            missed = after is not None and not await _is_known(session, after, oldest)
            start = oldest - 1 if after is None or missed else max(after.seq, oldest - 1)
            end = start + SCANNED
            rows = list(await session.execute(_query(wanted, start, end, limit + 1)))
            full, newest = len(rows) > limit, await _last(session)
            events = [_logged(row) for row in rows[:limit]]
            if full:
                return Page(events, events[-1].cursor, missed, more=True)
            looked = newest if newest.seq <= end else await _last(session, EventRow.seq <= end)
            if looked.seq <= start:  # numbers that were never used
                looked = Cursor(start, 0) if after is None or missed else after
            return Page(events, looked, missed, more=newest.seq > looked.seq)

    async def attribute(self, name: str) -> Uid | None:
        """The attribute of this name or uid."""
        query = select(AttributeRow.uid).where((AttributeRow.name == name) | (AttributeRow.uid == name))
        async with self._database.read() as session:
            found = await session.scalar(query.order_by(AttributeRow.name.is_(None)).limit(1))
            return None if found is None else Uid(found)

    async def forget(self, before: datetime, most: int = MOST) -> int:
        """Forget what happened before then, and the oldest of more than `most`; never the newest. How many those are.

        They go some at a time, so that nobody has to wait long.
        """
        gone = 0
        while True:
            async with self._database.write() as session:
                last = (await _last(session)).seq
                oldest = await session.scalar(select(func.min(EventRow.seq))) or 0
                some = min(oldest + SCANNED, last)
                old = (EventRow.at < before) | (EventRow.seq <= last - most)
                found = await (await session.connection()).execute(delete(_TABLE).where(EventRow.seq < some, old))
            gone += found.rowcount
            if not found.rowcount or some >= last:
                return gone


async def add_events(session: AsyncSession, happened: Sequence[Happened]) -> None:
    """Write events within a transaction of `Database.write` or `Database.gather`."""
    if happened:
        rows = [
            {"at": one.at, "kind": one.kind, "data": one.data, "host": one.host, "why": one.why[:WHY]}
            for one in happened
        ]
        await (await session.connection()).execute(insert(_TABLE), rows)


async def _last(session: AsyncSession, *conditions: ColumnElement[bool]) -> Cursor:
    query = select(EventRow.seq, EventRow.at).where(*conditions).order_by(EventRow.seq.desc()).limit(1)
    row = (await session.execute(query)).first()
    return Cursor() if row is None else Cursor(row.seq, _stamp(row.at))


async def _is_known(session: AsyncSession, cursor: Cursor, oldest: int) -> bool:
    """Whether nothing after the cursor is gone, and it is of this log."""
    if cursor.seq == oldest - 1:
        return True
    at = await session.scalar(select(EventRow.at).where(EventRow.seq == cursor.seq))
    return at is not None and _stamp(at) == cursor.stamp


def _query(wanted: Filter, start: int, end: int, limit: int) -> Any:
    columns = (EventRow.seq, EventRow.at, EventRow.kind, EventRow.data, EventRow.host, EventRow.why)
    query = select(*columns, DataRow.name, DataRow.size).join(DataRow, DataRow.uid == EventRow.data)
    query = query.where(EventRow.seq > start, EventRow.seq <= end)
    if wanted.viewer is not None:
        query = query.where(DataRow.for_jobs.is_(False) | (DataRow.owner == wanted.viewer))
    if wanted.data is not None:
        query = query.where(EventRow.data == wanted.data)
    if wanted.attribute is not None:
        query = query.where(DataRow.attribute == wanted.attribute)
    if wanted.kinds:
        query = query.where(EventRow.kind.in_(sorted(wanted.kinds)))
    return query.order_by(EventRow.seq).limit(limit)


def _stamp(at: datetime) -> int:
    return int((at - _EPOCH).total_seconds() * 1000)


def _logged(row: Row[Any]) -> Logged:
    host = None if row.host is None else HostId(row.host)
    cursor = Cursor(row.seq, _stamp(row.at))
    return Logged(cursor, row.kind, Uid(row.data), row.name, row.size, row.at, host, row.why)


def told_of(uids: Collection[str]) -> tuple[str, ...]:
    """The topics of data to which something happened that the log tells."""
    return (*uids, TOPIC) if uids else ()
