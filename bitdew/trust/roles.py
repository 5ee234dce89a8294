"""Roles and subjects: what a certificate says of its holder, and how that is read from a TLS connection.

Owns the URI `bitdew:<role>:<subject id>` that every certificate of a service carries. It needs no cryptography: the
TLS library has verified a peer's certificate before `subject_of_peer` reads it.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from bitdew.core.errors import error
from bitdew.core.ids import checked_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST_NAME: Final = 63
"""Characters of a certificate's common name at most.

X.509 allows 64 (RFC 5280, appendix A: ub-common-name). One less, because libtorrent admits to a swarm whoever's common
name is the torrent's name, and torrents are named by the 64 digits of a content root: no user can be called like one.
"""

_SUBJECT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SCHEME: Final = "bitdew:"


class Role(StrEnum):
    """What a certificate is for."""

    SERVICE = "service"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    USER = "user"
    WORKER = "worker"
    SWARM = "swarm"
    SIGNING = "signing"


IDENTITIES: Final = frozenset({Role.OPERATOR, Role.PUBLISHER, Role.USER, Role.WORKER})
"""The roles that may ask something of the service. The others serve, exchange pieces or sign, and ask nothing."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The holder of a certificate.

    Attributes:
        role: What the certificate is for.
        subject_id: The holder's identity, which outlives each of its certificates.
        serial: The certificate's own number, hexadecimal in lower case without leading zeros: what is revoked.
        name: The holder's name, for people.
        expires: The end of the certificate's validity, UTC; None if the source did not tell.
    """

    role: Role
    subject_id: str
    serial: str
    name: str
    expires: datetime | None = None


def subject_uri(role: Role, subject_id: str) -> str:
    """The URI that names a subject in its certificate.

    Raises:
        UserError: `input.invalid`.
    """
    if not _SUBJECT_ID.fullmatch(subject_id):
        raise error(
            "input.invalid",
            f"{subject_id[:80]!r} can't be a subject's id",
            why="1 to 64 letters, digits, '.', '_' or '-' are allowed, a letter or digit first",
        )
    return f"{_SCHEME}{role}:{subject_id}"


def checked_common_name(name: str) -> str:
    """`name` if it can stand in a certificate: as `checked_name`, and at most 63 characters.

    The narrow alphabet also keeps out `*`, which libtorrent would take, in a common name, for any swarm's name.

    Raises:
        UserError: `input.invalid`.
    """
    if len(name) > LONGEST_NAME:
        raise error(
            "input.invalid",
            f"{name[:LONGEST_NAME]!r}… is too long a name",
            why=f"a certificate holds {LONGEST_NAME} characters, this has {len(name)}",
        )
    return checked_name(name)


def subject_from(uris: Iterable[str], names: Iterable[str], serial: int, expires: datetime | None) -> Subject:
    """The subject that a certificate's URIs and common names stand for.

    Raises:
        UserError: `certificate.role` if it names no role of ours; `input.invalid` if it names its holder in a way that
            the CA never does.
    """
    ours = [uri for uri in uris if uri.startswith(_SCHEME)]
    called = list(names)
    if not ours:
        raise error("certificate.role", "The certificate names no role", why="it carries no bitdew: URI")
    role, _, subject_id = ours[0].removeprefix(_SCHEME).partition(":")
    if role not in {str(known) for known in Role}:
        raise error("certificate.role", f"The certificate names an unknown role: {role[:40]!r}")
    if len(ours) != 1 or len(called) != 1 or not _SUBJECT_ID.fullmatch(subject_id) or serial <= 0:
        raise error("input.invalid", "The certificate does not name its holder clearly")
    return Subject(Role(role), subject_id, f"{serial:x}", checked_common_name(called[0]), expires)


def subject_of_peer(peercert: Mapping[str, Any] | None) -> Subject:
    """Who is at the other end of a verified TLS connection.

    Args:
        peercert: What `ssl.SSLObject.getpeercert()` gives; None or empty if the peer showed no certificate.

    The connection's handshake checked the issuer and the validity at that moment. A connection may outlive the
    certificate, so that the caller compares `expires` with its clock, and `serial` with what was revoked.

    Raises:
        UserError: `certificate.missing`; `certificate.role` if the role is none that asks anything of a service
            (swarm, signing, service); `input.invalid` if the certificate is not as the CA makes them.
    """
    if not peercert:
        raise error("certificate.missing", "The request came without a client certificate")
    try:
        uris = [str(value) for kind, value in peercert.get("subjectAltName", ()) if kind == "URI"]
        names = [str(value) for part in peercert["subject"] for key, value in part if key == "commonName"]
        serial = int(peercert["serialNumber"], 16)
        expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(peercert["notAfter"]), UTC)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as cause:
        raise error("input.invalid", "The client certificate can't be read", why=type(cause).__name__) from cause
    subject = subject_from(uris, names, serial, expires)
    if subject.role not in IDENTITIES:
        raise error(
            "certificate.role",
            f"A certificate of role {subject.role} can't be used to ask the service anything",
            role=str(subject.role),
        )
    return subject
