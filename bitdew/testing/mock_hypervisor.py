"""A hypervisor without machines: keeps the contract of `bitdew.hypervisor`, boots at once, and fails on demand.

Owns the mock driver, and the pretended host on which its machines outlive the worker. For demonstrations and for tests
of what uses a hypervisor: the suite that holds the real drivers to the contract holds this one too.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Sharing
from bitdew.core.ids import Uid, checked_name
from bitdew.hypervisor import (
    Capabilities,
    Fingerprint,
    Handle,
    MachineSpec,
    MachineStatus,
    check_image,
    check_seed,
    is_uid,
    remove_folder,
)

_RUNNING: Final = MachineStatus("running")
_PAUSED: Final = MachineStatus("paused")
_ALIVE: Final = (_RUNNING, _PAUSED)
_ENDED_BY_WORKER: Final = MachineStatus("stopped", "the worker ended it")
_PICTURE: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
_DISK: Final = "disk.mock"
_CONSOLE: Final = "console.log"


@dataclass(slots=True)
class MockMachine:
    """A machine on the pretended host.

    Attributes:
        folder: Its own.
        status: How it is.
        booted: Whether it has said its line.
        saved: Its snapshots: for each name, whether it had booted then.
        ended: Set when it has ended.
        changed: Set when its status has changed.
    """

    folder: Path
    status: MachineStatus = _RUNNING
    booted: bool = False
    saved: dict[str, bool] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, status: MachineStatus) -> None:
        """End it, unless it has ended."""
        if self.status in _ALIVE:
            self.turn(status)
            self.ended.set()

    def turn(self, status: MachineStatus) -> None:
        """Have it paused, or running, or ended."""
        self.status = status
        self.changed.set()

    async def moves(self) -> None:
        """Return when it is not paused."""
        while self.status == _PAUSED:
            self.changed.clear()
            await self.changed.wait()


@dataclass(slots=True)
class MockHost:
    """The pretended host. Hand the same one to a second driver to play a worker that was restarted.

    Attributes:
        machines: What was started and not removed.
        starts: How often each machine was really started.
    """

    machines: dict[Uid, MockMachine] = field(default_factory=dict)
    starts: Counter[Uid] = field(default_factory=Counter)

    def kill(self, uid: Uid) -> None:
        """End a machine as a crash of its hypervisor would."""
        self.machines[uid].end(MachineStatus("failed", "signal 9 killed the mock"))


class MockHypervisor:
    """The driver. See `bitdew.hypervisor.Hypervisor` for what each method promises.

    Args:
        fail: For the name of a method, what it raises instead of doing anything. May be changed at any time: `fail`.
        boots_in: Seconds from the start to the console line; a restart of the worker in between begins it anew.
        console_line: What each machine says.
        ends: Whether a machine powers itself off when it has said so.
        missing: If given, there is no such hypervisor on this host, for this reason.
        host: Where the machines are.
        sleep: The clock.
    """

    name: Final = "mock"
    capabilities: Final = Capabilities(
        graceful_stop=True,
        outlives_worker=True,
        pause=True,
        snapshot=True,
        screenshot=True,
        seed=True,
        network=True,
    )

    def __init__(
        self,
        *,
        fail: Mapping[str, BitDewError] | None = None,
        boots_in: float = 0.0,
        console_line: str = "booted",
        ends: bool = False,
        missing: str = "",
        host: MockHost | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.fail = dict(fail or {})
        self.missing = missing
        self.doubtful = False
        self.host = host or MockHost()
        self._boots_in = boots_in
        self._console_line = console_line
        self._ends = ends
        self._sleep = sleep
        self._boots: dict[Uid, asyncio.Task[None]] = {}

    async def fingerprint(self) -> Fingerprint | None:
        """A made-up version, unless it is to be missing."""
        self._may_fail("fingerprint")
        return None if self.missing else Fingerprint(Sharing("mock", "1.0"), "none")

    async def prepare(self, spec: MachineSpec) -> None:
        """An empty file stands for the differencing disk."""
        self._may_fail("prepare")
        await asyncio.to_thread(_make_disk, spec)

    async def start(self, spec: MachineSpec) -> Handle:
        """Put the machine on the host and let it boot."""
        self._may_fail("start")
        handle = Handle(self.name, spec.uid, {"folder": str(spec.folder)})
        if spec.uid in self.host.machines:
            return handle
        if not await asyncio.to_thread((spec.folder / _DISK).is_file):
            raise error("hypervisor.failed", f"Machine {spec.uid} has no disk", why="it was not prepared", uid=spec.uid)
        if self.missing:
            raise error("hypervisor.missing", "This host has no usable mock", why=self.missing)
        if self.host.machines.setdefault(spec.uid, machine := MockMachine(spec.folder)) is machine:
            self.host.starts[spec.uid] += 1
            await asyncio.to_thread((spec.folder / _CONSOLE).touch)
            self._boot(spec.uid, machine)
        return handle

    async def recover(self, handle: Handle) -> bool:
        """Whether the machine is still on the host and has not ended."""
        self._may_fail("recover")
        machine = self.host.machines.get(handle.uid)
        if machine is None or machine.status not in _ALIVE:
            return False
        if not machine.booted:
            self._boot(handle.uid, machine)
        return True

    async def status(self, handle: Handle) -> MachineStatus:
        """As the host has it."""
        self._may_fail("status")
        return self._status(handle.uid)

    async def wait(self, handle: Handle) -> MachineStatus:
        """Until it ends."""
        self._may_fail("wait")
        if (machine := self.host.machines.get(handle.uid)) is not None:
            await machine.ended.wait()
            return machine.status
        return self._status(handle.uid)

    def console(self, folder: Path) -> Path:
        """The line appears in it when the machine has booted."""
        return folder / _CONSOLE

    async def pause(self, handle: Handle) -> None:
        """It says nothing until it is resumed."""
        self._may_fail("pause")
        self._alive(handle.uid).turn(_PAUSED)

    async def resume(self, handle: Handle) -> None:
        """It goes on."""
        self._may_fail("resume")
        self._alive(handle.uid).turn(_RUNNING)

    async def screenshot(self, handle: Handle, to: Path) -> None:
        """One grey point."""
        self._may_fail("screenshot")
        self._alive(handle.uid)
        await asyncio.to_thread(to.write_bytes, _PICTURE)

    async def snapshot(self, handle: Handle, name: str) -> None:
        """Remember whether it has booted."""
        self._may_fail("snapshot")
        checked_name(name, "name of a snapshot")
        machine = self._alive(handle.uid)
        if name in machine.saved:
            raise error("input.invalid", f"Machine {handle.uid} has a snapshot {name} already", uid=handle.uid)
        machine.saved[name] = machine.booted

    async def restore(self, spec: MachineSpec, name: str) -> Handle:
        """End it, and put it on the host as it was."""
        self._may_fail("restore")
        checked_name(name, "name of a snapshot")
        before = self.host.machines.get(spec.uid)
        if before is None or name not in before.saved:
            why = f"it has no snapshot {name}"
            raise error("hypervisor.failed", f"Machine {spec.uid} can't be restored", why=why, uid=spec.uid)
        before.end(_ENDED_BY_WORKER)
        await self._unboot(spec.uid)
        machine = MockMachine(spec.folder, booted=before.saved[name], saved=before.saved)
        self.host.machines[spec.uid] = machine
        await asyncio.to_thread((spec.folder / _CONSOLE).write_bytes, b"")
        if not machine.booted:
            self._boot(spec.uid, machine)
        return Handle(self.name, spec.uid, {"folder": str(spec.folder)})

    async def stop(self, handle: Handle, grace: float) -> None:  # noqa: ARG002 - its machines obey at once
        """End it."""
        self._may_fail("stop")
        if machine := self.host.machines.get(handle.uid):
            machine.end(_ENDED_BY_WORKER)

    async def destroy(self, spec: MachineSpec, handle: Handle | None) -> None:  # noqa: ARG002 - the uid is enough
        """End it and remove its folder."""
        self._may_fail("destroy")
        await self._remove(spec.uid, spec.folder)

    async def sweep(self, folder: Path, known: set[Uid]) -> list[Uid]:
        """By the folders, and by the machines of the host."""
        self._may_fail("sweep")
        found = await asyncio.to_thread(_folders_in, folder)
        found |= {uid for uid, machine in self.host.machines.items() if machine.folder.parent == folder}
        for uid in (unknown := sorted(found - known)):
            await self._remove(uid, folder / uid)
        return unknown

    async def close(self) -> None:
        """Leave the machines as they are."""
        boots = list(self._boots.values())
        for boot in boots:
            boot.cancel()
        await asyncio.gather(*boots, return_exceptions=True)
        self._boots.clear()

    def _may_fail(self, method: str) -> None:
        if method in self.fail:
            raise self.fail[method]

    def _status(self, uid: Uid) -> MachineStatus:
        machine = self.host.machines.get(uid)
        return MachineStatus("stopped", "it was removed") if machine is None else machine.status

    def _alive(self, uid: Uid) -> MockMachine:
        machine = self.host.machines.get(uid)
        if machine is None or machine.status not in _ALIVE:
            raise error("hypervisor.failed", f"The mock can't do this with machine {uid}", why="it has ended", uid=uid)
        return machine

    async def _unboot(self, uid: Uid) -> None:
        if boot := self._boots.pop(uid, None):
            boot.cancel()
            await asyncio.gather(boot, return_exceptions=True)

    def _boot(self, uid: Uid, machine: MockMachine) -> None:
        if uid not in self._boots:
            self._boots[uid] = asyncio.create_task(self._boot_slowly(machine))

    async def _boot_slowly(self, machine: MockMachine) -> None:
        await self._sleep(self._boots_in)
        await machine.moves()
        if machine.status != _RUNNING:
            return
        await asyncio.to_thread(_say, machine.folder / _CONSOLE, self._console_line)
        machine.booted = True
        if self._ends:
            machine.end(MachineStatus("stopped", "its system powered it off"))

    async def _remove(self, uid: Uid, folder: Path) -> None:
        if machine := self.host.machines.pop(uid, None):
            machine.end(MachineStatus("stopped", "it was removed"))
        await self._unboot(uid)
        await asyncio.to_thread(remove_folder, folder)


def _make_disk(spec: MachineSpec) -> None:
    check_image(spec.image)
    if spec.seed is not None:
        check_seed(spec.seed)
    spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (spec.folder / _DISK).touch()


def _folders_in(folder: Path) -> set[Uid]:
    if not folder.is_dir():
        return set()
    return {Uid(entry.name) for entry in folder.iterdir() if is_uid(entry.name) and entry.is_dir()}


def _say(console: Path, line: str) -> None:
    if console.parent.is_dir():
        console.write_text(f"{line}\r\n", "utf-8", newline="")
