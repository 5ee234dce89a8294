"""VBoxManage's words for a machine, and what its answers mean. Pure: nothing is run here, and no file is touched.

A machine is addressed by its UUID, which is its uid, so that no name of the volunteer's own machines can be meant. The
delivered image is reached through a descriptor of our own, a flat VMDK whose extent is the image; VirtualBox takes no
raw image as a hard disk. The descriptor carries UUIDs from the beginning: without them VirtualBox would open the image
for writing, once, to add them.

A machine has no network boot ROM: a file of zeros stands where its firmware looks for one. Nobody boots from it, and
VirtualBox restores what the firmware has copied of it wrongly (7.2.22): a machine that was saved in the first moments
of its boot, while that ROM was being run, stood still for ever when it was restored.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from bitdew.core.errors import error
from bitdew.core.ids import Uid, checked_name
from bitdew.hypervisor import MachineSpec, MachineStatus, is_uid

from .machine_folder import CONSOLE

BASE: Final = "base.vmdk"
DISK: Final = "disk.vdi"
SETTINGS: Final = "settings"
"""In a machine's folder: what VirtualBox itself keeps of it."""
NO_ROM: Final = "no-network-boot.rom"
NO_ROM_SIZE: Final = 4096
"""In a machine's folder: so many zeros, in place of the ROM for booting from the network."""

Words = tuple[str, ...]

_MIB: Final = 1024 * 1024
_SECTOR: Final = 512
_CONTROLLER: Final = "disks"
_ROM_KEY: Final = "VBoxInternal/Devices/pcbios/0/Config/LanBootRom"
_SERVICE_LOST: Final = "VBoxSVC became unavailable"
_CHANGE: Final = re.compile(r"Console: Machine state changed to '(\w+)'|Changing the VM state from '\w+' to '(\w+)'")
_PORT_FAILED: Final = re.compile(r"failed to set up redirection of (\d{1,5})\b")
_FACT: Final = re.compile(r'^"?([^"=\n]+)"?=(?:"(.*)"|(.*))$', re.MULTILINE)
_UUID_IN_BRACES: Final = re.compile(r"\{([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}$", re.MULTILINE)
_LOCATION: Final = re.compile(r"^Location:\s+(.+)$", re.MULTILINE)

_ENDED: Final = frozenset({"poweroff", "saved", "aborted", "aborted-saved", "teleported"})
_STUCK: Final = frozenset({"gurumeditation"})
_STEADY: Final = frozenset({"running", "paused"}) | _ENDED | _STUCK


@dataclass(frozen=True, slots=True)
class View:
    """A machine as VirtualBox has it.

    Attributes:
        state: VirtualBox's own word: "running", "poweroff", "aborted"; "" if its settings can't be read any more.
        busy: A process holds it. For a moment it still does so after the machine's end.
        settings: Its settings file, if that is told.
        snapshots: The names of its snapshots.
        forwards: The rules for its ports.
    """

    state: str
    busy: bool = False
    settings: Path | None = None
    snapshots: tuple[str, ...] = ()
    forwards: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether it is neither changing nor still held."""
        return self.state in _STEADY and not (self.ended and self.busy)

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.state in _ENDED or not self.state

    @property
    def stuck(self) -> bool:
        """Whether its virtual processors failed: it does nothing more, and its process stays."""
        return self.state in _STUCK


def parse_view(told: str) -> View:
    """What `showvminfo --machinereadable` tells."""
    facts: dict[str, str] = {}
    snapshots: list[str] = []
    rules: list[str] = []
    for key, quoted, bare in _FACT.findall(told):
        facts[key] = quoted or bare
        if re.fullmatch(r"SnapshotName(-\d+)*", key):
            snapshots.append(quoted)
        if re.fullmatch(r"Forwarding\(\d+\)", key):
            rules.append(quoted)
    settings = facts.get("CfgFile")
    return View(
        facts.get("VMState", ""),
        "SessionName" in facts,
        Path(settings) if settings else None,
        tuple(snapshots),
        tuple(rules),
    )


def parse_machines(told: str) -> set[Uid]:
    """The machines that `list vms` tells, which have our kind of uid. One whose settings are gone is told as well."""
    return {Uid(found.replace("-", "")) for found in _UUID_IN_BRACES.findall(told)}


def parse_media(told: str) -> list[Path]:
    """Where the media lie that `list hdds` or `list dvds` tells, in its order: what others are based on comes first."""
    return [Path(found.strip()) for found in _LOCATION.findall(told)]


def parse_version(told: str) -> tuple[int, int, int] | None:
    """The version in `7.2.22_Debianr175245`, also behind warnings that a wrapper prints first."""
    found = re.search(r"^(\d{1,4})\.(\d{1,4})\.(\d{1,4})", told.strip().splitlines()[-1] if told.strip() else "")
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def last_error(told: str) -> str:
    """VirtualBox's own words for what went wrong, in one line of at most 400 characters."""
    marks = ("VBoxManage: error: ", "VBoxManage.exe: error: ")
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    said = [line.removeprefix(mark) for line in lines for mark in marks if line.startswith(mark)]
    kept = [line for line in said if not line.startswith(("Details: ", "Context: "))]
    return " ".join(kept or lines[-3:])[:400]


def identity(uid: Uid) -> str:
    """What a machine is called in VirtualBox's commands."""
    return str(uuid.UUID(uid))


def machine_of(command_line: list[str]) -> Uid | None:
    """The machine that a process with this command line runs, if any: VirtualBox starts it with the machine's UUID."""
    for option, value in pairwise(command_line):
        uid = Uid(value.replace("-", ""))
        if option == "--startvm" and is_uid(uid) and f"bitdew-{uid}" in command_line:
            return uid
    return None


def checked_snapshot(name: str) -> str:
    """The name of a snapshot, if it can be one: as names of data are, and no option of VBoxManage.

    Raises:
        UserError: `input.invalid`.
    """
    return checked_name(name, "name of a snapshot")


def descriptor(image: Path, size: int, own: uuid.UUID) -> str:
    """A flat VMDK that shows the `size` bytes of the raw `image`.

    Raises:
        HostError: `hypervisor.failed`, if the image's path can't be written down in it.
    """
    if any(character in '"\\' or not character.isprintable() for character in str(image)):
        raise error(
            "hypervisor.failed", "VirtualBox can't be told where the disk is", why=f"its path is {str(image)!r}"
        )
    sectors = size // _SECTOR
    none = uuid.UUID(int=0)
    return (
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        f'createType="monolithicFlat"\nRW {sectors} FLAT "{image}" 0\n'
        '#DDB\nddb.adapterType = "ide"\nddb.virtualHWVersion = "4"\n'
        f'ddb.geometry.cylinders = "{min(max(1, sectors // (16 * 63)), 16383)}"\n'
        'ddb.geometry.heads = "16"\nddb.geometry.sectors = "63"\n'
        f'ddb.uuid.image="{own}"\nddb.uuid.modification="{uuid.uuid5(own, "modification")}"\n'
        f'ddb.uuid.parent="{none}"\nddb.uuid.parentmodification="{none}"\n'
    )


def creation(spec: MachineSpec, extra: Words) -> list[Words]:
    """The commands that make a machine whose descriptor and ROM are written. `extra` goes to modifyvm."""
    machine, folder = identity(spec.uid), spec.folder
    disk, console = str(folder / DISK), str(folder / CONSOLE)
    commands: list[Words] = [
        ("createmedium", "disk", "--filename", disk, "--diffparent", str(folder / BASE), "--format", "VDI"),
        (
            *("createvm", "--name", f"bitdew-{spec.uid}", "--uuid", machine, "--ostype", "Other_64"),
            *("--basefolder", str(folder / SETTINGS), "--register"),
        ),
        (
            *("modifyvm", machine),
            *("--memory", str(spec.memory // _MIB), "--cpus", str(spec.cpus), "--ioapic", "on"),
            *("--vm-process-priority", "low"),
            *("--vram", "16", "--graphicscontroller", "vmsvga", "--audio-enabled", "off", "--rtc-use-utc", "on"),
            *("--boot1", "disk", "--boot2", "none", "--boot3", "none", "--boot4", "none"),
            # These words are known since VirtualBox 7.0; 7.1 has another name for them and takes both.
            *("--bios-logo-fade-in", "off", "--bios-logo-fade-out", "off", "--bios-logo-display-time", "0"),
            *("--bios-boot-menu", "disabled"),
            *("--uart1", "0x3F8", "4", "--uart-mode1", "file", console),
            *_network(spec),
        ),
        ("setextradata", machine, _ROM_KEY, str(folder / NO_ROM)),
    ]
    if extra:
        commands.append(("modifyvm", machine, *extra))
    attach = ("storageattach", machine, "--storagectl", _CONTROLLER, "--device", "0")
    commands += [
        # IDE: the kernels that clouds and our own disks have know it, and not all know SATA.
        ("storagectl", machine, "--name", _CONTROLLER, "--add", "ide", "--controller", "PIIX4", "--bootable", "on"),
        (*attach, "--port", "0", "--type", "hdd", "--medium", disk),
    ]
    if spec.seed is not None:
        commands.append((*attach, "--port", "1", "--type", "dvddrive", "--medium", str(spec.seed)))
    return commands


def _network(spec: MachineSpec) -> Words:
    """As QEMU's user network: the host's loopback is at 10.0.2.2."""
    if spec.network == "none":
        return ("--nic1", "none")
    words: Words = ("--nic1", "nat", "--nictype1", "virtio", "--nat-localhostreachable1", "on")
    for rule in forwards(spec):
        words += ("--nat-pf1", rule)
    return words


def forwards(spec: MachineSpec) -> list[str]:
    """VirtualBox's rules for the ports of a machine, which begin with their names."""
    return [f"port-{outer},tcp,{spec.ports_address},{outer},,{inner}" for outer, inner in spec.ports]


def forwarding_changes(view: View, spec: MachineSpec) -> list[Words]:
    """What to tell `controlvm` of a machine that runs, so that its ports are those of `spec`."""
    wanted = forwards(spec)
    gone = [rule.partition(",")[0] for rule in view.forwards if rule not in wanted]
    new = [rule for rule in wanted if rule not in view.forwards]
    return [*(("natpf1", "delete", name) for name in gone), *(("natpf1", rule) for rule in new)]


def failed_port(log: str) -> int | None:
    """The host's port that VirtualBox could not listen at, by the log of a machine; it runs nevertheless."""
    found = _PORT_FAILED.search(log)
    return int(found[1]) if found else None


def accelerator_in(log: str) -> str:
    """What runs the guest's instructions, by the log of a machine that was started."""
    if "Falling back on IEM" in log or "fIemExecutesAll=true" in log:
        return "interpreter"
    for mark, name in (("NEM: NEMR3Init: Active", "nem"), ("HM: Using AMD-V", "amd-v"), ("HM: Using VT-x", "vt-x")):
        if mark in log:
            return name
    return "hardware"


def ran(log: str) -> bool:
    """Whether a machine with this log has run."""
    return "to 'RUNNING'" in log


def ending(view: View | None, *, asked: bool, log: str = "") -> MachineStatus:
    """How a machine that runs no more has ended.

    Args:
        view: As VirtualBox has it.
        asked: The worker ended it.
        log: The end of its log.
    """
    if view is None:
        return MachineStatus("stopped", "it was removed")
    if asked:
        return MachineStatus("stopped", "the worker ended it")
    if view.stuck:
        return MachineStatus("failed", "its virtual processors failed, which VirtualBox calls a guru meditation")
    if view.state.startswith("aborted"):
        return MachineStatus("failed", "its process went away without a word, as after signal 9 or a crash")
    if not view.state:
        return MachineStatus("failed", "VirtualBox can't read its settings any more")
    if view.state == "saved":
        return MachineStatus("failed", "VirtualBox saved its state and ended it, as when this host is shut down")
    return _powered_off(log)


def _powered_off(log: str) -> MachineStatus:
    """Who powered a machine off. VirtualBox has one state for all of that; the order of its log's lines tells."""
    if _SERVICE_LOST in log:
        return MachineStatus("failed", "VirtualBox's service went away, and its machines end without it")
    changes = _CHANGE.findall(log)
    if not changes:
        return MachineStatus("stopped", "its system powered it off")
    if ("", "POWERING_OFF") not in changes:
        return MachineStatus("failed", "its process lost VirtualBox's service, which went away")
    if ("Stopping", "") in changes[: changes.index(("", "POWERING_OFF"))]:
        return MachineStatus("failed", "somebody else ended it through VirtualBox")
    return MachineStatus("stopped", "its system powered it off")
