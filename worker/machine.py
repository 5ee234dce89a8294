"""One machine: from a launch order to its end, through every restart of the worker.

Owns the steps and what is verified before the first of them. Each step is kept in the journal before it is taken, and
each can be repeated: a driver prepares and starts a machine once.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid
from bitdew.core.states import MACHINE, MachineState
from bitdew.core.units import format_size
from bitdew.hypervisor import MachineSpec
from bitdew.trust.records import read_record
from bitdew.wire.models import ErrorView

from . import console
from .storage import MARGIN

if TYPE_CHECKING:
    from pathlib import Path

    from bitdew.core.clock import Clock
    from bitdew.core.data import ImageRecord
    from bitdew.hypervisor import Hypervisor, MachineStatus

    from .copies import Copies
    from .entries import MachineEntry
    from .journal import Journal
    from .settings import WorkerSettings

log = structlog.get_logger(__name__)

_S: Final = MachineState
ENDED: Final = MACHINE.ends()
HALT_GRACE: Final = 10.0
"""Seconds that a machine has to shut down when it is halted."""
CONSOLE_SECONDS: Final = 0.25
"""How often the size of a running machine's console is looked at."""
CONSOLE_MOST: Final = 64 * 2**20
"""Bytes that a machine may write to its console: its guest decides how much that is, and the volunteer pays for it."""
FREE_LEAST: Final = MARGIN
"""Bytes of the volunteer's file system that machines leave free."""


@dataclass(slots=True)
class Premises:
    """What every machine needs.

    Attributes:
        folder: Each machine has a folder in it, named by its uid.
        hypervisors: The usable drivers by name, the preferred one first.
        ca: The pinned CA of the service, PEM: every image record has to lead to it.
        settings: What the volunteer lends and to whom.
        claimed: Memory of the machines that are under way, by uid.
    """

    folder: Path
    hypervisors: dict[str, Hypervisor]
    ca: str
    settings: WorkerSettings
    copies: Copies
    journal: Journal
    clock: Clock
    claimed: dict[str, int]


class Changed(Protocol):
    """Who is told of a machine."""

    def __call__(self, entry: MachineEntry, *, moved: bool) -> Awaitable[None]:
        """It moved to another state, or wrote to its console."""


class Machine:
    """One machine.

    Attributes:
        entry: What the journal has of it.
        task: Its life, while the worker runs.
    """

    def __init__(self, premises: Premises, entry: MachineEntry, changed: Changed) -> None:
        self.entry = entry
        self.task: asyncio.Task[None] | None = None
        self._on = premises
        self._changed = changed
        self._halt = asyncio.Event()
        self._seen = 0
        self._excess: BitDewError | None = None
        if entry.halting:
            self._halt.set()
        if entry.handle is not None and entry.state not in ENDED:
            premises.copies.keep(entry.order.root, entry.uid)

    @property
    def console(self) -> Path | None:
        """Its console's file; None before a hypervisor was chosen, or when that is not there any more."""
        driver = self._on.hypervisors.get(self.entry.hypervisor)
        return driver.console(self._spec_folder()) if driver else None

    def halt(self) -> None:
        """End it, whatever it is doing."""
        self._halt.set()

    async def live(self) -> None:
        """Everything from here to its end."""
        entry = self.entry
        try:
            if entry.handle is None and not await self._begin():
                await self._end(_S.STOPPED)
                return
            await self._follow()
        except BitDewError as fault:
            await self._end(_S.FAILED, ErrorView.of(fault))
        except Exception as fault:
            log.exception("defect", machine=entry.uid, key="internal")
            await self._end(_S.FAILED, ErrorView(key="internal", message="It failed", why=type(fault).__name__))

    async def destroy(self) -> None:
        """Remove everything of it. Only for a machine that has ended.

        Raises:
            HostError: `storage.failed`.
        """
        driver = self._on.hypervisors.get(self.entry.hypervisor)
        if driver is not None:
            await driver.destroy(self._spec(), self.entry.handle)

    async def stop_for_exit(self, grace: float, reason: ErrorView) -> None:
        """The worker is leaving, and `live` was cancelled: end what runs. What has not begun stays as it is."""
        entry = self.entry
        driver = self._on.hypervisors.get(entry.hypervisor)
        if entry.state in ENDED or driver is None:
            return
        if entry.handle is not None:
            await driver.stop(entry.handle, grace)
            await self._end(_S.STOPPED, None if entry.halting else reason)
        elif entry.state is _S.STARTING:
            # It may run already, though nobody has its handle: it begins anew at the next start.
            await driver.destroy(self._spec(), None)

    # The steps

    async def _begin(self) -> bool:
        """Verify, wait for the disk, prepare and start; False if it was halted before it ran."""
        entry, on = self.entry, self._on
        self._verified()
        driver = self._chosen()
        entry.hypervisor = driver.name
        if not await self._have_disk():
            return False
        record = self._verified()  # again: it may have expired while the disk was on its way
        if on.copies.size_of(entry.order.root) != record.size:
            raise error("disk.signature", f"The copy of {record.name} has another size than its record says")
        if not self._halt.is_set():
            await self._advance(_S.PREPARING)
            await driver.prepare(self._spec())
        if not self._halt.is_set():
            await self._advance(_S.STARTING)
            entry.handle = await driver.start(self._spec())
            await self._move(_S.RUNNING)
        return entry.handle is not None

    def _verified(self) -> ImageRecord:
        """The record of the disk, if this machine may be booted from it. Nothing else of an order is believed.

        Raises:
            UserError: `disk.signature`; `certificate.role` if the host refuses the publisher.
        """
        order, on = self.entry.order, self._on
        record = read_record(order.record.to_signed(), ca=on.ca, now=on.clock.now())
        if record.root != order.root or record.uid != order.data:
            why = "it is signed for another datum" if record.uid != order.data else "it is signed for other bytes"
            raise error("disk.signature", f"The image record of {record.name} does not fit the order", why=why)
        on.settings.check_publisher(record.publisher)
        return record

    def _chosen(self) -> Hypervisor:
        """The driver to run it, if it fits into what the volunteer lends.

        Raises:
            HostError: `hypervisor.missing`, `hypervisor.failed`.
        """
        on, order = self._on, self.entry.order
        if not on.hypervisors:
            raise error("hypervisor.missing", f"{on.settings.name} has no usable hypervisor")
        taken = sum(size for uid, size in on.claimed.items() if uid != self.entry.uid)
        if order.cpus > on.settings.cpus or order.memory > on.settings.memory - taken:
            raise error(
                "hypervisor.failed",
                f"{on.settings.name} does not lend enough for this machine",
                why=f"it asks for {format_size(order.memory)} and {order.cpus} CPUs; "
                f"{format_size(max(0, on.settings.memory - taken))} and {on.settings.cpus} CPUs are left",
                do="Ask for less, or run it on another host.",
            )
        on.claimed[self.entry.uid] = order.memory
        return on.hypervisors.get(self.entry.hypervisor) or next(iter(on.hypervisors.values()))

    async def _have_disk(self) -> bool:
        """Return True when the disk is held and stays for this machine, False if it was halted before."""
        copies, entry = self._on.copies, self.entry
        halted = asyncio.ensure_future(self._halt.wait())
        try:
            while not halted.done():
                moved = asyncio.ensure_future(copies.next_move())
                try:
                    if copies.borrow(entry.order.root, entry.uid) is not None:
                        return True
                    await self._advance(_S.WAITING)
                    await asyncio.wait({halted, moved}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    moved.cancel()
                    await asyncio.gather(moved, return_exceptions=True)
            return False
        finally:
            halted.cancel()
            await asyncio.gather(halted, return_exceptions=True)

    async def _follow(self) -> None:
        """Follow a machine that was started, until it ends."""
        entry, on = self.entry, self._on
        driver = on.hypervisors.get(entry.hypervisor)
        if driver is None or entry.handle is None:
            raise error("hypervisor.missing", f"{entry.hypervisor or 'The hypervisor'} is not usable here any more")
        on.claimed[entry.uid] = entry.order.memory
        handle = entry.handle
        if await driver.recover(handle):
            if entry.state in {_S.PREPARING, _S.STARTING}:
                await self._move(_S.RUNNING)
            await self._until_end(driver, driver.wait(handle))
        if self._excess is not None:
            await self._end(_S.FAILED, ErrorView.of(self._excess))
            return
        status = await driver.status(handle)
        if status.state == "failed":
            fault = error("hypervisor.failed", "The machine ended by itself", why=status.reason)
            await self._end(_S.FAILED, ErrorView.of(fault))
        else:
            await self._end(_S.STOPPED)

    async def _until_end(self, driver: Hypervisor, ending: Awaitable[MachineStatus]) -> None:
        """Return when the machine has ended.

        Meanwhile tell of its console, halt it when that is ordered, and stop it where it takes too much of the disk.
        """
        entry, on = self.entry, self._on
        path = driver.console(self._spec_folder())
        ended, halted = asyncio.ensure_future(ending), asyncio.ensure_future(self._halt.wait())
        stopping: asyncio.Future[None] | None = None
        try:
            while not ended.done():
                watched = {ended} if stopping else {ended, halted}
                either = asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                await wait_at_most(on.clock, CONSOLE_SECONDS, either)
                if halted.done() and stopping is None and entry.handle is not None and not ended.done():
                    await self._move(_S.STOPPING)
                    stopping = asyncio.ensure_future(driver.stop(entry.handle, HALT_GRACE))
                size = await asyncio.to_thread(console.size_of, path)
                if stopping is None and entry.handle is not None and not ended.done():
                    self._excess = await asyncio.to_thread(_excess, size, on.folder)
                    if self._excess is not None:
                        stopping = asyncio.ensure_future(driver.stop(entry.handle, 0))
                if size != self._seen:
                    self._seen = size
                    await self._changed(entry, moved=False)
            await ended
            if stopping is not None:
                await stopping
        finally:
            tasks = [t for t in (ended, halted, stopping) if t is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, state: MachineState, reason: ErrorView | None = None) -> None:
        self._on.claimed.pop(self.entry.uid, None)
        await self._move(state, reason)
        self._on.copies.give_back(self.entry.order.root, self.entry.uid)

    async def _move(self, state: MachineState, reason: ErrorView | None = None) -> None:
        entry = self.entry
        if entry.state is state:
            return
        entry.state = MACHINE.check(entry.state, state, of=entry.uid)
        entry.reason = reason
        await self._changed(entry, moved=True)

    async def _advance(self, state: MachineState) -> None:
        """Move to `state`, unless an earlier life of this worker was further already."""
        if MACHINE.allows(self.entry.state, state):
            await self._move(state)

    def _spec_folder(self) -> Path:
        return self._on.folder / self.entry.uid

    def _spec(self) -> MachineSpec:
        order = self.entry.order
        return MachineSpec(
            uid=Uid(self.entry.uid),
            image=self._on.copies.path(order.root),
            folder=self._spec_folder(),
            memory=order.memory,
            cpus=order.cpus,
        )


def _excess(written: int, folder: Path) -> BitDewError | None:
    """Why a machine whose console has `written` bytes must not go on in `folder`, or None. Blocks."""
    if written > CONSOLE_MOST:
        why = f"it wrote more than {format_size(CONSOLE_MOST)}"
        return error("hypervisor.failed", "The machine's console grew too large", why=why, do="Have it say less.")
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None  # whoever needs the folder next says what is wrong with it
    if free < FREE_LEAST:
        why = f"{format_size(free)} are free, and {format_size(FREE_LEAST)} are left to everybody else"
        return error("storage.full", "The host's disk is full, and so the machine was stopped", why=why, free=free)
    return None
