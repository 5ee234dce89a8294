"""What the scheduler stores, one transaction a call: orders here, and hosts, placements and machines with them.

Rows stay in the stores; records and plain values come out. What belongs together is stored together, by `record`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import Table, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.ids import HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.wire import limits
from bitdew.wire.models import ConsoleChunk

from ..catalog.events import Happened, add_events
from ..catalog.feed import Told, along
from .errand_store import ErrandStore, put_errands
from .host_store import Check, HostStore, put_hosts, raise_generations
from .machine_page_store import MachinePageStore
from .machine_store import MachineStore, add_machines, append_console, put_machines
from .placement_store import PlacementStore, put_placements
from .records import ErrandRecord, HostRecord, MachineRecord, OrderRecord, PlacementRecord
from .removal_store import RemovalStore
from .tables import OrderRow

_TABLE: Final[Table] = OrderRow.metadata.tables[OrderRow.__tablename__]


class SchedulerStore(HostStore, PlacementStore, MachineStore, MachinePageStore, ErrandStore, RemovalStore):
    """Hosts, placements, orders, deployments, machines and errands."""

    # Orders -------------------------------------------------------------------------------------------------------

    async def open_orders(self, host: HostId, after: int = 0) -> list[OrderRecord]:
        """The orders that a host has not been seen to carry out, oldest first, but those above `after` before.

        So a host that has a whole reply's worth of orders to carry out still hears of the next ones.
        """
        query = (
            select(OrderRow)
            .where(OrderRow.host == host, OrderRow.closed.is_(None))
            .order_by(OrderRow.generation <= after, OrderRow.generation)
            .limit(limits.ORDERS)
        )
        async with self._database.read() as session:
            return [_order(row) for row in await session.scalars(query)]

    async def ordered(self, host: HostId) -> set[Uid]:
        """The subjects of the orders that a host has not been seen to carry out."""
        query = select(OrderRow.subject).where(OrderRow.host == host, OrderRow.closed.is_(None))
        async with self._database.read() as session:
            return {Uid(subject) for subject in await session.scalars(query)}

    async def newest_open(self) -> dict[HostId, int]:
        """The highest generation of an open order, by host."""
        query = select(OrderRow.host, func.max(OrderRow.generation)).where(OrderRow.closed.is_(None))
        async with self._database.read() as session:
            return {HostId(h): g for h, g in await session.execute(query.group_by(OrderRow.host))}

    async def purge_orders(self, before: datetime) -> int:
        """Forget the orders that were closed before then; how many those are."""
        async with self._database.write() as session:
            found = await (await session.connection()).execute(delete(_TABLE).where(_TABLE.c.closed < before))
            return found.rowcount

    # What happened, and what was decided ---------------------------------------------------------------------------

    async def record(
        self,
        *,
        now: datetime,
        hosts: Collection[HostRecord] = (),
        placements: Collection[PlacementRecord] = (),
        machines: Collection[MachineRecord] = (),
        requested: Collection[MachineRecord] = (),
        orders: Collection[OrderRecord] = (),
        done: Collection[tuple[HostId, Uid]] = (),
        consoles: Collection[tuple[Uid, ConsoleChunk]] = (),
        errands: Collection[ErrandRecord] = (),
        check: Check | None = None,
        told: Told | None = None,
    ) -> None:
        """Store changes that belong together: all of them or none.

        Args:
            now: The moment of change, UTC. The log is told of placements whose state is `since` then.
            hosts: Hosts as they are now; their generations are never lowered.
            placements: Placements as they are now.
            machines: Machines as they are now.
            requested: Machines that are new.
            orders: New orders; an older open order on the same subject at the same host is thereby closed.
            done: Hosts and subjects whose open orders were seen to be carried out.
            consoles: What machines wrote.
            errands: Errands as they are now.
            check: Asked first, within the transaction: if it raises, nothing is stored.
            told: What other processes hear of it, if and when it is stored.
        """
        async with self._database.write() as session:
            if check is not None:
                await check(session)
            await put_hosts(session, hosts)
            await raise_generations(session, newest(orders))
            await put_placements(session, placements)
            await add_events(session, [_event(one) for one in placements if one.since == now])
            await put_machines(session, machines)
            await add_machines(session, requested)
            await put_errands(session, errands)
            await close_orders(session, {*done, *((order.host, order.subject) for order in orders)}, now)
            await add_orders(session, orders, now)
            for uid, chunk in consoles:
                await append_console(session, uid, chunk)
            if told is not None:
                along(session, told)


def _event(placement: PlacementRecord) -> Happened:
    """What the log is told of a placement whose state changed."""
    reason = placement.reason or {}
    told = ": ".join(str(part) for part in (reason.get("message"), reason.get("why")) if part)
    return Happened(str(placement.state), placement.data, placement.since, placement.host, told or placement.cause)


def newest(orders: Collection[OrderRecord]) -> dict[HostId, int]:
    """The highest generation among `orders`, by host."""
    found: dict[HostId, int] = {}
    for order in orders:
        found[order.host] = max(order.generation, found.get(order.host, 0))
    return found


async def close_orders(session: AsyncSession, about: Collection[tuple[HostId, Uid]], now: datetime) -> None:
    """Within a transaction: these subjects' open orders at these hosts were carried out, or are none any more."""
    if not about:
        return
    to_close = (
        update(_TABLE)
        .where(_TABLE.c.host == bindparam("at"), _TABLE.c.subject == bindparam("about"), _TABLE.c.closed.is_(None))
        .values(closed=now)
    )
    rows = [{"at": host, "about": subject} for host, subject in sorted(about)]
    await (await session.connection()).execute(to_close, rows)


async def add_orders(session: AsyncSession, orders: Collection[OrderRecord], now: datetime) -> None:
    """Store new orders, within a transaction."""
    if not orders:
        return
    rows = [
        {
            "uid": order.uid,
            "host": order.host,
            "generation": order.generation,
            "kind": order.kind,
            "subject": order.subject,
            "cause": order.cause,
            "created": now,
        }
        for order in orders
    ]
    await (await session.connection()).execute(insert(_TABLE), rows)


def _order(row: OrderRow) -> OrderRecord:
    kind, subject = OrderKind(row.kind), Uid(row.subject)
    return OrderRecord(Uid(row.uid), HostId(row.host), row.generation, kind, subject, row.cause)
