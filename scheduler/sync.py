"""The sync endpoint: what hosts have comes in, what they should do goes out, held open while there is nothing to do.

Owns the exchange with hosts. Reports are stored before the reply; orders were stored before they are sent. The state is
level-triggered: a reply that is lost is asked for again, and an order that is sent twice does nothing twice.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

import structlog

from bitdew.core.attribute import EVERYWHERE, Protocol
from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import INTENDED, PlacementState
from bitdew.wire import limits
from bitdew.wire.models import (
    ErrandOrder,
    LaunchOrder,
    Order,
    PlaceOrder,
    RecordModel,
    RunOrder,
    SyncReply,
    SyncRequest,
)

from ..catalog.data_store import Datum
from .calls import Calls
from .doubts import Doubts
from .intake import Intake
from .known import Known
from .peers import Candidate, near_first
from .records import ErrandRecord, MachineRecord, OrderRecord

log = structlog.get_logger(__name__)
OTHERS: Final = limits.PEERS - 1
"""Hosts that one is told of for a datum, beside the repository."""
NEAR: Final = 300
"""Hosts of its site of which a host may be told, whatever place they have among all that hold a datum."""

_ENTITLES: Final = INTENDED | {PlacementState.HELD, PlacementState.DROPPING}
"""States in which a host has something of a datum, or is to. Where that failed, it waits to be told."""


TellRuns = Callable[[Collection[Uid]], Awaitable[dict[Uid, RunOrder]]]


@dataclass(frozen=True, slots=True)
class _Company:
    """Who else has a datum, or is to have it: where the first of them listen, and how many copies that makes."""

    peers: list[Endpoint]
    copies: int


class Sync:
    """Answers hosts."""

    def __init__(
        self,
        known: Known,
        intake: Intake,
        suspect: Callable[[ContentRoot], None],
        period: float,
        chance: random.Random | None = None,
        runs: TellRuns | None = None,
    ) -> None:
        """`suspect` is told of each content of which a host got a corrupt piece; `chance` mixes peers.

        `runs` says what runs are to do.
        """
        self._runs = runs or _no_runs
        self._known = known
        self._intake = intake
        self._suspect = suspect
        self._period = period
        self.doubts = Doubts(known)
        self.calls = Calls(known)
        self._chance = chance or random.Random()  # noqa: S311 (nothing secret hangs on it)

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
            corrupt = await self._intake.take_in(host, request)
            for root in corrupt:
                self._suspect(root)
            await self.doubts.raise_from(host, [report for report in request.placements if report.root in corrupt])
            await self.calls.note(host, request.placements)
        if self._known.hosts.waiting(host) <= request.generation and not request.full and not ask_all:
            seen = self._known.changes.version(host)
            said = self.doubts.is_waiting(host) or self.calls.is_waiting(host)
            if self._known.hosts.waiting(host) <= request.generation and not said:
                await self._known.changes.wait(host, seen, min(request.wait, self._period))
        if self._known.hosts.is_banned(host):  # it was shut out meanwhile: its next sync is told so
            return SyncReply(generation=request.generation, orders=[], full=False, period=self._period)
        orders, generation = list[Order](), request.generation
        if self._known.hosts.waiting(host) > generation or request.full or ask_all:
            orders, generation = await self._orders(host, generation, repository)
        return SyncReply(
            generation=generation,
            orders=orders,
            full=ask_all,
            period=self._period,
            doubted=self.doubts.of(host),
            calls=self.calls.of(host),
        )

    async def locators(self, root: ContentRoot, asking: HostId) -> list[Endpoint]:
        """The swarm endpoints of hosts that hold or fetch some content, near ones first.

        Raises:
            UserError: `data.not-ordered`, where `asking` neither has it nor is to have it.
        """
        uids = await self._entitled(root, asking)
        company = await self._company(uids, asking)
        return list(dict.fromkeys(endpoint for uid in uids for endpoint in company[uid].peers))[:OTHERS]

    async def holders(self, root: ContentRoot) -> list[Endpoint]:
        """Where hosts listen that hold some content, for the repository itself."""
        uids = [datum.data.uid for datum in await self._known.data.of_root(root)]
        found = await self._known.store.peers_of(uids, HostId(""), OTHERS)
        hosts = dict.fromkeys(host for others in found.values() for host, held in others.items() if held)
        return [where for host in hosts if (where := self._known.hosts.endpoint(host)) is not None][:OTHERS]

    async def sources(self, datum: Datum) -> list[Endpoint]:
        """Where a person can have all of a datum beside the repository: who publishes it, then those who hold it."""
        origin = [] if datum.origin is None else [datum.origin]
        return list(dict.fromkeys([*origin, *await self.holders(datum.data.root)]))[:OTHERS]

    async def require_entitled(self, root: ContentRoot, asking: HostId) -> None:
        """Refuse a host that neither has some content nor is to have it.

        Raises:
            UserError: `data.not-ordered`.
        """
        await self._entitled(root, asking)

    async def _entitled(self, root: ContentRoot, asking: HostId) -> list[Uid]:
        """The data with this content, of which `asking` has one or is to have it."""
        uids = [datum.data.uid for datum in await self._known.data.of_root(root)]
        placed = await self._known.store.placements_at([(uid, asking) for uid in uids])
        if not any(placement.state in _ENTITLES for placement in placed.values()):
            why = "no order of this host asks for it, and it reported no copy"
            raise error("data.not-ordered", f"The content {root[:16]}… is not for this host", why=why, root=root[:64])
        return uids

    async def _company(self, data: Collection[Uid], asking: HostId) -> dict[Uid, _Company]:
        """Who else has these data, or is to have them, by datum: near hosts first, then those who hold it."""
        near, hosts = self._known.hosts.near(asking, NEAR), self._known.hosts
        found = await self._known.store.peers_of(data, asking, OTHERS, near) if data else {}
        known, beside = dict[Uid, _Company](), frozenset(near)
        offered = {uid: datum.origin for uid, datum in (await self._known.data.get(found)).items()}
        for uid, others in found.items():
            order = near_first((Candidate(host, held, host in beside) for host, held in others.items()), self._chance)
            origin = [offered.get(uid), *map(hosts.endpoint, order)]  # whoever publishes it has all of it
            reachable = dict.fromkeys(where for where in origin if where is not None)
            known[uid] = _Company(list(reachable)[:OTHERS], 1 + len(others))
        return known

    # What goes out ------------------------------------------------------------------------------------------------

    async def _orders(self, host: HostId, after: int, repository: Endpoint) -> tuple[list[Order], int]:
        """The open orders, those above generation `after` first, and the generation that a host with them is at."""
        newest = self._known.hosts.waiting(host)
        open_orders = await self._known.store.open_orders(host, after)
        about = {o.subject for o in open_orders if o.kind in {OrderKind.PLACE, OrderKind.DROP}}
        asked = [o.subject for o in open_orders if o.kind is OrderKind.ERRAND]
        errands = {e.uid: e for e in await self._known.store.errands(asked)} if asked else {}
        launched = {o.subject for o in open_orders if o.kind is OrderKind.LAUNCH}
        machines = {m.uid: m for m in await self._known.store.machines(uids=launched)} if launched else {}
        disks = await self._known.data.get({*about, *(machine.data for machine in machines.values())})
        company = await self._company({o.subject for o in open_orders if o.kind is OrderKind.PLACE}, host)
        run = {o.subject for o in open_orders if o.kind is OrderKind.RUN}
        runs = await self._runs(run) if run else {}
        orders = []
        for order in open_orders:
            try:
                if order.kind is OrderKind.ERRAND:
                    orders.append(_errand(order, errands[order.subject]))
                else:
                    orders.append(await self._wire(order, repository, disks, machines, company, runs))
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
        company: dict[Uid, _Company],
        runs: dict[Uid, RunOrder],
    ) -> Order:
        place = launch = run = None
        if order.kind is OrderKind.PLACE:
            disk = disks[order.subject]
            place = PlaceOrder(
                name=disk.data.name,
                root=disk.data.root,
                size=disk.data.size,
                info_hash=disk.info_hash,
                # What the repository does not have comes from the swarm or not at all.
                protocol=(Protocol.BITTORRENT if disk.awaited else disk.attribute.attribute.protocol).value,
                repository=str(repository),
                peers=[str(peer) for peer in company[order.subject].peers],
                copies=max(company[order.subject].copies, self._wanted(disk)),
                attribute=disk.attribute.name or "",
                priority=disk.attribute.attribute.priority,
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
                network=deployment.network,
                seeded=deployment.network != "none" or bool(await self._known.store.seeded([machine.deployment])),
                continues=machine.continues,
                snapshot=machine.snapshot,
                ports=list(deployment.ports),
                ends=deployment.ends,
            )
        elif order.kind is OrderKind.RUN:
            run = runs[order.subject]
        return Order(
            uid=order.uid,
            generation=order.generation,
            kind=order.kind,
            subject=order.subject,
            cause=order.cause[: limits.TEXT],
            place=place,
            launch=launch,
            run=run,
        )

    def _wanted(self, datum: Datum) -> int:
        """Copies that its attribute asks for, as far as that is known: with an affinity they follow other copies."""
        attribute = datum.attribute.attribute
        if attribute.replicas == EVERYWHERE:
            return len(self._known.hosts) if attribute.affinity is None else 0
        return attribute.replicas


def _errand(order: OrderRecord, errand: ErrandRecord) -> Order:
    return Order(
        uid=order.uid,
        generation=order.generation,
        kind=order.kind,
        subject=order.subject,
        cause=order.cause[: limits.TEXT],
        errand=ErrandOrder(machine=errand.machine, kind=errand.kind, name=errand.name),
    )


async def _no_runs(_uids: Collection[Uid]) -> dict[Uid, RunOrder]:
    """Without jobs, nothing runs."""
    return {}


def _says_something(request: SyncRequest) -> bool:
    return bool(request.placements or request.machines or request.host or request.full)
