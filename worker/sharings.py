"""What this host can offer: its hypervisors as probed, its resources, its labels.

Owns the host's report. A sharing is announced only after it was tried; what the volunteer forbids is not tried at all.
"""

from __future__ import annotations

import asyncio
import platform
from typing import TYPE_CHECKING

import psutil
import structlog

from bitdew.wire.models import HostReport, SharingModel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bitdew.hypervisor import Fingerprint, Hypervisor

    from .settings import WorkerSettings
    from .storage import Storage

log = structlog.get_logger(__name__)


class Sharings:
    """What was found on this host.

    Attributes:
        hypervisors: The usable drivers by name, in the order in which they were handed in.
        found: What each of them is here.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.hypervisors: dict[str, Hypervisor] = {}
        self.found: dict[str, Fingerprint] = {}
        self._settings = settings

    async def probe(self, drivers: Iterable[Hypervisor]) -> None:
        """Try each of `drivers` that the volunteer allows; one that fails is not announced."""
        allowed = self._settings.hypervisors
        tried = [driver for driver in drivers if allowed is None or driver.name in allowed]
        outcomes = await asyncio.gather(*(driver.fingerprint() for driver in tried), return_exceptions=True)
        for driver, outcome in zip(tried, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                log.warning("a hypervisor could not be tried", hypervisor=driver.name, why=str(outcome))
            elif outcome is None:
                log.info("a hypervisor is not usable here", hypervisor=driver.name, missing=driver.missing)
            else:
                self.hypervisors[driver.name] = driver
                self.found[driver.name] = outcome

    async def report(self, storage: Storage, swarm: str) -> HostReport:
        """What the service is told of this host; `swarm` is where its swarm can be reached.

        Figures: memory and processors are what the volunteer lends, at most what there is (psutil); `used` and `free`
        are the storage's.
        """
        settings = self._settings
        used, free = await asyncio.to_thread(storage.figures)
        memory = await asyncio.to_thread(lambda: int(psutil.virtual_memory().total))
        return HostReport(
            name=settings.name,
            swarm=swarm,
            cpus=settings.cpus,
            memory=min(settings.memory, memory),
            quota=settings.quota,
            used=used,
            free=free,
            labels=self.labels(),
            sharings=[SharingModel(name=f.sharing.name, version=f.sharing.version) for f in self.found.values()],
        )

    def labels(self) -> dict[str, str]:
        """What is known of the machine, and over it what the volunteer says."""
        probed = {"os": platform.system().lower(), "arch": platform.machine().lower()}
        for name, found in self.found.items():
            probed[f"{name}.accelerator"] = found.accelerator
        return {**{name: value for name, value in probed.items() if value}, **self._settings.labels}
