"""Who may talk to the service: tokens, enrolment, renewal, and the guard at the door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from bitdew.core.clock import Clock
from bitdew.core.errors import error
from bitdew.core.ids import new_uid
from bitdew.trust.authority import Authority, Issued
from bitdew.trust.keys import request_digest
from bitdew.trust.roles import Role, Subject
from bitdew.trust.tokens import JoinToken, secret_digest
from bitdew.wire.models import EnrolReply, EnrolRequest, RenewRequest, TokenList, TokenRequest, TokenView

from .identity_store import IdentityStore, Token

PUBLISHERS = frozenset({Role.OPERATOR, Role.PUBLISHER})
SEEDING: Final = timedelta(hours=1)
"""Validity of a publisher's swarm certificate: peers hear of no revocation, so that it must end soon by itself."""


class Registry:
    """Issues and revokes identities."""

    def __init__(self, authority: Authority, store: IdentityStore, clock: Clock) -> None:
        self.authority = authority
        self._store = store
        self._clock = clock
        self._revoked: set[str] = set()
        self.on_revoked: Callable[[str], Awaitable[None]] = _nobody_listens

    async def load(self) -> None:
        """Read who is revoked; the guard asks memory alone."""
        self._revoked = await self._store.revoked()

    async def guard(self, subject: Subject) -> None:
        """Refuse a caller whose certificates were revoked, or ended while its connection lasted.

        Raises:
            UserError: `certificate.revoked`, `certificate.expired`.
        """
        if subject.expires is not None and subject.expires <= self._clock.now():
            raise error(
                "certificate.expired", f"The certificate of {subject.name} ended at {subject.expires:%F %T} UTC"
            )
        if self.is_revoked(subject.subject_id):
            raise error("certificate.revoked", f"The certificate of {subject.name} was revoked")

    def is_revoked(self, subject_id: str) -> bool:
        """Whether the guard refuses this subject for ever."""
        return subject_id in self._revoked

    async def revoke(self, subject_id: str) -> None:
        """Shut a subject out, at once.

        Raises:
            UserError: `host.not-found`, if no certificate was issued to it.
        """
        if not await self._store.revoke(subject_id, self._clock.now()):
            raise error("host.not-found", f"No certificate was issued to {subject_id[:40]!r}")
        self._revoked.add(subject_id)
        await self.on_revoked(subject_id)

    def hear_revoked(self, subject_id: str) -> None:
        """Another process of the service shut a subject out."""
        self._revoked.add(subject_id)

    async def create_token(self, request: TokenRequest, creator: str, machine: str | None = None) -> TokenView:
        """A new join token; this reply is the only place where it stands whole. It may be for a machine of the grid."""
        now = self._clock.now()
        token = JoinToken.mint(self.authority.fingerprint)
        expires = now + timedelta(seconds=request.seconds)
        digest = secret_digest(token.secret)
        stored = await self._store.add_token(
            digest, request.role, request.uses, expires, now, creator, request.note, machine
        )
        return _view(stored, str(token))

    async def is_shut_out(self, machine: str) -> bool:
        """Whether a host that was this machine of the grid was shut out: it is not to come back as another."""
        return any(self.is_revoked(host) for host in await self._store.inner_hosts([machine]))

    async def tokens(self) -> TokenList:
        """The tokens that can still be used."""
        return TokenList(tokens=[_view(token) for token in await self._store.tokens(self._clock.now())])

    async def revoke_token(self, uid: str) -> None:
        """Forget a token.

        Raises:
            UserError: `token.invalid`.
        """
        if not await self._store.revoke_token(uid):
            raise error("token.invalid", f"There is no token {uid[:40]!r}", do="List them: bitdew token ls")

    async def enrol(self, request: EnrolRequest) -> EnrolReply:
        """Turn a token and requests for certificates into certificates.

        Raises:
            UserError: `token.…`, or `input.invalid` for a malformed request, which leaves the token unused.
        """
        # Signed under every role first: a malformed request must not cost the token. Nothing leaves before it is spent.
        await asyncio.to_thread(self._check, request)
        asks = await asyncio.to_thread(request_digest, request.identity_csr)
        secret, now = secret_digest(request.secret), self._clock.now()
        enrolled = await self._store.spend_token(secret, asks, new_uid(), request.name, now)
        if self.is_revoked(enrolled.subject_id):
            raise error("certificate.revoked", "Whoever enrolled with this token and key was shut out")
        return await self.issue(Role(enrolled.role), enrolled.subject_id, request.name, request)

    async def renew(self, caller: Subject, request: RenewRequest) -> EnrolReply:
        """Fresh certificates for the same subject in the same role."""
        return await self.issue(caller.role, caller.subject_id, caller.name, request)

    async def admit_to_swarms(self, caller: Subject, csr: str) -> str:
        """A certificate with which a person exchanges pieces for an hour; who goes on for longer asks again."""
        name, now = caller.name, self._clock.now()
        issued = await asyncio.to_thread(
            self.authority.sign_swarm, csr, subject_id=caller.subject_id, name=name, now=now, lasting=SEEDING
        )
        await self._store.add_certificate(issued.serial, caller.subject_id, Role.SWARM, name, issued.expires)
        return issued.pem

    async def issue(self, role: Role, subject_id: str, name: str, request: EnrolRequest | RenewRequest) -> EnrolReply:
        """Sign what `role` may have: workers a swarm certificate, publishers and operators a signing one."""
        now = self._clock.now()
        issued: dict[Role, Issued] = {}
        authority = self.authority
        issued[role] = await asyncio.to_thread(
            authority.sign_identity, request.identity_csr, role=role, subject_id=subject_id, name=name, now=now
        )
        if role is Role.WORKER and request.swarm_csr:
            issued[Role.SWARM] = await asyncio.to_thread(
                authority.sign_swarm, request.swarm_csr, subject_id=subject_id, name=name, now=now
            )
        if role in PUBLISHERS and request.signing_csr:
            issued[Role.SIGNING] = await asyncio.to_thread(
                authority.sign_signing, request.signing_csr, subject_id=subject_id, name=name, now=now
            )
        for kind, certificate in issued.items():
            await self._store.add_certificate(certificate.serial, subject_id, kind, name, certificate.expires)
        return EnrolReply(
            subject_id=subject_id,
            name=name,
            role=role,
            ca=authority.certificate,
            identity=issued[role].pem,
            swarm=issued[Role.SWARM].pem if Role.SWARM in issued else None,
            signing=issued[Role.SIGNING].pem if Role.SIGNING in issued else None,
        )

    def _check(self, request: EnrolRequest) -> None:
        now, nobody = self._clock.now(), new_uid()
        sign, name = self.authority, request.name
        sign.sign_identity(request.identity_csr, role=Role.USER, subject_id=nobody, name=name, now=now)
        if request.swarm_csr:
            sign.sign_swarm(request.swarm_csr, subject_id=nobody, name=name, now=now)
        if request.signing_csr:
            sign.sign_signing(request.signing_csr, subject_id=nobody, name=name, now=now)


async def _nobody_listens(_subject_id: str) -> None:
    """Whom a revocation concerns beside the guard is for others to say."""


def _view(token: Token, text: str | None = None) -> TokenView:
    return TokenView(
        uid=token.uid,
        role=token.role,
        uses_left=token.uses_left,
        expires=token.expires,
        note=token.note,
        created=token.created,
        token=text,
    )
