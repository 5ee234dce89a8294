"""Finding out what VirtualBox is on this host, by starting an empty machine: version, what runs the guest, or why not.

Owns the fingerprint of the VirtualBox driver. Installed is not usable: its kernel module may be missing, another
hypervisor may hold the processor's help, the firmware may forbid it. Only a start tells.
"""

from __future__ import annotations

import contextlib
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid
from bitdew.hypervisor import remove_folder

from . import virtualbox_command as command

if TYPE_CHECKING:
    from .virtualbox_manage import VBoxManage

OLDEST: Final = (7, 0, 0)
"""Its words for VBoxManage are those that this driver uses."""
_HOW_TO_INSTALL: Final = "Install it from https://www.virtualbox.org/wiki/Downloads, and start the worker again"
MODULE: Final = Path("/dev/vboxdrv")
"""On Linux, what its kernel module makes when it is loaded."""
_EMPTY: Final = Uid(uuid.UUID(int=1).hex)  # no machine's uid is so small
_WITHIN: Final = 60.0


@dataclass(frozen=True, slots=True)
class VirtualBoxFound:
    """A VirtualBox that works here.

    Attributes:
        version: Like "7.2.22".
        accelerator: What runs the guest's instructions: "vt-x", "amd-v", "nem", "hardware" or "interpreter".
        program: The path of its VBoxManage.
        programs: That, and the device of its kernel module if there is one: when one of them goes, so does VirtualBox.
    """

    version: str
    accelerator: str
    program: str
    programs: tuple[str, ...]

    @property
    def series(self) -> str:
        """Like "7.2": what VirtualBox promises to be compatible."""
        return ".".join(self.version.split(".")[:2])


def probe_virtualbox(manage: VBoxManage, extra: command.Words, *, module: Path = MODULE) -> VirtualBoxFound | str:
    """Try VirtualBox; or say what is missing. Blocks for a second or two where it is installed."""
    program = manage.path
    if program is None:
        return f"VBoxManage not found. {_HOW_TO_INSTALL}"
    try:
        version = command.parse_version(manage.run("--version"))
        if version is None:
            return f"{program} does not say which version it is. {_HOW_TO_INSTALL}"
        text = ".".join(map(str, version))
        if version < OLDEST:
            return f"VirtualBox {text} is older than {OLDEST[0]}.{OLDEST[1]}. {_HOW_TO_INSTALL}"
        if unbound := _why_not_bound(manage):
            return unbound
        programs = (program, str(module)) if module.exists() else (program,)
        return VirtualBoxFound(text, _start_empty(manage, extra), program, programs)
    except BitDewError as fault:
        hint = ""
        if platform.system() == "Linux" and not module.exists():
            hint = ". Its kernel module vboxdrv is not loaded: as root, run /sbin/vboxconfig, or modprobe vboxdrv"
        return f"VirtualBox is installed, but starts no machine: {fault.why or fault}{hint}"


def _why_not_bound(manage: VBoxManage) -> str:
    """Why the bindings don't work, if they are wanted; "" otherwise."""
    if manage.bindings is None:
        return ""
    try:
        manage.bindings.version()
    except BitDewError as fault:
        return f"{fault.message}: {fault.why}. Name a Python that can import vboxapi, or none, as virtualbox_python"
    return ""


def _start_empty(manage: VBoxManage, extra: command.Words) -> str:
    """Start a machine without a disk, and remove it; what ran it."""
    machine, folder = command.identity(_EMPTY), manage.home / "trial"
    try:
        _remove(manage, folder)
        manage.run("createvm", "--name", "trial", "--uuid", machine, "--basefolder", str(folder), "--register")
        manage.run("modifyvm", machine, "--memory", "16", "--audio-enabled", "off", "--nic1", "none")
        if extra:
            manage.run("modifyvm", machine, *extra)
        manage.run("startvm", machine, "--type", "headless", within=_WITHIN)
        log = folder / "trial" / "Logs" / "VBox.log"
        return command.accelerator_in(log.read_text("utf-8", "replace") if log.exists() else "")
    finally:
        with contextlib.suppress(BitDewError):  # the reason why it did not start is the one to tell
            _remove(manage, folder)


def _remove(manage: VBoxManage, folder: Path) -> None:
    view = manage.settled(_EMPTY)
    if view is not None and not view.ended:
        manage.ask("controlvm", command.identity(_EMPTY), "poweroff")
    manage.forget(_EMPTY, folder)
    remove_folder(folder)
