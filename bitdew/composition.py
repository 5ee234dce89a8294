"""The composition root: builds the service out of its rooms, and takes it down again.

The one module, beside the command line and the in-process grid, that knows every service. It decides nothing.

The order of ending: the loops stop; no new connections; held polls are answered and the web ends; the swarm is left;
the database is closed; the home's lock is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import structlog
from aiohttp import web

from bitdew.catalog.database import Database
from bitdew.catalog.identity_store import IdentityStore
from bitdew.clock import SystemClock
from bitdew.core.clock import Clock
from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.core.ids import Uid, new_uid
from bitdew.lock import HomeLock
from bitdew.rooms import Rooms
from bitdew.scheduler.jobs.inputs import QUOTA
from bitdew.scheduler.jobs.provisioning import IDLE
from bitdew.scheduler.planner import PlannerSettings
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.seeder.seeder import Seeder
from bitdew.swarm.session import Swarm
from bitdew.swarm.settings import SwarmLimits
from bitdew.tasks import to_the_end
from bitdew.trust.authority import Authority
from bitdew.trust.identity import Identity, IdentityFolder
from bitdew.trust.keys import KeyPair, certificate_request, needs_renewal, new_key
from bitdew.trust.roles import Role
from bitdew.trust.tls import server_context, use_pair
from bitdew.wire.models import EnrolRequest
from bitdew.wire.pacing import Pace
from bitdew.wire.server import new_application, new_runner

log = structlog.get_logger(__name__)

DEFAULT_PORT: Final = 8440
RENEW_SECONDS: Final = 24 * 3600.0
"""How often the repository takes a fresh swarm certificate; they last 30 days."""
SWARMS_LEAST: Final = 8
"""Swarms keep this part of the repository's uplink, an eighth, however much HTTPS may take."""
WEB_SECONDS: Final = 1.0
"""How long requests under way may take to end when the service stops."""
GOODBYE_SECONDS: Final = 0.5
"""How long their connections may take to close."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What a service is started with.

    Attributes:
        home: Its folder: CA, database, repository.
        host: The address that HTTP listens at.
        port: Its TCP port; 0 takes any that is free.
        swarm: Where the repository's swarm listens; port 0 takes any that is free.
        upload: Bytes per second that the repository sends at most; 0 is unlimited.
        http_egress: Bytes per second of it over HTTPS, all replies together; 0 is unlimited, None half of `upload`.
        connections: Hosts that the repository is connected to by swarm at most.
        name: What the service is called.
        period: Seconds: the longest silence of a living host.
        addresses: Further names and addresses to put into the service's certificate.
        database: SQLAlchemy's URL of the database; None for SQLite in `home`.
        authority: The folder of the CA, where several services share one; None for the one in `home`.
        repository: The repository's folder, where several services share one; None for the one in `home`.
        scrub_days: Within how many days all of the repository is read back; 0 for never.
        job_days: How long jobs that ended are known, with their logs and results that nobody keeps; 0 for ever.
        input_quota: Bytes that a user may have put for jobs (`job submit --in FILE`).
        machines_idle: Seconds after which machines end that were deployed for jobs (`--provision`) and have none.
        planner: The planner's figures.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    swarm: Endpoint = field(default_factory=lambda: Endpoint("127.0.0.1", 0))
    upload: int = 0
    http_egress: int | None = None
    connections: int = 500
    name: str = "bitdew"
    period: float = 20.0
    addresses: Sequence[str] = ()
    database: str | None = None
    authority: Path | None = None
    repository: Path | None = None
    scrub_days: float = 7.0
    job_days: float = 30.0
    input_quota: int = QUOTA
    machines_idle: float = IDLE
    planner: PlannerSettings = field(default_factory=PlannerSettings)


class Service:
    """A running service: catalog, scheduler and repository behind one HTTPS port. An async context manager."""

    def __init__(self, settings: ServiceSettings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.url = ""
        self._exits = contextlib.AsyncExitStack()
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as exits:
            await self._open(exits)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    def stop(self) -> None:
        """Let `run` return. Safe from a signal handler."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop` is called, or a loop fails."""
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({stopped, *self._loops}, return_when=asyncio.FIRST_COMPLETED)
            for loop in self._loops:
                if loop.done():
                    loop.result()
        finally:
            stopped.cancel()

    async def _open(self, exits: contextlib.AsyncExitStack) -> None:
        settings, clock = self.settings, self.clock
        lock = HomeLock(settings.home, "service")
        exits.callback(lock.release)
        await to_the_end(asyncio.to_thread(lock.acquire))  # a cancelled thread would still take it

        self.database = (
            Database(settings.database) if settings.database else Database.in_file(settings.home / "catalog.sqlite3")
        )
        exits.push_async_callback(self.database.close)
        await self.database.migrate()

        folder = settings.authority or settings.home / "authority"
        if self.database.shared:
            await self._require_shared_authority(folder)
        self.authority = await asyncio.to_thread(Authority.open, folder, now=clock.now(), name=settings.name)
        pair = await self._service_pair()

        self.swarm = await Seeder.start(settings.swarm, self._swarm_credentials(), self._limits(http=False))
        exits.push_async_callback(self.swarm.close)

        self.rooms = Rooms(
            name=settings.name,
            repository=settings.repository or settings.home / "repository",
            uploads=await asyncio.to_thread(_uploads_of, settings.home) if self.database.shared else Path("uploads"),
            period=settings.period,
            planner=settings.planner,
            clock=clock,
            database=self.database,
            authority=self.authority,
            swarm=self.swarm,
            pace=Pace(http_rate(settings), clock, self._share_out),
            address=self._repository_address,
            join=self._join,
            scrub_days=settings.scrub_days,
            job_days=settings.job_days,
            input_quota=settings.input_quota,
            machines_idle=settings.machines_idle,
        )
        await self.rooms.open()
        exits.push_async_callback(self.rooms.intake.close)

        app = new_application(self.rooms.registry.guard)
        for routes in self.rooms.routes:
            routes.install(app)
        self._tls = await asyncio.to_thread(server_context, pair, self.authority.certificate)
        await exits.enter_async_context(self._web(app, self._tls))
        loops = [asyncio.create_task(loop, name=name) for name, loop in self.rooms.loops().items()]
        self._loops = [*loops, asyncio.create_task(self._renew(), name="renewal")]
        exits.push_async_callback(_end, self._loops)
        log.info("serving", url=self.url, home=str(settings.home))

    async def _join(self) -> Swarm:
        """A node of the swarms that fetches, as our seeder does not."""
        return await Swarm.start(replace(self.swarm.endpoint, port=0), self._swarm_credentials())

    def _limits(self, *, http: bool) -> SwarmLimits:
        """What swarms may use of the repository's uplink; `http` if something is sent over HTTPS meanwhile."""
        upload = self.settings.upload
        if upload and http:
            upload = max(upload - http_rate(self.settings), upload // SWARMS_LEAST, 1)
        return SwarmLimits(upload=upload, connections=self.settings.connections)

    def _share_out(self, http: bool) -> None:
        with contextlib.suppress(BitDewError):  # the swarm is closed, and sends nothing any more
            self.swarm.set_limits(self._limits(http=http))

    async def _require_shared_authority(self, folder: Path) -> None:
        """Refuse a new CA for a grid that has one: nobody who joined would know this service."""
        if await asyncio.to_thread((folder / "authority.pem").exists):
            return
        if not await IdentityStore(self.database).has_certificates():
            return
        why = f"its CA is not in {folder}, and nobody who has joined would trust a new one"
        do = "Give --authority the folder that its other services use, or restore it from a backup."
        raise error("input.invalid", f"The database {self.database.name} belongs to a grid already", why=why, do=do)

    def _repository_address(self, request: web.Request) -> Endpoint:
        """Where the repository's swarm listens. Behind a wildcard it is the address that the caller reached us at."""
        listening = self.swarm.endpoint
        if listening.host not in {"0.0.0.0", "::"} or request.transport is None:  # noqa: S104
            return listening
        return Endpoint(request.transport.get_extra_info("sockname")[0], listening.port)

    @contextlib.asynccontextmanager
    async def _web(self, app: web.Application, tls: ssl.SSLContext) -> AsyncIterator[None]:
        settings = self.settings
        runner = new_runner(app, shutdown_timeout=WEB_SECONDS)
        await runner.setup()
        try:
            site = web.TCPSite(runner, settings.host, settings.port, ssl_context=tls, backlog=1024)
            try:
                await site.start()
            except OSError as fault:
                where = f"{settings.host}:{settings.port}"
                if fault.errno == errno.EADDRINUSE:
                    raise error("port.in-use", f"{where} is in use", port=settings.port) from None
                raise error("input.invalid", f"The service can't listen at {where}", why=str(fault)) from None
            port = runner.addresses[0][1]
            shown = f"[{settings.host}]" if ":" in settings.host else settings.host
            self.url = f"https://{shown}:{port}"
            yield
            await site.stop()
        finally:
            self.rooms.changes.release()
            await _hang_up(runner)

    def _swarm_credentials(self) -> SwarmCredentials:
        key = new_key()
        request = certificate_request(key, "repository")
        issued = self.authority.sign_swarm(request, subject_id=new_uid(), name="repository", now=self.clock.now())
        return SwarmCredentials(self.authority.certificate, issued.pem, key)

    async def _renew(self) -> None:
        while True:
            await self.clock.sleep(RENEW_SECONDS)
            try:
                await self.swarm.set_credentials(self._swarm_credentials())
                await asyncio.to_thread(use_pair, self._tls, await self._service_pair())
            except (BitDewError, ssl.SSLError):
                log.exception("the certificates could not be renewed; it is tried again", seconds=RENEW_SECONDS)

    async def _service_pair(self) -> KeyPair:
        """The pair that HTTPS shows: the one that is kept, or a fresh one near its end."""
        names = [self.settings.host, *self.settings.addresses]
        return await asyncio.to_thread(self.authority.service_pair, _certifiable(names), now=self.clock.now())

    async def enrol_operator(self, folder: Path, name: str) -> Identity:
        """Give whoever starts the service an operator's identity in `folder`; a good one that is there stays.

        An operator whose certificate is old, or for another URL, gets a new one and stays who it is.

        Raises:
            UserError: `profile.taken`, if it holds the identity of another service.
        """
        home, subject_id = IdentityFolder(folder), new_uid()
        if await asyncio.to_thread(home.exists):
            held = await asyncio.to_thread(home.load)
            if held.fingerprint != self.authority.fingerprint:
                raise error("profile.taken", f"{folder} holds the identity of another service", path=str(folder))
            if held.subject.role is Role.OPERATOR and not self.rooms.registry.is_revoked(held.subject.subject_id):
                if held.url == self.url and not self._is_old(held):
                    return held
                subject_id = Uid(held.subject.subject_id)
        requests = await asyncio.to_thread(home.prepare, Role.OPERATOR)
        asked = EnrolRequest(secret="", name=name, identity_csr=requests.identity, signing_csr=requests.signing)
        granted = await self.rooms.registry.issue(Role.OPERATOR, subject_id, name, asked)
        return await asyncio.to_thread(
            lambda: home.store(url=self.url, ca=granted.ca, identity=granted.identity, signing=granted.signing)
        )

    def _is_old(self, held: Identity) -> bool:
        pairs = [pair for pair in (held.identity, held.signing) if pair is not None]
        return len(pairs) < 2 or any(needs_renewal(pair.certificate, self.clock.now()) for pair in pairs)


def http_rate(settings: ServiceSettings) -> int:
    """Bytes per second that leave over HTTPS at most; 0 is unlimited."""
    upload, own = settings.upload, settings.http_egress
    if own is None:
        return max(upload // 2, 1) if upload else 0
    return min(own or upload, upload or own)


def _certifiable(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in {"0.0.0.0", "::", ""}]  # noqa: S104


async def _hang_up(runner: web.AppRunner) -> None:
    """End the web: requests under way are answered, and every socket is closed before this returns."""
    handlers = list(runner.server.connections) if runner.server else []
    served = _serving(handlers)
    await runner.cleanup()
    # Cleaning up cancels those whose connection lasts, and does not wait; the others would wait for the rest of an
    # upload that was refused, whose sender has gone.
    for task in served:
        task.cancel()
    if served:
        await asyncio.wait(served, timeout=GOODBYE_SECONDS)
    # A TLS connection closes in its own time, when its peer has said goodbye too: that time is bounded here.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GOODBYE_SECONDS):
            while any(handler.transport is not None for handler in handlers):  # noqa: ASYNC110 (it tells no one)
                await asyncio.sleep(0.005)
    for handler in handlers:
        if handler.transport is not None:
            handler.transport.abort()
    await asyncio.sleep(0)


def _serving(handlers: Sequence[web.RequestHandler]) -> list[asyncio.Task[Any]]:
    """The tasks that serve these connections, also those of lost ones, of which handlers know nothing any more."""
    frames = {task: getattr(task.get_coro(), "cr_frame", None) for task in asyncio.all_tasks()}
    return [task for task, frame in frames.items() if frame is not None and frame.f_locals.get("self") in handlers]


async def _end(loops: Sequence[asyncio.Task[None]]) -> None:
    for loop in loops:
        loop.cancel()
    for loop, outcome in zip(loops, await asyncio.gather(*loops, return_exceptions=True), strict=True):
        if isinstance(outcome, Exception):
            log.error("a loop had failed", loop=loop.get_name(), why=str(outcome))


def _uploads_of(home: Path) -> Path:
    """The folder for uploads of the service in `home`, in a repository that others on other machines may share."""
    whose = f"{socket.gethostname()} {home.resolve()}"
    return Path("uploads", hashlib.sha256(whose.encode()).hexdigest()[:16])
