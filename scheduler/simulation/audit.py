"""The audit: every order is judged when it is stored, by rules of its own, against what the service knew then.

Owns a second set of books, kept from what was stored alone, and the list of what was wrong. It shares no code with the
planner, so that both would have to be wrong in the same way. It must not change anything.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bitdew.core.attribute import EVERYWHERE, Attribute
from bitdew.core.draining import Drain
from bitdew.core.ids import HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import INTENDED, MACHINE, HostState, MachineState, PlacementState

from ...catalog.data_store import Datum
from ...catalog.database import Database
from ..planner import PlannerSettings
from ..records import HostRecord, MachineRecord, OrderRecord, PlacementRecord
from ..store import SchedulerStore
from .service import SimulatedService

_S: Final = PlacementState
TAKEN: Final = INTENDED | {_S.HELD}
TAKES_SPACE: Final = TAKEN | {_S.DROPPING}


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be.

    Attributes:
        at: When, UTC.
        rule: Which rule was broken, in few words that are always the same.
        what: By what.
    """

    at: datetime
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S}: {self.rule}: {self.what}"


class Audit:
    """The second books, and what was found.

    Attributes:
        violations: What was wrong, oldest first.
        service: The service as it runs now.
        placements: Each datum's placements by host, as they were stored.
        machines: The machines, as they were stored.
        orders: How many orders of each kind were given.
        placed: For each datum, bytes that it was ordered to be placed with.
    """

    service: SimulatedService

    def __init__(self, settings: PlannerSettings) -> None:
        self.settings = settings
        self.violations: list[Violation] = []
        self.placements: defaultdict[Uid, dict[HostId, PlacementRecord]] = defaultdict(dict)
        self.machines: dict[Uid, MachineRecord] = {}
        self.orders: dict[OrderKind, int] = dict.fromkeys(OrderKind, 0)
        self.latest: deque[str] = deque(maxlen=20)
        """The latest orders, each with its moment and cause."""
        self.relied_on: dict[tuple[Uid, HostId, int], frozenset[HostId]] = {}
        """For each drop of a verified copy, the other hosts that were known to hold one."""
        self._on: defaultdict[HostId, dict[Uid, int]] = defaultdict(dict)
        self._sizes: dict[Uid, int] = {}
        self._generations: dict[HostId, int] = {}
        self._data: dict[Uid, Datum] = {}
        self._attribute_of: dict[Uid, Uid] = {}
        self._heirs: dict[Uid, MachineRecord] = {}

    @property
    def now(self) -> datetime:
        """The time of day."""
        return self.service.known.clock.now()

    def blame(self, rule: str, what: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(self.now, rule, what))

    # What is stored -----------------------------------------------------------------------------------------------

    async def judge(
        self,
        orders: Collection[OrderRecord],
        placements: Collection[PlacementRecord],
        machines: Collection[MachineRecord],
    ) -> None:
        """Judge what is about to be stored, then book it."""
        subjects = {p.data for p in placements} | {m.data for m in machines}
        self._data = await self.service.known.data.get(subjects)
        await self._look_up_targets()
        for uid, datum in self._data.items():
            self._sizes[uid], self._attribute_of[uid] = datum.data.size, datum.attribute.uid
        about = {(p.data, p.host): p for p in placements}
        launched = {machine.uid: machine for machine in machines}
        await self._look_up_heirs(orders)
        for order in sorted(orders, key=lambda order: (order.host, order.generation)):
            self._judge_order(order, launched.get(order.subject))
            if order.kind in {OrderKind.PLACE, OrderKind.DROP}:
                self._book(about.pop((order.subject, order.host)))
            elif (machine := launched.pop(order.subject, None)) is not None:
                self.machines[machine.uid] = machine
        for placement in about.values():
            self._book(placement)
        self.machines.update(launched)

    async def _look_up_targets(self) -> None:
        records = [datum.attribute for datum in self._data.values()]
        targets = {uid for r in records for uid in (r.affinity_data, r.lifetime_data) if uid is not None}
        self._data |= await self.service.known.data.get(targets - self._data.keys())

    async def _look_up_heirs(self, orders: Collection[OrderRecord]) -> None:
        """For each machine that is to end and whose place another takes, the last of those that took it."""
        self._heirs = {}
        for order in orders:
            machine = heir = self.machines.get(order.subject) if order.kind is OrderKind.HALT else None
            while heir is not None and heir.successor is not None:
                heir = (await self.service.known.store.machines(uids=[heir.successor]))[0]
            if machine is not None and heir is not None and heir is not machine:
                self._heirs[order.subject] = heir

    def _book(self, placement: PlacementRecord) -> None:
        known = self.placements[placement.data].get(placement.host)
        self.placements[placement.data][placement.host] = placement
        nothing_there = known is None or known.state not in TAKES_SPACE
        if placement.state is _S.DROPPING and nothing_there:
            return  # what failed took no space, and takes none while it is cleared away
        if placement.state in TAKES_SPACE:
            self._on[placement.host][placement.data] = self._sizes[placement.data]
        else:
            self._on[placement.host].pop(placement.data, None)

    def regrouped(self, uid: Uid, attribute: Uid) -> None:
        """A datum was given another attribute."""
        self._attribute_of[uid] = attribute

    def _judge_order(self, order: OrderRecord, machine: MachineRecord | None) -> None:
        self.orders[order.kind] += 1
        self.latest.append(f"{self.now:%H:%M:%S} {self._told(order)}")
        if order.generation <= self._generations.get(order.host, 0):
            self.blame("an order's generation is not a new one", self._told(order))
        self._generations[order.host] = order.generation
        match order.kind:
            case OrderKind.PLACE:
                self._judge_place(order, self._data[order.subject])
            case OrderKind.DROP:
                self._judge_drop(order, self._data[order.subject])
            case OrderKind.LAUNCH:
                self._judge_launch(order, machine)
            case OrderKind.HALT:
                self._judge_halt(order)

    def _told(self, order: OrderRecord) -> str:
        datum = self._data.get(order.subject)
        name = datum.data.name if datum else order.subject
        return f"{order.kind} {name} at {self.service.hosts.name(order.host)}: {order.cause}"

    # Rules about places -------------------------------------------------------------------------------------------

    def _judge_place(self, order: OrderRecord, datum: Datum) -> None:
        record = self.service.hosts.get(order.host)
        if record is None or record.state is not HostState.ALIVE:
            self.blame("placed on a host that is not alive", self._told(order))
            return
        if not datum.alive or datum.awaited:
            self.blame("placed a datum that is dead or has no bytes", self._told(order))
        pinned = order.host in datum.attribute.pins
        if not pinned and not self._wishes(datum).requires.check(record.report.to_facts(order.host)).matches:
            self.blame("placed on an ineligible host: requires", self._told(order))
        if (
            not pinned
            and datum.attribute.attribute.affinity
            and order.host not in (self.holders_of_target(datum) or ())
        ):
            self.blame("placed on an ineligible host: affinity", self._told(order))
        most = self._wishes(datum).distrib
        if not pinned and 0 <= most <= len(self._alike(datum, order.host)):
            self.blame("placed on an ineligible host: distrib", self._told(order))
        committed = sum(size for uid, size in self._on[order.host].items() if uid != order.subject)
        if committed + datum.data.size > record.report.quota:
            figures = f"{committed} of {record.report.quota} bytes were promised, {datum.data.size} are wanted"
            self.blame("over quota", f"{self._told(order)}; {figures}")
        if not pinned:
            self._judge_number(order, datum)

    def _judge_number(self, order: OrderRecord, datum: Datum) -> None:
        """Copies that surely count, and this one, are no more than are wanted, or than spreading them takes."""
        wanted = self._wishes(datum).replicas
        if wanted == EVERYWHERE:
            return
        sure = [p for p in self.placements[order.subject].values() if p.host != order.host and self._counts(p, datum)]
        allowed = 2 * wanted if self._wishes(datum).spread else wanted
        if len(sure) + 1 > allowed:
            self.blame("placed twice", f"{self._told(order)}; {len(sure)} copies count of {wanted}")

    def _counts(self, placement: PlacementRecord, datum: Datum) -> bool:
        record = self.service.hosts.get(placement.host)
        if record is None or record.state is HostState.BANNED or not self.fits(datum, record):
            return False
        if placement.state is _S.HELD:
            return record.state is not HostState.LOST or not self._wishes(datum).fault_tolerance
        fresh = placement.lease_until is not None and placement.lease_until > self.now
        return placement.state in INTENDED and fresh and record.state is HostState.ALIVE

    # Rules about drops --------------------------------------------------------------------------------------------

    def _judge_drop(self, order: OrderRecord, datum: Datum) -> None:
        known = self.placements[order.subject].get(order.host)
        if known is None or known.state in {_S.GONE, _S.DROPPING}:
            self.blame("dropped a copy that is not recorded", self._told(order))
            return
        if self._in_use(order.subject, order.host):
            self.blame("dropped a copy that a machine runs from", self._told(order))
        if not datum.alive:
            return
        if order.host in datum.attribute.pins:
            self.blame("dropped a pinned copy", self._told(order))
        others = self._verified(order.subject) - {order.host}
        if known.state is _S.HELD:
            self.relied_on[order.subject, order.host, order.generation] = frozenset(others)
            if not others:
                self.blame("dropped the last verified copy", self._told(order))
        self._judge_need(order, datum, known, others)

    def _judge_need(self, order: OrderRecord, datum: Datum, known: PlacementRecord, others: set[HostId]) -> None:
        """A copy that may stay is dropped only if as many as are wanted are held without it."""
        record = self.service.hosts.get(order.host)
        if record is None or record.state is HostState.BANNED or known.state not in TAKEN:
            return
        if self._wishes(datum).affinity and self.holders_of_target(datum) is None and known.state is not _S.HELD:
            return  # its target is nowhere: copies stay, but those that never come are not waited for
        if not self.fits(datum, record):
            return
        wanted = self._wanted(datum)
        fitting = [host for host in others if (other := self.service.hosts.get(host)) and self.fits(datum, other)]
        if wanted == EVERYWHERE or len(fitting) < wanted:
            held = f"{len(fitting)} others are held of {wanted}"
            self.blame("dropped a copy that is wanted", f"{self._told(order)}; {held}")

    def _wanted(self, datum: Datum) -> int:
        """Copies wanted; with an affinity no more than its target has holders."""
        wanted, holders = self._wishes(datum).replicas, self.holders_of_target(datum)
        if holders is None or wanted == EVERYWHERE:
            return wanted
        return min(wanted, len(holders | {*datum.attribute.pins}))

    def _verified(self, uid: Uid) -> set[HostId]:
        """The living hosts with a verified copy."""
        held = (p.host for p in self.placements[uid].values() if p.state is _S.HELD)
        records = ((host, self.service.hosts.get(host)) for host in held)
        return {host for host, record in records if record is not None and record.state is HostState.ALIVE}

    def _in_use(self, uid: Uid, host: HostId) -> bool:
        record, ends = self.service.hosts.get(host), MACHINE.ends()
        if record is not None and record.state is HostState.BANNED:
            return False  # nobody will ever hear how its machines ended
        return any(m.data == uid and m.host == host and m.state not in ends for m in self.machines.values())

    # Rules about machines and lives -------------------------------------------------------------------------------

    def _judge_launch(self, order: OrderRecord, machine: MachineRecord | None) -> None:
        record = self.service.hosts.get(order.host)
        if record is None or record.state is not HostState.ALIVE:
            self.blame("launched on a host that is not alive", self._told(order))
        if machine is None or order.host not in self._verified(machine.data):
            self.blame("launched on a host without a verified copy", self._told(order))

    def _judge_halt(self, order: OrderRecord) -> None:
        """A machine that is moved off a drained host goes on until the other runs, or nobody wants that any more."""
        machine, heir = self.machines.get(order.subject), self._heirs.get(order.subject)
        record = self.service.hosts.get(order.host)
        moved = machine is not None and machine.state not in MACHINE.ends() and heir is not None
        if not moved or heir is None or record is None or record.drain is Drain.STOP:
            return
        if heir.state not in {MachineState.RUNNING, *MACHINE.ends()} and not heir.stop_wanted:
            self.blame("ended a machine before another ran in its place", self._told(order))

    async def judge_end(self, uid: Uid, because: str) -> None:
        """Judge the end of a life that the engine decided."""
        datum = (await self.service.known.data.get([uid]))[uid]
        if not datum.alive:
            return
        target = datum.attribute.lifetime_data
        bound = (await self.service.known.data.get([target])).get(target) if target else None
        over = datum.ends is not None and datum.ends <= self.now
        if not over and (bound is None or bound.alive):
            self.blame("a life was ended that was not over", f"{datum.data.name}: {because}")
        if any(self._in_use(uid, host) for host in self.placements[uid]):
            self.blame("a life was ended though a machine ran from a copy", f"{datum.data.name}: {because}")

    # Wishes, read anew --------------------------------------------------------------------------------------------

    @staticmethod
    def _wishes(datum: Datum) -> Attribute:
        return datum.attribute.attribute

    def holders_of_target(self, datum: Datum) -> set[HostId] | None:
        """The hosts that hold the target of a datum's affinity; None without a target that lives and is held."""
        record = datum.attribute
        if record.affinity_data is not None:
            target = self._data.get(record.affinity_data)
            uids: Iterable[Uid] = [record.affinity_data] if target is not None and target.alive else []
        elif record.affinity_attribute is not None:
            wanted = record.affinity_attribute
            uids = [uid for uid, attribute in self._attribute_of.items() if attribute == wanted]
        else:
            return None
        held = (p.host for uid in uids for p in self.placements[uid].values() if p.state is _S.HELD)
        records = ((host, self.service.hosts.get(host)) for host in held)
        return {host for host, known in records if known and known.state is not HostState.BANNED} or None

    def fits(self, datum: Datum, record: HostRecord) -> bool:
        """Whether a copy may be where it is, apart from `distrib`'s choice among several, which is always granted."""
        if record.drain is not None:
            return False
        if record.host in datum.attribute.pins:
            return True
        facts = record.report.to_facts(record.host)
        holders = self.holders_of_target(datum)
        if not self._wishes(datum).requires.stays(facts).matches or (
            holders is not None and record.host not in holders
        ):
            return False
        most = self._wishes(datum).distrib
        return most < 0 or len(self._alike(datum, record.host)) <= most

    def _alike(self, datum: Datum, host: HostId) -> set[Uid]:
        """The data of the same attribute that are on `host` or on their way there."""
        attribute, on = datum.attribute.uid, self._on[host]
        alike = (uid for uid in on if self._attribute_of.get(uid) == attribute)
        return {uid for uid in alike if self.placements[uid][host].state in TAKEN}


class WatchedStore(SchedulerStore):
    """The scheduler's store, whose every decision is judged before it is stored."""

    def __init__(self, database: Database, audit: Audit) -> None:
        super().__init__(database)
        self._audit = audit

    async def record(self, **decided: Any) -> None:
        """As `SchedulerStore.record`."""
        told: Mapping[str, Any] = decided
        await self._audit.judge(told.get("orders", ()), told.get("placements", ()), told.get("machines", ()))
        await super().record(**decided)


def watched(audit: Audit) -> Callable[[Database], SchedulerStore]:
    """Makes a store that `audit` watches."""
    return lambda database: WatchedStore(database, audit)
