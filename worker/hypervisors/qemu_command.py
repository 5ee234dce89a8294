"""QEMU's command line for a machine, and what its exits mean. Pure: nothing is run or read here.

QEMU runs with the machine's folder as its working directory, so that the names of its files need no quoting in QEMU's
comma-separated options. The only foreign path, the image's, travels as JSON.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from bitdew.core.ids import Uid
from bitdew.hypervisor import MachineSpec, MachineStatus, is_uid

from . import machine_folder as files

SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
"""QEMU's own seccomp filter: a guest that breaks out of its devices can't start programs."""

Accelerator = Literal["kvm", "tcg"]
DiskBus = Literal["virtio", "ide"]

DISK_NODE: Final = "disk"
"""What QEMU's monitor knows the machine's disk by."""

_MIB: Final = 1024 * 1024
_ACCELERATORS: Final[dict[Accelerator, str]] = {"kvm": "kvm", "tcg": "tcg,tb-size=256"}
"""Translated code takes 256 MiB at most: left to itself, QEMU takes up to 1 GiB, whatever the machine's memory is."""
PROCESSORS: Final[dict[Accelerator, str]] = {"kvm": "host", "tcg": "Nehalem"}
"""What processor a machine has: the host's own, or the least that today's systems and programs are built for.

QEMU's default lacks SSE4: NumPy, for one, ends there by an illegal instruction. More than this is slower to interpret.
"""


@dataclass(frozen=True, slots=True)
class QemuOptions:
    """How machines are run, beside what their specs say.

    Attributes:
        binary: QEMU's path.
        accelerator: What runs the guest's instructions.
        sandbox: Whether this QEMU knows `-sandbox`.
        disk_bus: How the disk is attached.
        niceness: How far QEMU steps back for the volunteer's own programs, 0 to 19.
        before: Further words to begin the command with, which run the rest.
    """

    binary: str
    accelerator: Accelerator
    sandbox: bool
    disk_bus: DiskBus
    niceness: int
    before: tuple[str, ...] = ()


def marker(uid: Uid) -> str:
    """What a machine's process is known by, in its command line."""
    return f"bitdew-{uid}"


def machine_of(command_line: list[str]) -> Uid | None:
    """The machine that a process with this command line runs, if any."""
    for option, value in pairwise(command_line):
        uid = Uid(value.removeprefix("bitdew-"))
        if option == "-name" and value == marker(uid) and is_uid(uid):
            return uid
    return None


def snapshot_tag(name: str) -> str:
    """What a snapshot is called in the disk. QEMU numbers them as well, and would take a name like "1" for a number."""
    return f"bitdew-{name}"


def overlay_command(image_tool: str, image: Path, target: str) -> list[str]:
    """Make the differencing disk: empty, it shows the image, and takes what the machine writes."""
    return [image_tool, "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "raw", target]


def machine_command(spec: MachineSpec, options: QemuOptions, *, monitor: int, load: str = "") -> list[str]:
    """Run the machine; `monitor` is the descriptor of a listening socket for QMP, inherited by QEMU.

    With `load` it goes on from the snapshot of that name.
    """
    image = {"driver": "file", "filename": str(spec.image), "read-only": True}
    disk = {
        "driver": "qcow2",
        "node-name": DISK_NODE,
        "discard": "unmap",
        "file": {"driver": "file", "filename": files.DISK, "discard": "unmap"},
        "backing": {"driver": "raw", "read-only": True, "file": image},
    }
    device = {"virtio": "virtio-blk-pci", "ide": "ide-hd"}[options.disk_bus]
    return [
        *("nice", "-n", str(options.niceness)),
        *options.before,
        options.binary,
        *("-name", marker(spec.uid)),
        *("-uuid", str(uuid.UUID(spec.uid))),
        *("-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none"),
        *("-machine", "pc"),
        *("-accel", _ACCELERATORS[options.accelerator]),
        *("-cpu", PROCESSORS[options.accelerator]),
        *("-m", f"{spec.memory // _MIB}M"),
        *("-smp", str(spec.cpus)),
        *("-blockdev", json.dumps(disk)),
        # A full disk is the guest's to hear of, as of a broken one: by default QEMU would halt the machine for ever.
        *("-device", f"{device},drive={DISK_NODE},bootindex=1,werror=report"),
        *_seed(spec),
        *("-nic", _nic(spec)),
        *("-vga", "std"),  # nobody looks, but pictures are taken
        *("-chardev", f"file,id=console,path={files.CONSOLE}"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=qmp,fd={monitor},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        # Its reason to shut down goes to the log: the one witness when the worker was away as the machine ended.
        *("-trace", "enable=qemu_system_shutdown_request"),
        *(("-sandbox", SANDBOX) if options.sandbox else ()),
        *(("-loadvm", snapshot_tag(load)) if load else ()),
    ]


def _seed(spec: MachineSpec) -> tuple[str, ...]:
    """The ISO in a CD drive: on IDE, where every system finds one."""
    if spec.seed is None:
        return ()
    iso = {"driver": "file", "filename": str(spec.seed), "read-only": True}
    drive = {"driver": "raw", "node-name": "seed", "read-only": True, "file": iso}
    return ("-blockdev", json.dumps(drive), "-device", "ide-cd,drive=seed")


def _nic(spec: MachineSpec) -> str:
    if spec.network == "none":
        return "none"
    forwards = (f"hostfwd=tcp:{spec.ports_address}:{outer}-:{inner}" for outer, inner in spec.ports)
    return ",".join(("user", "model=virtio-net-pci", *forwards))


# ShutdownCause, from QEMU's qapi/run-state.json, in its order; the numbers are what the trace shows.
_CAUSES: Final[dict[int, MachineStatus]] = {
    1: MachineStatus("failed", "QEMU stopped it after an error on this host"),
    2: MachineStatus("failed", "somebody else ended it through its monitor"),
    files.HOST_SIGNAL: MachineStatus("failed", "a signal from outside ended it"),
    6: MachineStatus("stopped", "its system powered it off"),
    7: MachineStatus("stopped", "its system restarted it, which ends it here"),
    8: MachineStatus("failed", "its system panicked"),
}


def ending(*, asked: bool, cause: int | None, exit_code: int | None, last_words: str) -> MachineStatus:
    """How a machine ended.

    Args:
        asked: Whether the worker ended it.
        cause: QEMU's own reason, if it gave one.
        exit_code: QEMU's exit code, negative for a signal; None where nobody saw it.
        last_words: The last lines that QEMU wrote.
    """
    if cause == 6:
        return _CAUSES[cause]
    if asked:
        return MachineStatus("stopped", "the worker ended it")
    if cause in _CAUSES:
        return _CAUSES[cause]
    if exit_code is None:
        how = "QEMU ended without shutting it down"
    elif exit_code < 0:
        how = f"signal {-exit_code} killed QEMU"
    else:
        how = f"QEMU ended with exit code {exit_code}"
    return MachineStatus("failed", f"{how}: {last_words}" if last_words else how)
