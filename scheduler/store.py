"""What the scheduler stores, one transaction a call. Rows stay here; records and plain values come out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from bitdew.core.ids import HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import MACHINE, HostState, MachineState, PlacementState
from bitdew.wire import limits
from bitdew.wire.models import ConsoleChunk, HostReport

from ..catalog.database import Database, among
from ..catalog.tables import DataRow
from .records import DeploymentRecord, HostRecord, MachineRecord, OrderRecord, PlacementRecord
from .tables import DeploymentRow, HostRow, MachineRow, OrderRow, PlacementRow

_TAKES_SPACE = (
    PlacementState.ASSIGNED,
    PlacementState.FETCHING,
    PlacementState.VERIFYING,
    PlacementState.HELD,
    PlacementState.DROPPING,
)


class SchedulerStore:
    """Hosts, placements, orders, deployments and machines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Hosts --------------------------------------------------------------------------------------------------------

    async def hosts(self) -> list[HostRecord]:
        """All hosts, by name."""
        async with self._database.read() as session:
            return [_host(row) for row in await session.scalars(select(HostRow).order_by(HostRow.name, HostRow.uid))]

    async def save_host(self, record: HostRecord) -> None:
        """Insert or replace what a host said of itself. Its generation is never lowered."""
        async with self._database.write() as session:
            row = await session.get(HostRow, record.host)
            if row is None:
                row = HostRow(uid=record.host, generation=0)
                session.add(row)
            row.name, row.state, row.state_since = record.name, record.state, record.state_since
            row.last_seen, row.report = record.last_seen, record.report.model_dump(mode="json")
            row.generation = max(row.generation, record.generation)

    async def save_states(self, states: Mapping[HostId, HostState], now: datetime) -> None:
        """Store the states of hosts that changed at `now`."""
        async with self._database.write() as session:
            for host, state in states.items():
                await session.execute(update(HostRow).where(HostRow.uid == host).values(state=state, state_since=now))

    async def save_heard(self, heard: Mapping[HostId, datetime]) -> None:
        """Store, in bulk, when hosts were last heard."""
        async with self._database.write() as session:
            for host, moment in heard.items():
                await session.execute(update(HostRow).where(HostRow.uid == host).values(last_seen=moment))

    # Placements ---------------------------------------------------------------------------------------------------

    async def placements_of(self, data: Collection[Uid]) -> dict[Uid, list[PlacementRecord]]:
        """Where these data are, by datum."""
        found: dict[Uid, list[PlacementRecord]] = {uid: [] for uid in data}
        query = select(PlacementRow).where(among(PlacementRow.data, data)).order_by(PlacementRow.assigned)
        async with self._database.read() as session:
            for row in await session.scalars(query):
                if row.data in found:
                    found[Uid(row.data)].append(_placement(row))
        return found

    async def placements_on(self, host: HostId) -> dict[Uid, PlacementRecord]:
        """What a host has or should have, by datum."""
        async with self._database.read() as session:
            rows = await session.scalars(select(PlacementRow).where(PlacementRow.host == host))
            return {Uid(row.data): _placement(row) for row in rows}

    async def placed(self) -> set[Uid]:
        """The data of which some host has or should have a copy, removed ones included."""
        query = select(PlacementRow.data).where(PlacementRow.state != PlacementState.GONE).distinct()
        async with self._database.read() as session:
            return {Uid(uid) for uid in await session.scalars(query)}

    async def committed(self) -> dict[HostId, int]:
        """Bytes of quota that copies take or were promised, by host."""
        query = (
            select(PlacementRow.host, func.sum(DataRow.size))
            .join(DataRow, DataRow.uid == PlacementRow.data)
            .where(PlacementRow.state.in_(_TAKES_SPACE))
            .group_by(PlacementRow.host)
        )
        async with self._database.read() as session:
            return {HostId(host): int(size) for host, size in await session.execute(query)}

    async def held_counts(self) -> dict[HostId, int]:
        """How many verified copies each host has."""
        query = (
            select(PlacementRow.host, func.count())
            .where(PlacementRow.state == PlacementState.HELD)
            .group_by(PlacementRow.host)
        )
        async with self._database.read() as session:
            return {HostId(host): count for host, count in await session.execute(query)}

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

    # Deployments and machines -------------------------------------------------------------------------------------

    async def add_deployment(self, deployment: DeploymentRecord, machines: Iterable[Uid]) -> None:
        """Store a deployment and its machines, all requested."""
        async with self._database.write() as session:
            session.add(
                DeploymentRow(
                    uid=deployment.uid,
                    data=deployment.data,
                    count=deployment.count,
                    memory=deployment.memory,
                    cpus=deployment.cpus,
                    created=deployment.created,
                    owner=deployment.owner,
                )
            )
            await session.flush()
            session.add_all(
                MachineRow(
                    uid=uid,
                    deployment=deployment.uid,
                    data=deployment.data,
                    state=MACHINE.initial,
                    since=deployment.created,
                )
                for uid in machines
            )

    async def deployments(self, uids: Collection[Uid]) -> dict[Uid, DeploymentRecord]:
        """These deployments."""
        async with self._database.read() as session:
            rows = await session.scalars(select(DeploymentRow).where(among(DeploymentRow.uid, uids)))
            return {Uid(row.uid): _deployment(row) for row in rows if row.uid in uids}

    async def machines(
        self,
        *,
        data: Collection[Uid] | None = None,
        uids: Collection[Uid] | None = None,
        host: HostId | None = None,
        prefix: str | None = None,
        unfinished: bool = False,
    ) -> list[MachineRecord]:
        """Machines, oldest first; every condition that is given must hold."""
        query = select(MachineRow).order_by(MachineRow.since, MachineRow.uid)
        if data is not None:
            query = query.where(among(MachineRow.data, data))
        if uids is not None:
            query = query.where(among(MachineRow.uid, uids))
        if host is not None:
            query = query.where(MachineRow.host == host)
        if prefix is not None:
            query = query.where(MachineRow.uid.startswith(prefix, autoescape=True))
        if unfinished:
            query = query.where(MachineRow.state.not_in(MACHINE.ends()))
        async with self._database.read() as session:
            rows = (row for row in await session.scalars(query) if data is None or row.data in data)
            return [_machine(row) for row in rows if uids is None or row.uid in uids]

    async def want_stop(self, uid: Uid) -> None:
        """Remember that a machine should stop."""
        async with self._database.write() as session:
            await session.execute(update(MachineRow).where(MachineRow.uid == uid).values(stop_wanted=True))

    async def console(self, uid: Uid) -> tuple[str, int]:
        """The kept end of a machine's console, and how many characters it has written in all."""
        async with self._database.read() as session:
            row = (
                await session.execute(select(MachineRow.console, MachineRow.console_end).where(MachineRow.uid == uid))
            ).one()
            return row.console, row.console_end

    # What happened, and what was decided ---------------------------------------------------------------------------

    async def record(
        self,
        *,
        now: datetime,
        placements: Collection[PlacementRecord] = (),
        machines: Collection[MachineRecord] = (),
        orders: Collection[OrderRecord] = (),
        done: Collection[tuple[HostId, Uid]] = (),
        consoles: Collection[tuple[Uid, ConsoleChunk]] = (),
    ) -> None:
        """Store changes that belong together: all of them or none.

        Args:
            now: The moment of change, UTC.
            placements: Placements as they are now.
            machines: Machines as they are now.
            orders: New orders; an older open order on the same subject at the same host is thereby closed.
            done: Hosts and subjects whose open orders were seen to be carried out.
            consoles: What machines wrote.
        """
        async with self._database.write() as session:
            for placement in placements:
                await _put_placement(session, placement)
            for machine in machines:
                await _put_machine(session, machine)
            for host, subject in [*done, *((order.host, order.subject) for order in orders)]:
                await session.execute(
                    update(OrderRow)
                    .where(OrderRow.host == host, OrderRow.subject == subject, OrderRow.closed.is_(None))
                    .values(closed=now)
                )
            for order in orders:
                session.add(
                    OrderRow(
                        uid=order.uid,
                        host=order.host,
                        generation=order.generation,
                        kind=order.kind,
                        subject=order.subject,
                        cause=order.cause,
                        created=now,
                    )
                )
                await session.execute(
                    update(HostRow).where(HostRow.uid == order.host).values(generation=order.generation)
                )
            for uid, chunk in consoles:
                await _append_console(session, uid, chunk)


async def _put_placement(session: AsyncSession, record: PlacementRecord) -> None:
    row = await session.get(PlacementRow, (record.data, record.host))
    if row is None:
        row = PlacementRow(data=record.data, host=record.host)
        session.add(row)
    row.state, row.since, row.assigned = record.state, record.since, record.assigned
    row.generation, row.lease_until, row.retry_at = record.generation, record.lease_until, record.retry_at
    row.failures, row.reason, row.cause = record.failures, record.reason, record.cause
    row.done, row.seconds, row.history = record.done, record.seconds, list(record.history)
    row.from_repository, row.from_peers = record.from_repository, record.from_peers


async def _put_machine(session: AsyncSession, record: MachineRecord) -> None:
    await session.execute(
        update(MachineRow)
        .where(MachineRow.uid == record.uid)
        .values(
            host=record.host,
            state=record.state,
            since=record.since,
            generation=record.generation,
            hypervisor=record.hypervisor,
            reason=record.reason,
            cause=record.cause,
        )
    )


async def _append_console(session: AsyncSession, uid: Uid, chunk: ConsoleChunk) -> None:
    row = await session.get(MachineRow, uid, options=[undefer(MachineRow.console)])
    if row is None:
        return
    missing = chunk.offset - row.console_end
    fresh = _gap(missing) + chunk.text if missing > 0 else chunk.text[-missing:]  # what was said before is not repeated
    if fresh:
        row.console = (row.console + fresh)[-limits.CONSOLE :]
        row.console_end = chunk.offset + len(chunk.text)


def _gap(missing: int) -> str:
    """A note in place of what is missing, as long as that: offsets count characters of the console."""
    note, width = f"\n[{missing} characters are missing]\n", min(missing, limits.CONSOLE)
    return note.ljust(width) if len(note) <= width else "?" * width


def _host(row: HostRow) -> HostRecord:
    report = HostReport.model_validate(row.report)
    return HostRecord(
        HostId(row.uid), row.name, HostState(row.state), row.state_since, row.last_seen, report, row.generation
    )


def _placement(row: PlacementRow) -> PlacementRecord:
    return PlacementRecord(
        data=Uid(row.data),
        host=HostId(row.host),
        state=PlacementState(row.state),
        since=row.since,
        assigned=row.assigned,
        generation=row.generation,
        lease_until=row.lease_until,
        retry_at=row.retry_at,
        failures=row.failures,
        reason=row.reason,
        cause=row.cause,
        done=row.done,
        seconds=row.seconds,
        from_repository=row.from_repository,
        from_peers=row.from_peers,
        history=list(row.history),
    )


def _order(row: OrderRow) -> OrderRecord:
    kind, subject = OrderKind(row.kind), Uid(row.subject)
    return OrderRecord(Uid(row.uid), HostId(row.host), row.generation, kind, subject, row.cause)


def _deployment(row: DeploymentRow) -> DeploymentRecord:
    return DeploymentRecord(Uid(row.uid), Uid(row.data), row.count, row.memory, row.cpus, row.created, row.owner)


def _machine(row: MachineRow) -> MachineRecord:
    return MachineRecord(
        uid=Uid(row.uid),
        deployment=Uid(row.deployment),
        data=Uid(row.data),
        host=HostId(row.host) if row.host else None,
        state=MachineState(row.state),
        since=row.since,
        generation=row.generation,
        stop_wanted=row.stop_wanted,
        hypervisor=row.hypervisor,
        reason=row.reason,
        cause=row.cause,
        console_end=row.console_end,
    )
