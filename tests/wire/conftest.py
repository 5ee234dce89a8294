"""What the wire's tests share: a CA, parties who hold its certificates, and real TLS servers on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from bitdew.trust.authority import Authority
from bitdew.trust.keys import KeyPair, certificate_request, new_key
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context, server_context
from bitdew.wire.server import Routes, new_application, new_runner
from bitdew.wire.transport import Transport

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from bitdew.trust.roles import Subject

SUBJECT = "5" * 32


@dataclass(frozen=True)
class Parties:
    """Makes certificates, and TLS contexts that hold them, by one CA."""

    authority: Authority

    def pair(self, role: Role = Role.USER, age: timedelta = timedelta()) -> KeyPair:
        """A pair whose certificate was made `age` ago."""
        key, now = new_key(), datetime.now(UTC) - age
        request = certificate_request(key, "ada")
        if role is Role.SWARM:
            return KeyPair(self.authority.sign_swarm(request, subject_id=SUBJECT, name="ada", now=now).pem, key)
        issued = self.authority.sign_identity(request, role=role, subject_id=SUBJECT, name="ada", now=now)
        return KeyPair(issued.pem, key)

    def client(self, role: Role | None = Role.USER, age: timedelta = timedelta()) -> ssl.SSLContext:
        """What a client of this CA's service connects with; without a certificate if `role` is None."""
        return client_context(self.authority.certificate, None if role is None else self.pair(role, age))

    def server(self, age: timedelta = timedelta()) -> ssl.SSLContext:
        """What the service of this CA listens with."""
        pair = self.authority.issue_service([], now=datetime.now(UTC) - age)
        return server_context(pair, self.authority.certificate)


@pytest.fixture(scope="session")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    # The CA is old enough to have issued what expired since.
    begun = datetime.now(UTC) - timedelta(days=1000)
    return Parties(Authority.open(tmp_path_factory.mktemp("ours"), now=begun, name="Ours"))


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    """Another service."""
    return Parties(Authority.open(tmp_path_factory.mktemp("theirs"), now=datetime.now(UTC), name="Theirs"))


@dataclass
class Gate:
    """A guard that lets everyone through until it is told to refuse."""

    refusal: Exception | None = None
    seen: list[Subject] = field(default_factory=list)

    async def __call__(self, subject: Subject) -> None:
        self.seen.append(subject)
        if self.refusal is not None:
            raise self.refusal


class Wire:
    """Servers that run until the test ends."""

    def __init__(self, parties: Parties, exits: contextlib.AsyncExitStack) -> None:
        self.parties = parties
        self.gate = Gate()
        self._exits = exits

    async def serve(self, routes: Routes) -> str:
        """Serve `routes` as the service does; the URL."""
        app = new_application(self.gate)
        routes.install(app)
        return await self.serve_app(app)

    async def serve_app(self, app: web.Application, context: ssl.SSLContext | None = None) -> str:
        """Serve any application over TLS; the URL."""
        runner = new_runner(app, shutdown_timeout=0.2)
        await runner.setup()
        self._exits.push_async_callback(_end_web, runner)
        context = context or await asyncio.to_thread(self.parties.server)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        return f"https://127.0.0.1:{runner.addresses[0][1]}"

    async def listen(self, speak: asyncio.Server) -> str:
        """Keep a bare TCP server until the test ends; the URL that a client would take it for."""
        self._exits.push_async_callback(_end, speak)
        return f"https://127.0.0.1:{speak.sockets[0].getsockname()[1]}"

    async def line(
        self,
        url: str,
        role: Role | None = Role.USER,
        *,
        context: ssl.SSLContext | None = None,
        age: timedelta = timedelta(),
    ) -> Transport:
        """A transport to `url` as somebody of `role`."""
        context = context or await asyncio.to_thread(self.parties.client, role, age)
        return await self._exits.enter_async_context(Transport(url, context))


async def _end_web(runner: web.AppRunner) -> None:
    """Take the server down; aiohttp cancels what still listens to a caller, and does not wait until it ended."""
    await runner.cleanup()
    tasks = [task for task in asyncio.all_tasks() if "RequestHandler" in getattr(task.get_coro(), "__qualname__", "")]
    await asyncio.gather(*tasks, return_exceptions=True)


async def _end(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


@pytest.fixture
async def wire(parties: Parties) -> AsyncIterator[Wire]:
    async with contextlib.AsyncExitStack() as exits:
        yield Wire(parties, exits)
