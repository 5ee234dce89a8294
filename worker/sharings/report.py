"""What this host can offer: its hypervisors as probed, what its volunteer shares, its resources, its labels.

Owns the host's report. A sharing is announced only after it was tried; what the volunteer forbids is not tried at all.
"""

from __future__ import annotations

import asyncio
import platform
from typing import TYPE_CHECKING, Literal

import psutil
import structlog

from bitdew.core.job import ANYTHING, JobsAllowed
from bitdew.wire import limits
from bitdew.wire.model import LOOPBACK
from bitdew.wire.models import HostReport, SharingModel

from .drivers import Drivers, Told
from .offers import Offers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bitdew.core.clock import Clock
    from bitdew.hypervisor import Fingerprint, Hypervisor

    from ..settings import WorkerSettings
    from ..storage import Storage

log = structlog.get_logger(__name__)


class Sharings:
    """What was found on this host.

    Attributes:
        drivers: Its hypervisors.
        offers: What its volunteer shares.
    """

    def __init__(self, settings: WorkerSettings, clock: Clock, tell: Told | None = None) -> None:
        """`tell` is called with the name and the news of each sharing that comes, goes or changes."""
        told: Told = tell or (lambda _name, _text: None)
        self.drivers = Drivers(clock, told)
        self.offers = Offers(clock, settings.sharings, lambda offer: told(offer.name, str(offer)))
        self._settings = settings
        self._unfit = ""

    @property
    def programs(self) -> dict[str, Path]:
        """What jobs may run here, by name: the programs of all that is offered."""
        return {name: path for one in self.offers.sharings for name, path in one.programs.items()}

    def takes_no_jobs(self, why: str) -> None:
        """Announce no programs: this host can't run jobs safely."""
        self._unfit = why
        if self.offers.offers:
            log.warning("this host takes no jobs", why=why)

    def _announced(self) -> list[str]:
        allowed = self._settings.jobs
        if allowed is JobsAllowed.ANYTHING:
            return [ANYTHING]
        if allowed is JobsAllowed.NONE or self._unfit:
            return []
        return sorted(self.programs)[: limits.PROGRAMS]

    @property
    def hypervisors(self) -> dict[str, Hypervisor]:
        """The drivers that are, or were, usable, by name, the preferred first. It stays the same table."""
        return self.drivers.hypervisors

    @property
    def found(self) -> dict[str, Fingerprint]:
        """What each hypervisor that is announced is here."""
        return self.drivers.found

    def lend(self, settings: WorkerSettings) -> None:
        """Report what `settings` lend, and share, from now on."""
        self._settings = settings
        self.offers.declare(settings.sharings)

    async def probe(self, drivers: Iterable[Hypervisor]) -> None:
        """Try everything, before anything is announced: a restart withdraws nothing of what the host shares.

        Of `drivers` only those are tried that the volunteer allows.
        """
        allowed = self._settings.hypervisors
        tried = [driver for driver in drivers if allowed is None or driver.name in allowed]
        await asyncio.gather(self.drivers.probe(tried), self.offers.settle())

    async def run(self) -> None:
        """Keep all of it true, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.drivers.run(), name="hypervisors")
            tasks.create_task(self.offers.run(), name="offers")

    async def report(self, storage: Storage, swarm: str, *, paused: bool = False) -> HostReport:
        """What the service is told of this host; `swarm` is where its swarm can be reached.

        `paused` says that the owner's rules let nothing run here now.

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
            machines=settings.machines,
            all_cpus=settings.all_cpus,
            abilities={name: _abilities(driver) for name, driver in self.hypervisors.items() if name in self.found},
            quota=storage.quota,
            used=used,
            free=free,
            labels=self.labels(),
            sharings=[
                *(SharingModel(name=f.sharing.name, version=f.sharing.version) for f in self.found.values()),
                *(SharingModel(name=one.name, version=one.version) for one in self.offers.sharings),
            ],
            programs=self._announced(),
            jobs_at_once=settings.jobs_at_once,
            paused=paused,
        )

    def labels(self) -> dict[str, str]:
        """What is known of the machine, and over it what the volunteer says."""
        probed = {"os": platform.system().lower(), "arch": platform.machine().lower()}
        if self._settings.ports_address != LOOPBACK:
            probed["ports.address"] = self._settings.ports_address
        for name, found in self.found.items():
            probed[f"{name}.accelerator"] = found.accelerator
            probed[f"{name}.held"] = found.details.get("held", "")
        return {**{name: value for name, value in probed.items() if value}, **self._settings.labels}


def _abilities(driver: Hypervisor) -> list[Literal["network", "ports", "seed"]]:
    able: list[Literal["network", "ports", "seed"]] = ["network", "ports"] if driver.capabilities.network else []
    return [*able, "seed"] if driver.capabilities.seed else able
