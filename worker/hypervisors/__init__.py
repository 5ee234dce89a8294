"""The hypervisors that this worker can use: QEMU's driver, and how a host's are found.

Owns the drivers and the list of them. The contract that they keep is `bitdew.hypervisor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitdew.hypervisor import Fingerprint, Hypervisor

from .qemu import QemuHypervisor

__all__ = ["Probed", "QemuHypervisor", "available", "drivers", "probe"]


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


def drivers() -> list[Hypervisor]:
    """One of each driver, the preferred first."""
    return [QemuHypervisor()]


async def probe(candidates: Sequence[Hypervisor] | None = None) -> list[Probed]:
    """Try each driver; takes about a tenth of a second for each that is installed."""
    found: list[Probed] = []
    for hypervisor in drivers() if candidates is None else candidates:
        fingerprint = await hypervisor.fingerprint()
        found.append(Probed(hypervisor, fingerprint, hypervisor.missing))
    return found


async def available(candidates: Sequence[Hypervisor] | None = None) -> list[Hypervisor]:
    """The drivers that can run machines on this host."""
    return [probed.hypervisor for probed in await probe(candidates) if probed.fingerprint is not None]
