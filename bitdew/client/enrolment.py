"""Joining a service with a token, and renewing what was granted: the handshake that users and workers share.

Owns the order in which trust is built: the token's fingerprint proves the CA, the CA proves the service, and only then
is the token's secret sent. It must not decide where an identity is kept or what it is used for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bitdew.core.errors import error
from bitdew.trust.keys import needs_renewal
from bitdew.trust.roles import Role, checked_common_name
from bitdew.trust.tls import bootstrap_context, checked_ca, client_context
from bitdew.trust.tokens import JoinToken
from bitdew.wire.models import AuthorityReply, EnrolReply, EnrolRequest, RenewRequest
from bitdew.wire.transport import Transport, service_url

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from bitdew.trust.identity import Identity, IdentityFolder


async def enrol(
    url: str, token: str | JoinToken, name: str, folder: IdentityFolder, wanted_roles: Collection[Role]
) -> Identity:
    """Join the service at `url` and keep the identity in `folder`.

    Args:
        url: The service's URL, `https://host:8440`.
        token: The join token, as the operator handed it out.
        name: What the host or user shall be called; at most 64 characters.
        folder: Where the keys are made and the certificates kept. An identity of the same service that is there
            is replaced.
        wanted_roles: The roles that the caller can use. What to ask for follows from them: a swarm certificate where
            a worker is wanted, a signing certificate otherwise.

    Raises:
        UserError: `token.invalid`, `token.foreign`, `token.expired`, `token.used`; `profile.taken` if the folder has
            an identity of another service; `certificate.role` if the token is for another role (it is used up then);
            `input.invalid`.
        ServiceError: `service.unreachable`.
        HostError: `storage.failed`, `storage.full`.
    """
    parsed = JoinToken.parse(token) if isinstance(token, str) else token
    checked_common_name(name)
    base = str(service_url(url))
    await asyncio.to_thread(_check_free, folder, parsed)
    async with Transport(base, bootstrap_context()) as open_line:
        shown = await open_line.call("GET", "/v1/ca", AuthorityReply)
    ca = checked_ca(shown.certificate, parsed.fingerprint)
    requests = await asyncio.to_thread(folder.prepare, Role.WORKER if Role.WORKER in wanted_roles else Role.PUBLISHER)
    request = EnrolRequest(
        secret=parsed.secret,
        name=name,
        identity_csr=requests.identity,
        swarm_csr=requests.swarm,
        signing_csr=requests.signing,
    )
    async with Transport(base, await asyncio.to_thread(client_context, ca, None)) as line:
        granted = await line.call("POST", "/v1/enrol", EnrolReply, body=request)
    if granted.role not in wanted_roles:
        wanted = " or ".join(sorted(wanted_roles))
        raise error(
            "certificate.role",
            f"The token is for the role {granted.role}, and this needs {wanted}",
            do=f"Ask an operator for a token of the right role: bitdew token create --role {min(wanted_roles)}",
            role=granted.role,
        )
    return await asyncio.to_thread(_store, folder, base, ca, granted)


async def renew(line: Transport, folder: IdentityFolder, identity: Identity, now: datetime) -> Identity | None:
    """Renew `identity` if two thirds of its validity have passed; None if it is still young enough.

    `line` carries the identity in force. The new certificates are for the same keys, so that a crash at any point
    leaves a usable identity.

    Raises:
        BitDewError: as `Transport.call`, and `storage.failed`.
    """
    pairs = (identity.identity, identity.swarm, identity.signing)
    if not any(pair is not None and needs_renewal(pair.certificate, now) for pair in pairs):
        return None
    requests = await asyncio.to_thread(folder.prepare, identity.subject.role)
    request = RenewRequest(identity_csr=requests.identity, swarm_csr=requests.swarm, signing_csr=requests.signing)
    granted = await line.call("POST", "/v1/identity/renew", EnrolReply, body=request)
    return await asyncio.to_thread(_store, folder, identity.url, identity.ca, granted)


def _check_free(folder: IdentityFolder, token: JoinToken) -> None:
    """Refuse a folder of another service before anything is sent: the token would be used up in vain."""
    if folder.exists() and folder.load().fingerprint != token.fingerprint:
        raise error("profile.taken", f"{folder.folder} holds the identity of another service", path=str(folder.folder))


def _store(folder: IdentityFolder, url: str, ca: str, granted: EnrolReply) -> Identity:
    return folder.store(url=url, ca=ca, identity=granted.identity, swarm=granted.swarm, signing=granted.signing)
