"""The sync endpoint: what hosts have comes in, what they should do goes out, held open while there is nothing to do.

Owns the exchange with hosts. Reports are stored before the reply; orders were stored before they are sent. The state is
level-triggered: a reply that is lost is asked for again, and an order that is sent twice does nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.wire import limits
from bitdew.wire.models import (
    LaunchOrder,
    Order,
    PlaceOrder,
    RecordModel,
    SyncReply,
    SyncRequest,
)

from ..catalog.data_store import Datum
from .intake import Intake
from .known import Known
from .records import MachineRecord, OrderRecord

log = structlog.get_logger(__name__)
OTHERS: Final = limits.PEERS - 1
"""Hosts that one is told of for a datum, beside the repository."""


class Sync:
    """Answers hosts. `suspect` is told of each content of which a host got a corrupt piece."""

    def __init__(self, known: Known, intake: Intake, suspect: Callable[[ContentRoot], None], period: float) -> None:
        self._known = known
        self._intake = intake
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
        ask_all = not request.full and not self._known.hosts.is_known_boot(host, request.boot)
        if _says_something(request) or not self._known.hosts.hear(host, request.generation):
            for root in await self._intake.take_in(host, request):
                self._suspect(root)
        if self._known.hosts.waiting(host) <= request.generation and not request.full and not ask_all:
            seen = self._known.changes.version(host)
            if self._known.hosts.waiting(host) <= request.generation:
                await self._known.changes.wait(host, seen, min(request.wait, self._period))
        if self._known.hosts.is_banned(host):  # it was shut out meanwhile: its next sync is told so
            return SyncReply(generation=request.generation, orders=[], full=False, period=self._period)
        orders, generation = list[Order](), request.generation
        if self._known.hosts.waiting(host) > generation or request.full or ask_all:
            orders, generation = await self._orders(host, generation, repository)
        return SyncReply(generation=generation, orders=orders, full=ask_all, period=self._period)

    async def locators(self, root: ContentRoot, asking: HostId) -> list[Endpoint]:
        """The swarm endpoints of hosts that hold or fetch some content, those who hold it first."""
        disks = await self._known.data.of_root(root)
        peers = await self._peers([disk.data.uid for disk in disks], asking)
        return list(dict.fromkeys(endpoint for found in peers.values() for endpoint in found))[:OTHERS]

    async def _peers(self, data: Collection[Uid], asking: HostId) -> dict[Uid, list[Endpoint]]:
        """The swarm endpoints of some hosts that hold or fetch these data, by datum, those who hold it first."""
        found = await self._known.store.peers_of(data, asking, OTHERS) if data else {}
        endpoint = self._known.hosts.endpoint
        return {
            uid: list(dict.fromkeys(where for host in hosts if (where := endpoint(host)) is not None))[:OTHERS]
            for uid, hosts in found.items()
        }

    # What goes out ------------------------------------------------------------------------------------------------

    async def _orders(self, host: HostId, after: int, repository: Endpoint) -> tuple[list[Order], int]:
        """The open orders, those above generation `after` first, and the generation that a host with them is at."""
        newest = self._known.hosts.waiting(host)
        open_orders = await self._known.store.open_orders(host, after)
        about = {o.subject for o in open_orders if o.kind in {OrderKind.PLACE, OrderKind.DROP}}
        launched = {o.subject for o in open_orders if o.kind is OrderKind.LAUNCH}
        machines = {m.uid: m for m in await self._known.store.machines(uids=launched)} if launched else {}
        disks = await self._known.data.get({*about, *(machine.data for machine in machines.values())})
        peers = await self._peers({o.subject for o in open_orders if o.kind is OrderKind.PLACE}, host)
        orders = []
        for order in open_orders:
            try:
                orders.append(await self._wire(order, repository, disks, machines, peers))
            except (KeyError, BitDewError):
                log.exception("an order can't be sent", order=order.uid, kind=order.kind)
        all_told = len(open_orders) < limits.ORDERS or open_orders[-1].generation <= after
        # Also past orders that were closed before they were sent: a host below them would be answered at once for ever.
        reached = [newest] if all_told else []
        return orders, max([after, *reached, *(order.generation for order in open_orders)])

    async def _wire(
        self,
        order: OrderRecord,
        repository: Endpoint,
        disks: dict[Uid, Datum],
        machines: dict[Uid, MachineRecord],
        peers: dict[Uid, list[Endpoint]],
    ) -> Order:
        place = launch = None
        if order.kind is OrderKind.PLACE:
            disk = disks[order.subject]
            place = PlaceOrder(
                name=disk.data.name,
                root=disk.data.root,
                size=disk.data.size,
                info_hash=disk.info_hash,
                protocol=disk.attribute.attribute.protocol.value,
                repository=str(repository),
                peers=[str(peer) for peer in peers[order.subject]],
            )
        elif order.kind is OrderKind.LAUNCH:
            machine = machines[order.subject]
            deployment = (await self._known.store.deployments([machine.deployment]))[machine.deployment]
            disk = disks[machine.data]
            if disk.signed is None:
                raise error("data.not-found", f"{disk.data.name} is no disk that a machine could boot from")
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


def _says_something(request: SyncRequest) -> bool:
    return bool(request.placements or request.machines or request.host or request.full)
