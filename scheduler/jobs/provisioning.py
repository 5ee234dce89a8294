"""Machines for jobs that wait: a disk that their submitter names is deployed for them, and they end with the queue.

Owns how many there are. Where they run is the planner's choice, and which job runs in which of them the matching's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid
from bitdew.core.restarting import Restart
from bitdew.tasks import to_the_end
from bitdew.wire.models import DeploymentView, DeployRequest

from ...catalog.leadership import Leadership
from ..known import Known
from .provision_store import ProvisionStore
from .provisions import Demand, Provision
from .store import QUEUE

log = structlog.get_logger(__name__)

PATIENCE: Final = timedelta(seconds=5)
"""How long a job waits for hosts that are there already before a machine is deployed for it."""
IDLE: Final = 120.0
"""Seconds for which machines stay without a job: the next one may come, and booting takes longer than waiting."""
LENT: Final = 0.8
"""The part of a machine's memory that it lends to jobs; see the guest's own first program."""
SYSTEM: Final = 192 * 2**20
"""Bytes of memory that its system takes beside."""
NAP: Final = 30.0
DEFECT_PAUSE: Final = 5.0

Deploy = Callable[[DeployRequest, str], Awaitable[DeploymentView]]
Scale = Callable[[Uid, int], Awaitable[None]]


class Provisioner:
    """Deploys machines for jobs, and ends them."""

    def __init__(
        self,
        known: Known,
        store: ProvisionStore,
        leadership: Leadership,
        deploy: Deploy,
        scale: Scale,
        idle: float = IDLE,
    ) -> None:
        """`deploy` and `scale` are those of the deployments; after `idle` seconds without a job machines end."""
        self._known = known
        self._store = store
        self._leadership = leadership
        self._deploy = deploy
        self._scale = scale
        self._idle = timedelta(seconds=idle)
        self._wake_at: datetime | None = None

    async def run(self) -> None:
        """Follow the queue while this process leads, until cancelled."""
        while True:
            await self._leadership.gained()
            seen = self._known.changes.version(QUEUE)
            try:
                await to_the_end(self.step())
            except Exception:
                log.exception("machines for jobs can't be provided")
                await self._known.clock.sleep(DEFECT_PAUSE)
                continue
            left = NAP if self._wake_at is None else (self._wake_at - self._known.clock.now()).total_seconds()
            nap = min(max(left, 0.05), NAP)
            await wait_at_most(self._known.clock, nap, self._known.changes.wait(QUEUE, seen, nap))

    async def step(self) -> None:
        """Deploy what jobs wait for, and end what none wants any more."""
        now, self._wake_at = self._known.clock.now(), None
        provisions = {(one.owner, one.disk): one for one in await self._store.provisions()}
        for demand in await self._store.demands():
            known = provisions.pop((demand.owner, demand.disk), None)
            try:
                await self._serve(demand, known, now)
            except BitDewError as fault:  # its disk is gone, for one: the others' jobs must not wait for that
                log.warning("no machine can be provided for jobs", disk=demand.disk, key=fault.key, why=str(fault))
        for idle in provisions.values():
            await self._retire(idle, now)

    async def _serve(self, demand: Demand, known: Provision | None, now: datetime) -> None:
        wanted = min(demand.jobs, demand.machines)
        if known is not None and known.idle_since is not None:
            known = await self._store.keep_provision(known, count=known.count, idle_since=None)
        if known is not None and known.count >= wanted:
            return
        if demand.waits_since is None:
            return
        if now - demand.waits_since < PATIENCE:
            self._wake(demand.waits_since + PATIENCE)
            return
        if known is None:
            made = await self._deploy(_request(demand, wanted), demand.owner)
            known = Provision(demand.owner, demand.disk, Uid(made.uid), wanted)
            log.info("machines are deployed for jobs", deployment=made.uid, count=wanted, jobs=demand.jobs)
        else:
            await self._scale(known.deployment, wanted)
        await self._store.keep_provision(known, count=wanted, idle_since=None)

    async def _retire(self, idle: Provision, now: datetime) -> None:
        since = idle.idle_since
        if since is None:
            await self._store.keep_provision(idle, count=idle.count, idle_since=now)
            self._wake(now + self._idle)
        elif now - since < self._idle:
            self._wake(since + self._idle)
        else:
            log.info("machines that no job wants any more end", deployment=idle.deployment)
            await self._scale(idle.deployment, 0)
            await self._store.forget_provision(idle)

    def _wake(self, at: datetime) -> None:
        self._wake_at = at if self._wake_at is None else min(self._wake_at, at)


def _request(demand: Demand, count: int) -> DeployRequest:
    caps = demand.sample.spec.caps
    return DeployRequest(
        disk=demand.disk,
        count=count,
        memory=int(caps.memory / LENT) + SYSTEM,
        cpus=caps.cpus,
        restart=Restart.ON_FAILURE,
        network="user",
    )
