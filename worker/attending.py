"""What is asked of a machine that runs: to stand still at its owner's or its user's word, picture, save, go back.

Owns the turns: what is asked for and what the activity rules want never overlap on one machine. It does not follow the
machine, and does not know who asks.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from bitdew.core.errors import BitDewError, error
from bitdew.core.orders import ErrandKind
from bitdew.core.states import MachineState
from bitdew.core.units import format_size
from bitdew.wire import limits
from bitdew.wire.models import ErrorView, SnapshotModel

from .storage import MARGIN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bitdew.core.clock import Clock
    from bitdew.hypervisor import Handle, Hypervisor, MachineSpec

    from .activity.leave import Leave
    from .entries import MachineEntry
    from .room import Room

_S: Final = MachineState
_RUNS: Final = frozenset({_S.RUNNING, _S.PAUSED})


class Attended(Protocol):
    """The machine, as whoever attends to it needs it."""

    entry: MachineEntry

    async def move(self, state: MachineState, reason: ErrorView | None = None) -> None:
        """It is in this state now, for this reason."""

    def spec(self) -> MachineSpec:
        """What it is made of."""

    async def renew_seed(self) -> None:
        """What it is told when it begins is told anew."""


class Attending:
    """Attends to one machine.

    Attributes:
        asked_back: Set when the machine is to go back to a snapshot: whoever follows it calls `go_back` then.
    """

    def __init__(
        self,
        machine: Attended,
        leave: Leave,
        room: Room,
        clock: Clock,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        """`changed` keeps the machine's entry, and has it told."""
        self._machine = machine
        self._leave = leave
        self._room = room
        self._clock = clock
        self._changed = changed
        self._turn = asyncio.Lock()
        self._back: tuple[str, asyncio.Future[None]] | None = None
        self.asked_back = asyncio.Event()

    # Standing still ---------------------------------------------------------------------------------------------------

    @property
    def _refusal(self) -> ErrorView | None:
        """Why the machine must not run now: its owner's reason before its user's."""
        if self._leave.refusal is not None or not self._machine.entry.held:
            return self._leave.refusal
        return ErrorView.of(error("machine.paused", "Its user paused the machine"))

    async def obey(self, driver: Hypervisor, handle: Handle) -> BitDewError | None:
        """Pause or resume it, as the leave and its user say; why it has to be stopped if it can't be paused."""
        async with self._turn:
            return await self._obey(driver, handle)

    async def _obey(self, driver: Hypervisor, handle: Handle) -> BitDewError | None:
        entry, refusal = self._machine.entry, self._refusal
        if refusal is not None and entry.state is _S.RUNNING:
            try:
                if not driver.capabilities.pause:
                    return error("host.in-use", "The machine was stopped: it can't be paused here", why=refusal.why)
                await driver.pause(handle)
            except BitDewError as fault:
                if (await driver.status(handle)).state != "running":
                    return None  # it ended by itself meanwhile
                return error("host.in-use", "The machine was stopped: it could not be paused", why=str(fault))
            await self._machine.move(_S.PAUSED, refusal)
        elif refusal is None and entry.state is _S.PAUSED:
            try:
                await driver.resume(handle)
            except BitDewError as fault:
                return None if (await driver.status(handle)).state in {"stopped", "failed"} else fault
            await self._machine.move(_S.RUNNING)
        elif refusal is not None and entry.state is _S.PAUSED and entry.reason != refusal:
            entry.reason = refusal
            await self._changed()
        return None

    # What its user asks -----------------------------------------------------------------------------------------------

    async def do(self, driver: Hypervisor, kind: ErrandKind, name: str | None) -> bytes | None:
        """Do what is asked; a picture, if that is what it was.

        Raises:
            BitDewError: `machine.not-running`, `hypervisor.unable`, `host.in-use`, `snapshot.not-found`,
                `input.invalid`, `storage.full`, `hypervisor.failed`.
        """
        handle = self._running()
        match kind:
            case ErrandKind.PAUSE:
                await self._hold(driver, handle)
            case ErrandKind.RESUME:
                await self._let_go(driver, handle)
            case ErrandKind.SCREENSHOT:
                return await self._picture(driver, handle)
            case ErrandKind.SNAPSHOT:
                await self._save(driver, handle, name or "")
            case ErrandKind.RESTORE:
                await self._ask_back(driver, name or "")
            case ErrandKind.CLEAR:
                raise error("input.invalid", "The machine has not ended: there is nothing to clear away yet")
        return None

    def _running(self) -> Handle:
        entry = self._machine.entry
        if entry.handle is None or entry.state not in _RUNS:
            raise error("machine.not-running", f"Machine {entry.uid[:8]} is {entry.state}", uid=entry.uid)
        return entry.handle

    async def _hold(self, driver: Hypervisor, handle: Handle) -> None:
        _require(driver, able=driver.capabilities.pause, what="pause")
        entry = self._machine.entry
        async with self._turn:
            if entry.state is _S.RUNNING:
                await driver.pause(handle)
            entry.held = True
            if entry.state is _S.RUNNING and self._refusal is not None:
                await self._machine.move(_S.PAUSED, self._refusal)
            else:
                await self._changed()

    async def _let_go(self, driver: Hypervisor, handle: Handle) -> None:
        _require(driver, able=driver.capabilities.pause, what="resume")
        async with self._turn:
            self._machine.entry.held = False
            await self._changed()
            fault = await self._obey(driver, handle)
        if fault is not None:
            raise fault
        self._require_leave("It goes on when its host's owner does not need the host")

    async def _picture(self, driver: Hypervisor, handle: Handle) -> bytes:
        _require(driver, able=driver.capabilities.screenshot, what="picture")
        made = self._machine.spec().folder / "picture.png"
        async with self._turn:
            await driver.screenshot(handle, made)
            return await asyncio.to_thread(_taken, made)

    async def _save(self, driver: Hypervisor, handle: Handle, name: str) -> None:
        _require(driver, able=driver.capabilities.snapshot, what="save")
        entry = self._machine.entry
        async with self._turn:
            self._require_leave("It can be saved when its host's owner does not need the host")
            if name in {found.name for found in entry.snapshots}:
                raise error("input.invalid", f"Machine {entry.uid[:8]} has a snapshot {name} already", name=name)
            if len(entry.snapshots) >= limits.SNAPSHOTS:
                why = f"it has {limits.SNAPSHOTS}, as many as a machine may have"
                raise error("input.invalid", f"Machine {entry.uid[:8]} can't be saved", why=why)
            await asyncio.to_thread(self._require_room)
            try:
                await driver.snapshot(handle, name)
            except BitDewError as fault:
                if fault.key != "input.invalid":
                    raise
                # The driver has it, and we don't know it: a worker that was killed had begun it.
            entry.snapshots.append(SnapshotModel(name=name, at=self._clock.now()))
            await self._changed()

    def _require_room(self) -> None:
        """Its memory is going to be written to the disk: no more than is lent, and not into what is left to others."""
        entry = self._machine.entry
        needed, lent = entry.order.memory, self._room.left()
        free = shutil.disk_usage(self._machine.spec().folder).free - MARGIN
        if needed > min(lent, free):
            why = f"its memory is {format_size(needed)}, and {format_size(max(0, min(lent, free)))} are left"
            raise error("storage.full", f"There is no room to save machine {entry.uid[:8]}", why=why)

    async def _ask_back(self, driver: Hypervisor, name: str) -> None:
        _require(driver, able=driver.capabilities.snapshot, what="restore")
        entry = self._machine.entry
        if name not in {found.name for found in entry.snapshots}:
            raise error("snapshot.not-found", f"Machine {entry.uid[:8]} has no snapshot {name}", name=name)
        self._require_leave("It can go back when its host's owner does not need the host")
        if self._back is not None:
            raise error("input.invalid", f"Machine {entry.uid[:8]} is going back to a snapshot already")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._back = name, done
        self.asked_back.set()
        await done

    async def go_back(self, driver: Hypervisor, handle: Handle) -> Handle:
        """Have the machine go on from the snapshot that was asked for; its handle from now on.

        Whoever asked hears how that went.
        """
        entry, back = self._machine.entry, self._back
        self._back = None
        self.asked_back.clear()
        if back is None:
            return handle
        name, done = back
        try:
            async with self._turn:
                await self._machine.renew_seed()
                entry.handle = handle = await driver.restore(self._machine.spec(), name)
                entry.console_bytes, entry.held = 0, False
                await self._changed()
                if entry.state is _S.PAUSED:
                    await self._machine.move(_S.RUNNING)
        except BitDewError as fault:
            if not done.done():
                done.set_exception(fault)
        else:
            if not done.done():
                done.set_result(None)
        return handle

    def end(self) -> None:
        """The machine has ended: it does not go back to anything."""
        back, self._back = self._back, None
        if back is not None and not back[1].done():
            back[1].set_exception(error("machine.not-running", "The machine has ended meanwhile"))

    def _require_leave(self, message: str) -> None:
        refusal = self._leave.refusal
        if refusal is not None:
            raise error("host.in-use", message, why=refusal.why or refusal.message)


def _require(driver: Hypervisor, *, able: bool, what: str) -> None:
    if not able:
        raise error("hypervisor.unable", f"{driver.name} can't {what} a machine here", why="its driver can't")


def _taken(made: Path) -> bytes:
    """The picture, which is not left behind. Blocks."""
    try:
        with made.open("rb") as file:
            picture = file.read(limits.PICTURE + 1)
    except OSError as fault:
        raise error("storage.failed", "The picture can't be read", why=fault.strerror or str(fault)) from fault
    finally:
        made.unlink(missing_ok=True)
    if len(picture) > limits.PICTURE:
        why = f"it is larger than {format_size(limits.PICTURE)}"
        raise error("hypervisor.failed", "The picture of the screen is too large", why=why)
    return picture
