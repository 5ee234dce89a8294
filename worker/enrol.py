"""Joining a service with this host: the identity and what is lent, under one home.

Owns when a host that has joined already is left as it is. The handshake itself is shared with users' profiles.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from bitdew.client.enrolment import enrol
from bitdew.core.errors import error
from bitdew.lock import HomeLock
from bitdew.trust.identity import Identity, IdentityFolder
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context
from bitdew.trust.tokens import JoinToken
from bitdew.wire.models import ServiceReply
from bitdew.wire.transport import Transport, service_url

from .settings import save_said

if TYPE_CHECKING:
    from pathlib import Path

    from .settings import WorkerSettings

IDENTITY: Final = "identity"


def identity_folder(home: Path) -> IdentityFolder:
    """Where the worker of `home` keeps its keys and certificates."""
    return IdentityFolder(home / IDENTITY)


async def join(url: str, token: str, settings: WorkerSettings, said: dict[str, Any] | None = None) -> Identity:
    """Make this host a worker of the service at `url`, and keep `settings` for its starts, or what was `said` of them.

    It can be repeated: keys are kept before they are certified, and a home that has joined this service already keeps
    its identity, without the token being used up, unless its certificates ended meanwhile. A service that moved is
    found at its new URL by joining it there again.

    Raises:
        UserError: `token.*`; `certificate.role`, if the token is for another role; `profile.taken`, if the home
            belongs to another service; `input.invalid`.
        ServiceError: `service.unreachable`.
        HostError: `storage.locked`, if a worker runs in the home; `storage.failed`, `storage.full`.
    """
    parsed, base = JoinToken.parse(token), str(service_url(url))
    lock = HomeLock(settings.home, "worker")
    await asyncio.to_thread(lock.acquire)
    try:
        return await _join(base, parsed, settings, settings.said() if said is None else said)
    finally:
        lock.release()


async def _join(url: str, parsed: JoinToken, settings: WorkerSettings, said: dict[str, Any]) -> Identity:
    folder = identity_folder(settings.home)
    known = await asyncio.to_thread(_known, settings.home, folder)
    if known is not None and known.fingerprint != parsed.fingerprint:
        raise error("profile.taken", f"{settings.home} belongs to another service", why=f"it joined {known.url}")
    if known is None or known.has_expired(datetime.now(UTC)):
        known = await enrol(url, parsed, settings.name, folder, {Role.WORKER})
    elif known.url != url:
        known = await _moved(url, folder, known)
    await asyncio.to_thread(save_said, settings.home, said)
    return known


async def _moved(url: str, folder: IdentityFolder, known: Identity) -> Identity:
    """Keep that the service is at `url` now, once it has proved there that it is the same one and knows this host."""
    context = await asyncio.to_thread(client_context, known.ca, known.identity)
    async with Transport(url, context) as line:
        await line.call("GET", "/v1/service", ServiceReply)
    swarm = known.swarm.certificate if known.swarm else None
    return await asyncio.to_thread(folder.store, url=url, ca=known.ca, identity=known.identity.certificate, swarm=swarm)


def _known(home: Path, folder: IdentityFolder) -> Identity | None:
    """The identity that is there already. A new home is closed to everyone but its owner."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as cause:
        raise error("storage.failed", f"{home} can't be made", why=str(cause.strerror), path=str(home)) from cause
    return folder.load() if folder.exists() else None
