"""Stored hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Table, and_, bindparam, case, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.draining import Drain
from bitdew.core.ids import HostId
from bitdew.core.states import HostState
from bitdew.wire.models import HostReport

from ..catalog.among import among
from ..catalog.database import Database
from ..catalog.feed import Told, along
from ..catalog.upsert import upsert
from .records import HostRecord
from .tables import HostRow

Check = Callable[[AsyncSession], Awaitable[None]]
"""Asked within a transaction; if it raises, nothing is stored."""
_TABLE: Final[Table] = HostRow.metadata.tables[HostRow.__tablename__]


class HostStore:
    """Reads and writes hosts, one transaction a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hosts(self, hosts: Collection[HostId] | None = None) -> list[HostRecord]:
        """All hosts, or these of them, by name."""
        query = select(_TABLE).order_by(HostRow.name, HostRow.uid)
        if hosts is not None:
            query = query.where(among(HostRow.uid, hosts))
        async with self._database.read() as session:
            return [_host(row) for row in await session.execute(query)]

    async def save_hosts(self, records: Collection[HostRecord]) -> None:
        """Insert or replace what hosts said of themselves. Generations are never lowered, and no ban is lifted."""
        hosts = tuple(record.host for record in records)
        async with self._database.write() as session:
            await put_hosts(session, records)
            along(session, Told(topics=hosts, hosts=hosts))

    async def save_host(self, record: HostRecord) -> None:
        """The same for one host."""
        await self.save_hosts([record])

    async def save_states(self, states: Mapping[HostId, HostState], now: datetime, check: Check | None = None) -> None:
        """Store the states of hosts that changed at `now`. If `check` raises, asked first, nothing is stored."""
        rows = [{"host": host, "state": state, "state_since": now} for host, state in states.items()]
        async with self._database.write() as session:
            if check is not None:
                await check(session)
            await _update(session, rows)
            along(session, Told(hosts=tuple(states)))

    async def save_drain(self, record: HostRecord) -> None:
        """Store that a host is to be emptied, or no more, and what it is by that."""
        change = update(_TABLE).where(_TABLE.c.uid == record.host, _TABLE.c.state != HostState.BANNED)
        values = {"drain": record.drain, "state": record.state, "state_since": record.state_since}
        async with self._database.write() as session:
            await session.execute(change.values(values))
            along(session, Told(topics=(record.host,), hosts=(record.host,)))

    async def save_heard(self, heard: Mapping[HostId, datetime]) -> None:
        """Store, in bulk, when hosts were last heard. What another process heard later stays."""
        async with self._database.write() as session:
            await _update(session, [{"host": host, "last_seen": moment} for host, moment in heard.items()])

    async def heard_since(self, since: datetime) -> dict[HostId, datetime]:
        """The hosts that were heard after `since`, as far as it is stored, each with when it was last."""
        query = select(HostRow.uid, HostRow.last_seen).where(HostRow.last_seen > since)
        async with self._database.read() as session:
            return {HostId(host): moment for host, moment in await session.execute(query)}


async def _update(session: AsyncSession, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    values: dict[str, Any] = {name: bindparam(name) for name in rows[0] if name != "host"}
    change = update(_TABLE).where(_TABLE.c.uid == bindparam("host")).values(values)
    if "last_seen" in values:
        change = change.where(_TABLE.c.last_seen < bindparam("last_seen"))
    else:
        change = change.where(_TABLE.c.state != HostState.BANNED)
    await (await session.connection()).execute(change, sorted(rows, key=_by_host))


async def put_hosts(session: AsyncSession, records: Collection[HostRecord]) -> None:
    """Insert or replace hosts within a transaction.

    Rows are written in one order wherever many are, so that processes that share a database wait for each other, and
    never each for the other.
    """
    rows = [
        {
            "uid": record.host,
            "name": record.name,
            "state": record.state,
            "state_since": record.state_since,
            "last_seen": record.last_seen,
            "report": record.report.model_dump(mode="json"),
            "generation": record.generation,
        }
        for record in sorted(records, key=lambda record: record.host)
    ]
    await upsert(session, _TABLE, rows, {"generation": _higher, "state": _as_the_operator_said})


async def raise_generations(session: AsyncSession, generations: Mapping[HostId, int]) -> None:
    """Store, within a transaction, that orders up to these generations were given."""
    if generations:
        own = _TABLE.c.generation
        change = update(_TABLE).where(_TABLE.c.uid == bindparam("host"), own < bindparam("reached"))
        rows = [{"host": host, "reached": reached} for host, reached in generations.items()]
        connection = await session.connection()
        await connection.execute(change.values(generation=bindparam("reached")), sorted(rows, key=_by_host))


def _by_host(row: Mapping[str, Any]) -> str:
    return str(row["host"])


def _higher(stored: ColumnElement[int], fresh: ColumnElement[int]) -> ColumnElement[int]:
    return case((fresh > stored, fresh), else_=stored)


def _as_the_operator_said(stored: ColumnElement[str], fresh: ColumnElement[str]) -> ColumnElement[str]:
    """Whoever stores what a host says may not have heard yet that another process shut it out, or drained it."""
    drained = _TABLE.c.drain.is_not(None)
    return case(
        (stored == HostState.BANNED, stored),
        (and_(drained, or_(fresh == HostState.ALIVE, fresh == HostState.SUSPECT)), HostState.DRAINED),
        (and_(~drained, fresh == HostState.DRAINED), HostState.ALIVE),
        else_=fresh,
    )


def _host(row: Row[Any]) -> HostRecord:
    report = HostReport.model_validate(row.report)
    return HostRecord(
        HostId(row.uid),
        row.name,
        HostState(row.state),
        row.state_since,
        row.last_seen,
        report,
        row.generation,
        Drain(row.drain) if row.drain else None,
    )
