"""A simulated host: what a worker keeps on its disk, how it carries out orders, and what it says.

Owns one host's truth. It speaks in the models of the wire and obeys the rules that a worker obeys: an order is
persisted before it is acted on, a stale one changes nothing, one that comes again is only told about again, and nothing
is dropped but on an order. It has no clock and no network: others move its bytes and carry its words.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from bitdew.core.ids import HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import INTENDED, MACHINE, MachineState, PlacementState
from bitdew.wire.models import (
    ErrorView,
    HostReport,
    MachineReport,
    Order,
    PlacementReport,
    SharingModel,
    SyncReply,
    SyncRequest,
)

from .identities import uid_from
from .possessions import Copy, Lent, Said, SimulatedMachine

_NO_ROOT: Final = "0" * 64
_S: Final = PlacementState
_M: Final = MachineState


class SimulatedHost:
    """One host.

    Attributes:
        online: Whether it runs and reaches the service.
        stalled: Whether it makes no progress with anything.
        departed: Whether it will never be back.
        shut_out: Whether the service told it that it is banned.
        copies: Its disk.
        gossip: Whether it has anything to say.
    """

    def __init__(self, host: HostId, name: str, lent: Lent, source: random.Random) -> None:
        self.host = host
        self.name = name
        self.lent = lent
        self._source = source
        self.online = True
        self.stalled = False
        self.departed = False
        self.shut_out = False
        self.generation = 0
        self.copies: dict[Uid, Copy] = {}
        self.machines: dict[Uid, SimulatedMachine] = {}
        self._last: dict[Uid, int] = {}
        self._orders: dict[Uid, Order] = {}
        self._marks: dict[Uid, int] = {}
        self._machine_marks: dict[Uid, int] = {}
        self._number = 0
        self._told: HostReport | None = None
        self._owes_word = True
        self.boot = uid_from(source)
        self.full = True

    # What befalls it ----------------------------------------------------------------------------------------------

    def reboot(self) -> None:
        """It starts again with what its disk has. Machines did not survive that."""
        self.boot, self.full, self._told, self._owes_word = uid_from(self._source), True, None, True
        for machine in self.machines.values():
            if machine.state not in MACHINE.ends() and machine.state is not _M.REQUESTED:
                machine.state, machine.reason = _M.FAILED, _reason("hypervisor.failed", "The host was started again")
                self._mark_machine(machine.uid)

    def wipe(self) -> None:
        """Its disk is empty: it remembers nothing but who it is."""
        self.copies.clear()
        self.machines.clear()
        self._last.clear()
        self._orders.clear()
        self._marks.clear()
        self._machine_marks.clear()
        self.generation = 0
        self.reboot()

    def change(self) -> None:
        """What it lends was changed: it has something to say."""
        self._owes_word = True

    # Its disk -----------------------------------------------------------------------------------------------------

    @property
    def used(self) -> int:
        """Bytes of the quota that copies take, those on their way at their full size."""
        return sum(copy.size for copy in self.copies.values() if copy.state not in {_S.FAILED, _S.GONE})

    @property
    def free(self) -> int:
        """Bytes that the file system could still take, beyond what the copies on their way will need."""
        taken = sum(copy.size for copy in self.copies.values() if copy.state not in {_S.FAILED, _S.GONE})
        return max(0, self.lent.disk - self.lent.others - taken)

    def holds(self, uid: Uid) -> bool:
        """Whether a verified copy is on the disk."""
        copy = self.copies.get(uid)
        return copy is not None and copy.state is _S.HELD

    def arrived(self, uid: Uid) -> None:
        """The last byte came and was verified."""
        copy = self.copies[uid]
        copy.done, copy.state, copy.reason = copy.size, _S.HELD, None
        self.mark(uid)
        self._prepare_machines(uid)

    def fail(self, uid: Uid, key: str) -> None:
        """The copy on its way, or held, can't be had."""
        copy = self.copies[uid]
        copy.state, copy.done, copy.reason = _S.FAILED, 0.0, _reason(key, "The copy failed")
        self.mark(uid)

    # Orders -------------------------------------------------------------------------------------------------------

    def take(self, reply: SyncReply) -> None:
        """Accept a reply: what is new in it is kept, then carried out."""
        fresh: dict[Uid, Order] = {}
        for order in sorted(reply.orders, key=lambda order: order.generation):
            subject = Uid(order.subject)
            if order.generation > self._last.get(subject, -1):
                fresh[subject] = order
            else:
                self._tell_again(subject, order.kind)
        generation = max([self.generation, reply.generation, *(order.generation for order in reply.orders)])
        if generation > self.generation:
            self.generation, self._owes_word = generation, True
        for subject, order in fresh.items():
            self._last[subject] = order.generation
            self._orders[subject] = order
        for subject, order in fresh.items():
            self._carry_out(subject, order)
        if reply.full and not self.full:
            self.full = self._owes_word = True

    def _tell_again(self, subject: Uid, kind: OrderKind) -> None:
        if kind in {OrderKind.PLACE, OrderKind.DROP}:
            self.mark(subject)
        else:
            self._mark_machine(subject)

    def _carry_out(self, subject: Uid, order: Order) -> None:
        match order.kind:
            case OrderKind.PLACE:
                self._place(subject, order)
            case OrderKind.DROP:
                self._drop(subject, order)
            case OrderKind.LAUNCH:
                self._launch(subject, order)
            case OrderKind.HALT:
                self._halt(subject, order)

    def _place(self, uid: Uid, order: Order) -> None:
        wish, copy = order.place, self.copies.get(uid)
        if wish is None or (copy is not None and copy.root != wish.root and copy.state is not _S.GONE):
            return
        if copy is None or copy.state in {_S.FAILED, _S.GONE}:
            room = min(self.free, self.lent.quota - self.used)
            copy = self.copies[uid] = Copy(uid, wish.root, wish.size, _S.ASSIGNED, order.generation)
            if wish.size > room:
                copy.state, copy.reason = _S.FAILED, _reason("storage.full", "There is no room for it")
            else:
                copy.state = _S.FETCHING
        copy.generation = order.generation
        self.mark(uid)

    def _drop(self, uid: Uid, order: Order) -> None:
        copy = self.copies.get(uid)
        if copy is not None:
            copy.generation = order.generation
            if copy.state is not _S.GONE:
                copy.state, copy.reason = _S.DROPPING, None
                self._finish_drop(copy)
        self.mark(uid)

    def _finish_drop(self, copy: Copy) -> None:
        uses = (m.data == copy.uid and m.state not in MACHINE.ends() for m in self.machines.values())
        if not any(uses):
            copy.freed, copy.done, copy.state = int(copy.done), 0.0, _S.GONE

    # Machines -----------------------------------------------------------------------------------------------------

    def _launch(self, uid: Uid, order: Order) -> None:
        wish, machine = order.launch, self.machines.get(uid)
        if machine is None and wish is not None:
            machine = self.machines[uid] = SimulatedMachine(uid, Uid(wish.data), _M.REQUESTED, order.generation)
            if self.holds(machine.data):
                machine.state = _M.PREPARING
        elif machine is not None:
            machine.generation = order.generation
        self._mark_machine(uid)

    def _prepare_machines(self, data: Uid) -> None:
        for machine in self.machines.values():
            if machine.data == data and machine.state is _M.REQUESTED:
                machine.state = _M.PREPARING
                self._mark_machine(machine.uid)

    def _halt(self, uid: Uid, order: Order) -> None:
        machine = self.machines.get(uid)
        if machine is not None:
            machine.generation = order.generation
            if machine.state not in MACHINE.ends():
                machine.state = _M.STOPPING
        self._mark_machine(uid)

    def run_machines(self) -> None:
        """Let its machines come as far as they can: those that were prepared run, those that were halted stop."""
        for machine in self.machines.values():
            if machine.state is _M.PREPARING:
                machine.state = _M.RUNNING
                self._mark_machine(machine.uid)
            elif machine.state is _M.STOPPING:
                self.end_machine(machine.uid, _M.STOPPED)

    def end_machine(self, uid: Uid, state: MachineState) -> None:
        """A machine ended, by itself or because it was told to."""
        machine = self.machines[uid]
        machine.state = state
        if state is _M.FAILED:
            machine.reason = _reason("hypervisor.failed", "The machine failed")
        self._mark_machine(uid)
        copy = self.copies.get(machine.data)
        if copy is not None and copy.state is _S.DROPPING:
            self._finish_drop(copy)
            self.mark(copy.uid)

    # What it says -------------------------------------------------------------------------------------------------

    def mark(self, uid: Uid) -> None:
        """A datum on it changed: that is to be told."""
        self._number += 1
        self._marks[uid] = self._number

    def _mark_machine(self, uid: Uid) -> None:
        self._number += 1
        self._machine_marks[uid] = self._number

    @property
    def gossip(self) -> bool:
        """Whether it has anything to say."""
        return bool(self._owes_word or self.full or self._marks or self._machine_marks)

    def say(self) -> Said:
        """The next request."""
        copies = {uid: self._marks.get(uid, 0) for uid in ({*self.copies, *self._marks} if self.full else self._marks)}
        machines = {*self.machines, *self._machine_marks} if self.full else {*self._machine_marks}
        told_machines = {uid: self._machine_marks.get(uid, 0) for uid in sorted(machines)}
        about = self.report()
        request = SyncRequest(
            boot=self.boot,
            generation=self.generation,
            full=self.full,
            host=about if self.full or about != self._told else None,
            placements=[copy for uid in sorted(copies) if (copy := self._copy_report(uid))],
            machines=[report for uid in told_machines if (report := self._machine_report(uid))],
        )
        return Said(self.boot, request, copies, told_machines)

    def report(self) -> HostReport:
        """What it says of itself."""
        lent = self.lent
        return HostReport(
            name=self.name,
            swarm=f"10.{int(self.host[:2], 16)}.{int(self.host[2:4], 16)}.{int(self.host[4:6], 16)}:6881",
            cpus=lent.cpus,
            memory=lent.memory,
            quota=lent.quota,
            used=self.used,
            free=self.free,
            labels=dict(lent.labels),
            sharings=[SharingModel(name=name, version=version) for name, version in lent.sharings.items()],
        )

    def _copy_report(self, uid: Uid) -> PlacementReport | None:
        copy = self.copies.get(uid)
        if copy is None:
            order = self._orders.get(uid)
            if order is None or order.kind is not OrderKind.DROP:
                return None
            return PlacementReport(uid=uid, root=_NO_ROOT, state=_S.GONE, generation=order.generation)
        return PlacementReport(
            uid=uid,
            root=copy.root,
            state=copy.state,
            generation=copy.generation,
            done=int(copy.done),
            size=copy.size,
            freed=copy.freed,
            reason=copy.reason,
        )

    def _machine_report(self, uid: Uid) -> MachineReport | None:
        machine = self.machines.get(uid)
        if machine is None:
            order = self._orders.get(uid)
            if order is None or order.kind is not OrderKind.HALT:
                return None
            return MachineReport(uid=uid, state=_M.STOPPED, generation=order.generation)
        return MachineReport(
            uid=uid, state=machine.state, generation=machine.generation, hypervisor="qemu", reason=machine.reason
        )

    def hear(self, said: Said, reply: SyncReply) -> None:
        """The reply to what was said arrived. One to an earlier start of the worker never does."""
        if said.boot != self.boot:
            return
        self._owes_word = False
        if said.request.full:
            self.full = False
        if said.request.host is not None:
            self._told = said.request.host
        _confirm(self._marks, said.copies)
        _confirm(self._machine_marks, said.machines)
        for report in said.request.placements:
            copy = self.copies.get(Uid(report.uid))
            if report.state is _S.GONE and copy is not None and copy.state is _S.GONE:
                del self.copies[copy.uid]
        for told in said.request.machines:
            machine = self.machines.get(Uid(told.uid))
            if told.state in MACHINE.ends() and machine is not None and machine.state in MACHINE.ends():
                del self.machines[machine.uid]
        self.take(reply)

    # What is known of it elsewhere --------------------------------------------------------------------------------

    def on_their_way(self) -> list[Copy]:
        """The copies that are being fetched."""
        return [copy for copy in self.copies.values() if copy.state in INTENDED]

    def backup(self) -> list[Copy]:
        """What its disk has, to be brought back later."""
        return [replace(copy) for copy in self.copies.values()]

    def restore(self, copies: list[Copy]) -> None:
        """Its disk is what it was when `copies` was made; what it did since, it does not know."""
        self.wipe()
        self.copies = {copy.uid: replace(copy) for copy in copies}
        self._last = {copy.uid: copy.generation for copy in copies}
        self.generation = max(self._last.values(), default=0)


def _confirm(marks: dict[Uid, int], told: dict[Uid, int]) -> None:
    for uid, number in told.items():
        if marks.get(uid) == number:
            del marks[uid]


def _reason(key: str, message: str) -> ErrorView:
    return ErrorView(key=key, message=message, why="simulated")
