"""The hypervisors that this worker can use: the drivers of QEMU and VirtualBox, and how a host's are found.

Owns the drivers and the list of them. The contract that they keep is `bitdew.hypervisor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitdew.hypervisor import Fingerprint, Hypervisor

from .qemu import QemuHypervisor
from .virtualbox import VirtualBoxHypervisor

__all__ = ["Probed", "QemuHypervisor", "VirtualBoxHypervisor", "available", "drivers", "probe"]


@dataclass(frozen=True, slots=True)
class Probed:
    """A driver that was tried on this host.

    Attributes:
        hypervisor: The driver.
        fingerprint: What it found, or None if it can't run machines here.
        missing: In that case, what is missing and how to install it.
    """

    hypervisor: Hypervisor
    fingerprint: Fingerprint | None
    missing: str


def drivers(home: Path, *, extra_modifyvm: Sequence[str] = (), virtualbox_python: str = "") -> list[Hypervisor]:
    """One of each driver, the preferred first.

    Args:
        home: The worker's; what VirtualBox keeps lies in it.
        extra_modifyvm: Further words for `VBoxManage modifyvm`, for each machine.
        virtualbox_python: The Python whose bindings of VirtualBox are to be used; "" for none.
    """
    virtualbox = VirtualBoxHypervisor(home / "virtualbox", extra_modifyvm=extra_modifyvm, python=virtualbox_python)
    return [QemuHypervisor(), virtualbox]


async def probe(candidates: Sequence[Hypervisor]) -> list[Probed]:
    """Try each driver; takes a tenth of a second for QEMU, and one or two for VirtualBox."""
    found: list[Probed] = []
    for hypervisor in candidates:
        fingerprint = await hypervisor.fingerprint()
        found.append(Probed(hypervisor, fingerprint, hypervisor.missing))
    return found


async def available(candidates: Sequence[Hypervisor]) -> list[Hypervisor]:
    """The drivers that can run machines on this host."""
    return [probed.hypervisor for probed in await probe(candidates) if probed.fingerprint is not None]
