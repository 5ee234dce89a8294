"""The QEMU driver: machines as QEMU processes that outlive the worker.

Owns the order of steps that makes a start safe against a worker killed at any point:

1. The machine's lock is taken. Who finds it taken knows that the machine runs, or is one instant from running.
2. An intent is written: a handle without data.
3. QEMU is started; it inherits the lock, and carries the machine's uid in its command line.
4. The handle is written, with the pid.

Killed before 3, the lock is free and nothing runs: the start is repeated. Killed after 3, the lock is held and the
process is found by its uid. It must not decide when machines run, and knows nothing of swarms, orders or the service.

Exit order: `close` lets go of the processes, which run on.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from pathlib import Path
from typing import Final, Literal

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Sharing
from bitdew.core.ids import Uid, checked_name
from bitdew.hypervisor import (
    Capabilities,
    Fingerprint,
    Handle,
    MachineSpec,
    MachineStatus,
    is_uid,
)

from . import machine_folder as files
from . import priority
from . import qemu_command as command
from . import qemu_control as control
from .acquaintance import Acquaintance
from .cgroup import Groups, find_groups
from .machine_process import MachineProcess, machines_below
from .priority import LOWEST
from .qemu_disk import check_snapshot, make_overlay
from .qemu_monitor import listening, tell
from .qemu_probe import DEVICE, QemuFound, probe_qemu
from .threads import to_the_end

log = structlog.get_logger(__name__)

UNHELD: Final = "by lowest priority and the machine's own number of processors alone: no control group may be made"
_READY: Final = 60.0  # seconds until QEMU answers; on a loaded PC a start takes seconds, a hang lasts
_QUIT: Final = 5.0  # seconds for QEMU to flush and go after it was told to quit
_EXEC: Final = 5.0  # seconds between a fork and the program's own command line; microseconds in fact


class QemuHypervisor:
    """The driver. See `bitdew.hypervisor.Hypervisor` for what each method promises.

    Args:
        binary: QEMU's name or path.
        image_tool: qemu-img's name or path.
        accelerator: "auto" takes KVM where the CPU helps it, else TCG.
        disk_bus: How the machine sees its disk.
        niceness: How far machines step back for others, 0 to 19; None for what `priority` says.
    """

    name: Final = "qemu"
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
        binary: str = "qemu-system-x86_64",
        image_tool: str = "qemu-img",
        accelerator: Literal["auto", "kvm", "tcg"] = "auto",
        disk_bus: command.DiskBus = "virtio",
        niceness: int | None = None,
    ) -> None:
        self._groups: Groups | None = None

        def trial() -> QemuFound | str:
            self._groups = find_groups()
            return probe_qemu(binary, image_tool, accelerator)

        self._known: Acquaintance[QemuFound] = Acquaintance((binary, image_tool, str(DEVICE)), trial)
        self._disk_bus: command.DiskBus = disk_bus
        self._niceness = priority.niceness() if niceness is None else niceness
        self._children: dict[Uid, subprocess.Popen[bytes]] = {}

    @property
    def missing(self) -> str:
        """What was missing when it was tried last."""
        return self._known.missing

    @property
    def doubtful(self) -> bool:
        """Whether something failed since."""
        return self._known.doubtful

    async def fingerprint(self) -> Fingerprint | None:
        """What QEMU is here; asked once, unless that is to be doubted."""
        found = await self._known.look()
        if found is None:
            return None
        return Fingerprint(
            Sharing(self.name, found.version),
            found.accelerator,
            found.details | {"held": f"cgroup{self._groups.version}" if self._groups else "priority"},
            programs=found.programs,
            limits=str(self._groups or UNHELD),
        )

    async def prepare(self, spec: MachineSpec) -> None:
        """Make the overlay, whole or not at all."""
        found = await self._qemu()
        await to_the_end(make_overlay, found.image_tool, spec)

    async def start(self, spec: MachineSpec) -> Handle:
        """Start it once; return when QEMU answers."""
        options = self._options(await self._qemu())
        with self._known.doubting():
            handle, started = await to_the_end(self._spawn, spec, options)
            if started:
                await self._until_ready(handle)
        return handle

    async def recover(self, handle: Handle) -> bool:
        """Whether its process is still there."""
        files.folder_of(handle)
        process = await asyncio.to_thread(MachineProcess.find, handle.uid, files.pid_of(handle))
        if process is None:
            return False
        process.close()
        return True

    async def status(self, handle: Handle) -> MachineStatus:
        """By its process and what that says, or by what it left in the folder."""
        if await self.recover(handle):
            return MachineStatus("paused" if await control.is_paused(handle) else "running")
        return await asyncio.to_thread(self._ending, handle)

    async def wait(self, handle: Handle) -> MachineStatus:
        """Until its process has ended."""
        files.folder_of(handle)
        process = await asyncio.to_thread(MachineProcess.find, handle.uid, files.pid_of(handle))
        if process is not None:
            with process:
                await process.ended()
        return await asyncio.to_thread(self._ending, handle)

    def console(self, folder: Path) -> Path:
        """QEMU writes it as the machine speaks."""
        return folder / files.CONSOLE

    async def pause(self, handle: Handle) -> None:
        """Stop its processors, by QEMU itself: what it has of the host's memory stays, its CPU time does not."""
        await control.pause(handle)

    async def resume(self, handle: Handle) -> None:
        """Let its processors go on."""
        await control.resume(handle)

    async def screenshot(self, handle: Handle, to: Path) -> None:
        """As QEMU draws it."""
        await control.picture(handle, to)

    async def snapshot(self, handle: Handle, name: str) -> None:
        """Into the machine's differencing disk: nothing else has to be kept with it."""
        await control.save(handle, checked_name(name, "name of a snapshot"))

    async def restore(self, spec: MachineSpec, name: str) -> Handle:
        """Start QEMU anew, from the snapshot. A worker that is killed between the two leaves a machine that ended."""
        checked_name(name, "name of a snapshot")
        found = await self._qemu()
        await to_the_end(check_snapshot, found.image_tool, spec, name)
        process = await asyncio.to_thread(MachineProcess.find, spec.uid)
        if process is not None:
            with process:
                await asyncio.to_thread(files.note_asked, spec.folder)
                await self._quit(spec.folder, process)
        self._reap(spec.uid)
        with self._known.doubting():
            handle, _ = await to_the_end(self._spawn, spec, self._options(found), name)
            await self._until_ready(handle)
        return handle

    async def stop(self, handle: Handle, grace: float) -> None:
        """Press the power button; then tell QEMU to quit; then kill it."""
        folder = files.folder_of(handle)
        process = await asyncio.to_thread(MachineProcess.find, handle.uid, files.pid_of(handle))
        if process is None:
            return
        with process:
            await asyncio.to_thread(files.note_asked, folder)
            pressed = grace > 0 and await tell(folder, "system_powerdown", within=min(grace, _QUIT))
            if not (pressed and await process.ended_within(grace)):
                await self._quit(folder, process)
        await asyncio.to_thread(self._reap, handle.uid)

    async def destroy(self, spec: MachineSpec, handle: Handle | None) -> None:
        """Kill it if it runs; remove the folder."""
        await self._remove(spec.uid, spec.folder, files.pid_of(handle) if handle is not None else 0)

    async def sweep(self, folder: Path, known: set[Uid]) -> list[Uid]:
        """By the folders, and by the processes whose folders are gone."""
        unknown = sorted(await asyncio.to_thread(_machines_in, folder) - known)
        for uid in unknown:
            await self._remove(uid, folder / uid, 0)
        return unknown

    async def close(self) -> None:
        """Let go of the processes."""
        for child in self._children.values():
            if child.poll() is None:
                child.returncode = 0  # it is no longer ours: without this Python warns that it was forgotten
        self._children.clear()

    async def _qemu(self) -> QemuFound:
        found = self._known.found or await self._known.look()
        if found is None:
            raise error("hypervisor.missing", "This host has no usable QEMU", why=self.missing)
        return found

    def _options(self, found: QemuFound) -> command.QemuOptions:
        bus, nice = self._disk_bus, self._niceness
        return command.QemuOptions(
            found.binary, found.accelerator, found.sandbox, bus, nice, found.before if nice == LOWEST else ()
        )

    def _spawn(self, spec: MachineSpec, options: command.QemuOptions, load: str = "") -> tuple[Handle, bool]:
        """Steps 1 to 4 of the start. The handle, and whether this call started the machine.

        With `load`, a machine that ended is started again, from that snapshot.
        """
        folder = spec.folder
        if not (folder / files.DISK).is_file():
            raise error("hypervisor.failed", f"Machine {spec.uid} has no disk", why="it was not prepared", uid=spec.uid)
        with files.claim(folder) as lock:
            if lock is None:
                if load:
                    raise error(
                        "hypervisor.failed", f"Machine {spec.uid} can't be restored", why="it runs again already"
                    )
                with _running(spec.uid, folder) as process:
                    return self._record(spec, process.pid), False
            earlier = files.read_handle(folder)
            if earlier is not None and not load:
                return earlier, False
            files.forget_asked(folder)
            files.write_handle(folder, self.name, spec.uid, {})
            with listening(folder) as listener, (folder / files.LOG).open("wb") as log:
                try:
                    child = subprocess.Popen(
                        command.machine_command(spec, options, monitor=listener.fileno(), load=load),
                        cwd=folder,
                        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        pass_fds=(listener.fileno(), lock),
                        start_new_session=True,  # Ctrl-C at the worker's terminal is not for the machine
                    )
                except OSError as problem:
                    raise error(
                        "hypervisor.failed", f"QEMU could not be started for machine {spec.uid}", why=str(problem)
                    ) from problem
            self._children[spec.uid] = child
            self._hold(spec, child.pid)
            return self._record(spec, child.pid), True

    def _hold(self, spec: MachineSpec, pid: int) -> None:
        """Hold a machine that was just started to what it may have; where that fails it runs on at its priority."""
        priority.step_back(pid, self._niceness)
        if self._groups and (why := self._groups.confine(spec.uid, pid, memory=spec.memory, cpus=spec.cpus)):
            log.warning("a machine's control group could not be made", machine=spec.uid, why=why)

    def _record(self, spec: MachineSpec, pid: int) -> Handle:
        return files.write_handle(spec.folder, self.name, spec.uid, {"pid": pid, "folder": str(spec.folder)})

    async def _until_ready(self, handle: Handle) -> None:
        """Return when QEMU answers, or when its machine has already run to its end.

        Raises:
            HostError: `hypervisor.failed`, if QEMU ended instead, or does not answer.
        """
        folder = files.folder_of(handle)
        ended = asyncio.create_task(self.wait(handle))
        answered = asyncio.create_task(tell(folder, "query-status", within=_READY))
        try:
            await asyncio.wait({ended, answered}, return_when=asyncio.FIRST_COMPLETED)
            if answered.done() and answered.result():
                return
            # The connection breaks an instant before the process has ended.
            if not ended.done():
                await asyncio.wait({ended}, timeout=_QUIT)
        finally:
            for task in (answered, ended):
                task.cancel()
            await asyncio.gather(answered, ended, return_exceptions=True)
        why = "it does not answer"
        if not ended.cancelled():
            status = ended.result()
            if status.state == "stopped":
                return
            why = status.reason
        await self._give_up(handle)
        raise error("hypervisor.failed", f"QEMU did not run machine {handle.uid}", why=why, uid=handle.uid)

    async def _give_up(self, handle: Handle) -> None:
        """Make the folder as if the machine had not been started."""
        process = await asyncio.to_thread(MachineProcess.find, handle.uid, files.pid_of(handle))
        if process is not None:
            with process:
                await process.kill()
        self._reap(handle.uid)
        await asyncio.to_thread(files.forget_handle, files.folder_of(handle))

    def _reap(self, uid: Uid) -> int | None:
        """The exit code of a process that has ended and was started here."""
        child = self._children.get(uid)
        return None if child is None else child.poll()

    def _ending(self, handle: Handle) -> MachineStatus:
        exit_code = self._reap(handle.uid)
        folder = files.folder_of(handle)
        if not folder.is_dir():
            return MachineStatus("stopped", "it was removed")
        ran_out = self._groups is not None and self._groups.ran_out(handle.uid)
        return command.ending(
            asked=files.was_asked(folder),
            cause=files.shutdown_cause(folder),
            exit_code=exit_code,
            last_words="its memory was not enough" if ran_out else files.last_words(folder),
        )

    async def _quit(self, folder: Path, process: MachineProcess) -> None:
        told = await tell(folder, "quit", within=_QUIT)
        if not (told and await process.ended_within(_QUIT)):
            await process.kill()

    async def _remove(self, uid: Uid, folder: Path, hint: int) -> None:
        deadline = time.monotonic() + _EXEC
        while True:
            process = await asyncio.to_thread(MachineProcess.find, uid, hint)
            if process is not None:
                with process:
                    await asyncio.to_thread(files.note_asked, folder)
                    await process.kill()
                self._reap(uid)
            if await to_the_end(files.remove_unlocked, folder):
                break
            if time.monotonic() > deadline:
                raise _lock_without_process(uid, folder)
            await asyncio.sleep(0.01)  # a fork that has not become QEMU yet: there is no event for that
        child = self._children.pop(uid, None)
        if child is not None:  # its lock is free: it is dead, and what is left of it is to be collected
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.wait, _QUIT)
        if self._groups is not None:
            await asyncio.to_thread(self._groups.forget, uid)


def _running(uid: Uid, folder: Path) -> MachineProcess:
    """The process behind a lock that is held: it is there, or about to become QEMU. Blocks."""
    deadline = time.monotonic() + _EXEC
    while (process := MachineProcess.find(uid)) is None:
        if time.monotonic() > deadline:
            raise _lock_without_process(uid, folder)
        time.sleep(0.01)
    return process


def _lock_without_process(uid: Uid, folder: Path) -> BitDewError:
    return error(
        "hypervisor.failed",
        f"Machine {uid} is locked, but no process runs it",
        why=f"another program holds the lock in {folder}",
        do="End the program that uses this folder (see it with fuser or lsof) and start the worker again.",
        uid=uid,
    )


def _machines_in(folder: Path) -> set[Uid]:
    """The machines that have folders in `folder`, or run there. Other files are nobody's business."""
    found = machines_below(folder)
    if folder.is_dir():
        found |= {Uid(entry.name) for entry in folder.iterdir() if is_uid(entry.name) and entry.is_dir()}
    return found
