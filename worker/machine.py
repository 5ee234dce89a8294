"""One machine: from a launch order to its end, through every restart of the worker.

Owns the steps. Each step is kept in the journal before it is taken, and
each can be repeated: a driver prepares and starts a machine once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid
from bitdew.core.states import MACHINE, MachineState
from bitdew.hypervisor import MachineSpec
from bitdew.wire.model import LOOPBACK
from bitdew.wire.models import ErrorView

from . import console
from .attending import Attending
from .excess import excess
from .ports import free_ports
from .readiness import Readiness
from .room import folder_size

if TYPE_CHECKING:
    from pathlib import Path

    from bitdew.core.clock import Clock
    from bitdew.core.orders import ErrandKind
    from bitdew.hypervisor import Handle, Hypervisor, MachineStatus
    from bitdew.wire.models import MachineSeed

    from .activity.leave import Leave
    from .copies import Copies
    from .entries import MachineEntry
    from .journal import Journal
    from .room import Room
    from .settings import WorkerSettings

log = structlog.get_logger(__name__)

_S: Final = MachineState
ENDED: Final = MACHINE.ends()
HALT_GRACE: Final = 10.0
"""Seconds that a machine has to shut down when it is halted."""
CONSOLE_SECONDS: Final = 0.25
"""How often the size of a running machine's console is looked at."""
DISK_SECONDS: Final = 2.0
"""How often it is looked at how much a running machine takes of the disk."""
SEED_SECONDS: Final = 10.0
"""How long a service that is away is waited for when a machine goes back to a snapshot: the machine stands still."""
SEED: Final = "seed.iso"
"""In the machine's folder."""


@dataclass(slots=True)
class Premises:
    """What every machine needs.

    Attributes:
        folder: Each machine has a folder in it, named by its uid.
        hypervisors: The usable drivers by name, the preferred one first.
        ca: The pinned CA of the service, PEM: every image record has to lead to it.
        settings: What the volunteer lends and to whom.
        room: What is lent to machines, and what of it is taken.
        leave: Whether machines may run now.
        ask_seed: Asks the service what a machine is told.
        url: The service's.
    """

    folder: Path
    hypervisors: dict[str, Hypervisor]
    ca: str
    settings: WorkerSettings
    copies: Copies
    journal: Journal
    clock: Clock
    room: Room
    leave: Leave
    ask_seed: Callable[[str], Awaitable[MachineSeed]]
    url: str


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
        self._attending = Attending(
            self, premises.leave, premises.room, premises.clock, lambda: changed(entry, moved=True)
        )
        self._readiness = Readiness(entry, premises, self._halt, self._advance, lambda: changed(entry, moved=True))
        if entry.halting:
            self._halt.set()
        if entry.handle is not None and entry.state not in ENDED:
            premises.copies.keep(entry.order.root, entry.uid)

    @property
    def console(self) -> Path | None:
        """Its console's file; None before a hypervisor was chosen, or when that is not there any more."""
        driver = self._on.hypervisors.get(self.entry.hypervisor)
        return driver.console(self.folder) if driver else None

    @property
    def folder(self) -> Path:
        """Where all of it lies: its own, or that of the machine that it goes on from."""
        return self._on.folder / (self.entry.body or self.entry.uid)

    @property
    def kept(self) -> bool:
        """Whether it has ended, and another may go on from what is kept of it."""
        return self.entry.state in ENDED and bool(self.entry.snapshots)

    async def attend(self, kind: ErrandKind, name: str | None) -> bytes | None:
        """Do what its user asks; see `Attending.do`.

        Raises:
            BitDewError: as that; `hypervisor.missing`.
        """
        driver = self._on.hypervisors.get(self.entry.hypervisor)
        if driver is None and self.entry.hypervisor:
            raise error("hypervisor.missing", f"{self.entry.hypervisor} is not usable here any more")
        if driver is None:
            raise error("machine.not-running", f"Machine {self.entry.uid[:8]} is {self.entry.state}")
        return await self._attending.do(driver, kind, name)

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
        finally:
            self._attending.end()

    async def renew_seed(self) -> None:
        """Put a fresh token into its seed, since it goes back to when it may have had none; if that can be had now."""
        try:
            async with asyncio.timeout(SEED_SECONDS):
                await self._readiness.have_seed(self.folder / SEED, anew=True)
        except (TimeoutError, BitDewError) as fault:
            log.warning("a machine goes back with the seed that it had", machine=self.entry.uid, why=str(fault))

    async def destroy(self) -> None:
        """Remove everything of it. Only for a machine that has ended.

        Raises:
            HostError: `storage.failed`.
        """
        driver = self._on.hypervisors.get(self.entry.hypervisor)
        if driver is not None:
            await driver.destroy(self.spec(), self.entry.handle)
        self._on.room.grew(self.entry.uid, 0)

    async def stop_for_exit(self, grace: float, reason: ErrorView) -> None:
        """The worker is leaving, and `live` was cancelled: end what runs. What has not begun stays as it is."""
        entry = self.entry
        driver = self._on.hypervisors.get(entry.hypervisor)
        if entry.state in ENDED or driver is None:
            return
        if entry.handle is not None:
            await driver.stop(entry.handle, 0 if entry.state is _S.PAUSED else grace)
            await self._end(_S.STOPPED, None if entry.halting else reason)
        elif entry.state is _S.STARTING:
            # It may run already, though nobody has its handle: it begins anew at the next start.
            if entry.order.snapshot is None:
                await driver.destroy(self.spec(), None)
            else:  # its disk has the snapshot that it begins from
                await driver.stop(await driver.restore(self.spec(), entry.order.snapshot), 0)

    # The steps

    async def _begin(self) -> bool:
        """Verify, wait for the disk, prepare and start; False if it was halted before it ran."""
        entry = self.entry
        driver = await self._readiness.driver()
        if driver is None:
            return False
        if not self._halt.is_set():
            await self._advance(_S.PREPARING)
            await self._readiness.have_seed(self.folder / SEED, anew=entry.order.snapshot is not None)
            entry.ports = await asyncio.to_thread(free_ports, entry.order.ports, self._on.settings.ports_address)
        if not self._halt.is_set() and entry.order.snapshot is None:
            await driver.prepare(self.spec())
        if not self._halt.is_set():
            await self._advance(_S.STARTING)
            entry.handle = await self._started(driver)
            await self.move(_S.RUNNING)
        return entry.handle is not None

    async def _started(self, driver: Hypervisor) -> Handle:
        """Its handle, when it runs: from its beginning, or from where it was saved."""
        if self.entry.order.snapshot is None:
            return await driver.start(self.spec())
        handle = await driver.restore(self.spec(), self.entry.order.snapshot)
        self.entry.console_bytes = 0  # nobody has read on meanwhile: it has no handle yet
        return handle

    async def _follow(self) -> None:
        """Follow a machine that was started, until it ends."""
        entry, on = self.entry, self._on
        driver = on.hypervisors.get(entry.hypervisor)
        if driver is None or entry.handle is None:
            raise error("hypervisor.missing", f"{entry.hypervisor or 'The hypervisor'} is not usable here any more")
        on.room.keep(entry.uid, entry.order)
        handle = entry.handle
        if await driver.recover(handle):
            if entry.state is _S.RUNNING and driver.capabilities.pause:
                await driver.resume(handle)  # an earlier worker may have been killed between a resume and its note
            if entry.state in {_S.PREPARING, _S.STARTING}:
                await self.move(_S.RUNNING)
            while await self._until_end(driver, driver.wait(handle)):
                handle = await self._attending.go_back(driver, handle)
        if self._excess is not None:
            await self._end(_S.FAILED, ErrorView.of(self._excess))
            return
        status = await driver.status(handle)
        if status.state == "failed":
            fault = error("hypervisor.failed", "The machine ended by itself", why=status.reason)
            await self._end(_S.FAILED, ErrorView.of(fault))
        else:
            await self._end(_S.STOPPED)

    async def _until_end(self, driver: Hypervisor, ending: Awaitable[MachineStatus]) -> bool:
        """Return when the machine has ended; True if it is to go back to a snapshot instead.

        Meanwhile tell of its console, halt it when that is ordered, and stop it where it takes too much of the disk.
        """
        entry, on = self.entry, self._on
        path = driver.console(self.folder)
        looked = -DISK_SECONDS
        on.leave.asked()
        ended, halted = asyncio.ensure_future(ending), asyncio.ensure_future(self._halt.wait())
        back = asyncio.ensure_future(self._attending.asked_back.wait())
        stopping: asyncio.Future[None] | None = None
        try:
            while not ended.done():
                watched = {ended} if stopping else {ended, halted, back}
                either = asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                await wait_at_most(on.clock, CONSOLE_SECONDS, either)
                self._halt_in_time()
                if back.done() and stopping is None and not halted.done() and not ended.done():
                    return True
                if halted.done() and stopping is None and entry.handle is not None and not ended.done():
                    # A paused system can't be asked, and resuming it would take from the owner what the pause gave.
                    grace = 0 if entry.state is _S.PAUSED else HALT_GRACE
                    await self.move(_S.STOPPING)
                    stopping = asyncio.ensure_future(driver.stop(entry.handle, grace))
                size = await asyncio.to_thread(console.size_of, path)
                if stopping is None and entry.handle is not None and not ended.done():
                    self._excess = await self._attending.obey(driver, entry.handle) or await asyncio.to_thread(
                        excess, size, on.folder
                    )
                    if self._excess is None and on.clock.monotonic() - looked >= DISK_SECONDS:
                        looked = on.clock.monotonic()
                        self._excess = on.room.grew(entry.uid, await asyncio.to_thread(folder_size, self.folder))
                    if self._excess is not None:
                        stopping = asyncio.ensure_future(driver.stop(entry.handle, 0))
                if size != self._seen:
                    self._seen = size
                    await self._changed(entry, moved=False)
            await ended
            if stopping is not None:
                await stopping
        finally:
            tasks = [t for t in (ended, halted, back, stopping) if t is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return False

    def _halt_in_time(self) -> None:
        """Halt it where its deployment is over: that holds though nobody may be there to say so."""
        ends = self.entry.order.ends
        if ends is not None and ends <= self._on.clock.now():
            self._halt.set()

    async def _end(self, state: MachineState, reason: ErrorView | None = None) -> None:
        self._on.room.release(self.entry.uid)
        await self.move(state, reason)
        self._on.copies.give_back(self.entry.order.root, self.entry.uid)

    async def move(self, state: MachineState, reason: ErrorView | None = None) -> None:
        """It is in `state` now, for this reason; whoever has to know of it is told."""
        entry = self.entry
        if entry.state is state:
            return
        entry.state = MACHINE.check(entry.state, state, of=entry.uid)
        entry.reason = reason
        await self._changed(entry, moved=True)

    async def _advance(self, state: MachineState) -> None:
        """Move to `state`, unless an earlier life of this worker was further already."""
        if MACHINE.allows(self.entry.state, state):
            await self.move(state)

    def spec(self) -> MachineSpec:
        """What its driver makes it of."""
        order = self.entry.order
        return MachineSpec(
            uid=Uid(self.entry.body or self.entry.uid),
            image=self._on.copies.path(order.root),
            folder=self.folder,
            memory=order.memory,
            cpus=order.cpus,
            seed=self.folder / SEED if order.seeded else None,
            network=order.network,
            ports=tuple((port.host, port.guest) for port in self.entry.ports),
            ports_address=next((port.address for port in self.entry.ports), LOOPBACK),
        )
