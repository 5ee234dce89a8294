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

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from bitdew.core.errors import error
from bitdew.core.host import Sharing
from bitdew.core.ids import Uid

SMALLEST_MEMORY: Final = 16 * 1024 * 1024
MOST_CPUS: Final = 64
_UID: Final = re.compile(r"[0-9a-f]{32}")
_SECTOR: Final = 512


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

    Raises:
        UserError: `input.invalid`, when made of anything else.
    """

    uid: Uid
    image: Path
    folder: Path
    memory: int = 256 * 1024 * 1024
    cpus: int = 1
    image_format: str = "raw"

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
        if refused:
            raise error("input.invalid", "This can't be a machine", why=refused, uid=str(self.uid)[:40])


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
        details: Further findings, for people.
    """

    sharing: Sharing
    accelerator: str
    details: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do beyond running machines and ending them.

    Attributes:
        graceful_stop: `stop` asks the guest before it ends the machine.
        outlives_worker: Machines run on while the worker is away.
        pause: A machine can be paused and resumed.
        snapshot: A machine's state can be saved and restored.
    """

    graceful_stop: bool = False
    outlives_worker: bool = False
    pause: bool = False
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """How a machine is.

    Attributes:
        state: "running"; "stopped" if it ended in an orderly way, by itself or when asked; or "failed".
        reason: Why it ended, for people; "" while it runs.
    """

    state: Literal["running", "stopped", "failed"]
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

    async def fingerprint(self) -> Fingerprint | None:
        """What it is on this host, by trying it, or None if it can't run machines here. Safe to call again."""

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
        """Whether a machine that an earlier worker started still runs; its handle is then good for all that follows."""

    async def status(self, handle: Handle) -> MachineStatus:
        """How the machine is now."""

    async def wait(self, handle: Handle) -> MachineStatus:
        """How the machine ended, when it has."""

    def console(self, folder: Path) -> Path:
        """The file in a machine's folder that its first serial port is written to, from its start on."""

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
