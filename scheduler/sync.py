"""The sync endpoint: what hosts have comes in, what they should do goes out, held open while there is nothing to do.

Owns the exchange with hosts. Reports are stored before the reply; orders were stored before they are sent. The state is
level-triggered: a reply that is lost is asked for again, and an order that is sent twice does nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from bitdew.core.errors import BitDewError
from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import INTENDED, MACHINE, MachineState, PlacementState
from bitdew.wire import limits
from bitdew.wire.models import (
    ConsoleChunk,
    LaunchOrder,
    MachineReport,
    Order,
    PlacementReport,
    PlaceOrder,
    RecordModel,
    SyncReply,
    SyncRequest,
)

from ..catalog.data_store import Disk
from .engine import Engine
from .known import Known
from .records import MachineRecord, OrderRecord, PlacementRecord
from .reports import judge_machine, judge_placement, vanished_machine, vanished_placement

log = structlog.get_logger(__name__)
_SETTLED = frozenset({PlacementState.HELD, PlacementState.FAILED, PlacementState.GONE, PlacementState.LOST})
_LAUNCHED = frozenset({MachineState.RUNNING}) | MACHINE.ends()


class Sync:
    """Answers hosts. `suspect` is told of each content of which a host got a corrupt piece."""

    def __init__(self, known: Known, engine: Engine, suspect: Callable[[ContentRoot], None], period: float) -> None:
        self._known = known
        self._engine = engine
        self._suspect = suspect
        self._period = period

    async def sync(self, host: HostId, request: SyncRequest, repository: Endpoint) -> SyncReply:
        """Take in what `host` says, and give it its orders.

        Args:
            host: Who says it: the subject of its certificate.
            request: What it says.
            repository: Where the repository's swarm listens, as this host can reach it.

        Raises:
            UserError: `host.banned`, `input.invalid`.
        """
        async with self._known.hosts.lock(host):
            ask_all = not request.full and not self._known.hosts.is_known_boot(host, request.boot)
            suspects = await self._take_in(host, request)
        for root in suspects:
            self._suspect(root)
        if self._known.hosts.waiting(host) <= request.generation and not request.full and not ask_all:
            seen = self._known.changes.version(host)
            if self._known.hosts.waiting(host) <= request.generation:
                await self._known.changes.wait(host, seen, min(request.wait, self._period))
        orders, generation = list[Order](), request.generation
        if self._known.hosts.waiting(host) > generation or request.full or ask_all:
            orders, generation = await self._orders(host, generation, repository)
        return SyncReply(generation=generation, orders=orders, full=ask_all, period=self._period)

    async def locators(self, root: ContentRoot, asking: HostId) -> list[Endpoint]:
        """The swarm endpoints of hosts that hold or fetch some content, those who hold it first."""
        disks = await self._known.data.of_root(root)
        placements = await self._known.store.placements_of([disk.data.uid for disk in disks])
        return self._peers([p for found in placements.values() for p in found], asking)

    def _peers(self, placements: Sequence[PlacementRecord], asking: HostId) -> list[Endpoint]:
        useful = [p for p in placements if p.host != asking and (p.state is PlacementState.HELD or p.state in INTENDED)]
        useful.sort(key=lambda p: p.state is not PlacementState.HELD)
        found = [self._known.hosts.endpoint(placement.host) for placement in useful]
        return list(dict.fromkeys(endpoint for endpoint in found if endpoint is not None))[: limits.PEERS - 1]

    # What comes in ------------------------------------------------------------------------------------------------

    async def _take_in(self, host: HostId, request: SyncRequest) -> set[ContentRoot]:
        """Store what changed; the contents of which corrupt pieces were seen."""
        says_something = bool(request.placements or request.machines or request.host or request.full)
        async with self._engine.facts:
            if await self._known.hosts.take_in(host, request.generation, request.host):
                log.info(
                    "host changed", host=self._known.hosts.name(host), state=self._known.hosts.records()[host].state
                )
                self._engine.look_at_all()
            if not says_something:
                return set()
            suspects = await self._take_reports(host, request)
            if request.full:
                self._known.hosts.told_all(host, request.boot)
        return suspects

    async def _take_reports(self, host: HostId, request: SyncRequest) -> set[ContentRoot]:
        now = self._known.clock.now()
        on_host = await self._known.store.placements_on(host) if request.placements or request.full else {}
        strangers = await self._strangers(host, request, on_host)
        reports = [report for report in request.placements if report.uid not in strangers]
        placements, moved = self._judge_placements(host, reports, on_host)
        if request.full:
            self._known.hosts.set_unknown(host, frozenset(strangers))
            shown = {Uid(report.uid) for report in request.placements}
            ordered = await self._known.store.ordered(host)
            gone = [
                vanished_placement(known, now, ordered=uid in ordered)
                for uid, known in on_host.items()
                if uid not in shown
            ]
            placements += [placement for placement in gone if placement is not None]
        done = [(host, placement.data) for placement in placements if placement.state in _SETTLED]
        machines, consoles = await self._take_machines(host, request, done)
        if placements or machines or done or consoles:
            await self._known.store.record(
                now=now, placements=placements, machines=machines, done=done, consoles=consoles
            )
        for placement in placements:
            if placement.state in _SETTLED:
                self._known.progress.forget(placement.data, host)
            self._engine.look_at(placement.data)
        for uid in moved | {placement.data for placement in placements}:  # once all is stored: who is woken reads it
            self._known.changes.bump(uid)
        for machine in machines:
            self._known.changes.bump(machine.uid)
            self._engine.look_at(machine.data)
        freed = any(p.state in {PlacementState.GONE, PlacementState.FAILED} for p in placements)
        if freed or any(machine.state in MACHINE.ends() for machine in machines):
            self._engine.look_at_all()  # what could not be served for want of room may be now
        for uid, _chunk in consoles:
            self._known.changes.bump(uid)
        return {ContentRoot(r.root) for r in reports if r.reason is not None and r.reason.key == "swarm.corrupt"}

    def _judge_placements(
        self, host: HostId, reports: Sequence[PlacementReport], on_host: Mapping[Uid, PlacementRecord]
    ) -> tuple[list[PlacementRecord], set[Uid]]:
        """The placements that are to be stored, and the data of which bytes moved."""
        changed, moved = [], set[Uid]()
        for report in reports:
            known = on_host.get(Uid(report.uid))
            if self._note_progress(host, report, known):
                moved.add(Uid(report.uid))
            fresh = judge_placement(known, report, host, self._known.clock.now(), self._engine.settings)
            if fresh is not None:
                changed.append(fresh)
        return changed, moved

    async def _strangers(self, host: HostId, request: SyncRequest, on_host: Collection[Uid]) -> set[str]:
        """The reported copies that no datum accounts for. Unknown is not delete: they stay where they are."""
        asked = [Uid(report.uid) for report in request.placements if report.uid not in on_host]
        known = await self._known.data.get([Uid(report.uid) for report in request.placements])
        strangers = {uid for uid in asked if uid not in known}
        for report in request.placements:
            disk = known.get(Uid(report.uid))
            if disk is not None and report.root != disk.data.root and report.state is not PlacementState.GONE:
                strangers.add(Uid(report.uid))  # other bytes are no copy, whatever they are called
        if strangers:
            log.warning("copies of unknown data are kept", host=self._known.hosts.name(host), data=sorted(strangers))
        return {str(uid) for uid in strangers}

    def _note_progress(self, host: HostId, report: PlacementReport, known: PlacementRecord | None) -> bool:
        if known is None or report.state not in INTENDED or report.generation < known.generation:
            return False
        return self._known.progress.note(host, report, self._known.clock.now())

    async def _take_machines(
        self, host: HostId, request: SyncRequest, done: list[tuple[HostId, Uid]]
    ) -> tuple[list[MachineRecord], list[tuple[Uid, ConsoleChunk]]]:
        now = self._known.clock.now()
        if not request.machines and not request.full:
            return [], []
        unfinished = await self._known.store.machines(host=host, unfinished=True) if request.full else []
        reports: dict[Uid, MachineReport] = {Uid(report.uid): report for report in request.machines}
        known = {m.uid: m for m in await self._known.store.machines(uids=list(reports))}
        changed: list[MachineRecord] = []
        consoles = []
        for uid, report in reports.items():
            record = known.get(uid)
            if record is None or record.host != host:
                continue
            if report.console is not None:
                consoles.append((uid, report.console))
            if (fresh := judge_machine(record, report, host, now)) is not None:
                changed.append(fresh)
            if report.generation >= record.generation and report.state in _LAUNCHED:
                halting = record.state is MachineState.STOPPING and report.state is MachineState.RUNNING
                done += [] if halting else [(host, uid)]
        for machine in unfinished:
            if machine.uid not in reports and (lost := vanished_machine(machine, now)) is not None:
                changed.append(lost)
                done.append((host, machine.uid))
        return changed, consoles

    # What goes out ------------------------------------------------------------------------------------------------

    async def _orders(self, host: HostId, after: int, repository: Endpoint) -> tuple[list[Order], int]:
        """The open orders, those above generation `after` first, and the generation that a host with them is at."""
        newest = self._known.hosts.waiting(host)
        open_orders = await self._known.store.open_orders(host, after)
        about = {o.subject for o in open_orders if o.kind in {OrderKind.PLACE, OrderKind.DROP}}
        launched = {o.subject for o in open_orders if o.kind is OrderKind.LAUNCH}
        machines = {m.uid: m for m in await self._known.store.machines(uids=launched)} if launched else {}
        disks = await self._known.data.get({*about, *(machine.data for machine in machines.values())})
        placements = await self._known.store.placements_of(about) if about else {}
        orders = []
        for order in open_orders:
            try:
                orders.append(await self._wire(order, host, repository, disks, machines, placements))
            except (KeyError, BitDewError):
                log.exception("an order can't be sent", order=order.uid, kind=order.kind)
        all_told = len(open_orders) < limits.ORDERS or open_orders[-1].generation <= after
        # Also past orders that were closed before they were sent: a host below them would be answered at once for ever.
        reached = [newest] if all_told else []
        return orders, max([after, *reached, *(order.generation for order in open_orders)])

    async def _wire(
        self,
        order: OrderRecord,
        host: HostId,
        repository: Endpoint,
        disks: dict[Uid, Disk],
        machines: dict[Uid, MachineRecord],
        placements: dict[Uid, list[PlacementRecord]],
    ) -> Order:
        place = launch = None
        if order.kind is OrderKind.PLACE:
            disk = disks[order.subject]
            place = PlaceOrder(
                name=disk.data.name,
                root=disk.data.root,
                size=disk.data.size,
                info_hash=disk.info_hash,
                repository=str(repository),
                peers=[str(peer) for peer in self._peers(placements[order.subject], host)],
            )
        elif order.kind is OrderKind.LAUNCH:
            machine = machines[order.subject]
            deployment = (await self._known.store.deployments([machine.deployment]))[machine.deployment]
            disk = disks[machine.data]
            launch = LaunchOrder(
                data=machine.data,
                root=disk.data.root,
                record=RecordModel.of(disk.signed),
                memory=deployment.memory,
                cpus=deployment.cpus,
            )
        return Order(
            uid=order.uid,
            generation=order.generation,
            kind=order.kind,
            subject=order.subject,
            cause=order.cause[: limits.TEXT],
            place=place,
            launch=launch,
        )
