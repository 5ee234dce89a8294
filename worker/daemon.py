"""The worker: every part of the room, put together, started and ended in one documented order.

Owns the lives of the parts. It decides nothing: orders come from the service, limits from the volunteer.

The home: `worker.json` and `worker.lock`, `identity/`, `journal.db`, `copies/`, `machines/`.

The order of ending, whatever the cause: no more orders are taken and every task ends; machines are stopped; what was
fetched so far is made durable; the swarm is closed; the service is told how everything ended, within two seconds; the
connections to it, the drivers, the journal and at last the lock are given back. Each step happens even if an earlier
one failed. A process that is killed instead loses nothing but up to a second of fetching: machines run on, and the next
start finds them.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

import structlog

from bitdew.clock import SystemClock
from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.core.ids import new_uid
from bitdew.lock import HomeLock
from bitdew.swarm.session import Swarm
from bitdew.swarm.settings import SwarmLimits, is_wildcard
from bitdew.trust.tls import client_context

from .bandwidth import Bandwidth
from .copies import Copies
from .events import Announcer, EventKind
from .hypervisors import drivers
from .journal import Journal
from .link import ServiceLink
from .machine import Premises
from .machines import Machines
from .outbox import Outbox
from .placements import Placements
from .renewal import Renewal, swarm_credentials
from .sharings import Sharings
from .storage import Storage
from .surroundings import Surroundings
from .sync import Sync

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from bitdew.core.clock import Clock
    from bitdew.hypervisor import Hypervisor
    from bitdew.trust.identity import Identity
    from bitdew.wire.models import HostReport, Order

    from .entries import Recollection
    from .events import Observer
    from .settings import WorkerSettings

log = structlog.get_logger(__name__)

ADDRESS_SECONDS: Final = 60.0
"""How long this machine's address on the way to the service is taken for granted."""


class _StopAskedFor(Exception):  # noqa: N818 - it is no error
    """Ends the tasks of a worker that was asked to stop."""


class Worker:
    """One host's daemon: `async with Worker(settings, identity) as worker: await worker.run()`.

    Attributes:
        placements: The data on this host.
        machines: The machines on this host.
        sharings: What was found on this host.
        swarm: This host's node in the swarms.
    """

    placements: Placements
    machines: Machines
    sharings: Sharings
    swarm: Swarm

    def __init__(
        self,
        settings: WorkerSettings,
        identity: Identity,
        *,
        clock: Clock | None = None,
        hypervisors: Sequence[Hypervisor] | None = None,
        on_event: Observer | None = None,
    ) -> None:
        """Nothing happens yet.

        Args:
            settings: What the volunteer lends.
            identity: Who this host is, and at which service.
            clock: The system's by default.
            hypervisors: The drivers to try, which stay the caller's to close; the worker's own by default.
            on_event: Called in the event loop with each thing worth telling a volunteer; it must return at once.
        """
        self.settings = settings.model_copy(update={"home": settings.home.absolute()})
        self._identity = identity
        self._clock = clock or SystemClock()
        self._given = hypervisors
        self._announcer = Announcer(on_event)
        self._ending = AsyncExitStack()
        self._asked_to_stop = asyncio.Event()
        self._address: tuple[str, float] | None = None

    async def __aenter__(self) -> Self:
        """Take the home and put the parts together.

        Raises:
            HostError: `storage.locked`, `storage.failed`, `swarm.failed`.
            UserError: `port.in-use`, `certificate.missing`, `certificate.expired`, `input.invalid`.
        """
        try:
            await self._open()
        except BaseException:
            await self._ending.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._announcer.tell(EventKind.STOPPING, self.settings.name, "the worker is stopping")
        await self._ending.aclose()

    def stop(self) -> None:
        """Ask `run` to return; for a signal's handler."""
        self._asked_to_stop.set()

    async def run(self) -> None:
        """Carry out orders until cancelled, or asked to stop, or not welcome at the service any more.

        Raises:
            BitDewError: why the service can't be worked for: `certificate.revoked` and its like, `host.banned`.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                recalled = self._recalled
                # Machines first: what they run from must be known before a drop goes on.
                await self.machines.resume(recalled.machines, self._orders("launch", "halt"), tasks)
                await self.placements.resume(recalled.placements, self._orders("place", "drop"), tasks)
                tasks.create_task(self._sync.run(tasks), name="sync")
                tasks.create_task(self._renewal.run(), name="renewal")
                tasks.create_task(self._journal.catch_up(self._clock), name="journal")
                await self._asked_to_stop.wait()
                raise _StopAskedFor
        except BaseExceptionGroup as group:
            causes = _flat(group)
            unexpected = [c for c in causes if not isinstance(c, BitDewError | _StopAskedFor)]
            if unexpected:
                raise
            for cause in causes:
                if isinstance(cause, BitDewError):
                    raise cause from None

    # Beginning

    async def _open(self) -> None:
        settings, identity, ending = self.settings, self._identity, self._ending
        identity.require_valid(self._clock.now())
        self._lock = HomeLock(settings.home, "worker")
        await asyncio.to_thread(self._lock.acquire)
        ending.callback(self._lock.release)
        self._journal = journal = Journal(settings.home / "journal.db", self._tell_trouble)
        ending.push_async_callback(journal.close)
        self._recalled: Recollection = await journal.open()
        self._storage = storage = Storage(settings.home / "copies", settings.quota)
        await self._look_through(storage)
        await self._probe()
        context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
        self._link = link = await ending.enter_async_context(ServiceLink(identity.url, context))
        ending.push_async_callback(self._last_word)
        limits = SwarmLimits(upload=settings.upload, download=settings.download)
        self.swarm = await Swarm.start(settings.endpoint, swarm_credentials(identity), limits)
        ending.push_async_callback(self.swarm.close)
        bandwidth = Bandwidth(limits, self.swarm, self._clock)
        around = Surroundings(self.swarm, storage, journal, link, bandwidth, self._clock)
        copies = Copies(around, self._recalled.copies)
        ending.push_async_callback(copies.checkpoint)
        outbox = Outbox()
        self.placements = Placements(around, copies, outbox, self._announcer)
        premises = Premises(
            folder=settings.home / "machines",
            hypervisors=self.sharings.hypervisors,
            ca=identity.ca,
            settings=settings,
            copies=copies,
            journal=journal,
            clock=self._clock,
            claimed={},
        )
        await asyncio.to_thread(premises.folder.mkdir, mode=0o700, exist_ok=True)
        self.machines = Machines(premises, outbox, self._announcer)
        ending.push_async_callback(self.machines.stop_all)
        self._renewal = Renewal(identity, link, self.swarm, self._clock, self._announcer)
        self._sync = Sync(
            boot=new_uid(),
            link=link,
            journal=journal,
            recalled=self._recalled,
            placements=self.placements,
            machines=self.machines,
            outbox=outbox,
            host=self._host,
            clock=self._clock,
            announcer=self._announcer,
            has_expired=lambda: self._renewal.identity.has_expired(self._clock.now()),
        )
        text = f"{settings.name} is ready, its swarm listens at {self.swarm.endpoint}"
        self._announcer.tell(EventKind.STARTED, identity.subject.subject_id, text)

    async def _look_through(self, storage: Storage) -> None:
        known = {entry.order.root for entry in self._recalled.placements} | set(self._recalled.copies)
        for path in await asyncio.to_thread(storage.open, known):
            text = f"{path.name} belongs to nothing that is known here; it stays until you remove it"
            self._announcer.tell(EventKind.UNKNOWN_FILE, str(path), text)

    async def _probe(self) -> None:
        self.sharings = Sharings(self.settings)
        candidates = self._given
        if candidates is None:
            candidates = drivers()
            for driver in candidates:
                self._ending.push_async_callback(driver.close)
        await self.sharings.probe(candidates)

    def _orders(self, *kinds: str) -> list[Order]:
        return [order for order in self._recalled.orders.values() if order.kind in kinds]

    # What the parts ask for

    def _tell_trouble(self, fault: BitDewError) -> None:
        text = f"{fault}; the worker goes on, and writes it as soon as that is possible"
        self._announcer.tell(EventKind.TROUBLE, str(self._journal.path), text, key=fault.key)

    async def _last_word(self) -> None:
        if hasattr(self, "_sync"):
            await self._sync.last_word()

    async def _host(self) -> HostReport:
        """The host's report as it is now.

        Raises:
            ServiceError: `service.unreachable`, if this machine has no way to the service.
        """
        return await self.sharings.report(self._storage, str(await self._swarm_address()))

    async def _swarm_address(self) -> Endpoint:
        """Where other hosts can reach this one's swarm."""
        listening = self.swarm.endpoint
        if not is_wildcard(listening):
            return listening
        now = self._clock.monotonic()
        if self._address is None or now - self._address[1] > ADDRESS_SECONDS:
            try:
                self._address = await self._link.local_address(), now
            except OSError as cause:
                url = self._link.url
                raise error("service.unreachable", f"There is no way to {url}", why=str(cause), url=url) from cause
        return Endpoint(self._address[0], listening.port)


def _flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions in `group` and in the groups in it."""
    found: list[BaseException] = []
    for cause in group.exceptions:
        found += _flat(cause) if isinstance(cause, BaseExceptionGroup) else [cause]
    return found
