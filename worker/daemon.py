"""The worker: every part of the room, put together, started and ended in one documented order.

Owns the lives of the parts. It decides nothing: orders come from the service, limits from the volunteer.

The home: `worker.json`, `worker.lock`, `control.sock` and `swarm.port`, `paused.json`, `identity/`, `journal.db`,
`copies/`, `machines/`, `jobs/`, and `virtualbox/` where that is installed.

The order of ending, whatever the cause: no more orders are taken and every task ends; nobody is listened to on this
machine; machines are stopped; plug-ins are told; what was fetched so far is made durable; the swarm is closed; the
service is told how everything ended, within two seconds; the connections to it, the drivers, the journal and at last
the lock are given back. Each step happens even if an earlier one failed. A process that is killed instead loses nothing
but up to a second of fetching: machines run on, and the next start finds them.
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
from bitdew.swarm.settings import is_wildcard
from bitdew.tasks import causes_of
from bitdew.trust.tls import client_context
from bitdew.wire.models import MachineSeed, Nothing

from .activity.guard import Guard
from .activity.leave import Leave
from .adjusting import VERB
from .bandwidth import Bandwidth
from .bridges.desk import BridgeDesk
from .configuration.desk import SettingsDesk
from .control import STOP, Control, Verb
from .copies import Copies
from .errands import Errands
from .events import Announcer, EventKind
from .eviction import Eviction
from .hypervisors import drivers
from .jobs.jobs import Jobs, new_jobs
from .jobs.jobs import Surrounding as JobSurrounding
from .journal import Journal
from .limits import Limits, LimitsChange
from .link import ServiceLink
from .listening import start_swarm
from .machine import Premises
from .machines import Machines
from .outbox import Outbox
from .placements import Placements
from .plugins.audience import Audience
from .renewal import Renewal, swarm_credentials
from .room import Room
from .scrubbing import Scrubber
from .sharings import Sharings
from .sharings.desk import SharingDesk
from .status import StatusDesk
from .storage import Storage
from .surroundings import Surroundings
from .sync import Sync

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from bitdew.core.clock import Clock
    from bitdew.hypervisor import Hypervisor
    from bitdew.trust.identity import Identity
    from bitdew.wire.models import HostReport, Order

    from .activity.senses import Senses
    from .entries import Recollection
    from .events import Observer
    from .plugins.contract import Plugin
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
        jobs: The runs on this host.
        scrubber: What reads back the copies that are held.
        sharings: What was found on this host.
        swarm: This host's node in the swarms.
        limits: What it may use, changed while it runs.
        guard: What may run, so that the owner is left alone.
        audience: The plug-ins and bridges that are told of copies.
    """

    placements: Placements
    machines: Machines
    jobs: Jobs
    sharings: Sharings
    swarm: Swarm
    limits: Limits
    guard: Guard
    audience: Audience

    def __init__(
        self,
        settings: WorkerSettings,
        identity: Identity,
        *,
        clock: Clock | None = None,
        hypervisors: Sequence[Hypervisor] | None = None,
        senses: Senses | None = None,
        on_event: Observer | None = None,
        plugins: Mapping[str, Callable[[], Plugin]] | None = None,
    ) -> None:
        """Nothing happens yet.

        Args:
            settings: What the volunteer lends.
            identity: Who this host is, and at which service.
            clock: The system's by default.
            hypervisors: The drivers to try, which stay the caller's to close; the worker's own by default.
            senses: Who looks at the host, as far as its activity rules ask for it; the system's own by default.
            plugins: What makes each plug-in that is to be told of copies; those that are installed by default.
            on_event: Called in the event loop with each thing worth telling a volunteer; it must return at once.
        """
        self.settings = settings.model_copy(update={"home": settings.home.absolute()})
        self._identity = identity
        self._clock = clock or SystemClock()
        self._given = hypervisors
        self._senses = senses
        self._plugins = plugins
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
                self._errands.resume(self._orders("errand"), tasks)
                await self.jobs.resume(self._orders("run", "cancel"), tasks)
                await self.placements.resume(self._orders("place", "drop"), tasks)
                await self._fit()
                tasks.create_task(self._sync.run(tasks), name="sync")
                tasks.create_task(self._renewal.run(), name="renewal")
                tasks.create_task(self.guard.run(), name="guard")
                tasks.create_task(self.sharings.run(), name="sharings")
                tasks.create_task(self.audience.run(self.placements), name="plug-ins")
                tasks.create_task(self.scrubber.run(), name="scrubbing")
                tasks.create_task(self._journal.catch_up(self._clock), name="journal")
                await self._asked_to_stop.wait()
                raise _StopAskedFor
        except BaseExceptionGroup as group:
            causes = causes_of(group)
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
        outbox = Outbox()
        await self._probe(outbox)
        context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
        self._link = link = await ending.enter_async_context(ServiceLink(identity.url, context))
        ending.push_async_callback(self._last_word)
        shown = swarm_credentials(identity)
        self.swarm, moved = await start_swarm(settings.home, settings.endpoint, shown, settings.swarm_limits)
        ending.push_async_callback(self.swarm.close)
        bandwidth = Bandwidth(settings.swarm_limits, self.swarm, self._clock, settings.data_limits)
        around = Surroundings(self.swarm, storage, journal, link, bandwidth, self._clock, moved)
        copies = Copies(around, self._recalled.copies)
        ending.push_async_callback(copies.checkpoint)
        self._eviction = Eviction(around, copies, self._announcer, self._needed)
        self.audience = Audience(settings, around, self._announcer, self._recalled.told, self._plugins)
        ending.push_async_callback(self.audience.close)
        self.placements = Placements(around, copies, outbox, self._announcer, self.audience)
        self.placements.recall(self._recalled.placements)
        premises = Premises(
            folder=settings.home / "machines",
            hypervisors=self.sharings.hypervisors,
            ca=identity.ca,
            settings=settings,
            copies=copies,
            journal=journal,
            clock=self._clock,
            room=Room(settings, storage),
            leave=Leave(outbox.wake),
            ask_seed=lambda uid: link.call("POST", f"/v1/machines/{uid}/seed", MachineSeed),
            url=identity.url,
        )
        await asyncio.to_thread(premises.folder.mkdir, mode=0o700, exist_ok=True)
        self.machines = Machines(premises, outbox, self._announcer)
        ending.push_async_callback(self.machines.stop_all)
        self._errands = Errands(self.machines, link, journal)
        needs = settings, self.sharings, premises.leave, bandwidth, link, copies, journal, self._clock, self._announcer
        self.jobs = await new_jobs(JobSurrounding(*needs, premises.room))
        ending.push_async_callback(self.jobs.close)
        self.guard = Guard(
            settings.activity,
            settings.home,
            leave=premises.leave,
            bandwidth=bandwidth,
            clock=self._clock,
            announcer=self._announcer,
            machines_run=lambda: self.machines.running or self.jobs.running,
            senses=self._senses,
        )
        await self.guard.begin()
        self.scrubber = Scrubber(
            around,
            copies,
            self._recalled.scrubs,
            days=settings.scrub_days,
            is_busy=lambda: copies.busy or self.machines.starting,
        )
        self._renewal = Renewal(identity, link, self.swarm, self._clock, self._announcer)
        self._sync = Sync(
            boot=new_uid(),
            link=link,
            journal=journal,
            recalled=self._recalled,
            placements=self.placements,
            machines=self.machines,
            errands=self._errands,
            jobs=self.jobs,
            outbox=outbox,
            host=self._host,
            clock=self._clock,
            announcer=self._announcer,
            has_expired=lambda: self._renewal.identity.has_expired(self._clock.now()),
            doubt=self.scrubber.suspect,
        )
        self.limits = Limits(
            settings,
            bandwidth=bandwidth,
            storage=storage,
            swarm=self.swarm,
            placements=self.placements,
            outbox=outbox,
            announcer=self._announcer,
            room=premises.room,
            jobs=lambda: self.jobs.under_way,
            fit=self._fit,
            lend=self._lend,
        )
        await self._listen_here()
        text = f"{settings.name} is ready, its swarm listens at {self.swarm.endpoint}"
        self._announcer.tell(EventKind.STARTED, identity.subject.subject_id, text)

    async def _look_through(self, storage: Storage) -> None:
        known = {entry.order.root for entry in self._recalled.placements} | set(self._recalled.copies)
        for path in await asyncio.to_thread(storage.open, known):
            text = f"{path.name} belongs to nothing that is known here; it stays until you remove it"
            self._announcer.tell(EventKind.UNKNOWN_FILE, str(path), text)

    def _lend(self, settings: WorkerSettings) -> None:
        """Everyone who lends goes by `settings` from now on."""
        self.sharings.lend(settings)
        self.machines.lend(settings)
        self.jobs.lend(settings)
        self.guard.change(settings.activity)
        self.audience.lend(settings)

    def _needed(self) -> set[str]:
        return self.placements.needed | self.machines.needed | self.jobs.needed

    async def _fit(self) -> None:
        """Hold no more than is lent now, as far as nothing needs it."""
        try:
            await self._eviction.shrink()
        except BitDewError as fault:
            log.warning("what is over the quota could not be removed", key=fault.key, why=str(fault))

    async def _listen_here(self) -> None:
        """Let the volunteer tell this worker things. Where that can't be, it works all the same."""
        shop = SharingDesk(self.settings, self.sharings)
        told = SettingsDesk(self.settings.home, lambda: self.limits.settings)
        bridges = BridgeDesk(self.audience, self.limits)
        desk = StatusDesk(self.guard, self.limits, self.machines, self.placements, bridges, self.sharings.found)
        verbs = {VERB: Verb(LimitsChange, self.limits.change), STOP: Verb(Nothing, self._told_to_stop)}
        verbs |= {**desk.verbs, **shop.verbs, **bridges.verbs, **told.verbs}
        self._control = control = Control(self.settings.home, verbs)
        try:
            await control.open()
        except BitDewError as fault:
            text = f"{fault}; the worker goes on, and its limits can be changed while it is stopped"
            self._announcer.tell(EventKind.TROUBLE, str(self.settings.home), text, key=fault.key)
        else:
            self._ending.push_async_callback(control.close)

    async def _told_to_stop(self, _asked: Nothing) -> Nothing:
        self.stop()
        return Nothing()

    async def _probe(self, outbox: Outbox) -> None:
        def told(name: str, text: str) -> None:
            self._announcer.tell(EventKind.SHARING, name, text)
            outbox.wake()

        self.sharings = Sharings(self.settings, self._clock, told)
        candidates = self._given
        if candidates is None:
            own = self.settings
            candidates = drivers(own.home, extra_modifyvm=own.extra_modifyvm, virtualbox_python=own.virtualbox_python)
            for driver in candidates:
                self._ending.push_async_callback(driver.close)
        await self.sharings.probe(candidates)

    def _orders(self, *kinds: str) -> list[Order]:
        return [order for order in self._recalled.orders.values() if order.kind in kinds]

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
        swarm, paused = str(await self._swarm_address()), not self.guard.verdict.machines
        return await self.sharings.report(self._storage, swarm, paused=paused)

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
