"""Stored join tokens and issued certificates."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.errors import error
from bitdew.core.ids import Uid, new_uid

from .among import among
from .database import Database
from .feed import Told, along
from .tables import CertificateRow, EnrolmentRow, InnerHostRow, TokenRow

PUBLISHING: Final = ("operator", "publisher")
"""Roles whose holders sign image records."""


@dataclass(frozen=True, slots=True)
class Token:
    """A join token as it is known here: never its secret."""

    uid: Uid
    role: str
    uses_left: int
    expires: datetime
    created: datetime
    note: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who someone became by a token."""

    subject_id: Uid
    role: str


class IdentityStore:
    """Reads and writes tokens and certificates, one transaction a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_token(
        self,
        digest: str,
        role: str,
        uses: int,
        expires: datetime,
        now: datetime,
        creator: str,
        note: str,
        machine: str | None = None,
    ) -> Token:
        """Store a new token under the digest of its secret."""
        token = Token(new_uid(), role, uses, expires, now, note)
        async with self._database.write() as session:
            session.add(
                TokenRow(
                    uid=token.uid,
                    digest=digest,
                    role=role,
                    uses_left=uses,
                    expires=expires,
                    created=now,
                    creator=creator,
                    note=note,
                    machine=machine,
                )
            )
        return token

    async def tokens(self, now: datetime) -> list[Token]:
        """The tokens that can still be used, oldest first."""
        query = select(TokenRow).where(TokenRow.uses_left > 0, TokenRow.expires > now).order_by(TokenRow.created)
        async with self._database.read() as session:
            return [_token(row) for row in await session.scalars(query)]

    async def revoke_token(self, uid: str) -> bool:
        """Forget a token; whether there was one."""
        async with self._database.write() as session:
            gone = await session.execute(delete(TokenRow).where(TokenRow.uid == uid).returning(TokenRow.uid))
            return gone.scalar_one_or_none() is not None

    async def spend_token(self, digest: str, request: str, subject_id: Uid, name: str, now: datetime) -> Enrolment:
        """Use a token once, in one transaction, so that two who bring it at once can't both pass.

        Whoever asks again with the same key, having lost the reply, is who it was before, and nothing is used up.

        Args:
            digest: The digest of the token's secret.
            request: The digest of the public key that asks.
            subject_id: Who it becomes if it is new.
            name: What it wants to be called.
            now: UTC.

        Raises:
            UserError: `token.invalid`, `token.expired`, `token.used`; `identity.name-taken` for a second publisher of
                one name, since hosts judge publishers by name.
        """
        async with self._database.write() as session:
            before = await session.get(EnrolmentRow, (digest, request))
            if before is not None:
                await _check_publisher(session, before.role, name, before.subject_id)
                before.name = name
                return Enrolment(Uid(before.subject_id), before.role)
            row = await session.scalar(select(TokenRow).where(TokenRow.digest == digest))
            if row is None:
                why = "it is unknown or was revoked"
                raise error("token.invalid", "The token is not one of this service's", why=why)
            if row.expires <= now:
                raise error("token.expired", "The token is past its time", why=f"it expired at {row.expires:%F %T} UTC")
            if row.uses_left < 1:
                raise error("token.used", "The token was used up")
            await _check_publisher(session, row.role, name, subject_id)
            # The condition stands in the statement too, for a database with several writers.
            spent = await session.execute(
                update(TokenRow)
                .where(TokenRow.uid == row.uid, TokenRow.uses_left > 0)
                .values(uses_left=TokenRow.uses_left - 1)
                .returning(TokenRow.uses_left)
            )
            if spent.scalar_one_or_none() is None:
                raise error("token.used", "The token was used up")
            enrolment = EnrolmentRow(token=digest, request=request, subject_id=subject_id, role=row.role, name=name)
            session.add(enrolment)
            if row.machine is not None:
                session.add(InnerHostRow(host=subject_id, machine=row.machine))
            return Enrolment(subject_id, row.role)

    # Machines' own hosts

    async def inner_hosts(self, machines: Collection[str] | None = None, *, over: bool = False) -> dict[str, str]:
        """The hosts that are machines, or are these: for each, the machine. Those that are `over`, or not."""
        query = select(InnerHostRow.host, InnerHostRow.machine).where(InnerHostRow.over.is_(over))
        if machines is not None:
            query = query.where(among(InnerHostRow.machine, machines))
        async with self._database.read() as session:
            return {row.host: row.machine for row in await session.execute(query)}

    async def machines_with_tokens(self) -> set[str]:
        """The machines for which there are tokens."""
        query = select(TokenRow.machine).where(TokenRow.machine.is_not(None)).distinct()
        async with self._database.read() as session:
            return {machine for machine in await session.scalars(query) if machine is not None}

    async def end_inner(self, machines: Collection[str], hosts: Collection[str]) -> None:
        """Forget the tokens of these machines, and remember that these hosts are over."""
        async with self._database.write() as session:
            await session.execute(delete(TokenRow).where(TokenRow.machine.in_(machines)))
            await session.execute(update(InnerHostRow).where(among(InnerHostRow.host, hosts)).values(over=True))

    async def hand_over(self, old: str, new: str) -> None:
        """The host that was the machine `old` is the machine `new`, which goes on from it, and so with its tokens."""
        async with self._database.write() as session:
            await session.execute(update(InnerHostRow).where(InnerHostRow.machine == old).values(machine=new))
            await session.execute(update(TokenRow).where(TokenRow.machine == old).values(machine=new))

    async def add_certificate(self, serial: str, subject_id: str, role: str, name: str, expires: datetime) -> None:
        """Record an issued certificate."""
        async with self._database.write() as session:
            session.add(CertificateRow(serial=serial, subject_id=subject_id, role=role, name=name, expires=expires))

    async def has_certificates(self) -> bool:
        """Whether any was ever issued."""
        async with self._database.read() as session:
            return await session.scalar(select(CertificateRow.serial).limit(1)) is not None

    async def revoked(self) -> set[str]:
        """The subjects whose certificates are revoked."""
        query = select(CertificateRow.subject_id).where(CertificateRow.revoked.is_not(None))
        async with self._database.read() as session:
            return set(await session.scalars(query))

    async def revoke(self, subject_id: str, now: datetime) -> bool:
        """Revoke all certificates of a subject, and the tokens of the machine that it is; whether it had any."""
        async with self._database.write() as session:
            found = await session.execute(
                update(CertificateRow)
                .where(CertificateRow.subject_id == subject_id)
                .values(revoked=now)
                .returning(CertificateRow.serial)
            )
            machine = select(InnerHostRow.machine).where(InnerHostRow.host == subject_id)
            await session.execute(delete(TokenRow).where(TokenRow.machine.in_(machine)))
            along(session, Told(revoked=(subject_id,)))
            return bool(found.all())


async def _check_publisher(session: AsyncSession, role: str, name: str, subject_id: str) -> None:
    """Refuse a publisher's name that is another's, also where its certificate is only just being made."""
    if role not in PUBLISHING:
        return
    for table in (EnrolmentRow, CertificateRow):
        theirs = (table.name == name) & table.role.in_(PUBLISHING) & (table.subject_id != subject_id)
        if await session.scalar(select(table.subject_id).where(theirs).limit(1)) is not None:
            raise error("identity.name-taken", f"A publisher called {name!r} is there already", name=name)


def _token(row: TokenRow) -> Token:
    return Token(Uid(row.uid), row.role, row.uses_left, row.expires, row.created, row.note)
