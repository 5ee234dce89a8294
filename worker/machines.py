"""The machines on this host, as ordered: launch and halt are carried out here, and told about.

Owns the entry of each machine and what the service is told of it, its console included. How one machine lives stands in
`machine`. A machine that runs is ended by an order, by itself, or when the worker ends in an orderly way; a machine
that the journal does not know is none of ours and is swept away at the start.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid
from bitdew.core.orders import ErrandKind, OrderKind
from bitdew.core.states import MachineState
from bitdew.wire import limits
from bitdew.wire.models import ConsoleChunk, ErrorView, MachineReport

from . import console
from .entries import MachineEntry
from .events import EventKind
from .machine import ENDED, Machine
from .room import folder_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bitdew.wire.models import Order

    from .events import Announcer
    from .machine import Premises
    from .outbox import Outbox
    from .settings import WorkerSettings

log = structlog.get_logger(__name__)

_S: Final = MachineState
EXIT_GRACE: Final = 5.0
"""Seconds that a machine has to shut down when the worker ends."""


class Machines:
    """All machines on this host."""

    def __init__(self, premises: Premises, outbox: Outbox, announcer: Announcer) -> None:
        self.machines: dict[str, Machine] = {}
        self._premises = premises
        self._journal = premises.journal
        self._outbox = outbox
        self._announcer = announcer
        self._orders: dict[str, Order] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def lend(self, settings: WorkerSettings) -> None:
        """Let in what `settings` lend from now on. What is here stays, even if it is more."""
        self._premises.settings = self._premises.room.settings = settings

    async def resume(self, entries: Iterable[MachineEntry], orders: Iterable[Order], tasks: asyncio.TaskGroup) -> None:
        """Go on where the journal says that the worker was: find machines that run, and end unknown ones."""
        self._tasks = tasks
        for entry in entries:
            self.machines[entry.uid] = Machine(self._premises, entry, self._changed)
        await self._sweep()
        gone = {uid for uid, machine in list(self.machines.items()) if not await self._regard(machine)}
        for order in orders:
            known_machine = self.machines.get(order.subject)
            if order.subject in gone:
                continue
            if known_machine is None and order.kind is OrderKind.HALT:
                continue  # carried out and confirmed
            if known_machine is None or known_machine.entry.generation < order.generation:
                await self.apply(order)

    @property
    def needed(self) -> set[str]:
        """The contents that machines run from, or wait for."""
        entries = [machine.entry for machine in self.machines.values()]
        return {entry.order.root for entry in entries if entry.state not in ENDED}

    def disk_of(self, uid: str) -> int:
        """Bytes that the machine `uid` takes of the disk beyond the copy that it runs from."""
        return self._premises.room.disk_of(uid)

    @property
    def running(self) -> bool:
        """Whether any machine was started, and has not ended."""
        return any(machine.entry.state in {_S.STARTING, _S.RUNNING} for machine in self.machines.values())

    @property
    def starting(self) -> bool:
        """Whether a machine is between its disk and its first instruction."""
        return any(machine.entry.state in {_S.PREPARING, _S.STARTING} for machine in self.machines.values())

    async def apply(self, order: Order) -> None:
        """Carry out a launch or halt order that the journal has accepted."""
        self._orders[order.subject] = order
        machine = self.machines.get(order.subject)
        if machine is None and order.kind is OrderKind.LAUNCH and order.launch is not None:
            entry = MachineEntry(order.subject, order.generation, order.launch, _S.REQUESTED)
            await self._inherit(entry)
            machine = self.machines[order.subject] = Machine(self._premises, entry, self._changed)
            await self._journal.save_machine(entry)
            self._begin(machine)
        elif machine is not None:
            machine.entry.generation = order.generation
            machine.entry.halting = machine.entry.halting or order.kind is OrderKind.HALT
            await self._journal.save_machine(machine.entry)
            if machine.entry.halting:
                machine.halt()
        self._outbox.mark_machine(order.subject, urgent=True)

    async def _regard(self, machine: Machine) -> bool:
        """Go on with a machine of an earlier life of this worker; False if another one has taken all of it over."""
        heir = next((m for m in self.machines.values() if m.entry.order.continues == machine.entry.uid), None)
        if heir is not None and heir.entry.body:  # killed between the two halves of handing over
            del self.machines[machine.entry.uid]
            await self._journal.forget_machine(machine.entry.uid, machine.entry.generation)
            return False
        if machine.kept:
            size = await asyncio.to_thread(folder_size, machine.folder)
            self._premises.room.grew(machine.entry.uid, size)
        self._begin(machine)
        return True

    async def _inherit(self, entry: MachineEntry) -> None:
        """Give a new machine what is kept of the one that it goes on from, if that is still here."""
        before = self.machines.get(entry.order.continues or "")
        if before is None or not before.kept:
            return
        entry.body, entry.hypervisor = before.entry.body or before.entry.uid, before.entry.hypervisor
        entry.snapshots = list(before.entry.snapshots)
        await self._journal.save_machine(entry)
        del self.machines[before.entry.uid]
        self._premises.room.grew(before.entry.uid, 0)
        await self._journal.forget_machine(before.entry.uid, before.entry.generation)

    async def attend(self, uid: str, kind: ErrandKind, name: str | None) -> bytes | None:
        """Do once what is asked of the machine `uid`; a picture, if that is what it was.

        Raises:
            BitDewError: `machine.not-found`, and as `Machine.attend`.
        """
        machine = self.machines.get(uid)
        if kind is ErrandKind.CLEAR and (machine is None or machine.entry.state in ENDED):
            if machine is not None:
                await self._clear_away(machine)
            return None
        if machine is None:
            raise error("machine.not-found", f"Machine {uid[:8]} is not on this host", uid=uid)
        return await machine.attend(kind, name)

    async def _sweep(self) -> None:
        """End and remove machines that the journal does not know: left over from one that was set aside."""
        known = {Uid(machine.entry.body or uid) for uid, machine in self.machines.items()}
        for driver in self._premises.hypervisors.values():
            try:
                for uid in await driver.sweep(self._premises.folder, known):
                    log.warning("a machine that is not known was removed", machine=uid, hypervisor=driver.name)
            except BitDewError as fault:
                log.warning("unknown machines could not be removed", hypervisor=driver.name, why=str(fault))

    def _begin(self, machine: Machine) -> None:
        if self._tasks is not None and machine.entry.state not in ENDED:
            machine.task = self._tasks.create_task(machine.live(), name=f"machine {machine.entry.uid[:8]}")

    async def _changed(self, entry: MachineEntry, *, moved: bool) -> None:
        """A machine moved to another state, or only wrote to its console."""
        if moved:
            await self._journal.save_machine(entry)
            why = f": {entry.reason.message}" if entry.reason else ""
            text = f"machine {entry.uid[:8]} is {entry.state}{why}"
            self._announcer.tell(
                EventKind.MACHINE, entry.uid, text, state=str(entry.state), hypervisor=entry.hypervisor
            )
        self._outbox.mark_machine(entry.uid, urgent=moved)

    # What the service is told

    async def report(self, uid: str, room: int) -> tuple[MachineReport, console.ConsolePart | None] | None:
        """What there is to say of the machine `uid` now, with at most `room` bytes of its console.

        A machine is told to have ended only with the last of its console, so that nobody stops reading too early.
        """
        machine = self.machines.get(uid)
        if machine is None:
            order = self._orders.get(uid)
            if order is None or order.kind is not OrderKind.HALT:
                return None
            return MachineReport(uid=uid, state=_S.STOPPED, generation=order.generation), None
        entry = machine.entry
        state, reason, ended = entry.state, entry.reason, entry.state in ENDED
        part = None
        path = machine.console
        if entry.handle is None and entry.order.snapshot is not None:
            path = None  # what lies there was written by the machine that it goes on from, and its own begins anew
        if path is not None:
            start, offset = entry.console_bytes, entry.console_characters
            most = min(room, limits.CONSOLE_CHUNK)
            part = await asyncio.to_thread(console.read_part, path, start, offset, most, ended=ended)
            if ended and part.more:
                state, reason = _S.STOPPING, None
        chunk = ConsoleChunk(offset=part.offset, text=part.text) if part is not None and part.text else None
        report = MachineReport(
            uid=uid,
            state=state,
            generation=entry.generation,
            hypervisor=entry.hypervisor,
            reason=reason,
            console=chunk,
            ports=entry.ports,
            snapshots=entry.snapshots,
        )
        return report, part

    async def confirmed(self, report: MachineReport, part: console.ConsolePart | None) -> None:
        """The service has taken `report`: its console goes on behind it, and what has ended is removed."""
        machine = self.machines.get(report.uid)
        if machine is None:
            return
        entry = machine.entry
        if part is not None and part.start == entry.console_bytes and part.end > part.start:
            entry.console_bytes = part.end
            entry.console_characters = part.offset + len(part.text)
            await self._journal.save_machine(entry)
            if part.more:  # no haste while it runs: it may write without end
                self._outbox.mark_machine(entry.uid, urgent=entry.state in ENDED)
        if report.state in ENDED and entry.state in ENDED and not machine.kept:
            if self._tasks is None:
                await self._clear_away(machine)
            else:
                self._tasks.create_task(self._clear_away(machine), name=f"clear away {entry.uid[:8]}")

    async def _clear_away(self, machine: Machine) -> None:
        if self.machines.pop(machine.entry.uid, None) is None:
            return  # confirmed twice
        try:
            await machine.destroy()
        except BitDewError as fault:
            log.warning("a machine could not be removed", machine=machine.entry.uid, why=str(fault))
        await self._journal.forget_machine(machine.entry.uid, machine.entry.generation)

    # The end

    async def stop_all(self) -> None:
        """End every machine: the worker is leaving. Machines that had not begun stay ordered."""
        self._tasks = None
        reason = ErrorView.of(error("interrupted", "The worker was stopped", do="Launch the machine again."))
        stops = (machine.stop_for_exit(EXIT_GRACE, reason) for machine in self.machines.values())
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(outcome, BaseException):
                log.warning("a machine could not be stopped", why=str(outcome))
