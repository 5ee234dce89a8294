"""The contract between the worker and whatever runs its machines.

Owns the words of the contract and what every driver refuses alike. Drivers live elsewhere: QEMU's in the worker's room,
the mock in `bitdew.testing`. Both are held to one suite of tests. It must not know any hypervisor.

A driver's promises:

- The delivered image is never written to: each machine writes to a differencing disk in its own folder.
- A machine outlives the worker. Its handle is plain data, persisted by the worker for `recover` after a restart.
- A machine is started once: `start` on one that runs, or that ran and ended, answers with its handle.
- A worker killed at any point leaves no machine that `start`, `recover` or `sweep` of a restarted one would not find.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from bitdew.core.errors import error
from bitdew.core.host import Sharing
from bitdew.core.ids import Uid

SMALLEST_MEMORY: Final = 16 * 1024 * 1024
MOST_CPUS: Final = 64
MOST_PORTS: Final = 16
MOST_SEED: Final = 64 * 1024 * 1024
"""The most bytes that the ISO given to a machine may have."""
_FIRST_FREE_PORT: Final = 1024  # those below belong to the host's own services
_LAST_PORT: Final = 65535
_UID: Final = re.compile(r"[0-9a-f]{32}")
_SECTOR: Final = 512
_ISO_BLOCK: Final = 2048
_ISO_FIRST: Final = 16  # the block of an ISO's first volume descriptor

Network = Literal["none", "user"]


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine is made of.

    Attributes:
        uid: The machine's identity.
        image: The delivered disk, absolute. It is never written to.
        folder: The machine's own folder, absolute and named after its uid; all that the machine leaves lies in it.
        memory: Bytes, at least 16 MiB; rounded down to whole MiB.
        cpus: Virtual CPUs, 1 to 64.
        image_format: The image's format: "raw".
        seed: An ISO, absolute, that the machine finds as a CD; at most 64 MiB. It may lie in the machine's folder.
        network: "none"; or "user": the machine reaches what the host reaches, the host's own services on its loopback
            included, and is reached by nobody.
        ports: Pairs of a TCP port of the host, from 1024 on, and the machine's port that it leads to; at most 16. They
            need the network "user".
        ports_address: The host's address of IPv4 at which those ports are: its loopback, unless its volunteer says
            otherwise.

    Raises:
        UserError: `input.invalid`, when made of anything else.
    """

    uid: Uid
    image: Path
    folder: Path
    memory: int = 256 * 1024 * 1024
    cpus: int = 1
    image_format: str = "raw"
    seed: Path | None = None
    network: Network = "none"
    ports: tuple[tuple[int, int], ...] = ()
    ports_address: str = "127.0.0.1"

    def __post_init__(self) -> None:
        """Refuse what no driver should have to think about."""
        refused = ""
        if not is_uid(self.uid):
            refused = f"{str(self.uid)[:40]!r} is not a uid"
        elif self.image_format != "raw":
            refused = f"the image's format is {self.image_format[:20]!r}, only 'raw' is known"
        elif not self.image.is_absolute() or not self.folder.is_absolute():
            refused = "its paths are not absolute"
        elif self.folder.name != self.uid:
            refused = f"its folder is not named after it: {self.folder}"
        elif self.image.is_relative_to(self.folder):
            refused = "its image lies in its own folder, and would be removed with it"
        elif self.memory < SMALLEST_MEMORY:
            refused = f"{self.memory} bytes of memory are less than {SMALLEST_MEMORY}"
        elif not 1 <= self.cpus <= MOST_CPUS:
            refused = f"it has {self.cpus} CPUs; 1 to {MOST_CPUS} are possible"
        elif self.seed is not None and (not self.seed.is_absolute() or self.seed == self.image):
            refused = f"its seed can't be {self.seed}"
        else:
            refused = _refused_network(self.network, self.ports, self.ports_address)
        if refused:
            raise error("input.invalid", "This can't be a machine", why=refused, uid=str(self.uid)[:40])


def _refused_network(network: str, ports: tuple[tuple[int, int], ...], address: str) -> str:
    """Why a machine can't be connected like this, or ""."""
    if network not in get_args(Network):
        return f"its network is {network[:20]!r}; {' and '.join(get_args(Network))} are known"
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return f"its ports can't be at {address[:40]!r}, which is no address of IPv4"
    if ports and network != "user":
        return "its ports lead nowhere without the network 'user'"
    if len(ports) > MOST_PORTS:
        return f"it has {len(ports)} ports; {MOST_PORTS} are possible"
    for outer, inner in ports:
        if not _FIRST_FREE_PORT <= outer <= _LAST_PORT or not 1 <= inner <= _LAST_PORT:
            return f"the host's port {outer} can't lead to its port {inner}"
    if len({outer for outer, _ in ports}) != len(ports):
        return "two of its ports are one port of the host"
    return ""


@dataclass(frozen=True, slots=True)
class Handle:
    """What is needed to find a started machine again, as data that fits into JSON.

    Attributes:
        driver: The name of the driver that made it.
        uid: The machine.
        data: The driver's own facts. Nobody else reads them.
    """

    driver: str
    uid: Uid
    data: dict[str, str | int] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a hypervisor is on this host, as probed.

    Attributes:
        sharing: Its name and version, as the host announces them.
        accelerator: What runs the guest's instructions: "kvm" or "tcg" for QEMU.
        limits: How a machine's share of CPU and memory is held, in a few words; "" if it is not.
        health: What does not work as well as it could, and why, for people; "" if all does.
        details: Further findings, for people.
        programs: The whole paths of what it consists of: when one of them changes or is gone, it is not what it was.
    """

    sharing: Sharing
    accelerator: str
    limits: str = field(default="", kw_only=True)
    health: str = field(default="", kw_only=True)
    details: dict[str, str] = field(default_factory=dict, hash=False)
    programs: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do beyond running machines and ending them.

    Attributes:
        graceful_stop: `stop` asks the guest before it ends the machine.
        outlives_worker: Machines run on while the worker is away.
        pause: A machine can be paused and resumed.
        snapshot: A machine's state can be saved and restored.
        screenshot: What its screen shows can be pictured.
        seed: It takes a `MachineSpec.seed`.
        network: It takes a `MachineSpec.network` other than "none", and `ports`.
    """

    graceful_stop: bool = False
    outlives_worker: bool = False
    pause: bool = False
    snapshot: bool = False
    screenshot: bool = False
    seed: bool = False
    network: bool = False


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """How a machine is.

    Attributes:
        state: "running"; "paused"; "stopped" if it ended in an orderly way, by itself or when asked; or "failed".
        reason: Why it ended, for people; "" while it runs or is paused.
    """

    state: Literal["running", "paused", "stopped", "failed"]
    reason: str = ""


class Hypervisor(Protocol):
    """A driver. Its methods may be called at the same time for different machines."""

    @property
    def name(self) -> str:
        """The name of the sharing that it is: "qemu"."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @property
    def missing(self) -> str:
        """After `fingerprint` found nothing: what is missing and how to install it. Otherwise ""."""

    @property
    def doubtful(self) -> bool:
        """Whether a machine could not be made or started since `fingerprint`, which is then to be called again."""

    async def fingerprint(self) -> Fingerprint | None:
        """What it is on this host, by trying it, or None if it can't run machines here. Safe to call again.

        What was found is remembered as long as its `programs` stay the same and nothing makes it doubtful.
        """

    async def prepare(self, spec: MachineSpec) -> None:
        """Make the machine's folder and its differencing disk. Does nothing where that is done already.

        Raises:
            HostError: `storage.failed` if the image is not there, `storage.full`, `hypervisor.failed` if the image is
                not bootable or the disk can't be made, `hypervisor.missing`.
        """

    async def start(self, spec: MachineSpec) -> Handle:
        """Start a prepared machine; return when the hypervisor runs it, which is before its system has booted.

        If the machine was started before, that handle is returned and nothing is started, even if it ended meanwhile.

        Raises:
            HostError: `hypervisor.failed` with the hypervisor's own words, `hypervisor.missing`.
        """

    async def recover(self, handle: Handle) -> bool:
        """Whether a machine of an earlier worker runs or is paused; its handle is then good for all that follows."""

    async def status(self, handle: Handle) -> MachineStatus:
        """How the machine is now."""

    async def wait(self, handle: Handle) -> MachineStatus:
        """How the machine ended, when it has."""

    def console(self, folder: Path) -> Path:
        """The file in a machine's folder that its first serial port is written to, from its start on."""

    async def pause(self, handle: Handle) -> None:
        """Stop the machine's processors within a second; memory and disk stay. Does nothing if it is paused.

        Raises:
            HostError: `hypervisor.failed`, also if it has ended.
        """

    async def resume(self, handle: Handle) -> None:
        """Let a paused machine go on, within a second. Does nothing if it runs.

        Raises:
            HostError: `hypervisor.failed`, also if it has ended.
        """

    async def screenshot(self, handle: Handle, to: Path) -> None:
        """Write what the machine's screen shows to `to`, as PNG; whole or not at all.

        Raises:
            HostError: `hypervisor.failed`, also if it has ended; `storage.failed`, `storage.full`.
        """

    async def snapshot(self, handle: Handle, name: str) -> None:
        """Save the machine's memory and disk as `name`, in its folder. It stands still meanwhile, and goes on then.

        Raises:
            UserError: `input.invalid`, if the name can't be one or is taken.
            HostError: `hypervisor.failed`, also if it has ended; `storage.full`.
        """

    async def restore(self, spec: MachineSpec, name: str) -> Handle:
        """Let the machine go on from where it was when `name` was saved. One that runs is ended first.

        The worker, and the process that ran the machine, may have ended since. The console begins anew.

        Raises:
            UserError: `input.invalid`, if the name can't be one.
            HostError: `hypervisor.failed`, also if there is no such snapshot.
        """

    async def stop(self, handle: Handle, grace: float) -> None:
        """End the machine: ask its system to shut down, and after `grace` seconds end it whatever it does.

        Returns when it has ended. Does nothing if it ended already.
        """

    async def destroy(self, spec: MachineSpec, handle: Handle | None) -> None:
        """End the machine at once if it runs, and remove its folder. The image stays. Safe to call again."""

    async def sweep(self, folder: Path, known: set[Uid]) -> list[Uid]:
        """End and remove the machines in `folder` that are not `known`; return which those were."""

    async def close(self) -> None:
        """Let go of everything but the machines, which run on."""


def is_uid(text: str) -> bool:
    """Whether `text` has the form of a uid. Names of folders become parts of commands only after this."""
    return _UID.fullmatch(text) is not None


def check_image(image: Path) -> None:
    """Refuse an image that no machine could boot from. Reads one sector; blocks.

    Raises:
        HostError: `storage.failed` if it can't be read, `hypervisor.failed` if it is not the image of a bootable disk.
    """
    try:
        with image.open("rb") as file:
            first = file.read(_SECTOR)
        size = image.stat().st_size
    except OSError as problem:
        raise error(
            "storage.failed",
            f"The disk {image} can't be read",
            why=problem.strerror or str(problem),
            do="Fetch the disk again.",
            path=str(image),
        ) from problem
    refused = ""
    if size % _SECTOR or not size:
        refused = f"its {size} bytes are not a whole number of {_SECTOR}-byte sectors"
    elif first[-2:] != b"\x55\xaa":
        refused = "its first sector does not end with the signature of a bootable disk (55 AA)"
    if refused:
        raise error(
            "hypervisor.failed",
            f"The disk {image} is not a raw image of a bootable disk",
            why=refused,
            do="Publish a raw image that boots by BIOS; convert others: qemu-img convert -O raw",
            path=str(image),
        )


def check_seed(seed: Path) -> None:
    """Refuse what is no ISO, or too large for one. Reads a few bytes; blocks.

    Raises:
        HostError: `storage.failed` if it can't be read, `hypervisor.failed` if it is not an ISO of at most 64 MiB.
    """
    try:
        with seed.open("rb") as file:
            file.seek(_ISO_FIRST * _ISO_BLOCK)
            descriptor = file.read(7)
        size = seed.stat().st_size
    except OSError as problem:
        raise error(
            "storage.failed",
            f"The seed {seed} can't be read",
            why=problem.strerror or str(problem),
            path=str(seed),
        ) from problem
    refused = ""
    if descriptor[1:6] != b"CD001":
        refused = "it has no volume descriptor (CD001) where an ISO has one"
    elif size > MOST_SEED:
        refused = f"it has {size} bytes, at most {MOST_SEED} are possible"
    if refused:
        raise error("hypervisor.failed", f"{seed} can't be given to a machine as a CD", why=refused, path=str(seed))


def check_abilities(spec: MachineSpec, name: str, capabilities: Capabilities) -> None:
    """Refuse a machine with what the driver `name` can't give it.

    Raises:
        HostError: `hypervisor.failed`.
    """
    wanted = "a seed" if spec.seed is not None and not capabilities.seed else ""
    if spec.network != "none" and not capabilities.network:
        wanted = "a network"
    if wanted:
        raise error("hypervisor.failed", f"{name} gives no machine {wanted} here", why="its driver can't", uid=spec.uid)


def remove_folder(folder: Path) -> None:
    """Remove a machine's folder and what is in it; following no link. Blocks.

    Raises:
        HostError: `storage.failed`.
    """
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise error(
            "storage.failed",
            f"The machine's folder {folder} could not be removed",
            why=f"{problem.filename or folder}: {problem.strerror or problem}",
            do="Check its permissions; it is tried again at the worker's next start.",
            path=str(folder),
        ) from problem
