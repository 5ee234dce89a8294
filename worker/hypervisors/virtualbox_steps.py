"""What VirtualBox's driver does step by step: making a machine, starting, saving, forgetting it. Everything blocks.

Owns the order of steps that makes a machine safe against a worker killed at any point. A machine is prepared when its
last command has ended and a mark says so; without the mark everything of it is forgotten and made anew. It was started
if its log says that it ran, or VirtualBox says that it runs: a worker killed between the start and the handle finds it
so. It must not know of tasks and waiting: that is the driver's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid
from bitdew.hypervisor import Handle, MachineSpec, MachineStatus, check_image, check_seed, is_uid, remove_folder

from . import machine_folder as files
from . import virtualbox_command as command
from .machine_process import MachineProcess
from .virtualbox_manage import SOON, VBoxManage
from .virtualbox_service import running_machines

DRIVER: Final = "virtualbox"

_PREPARED: Final = "prepared"
_PICTURE: Final = "screen.png"
_STARTED_WITHIN: Final = 120.0
_SAVED_WITHIN: Final = 600.0  # seconds to write a machine's memory to a slow disk, or to read it
_GLANCE: Final = 0.2
_LOG_MOST: Final = 1024 * 1024


class Steps:
    """The steps, with one VirtualBox.

    Args:
        manage: VBoxManage.
        extra: Further words for `VBoxManage modifyvm`, for each machine.
    """

    def __init__(self, manage: VBoxManage, extra: command.Words) -> None:
        self._manage = manage
        self._extra = extra

    def make(self, spec: MachineSpec) -> None:
        """Write the descriptor, make the differencing disk, describe the machine. Nothing, where that is done already.

        Raises:
            HostError: `storage.failed`, `storage.full`, `hypervisor.failed`, `hypervisor.missing`.
        """
        check_image(spec.image)
        if spec.seed is not None:
            check_seed(spec.seed)
        folder = spec.folder
        if (folder / _PREPARED).exists():
            return
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._manage.forget(spec.uid, folder)  # what a killed worker left half done
            for name in (command.DISK, command.BASE):
                (folder / name).unlink(missing_ok=True)
            remove_folder(folder / command.SETTINGS)
            text = command.descriptor(spec.image, spec.image.stat().st_size, uuid.uuid4())
            (folder / command.BASE).write_text(text, "utf-8")
            (folder / command.NO_ROM).write_bytes(bytes(command.NO_ROM_SIZE))
            (folder / files.CONSOLE).touch()
            for words in command.creation(spec, self._extra):
                self._manage.run(*words)
            (folder / _PREPARED).touch()
        except OSError as problem:
            raise error(
                "storage.failed",
                f"Machine {spec.uid} could not be given a disk",
                why=problem.strerror or str(problem),
                uid=spec.uid,
                image=str(spec.image),
            ) from problem

    def start(self, spec: MachineSpec) -> Handle:
        """Start a machine once; its handle, when VirtualBox says that it runs, or ran.

        Raises:
            HostError: `hypervisor.failed`, `hypervisor.missing`.
        """
        if not (spec.folder / _PREPARED).exists():
            raise error("hypervisor.failed", f"Machine {spec.uid} has no disk", why="it was not prepared", uid=spec.uid)
        with _claimed(spec.uid, spec.folder):
            earlier = files.read_handle(spec.folder)
            if earlier is not None:
                return earlier
            view = self._manage.settled(spec.uid)
            if view is None:
                why = "VirtualBox does not know it any more"
                raise error("hypervisor.failed", f"Machine {spec.uid} can't be started", why=why, uid=spec.uid)
            if view.ended and not command.ran(_log(spec.folder)):
                _check_ports(spec)
                self._power_on(spec.uid, spec.folder)
                self._check_forwarding(spec)
            return self._record(spec.uid, spec.folder)

    def _record(self, uid: Uid, folder: Path) -> Handle:
        process = process_of(uid, 0)
        pid = 0 if process is None else process.pid  # 0: it has run to its end already
        if process is not None:
            process.close()
        return files.write_handle(folder, DRIVER, uid, {"pid": pid, "folder": str(folder)})

    def _power_on(self, uid: Uid, folder: Path, *, again: bool = False) -> None:
        try:
            self._manage.run("startvm", command.identity(uid), "--type", "headless", within=_STARTED_WITHIN)
        except BitDewError as refused:
            view = self._manage.settled(uid)
            if view is not None and not view.ended:
                return  # it was on its way already, by the hand of a worker that was killed
            if view is not None and not again and command.ran(_log(folder)):
                return  # it ran, and ended before VBoxManage had seen it
            raise error(
                "hypervisor.failed", f"VirtualBox did not run machine {uid}", why=refused.why, uid=uid
            ) from refused

    def _check_forwarding(self, spec: MachineSpec) -> None:
        """Refuse a machine that was started and can't be reached as it should: as if it had not been started."""
        port = command.failed_port(_log(spec.folder)) if spec.ports else None
        if port is None:
            return
        self.power_off(spec.uid)
        for logs in (spec.folder / command.SETTINGS).glob("*/Logs"):
            remove_folder(logs)  # they would say that it ran
        raise _port_taken(spec, port, "VirtualBox could not listen there")

    def view(self, handle: Handle) -> command.View | None:
        """A machine as VirtualBox has it; where that does not answer or was removed, by its process.

        Raises:
            HostError: `hypervisor.failed`, if VirtualBox does not answer and the machine has no process.
        """
        if not folder_of(handle).is_dir():
            return None
        try:
            return self._manage.view(handle.uid)
        except BitDewError as fault:
            if has_process(handle):
                return command.View("running", busy=True)
            if fault.key == "hypervisor.missing":
                return None
            raise

    def ending(self, handle: Handle) -> MachineStatus:
        """How a machine that runs no more has ended, when VirtualBox has let go of it."""
        folder = folder_of(handle)
        if not folder.is_dir():
            return MachineStatus("stopped", "it was removed")
        asked = files.was_asked(folder)
        try:
            view = self._manage.settled(handle.uid)
        except BitDewError as fault:
            if asked:
                return MachineStatus("stopped", "the worker ended it")
            gone = fault.key == "hypervisor.missing"
            return MachineStatus("failed", "VirtualBox was removed" if gone else f"{fault}: {fault.why}")
        return command.ending(view, asked=asked, log=_log(folder, end=True))

    def picture(self, handle: Handle, to: Path) -> None:
        """Write what the machine's screen shows.

        Raises:
            HostError: `hypervisor.failed`, `storage.failed`.
        """
        picture = folder_of(handle) / _PICTURE  # VirtualBox may not be able to write elsewhere
        try:
            self._manage.run("controlvm", command.identity(handle.uid), "screenshotpng", str(picture))
            shutil.move(picture, to)
        except OSError as problem:
            why = problem.strerror or str(problem)
            raise error("storage.failed", f"The picture can't be written to {to}", why=why, path=str(to)) from problem
        finally:
            picture.unlink(missing_ok=True)

    def save(self, handle: Handle, name: str) -> None:
        """Save a machine's memory and disk as `name`.

        Raises:
            UserError: `input.invalid`.
            HostError: `hypervisor.failed`, `storage.full`.
        """
        command.checked_snapshot(name)
        folder, uid = folder_of(handle), handle.uid
        view = self._manage.settled(uid) if folder.is_dir() else None
        if view is None or view.ended or view.stuck:
            raise error("hypervisor.failed", f"Machine {uid} can't be saved", why="it has ended", uid=uid)
        if name in view.snapshots:
            raise error("input.invalid", f"Machine {uid} has a snapshot {name} already", do="Choose another name.")
        self._manage.run("snapshot", command.identity(uid), "take", name, within=_SAVED_WITHIN)
        self._manage.settled(uid)

    def check_snapshot(self, spec: MachineSpec, name: str) -> None:
        """Refuse what the machine was not saved as.

        Raises:
            UserError: `input.invalid`.
            HostError: `hypervisor.failed`.
        """
        command.checked_snapshot(name)
        view = self._manage.settled(spec.uid) if spec.folder.is_dir() else None
        if view is None or name not in view.snapshots:
            raise error("hypervisor.failed", f"Machine {spec.uid} has no snapshot {name}", uid=spec.uid)

    def load(self, spec: MachineSpec, name: str) -> Handle:
        """Let a machine that has ended go on from where it was saved as `name`; its handle.

        Raises:
            HostError: `hypervisor.failed`.
        """
        uid, folder = spec.uid, spec.folder
        self.check_snapshot(spec, name)
        with _claimed(uid, folder):
            self._manage.run("snapshot", command.identity(uid), "restore", name, within=_SAVED_WITHIN)
            files.forget_asked(folder)
            _check_ports(spec)
            self._power_on(uid, folder, again=True)
            self._forward_anew(spec)
            return self._record(uid, folder)

    def _forward_anew(self, spec: MachineSpec) -> None:
        """Give a machine the ports that it has now: a snapshot brings back those that it had."""
        view = self._manage.view(spec.uid)
        for words in command.forwarding_changes(view, spec) if view is not None and not view.ended else ():
            self._manage.run("controlvm", command.identity(spec.uid), *words)

    def power_off(self, uid: Uid) -> None:
        """Have a machine ended at once, if VirtualBox is there and runs it; return when it has let go of it.

        Raises:
            HostError: `hypervisor.failed`.
        """
        if self._manage.path is None:
            return
        view = self._manage.settled(uid)
        if view is not None and not view.ended:
            self._manage.ask("controlvm", command.identity(uid), "poweroff", within=SOON)
            self._manage.settled(uid)

    def forget(self, uid: Uid, folder: Path) -> None:
        """Leave nothing of a machine.

        Raises:
            HostError: `hypervisor.failed`, `storage.failed`.
        """
        self.power_off(uid)
        if self._manage.path is not None:
            self._manage.forget(uid, folder)
        remove_folder(folder)

    def machines_in(self, folder: Path) -> set[Uid]:
        """The machines that have a descriptor in `folder`, that VirtualBox has there, or that run with this home."""
        found: set[Uid] = set()
        if folder.is_dir():
            found = {Uid(path.parent.name) for path in folder.glob(f"*/{command.BASE}") if is_uid(path.parent.name)}
        found |= running_machines(self._manage.home)
        if self._manage.path is None or not self._manage.home.is_dir():
            return found
        with contextlib.suppress(BitDewError):  # it does not answer, and those with a process or a folder are found
            for uid in self._manage.machines():
                view = self._manage.view(uid)
                if view is not None and (view.settings is None or view.settings.is_relative_to(folder / uid)):
                    found.add(uid)
        return found


def process_of(uid: Uid, hint: int) -> MachineProcess | None:
    """The process that runs a machine, the one with pid `hint` if that is it; None if none does."""
    return MachineProcess.find(uid, hint, command.machine_of)


def has_process(handle: Handle) -> bool:
    """Whether a process runs the machine."""
    process = process_of(handle.uid, files.pid_of(handle))
    if process is not None:
        process.close()
    return process is not None


def _log(folder: Path, *, end: bool = False) -> str:
    """The beginning of what VirtualBox wrote when the machine ran, or the end of its last run; "" if it never did."""
    text = ""
    for path in sorted((folder / command.SETTINGS).glob("*/Logs/VBox.log" if end else "*/Logs/VBox.log*")):
        with path.open("rb") as file:
            if end:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_MOST))
            text += file.read(_LOG_MOST).decode("utf-8", "replace")
    return text


def _check_ports(spec: MachineSpec) -> None:
    """Refuse a machine whose ports are taken: VirtualBox would start it without them, and tell nobody."""
    for outer, _ in spec.ports:
        try:
            socket.create_server((spec.ports_address, outer)).close()
        except OSError as problem:
            raise _port_taken(spec, outer, problem.strerror or str(problem)) from problem


def _port_taken(spec: MachineSpec, port: int, why: str) -> BitDewError:
    message = f"Machine {spec.uid} can't be reached at port {port} of this host"
    return error("hypervisor.failed", message, why=why, do="Choose another port.", uid=spec.uid)


@contextmanager
def _claimed(uid: Uid, folder: Path) -> Iterator[None]:
    """Hold the machine's lock; wait for whoever starts it at the same time. Blocks."""
    deadline = time.monotonic() + _STARTED_WITHIN
    while True:
        with files.claim(folder) as lock:
            if lock is not None:
                yield
                return
        if time.monotonic() > deadline:
            why = f"another program holds the lock in {folder}"
            raise error("hypervisor.failed", f"Machine {uid} can't be started", why=why, uid=uid)
        time.sleep(_GLANCE)


def folder_of(handle: Handle) -> Path:
    """The folder that a handle names.

    Raises:
        UserError: `input.invalid`, if the handle is not of this driver's making.
    """
    folder = handle.data.get("folder")
    named = isinstance(folder, str) and is_uid(handle.uid) and Path(folder).name == handle.uid
    if handle.driver == DRIVER and named:
        return Path(str(folder))
    raise error("input.invalid", "This is not a handle of the VirtualBox driver", uid=str(handle.uid)[:40])
