"""Image records: what a publisher says of a disk, signed so that no one in between can change it.

Owns the record's canonical form and every check between its bytes and an `ImageRecord`. Whether a publisher is
welcome on a host is that host's policy, not this room's.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from bitdew.core.data import ImageRecord, SignedRecord
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot, Uid, checked_name

from . import pem as text
from .authority import CLOCK_SKEW
from .keys import KeyPair, subject_in
from .roles import Role, checked_common_name

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_PAYLOAD: Final = 4096
"""Bytes of a record at most; with every field at its longest it has under 1.5 KiB."""

LARGEST_IMAGE: Final = 1 << 40
"""Bytes of a disk at most: 1 TiB, far above what a volunteer lends, far below what overflows anything."""

_TYPE: Final = "bitdew-image-1"
_SIGNATURE: Final = 64
_UID: Final = re.compile(r"[0-9a-f]{32}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_WORD: Final = re.compile(r"[a-z0-9_-]{1,32}")
_LONGEST_TEXT: Final = 128
_FIELDS: Final = frozenset(
    {"arch", "expires", "format", "info_hash", "issued", "name", "os", "publisher", "root", "size", "type", "uid"}
    | {"version"}
)


def sign_record(record: ImageRecord, signing: KeyPair) -> SignedRecord:
    """`record`, signed.

    The record may name a later end than the signing certificate's; it then stops being valid with the certificate,
    and the disk has to be signed again with a renewed one.

    Raises:
        UserError: `input.invalid` for a field out of its bounds; `disk.signature` if the certificate is not a signing
            certificate, not this key's, not valid when the record was issued, or names another publisher.
    """
    checked = _record(_fields(record))
    certificate = text.read_certificate(signing.certificate, "signing certificate")
    key = text.read_key(signing.private_key, "signing key")
    if not isinstance(key, ed25519.Ed25519PrivateKey) or not text.same_key(certificate, key):
        raise _refused(record.name, "the signing key is not the certificate's")
    _check_publisher(certificate, checked)
    payload = _canonical(_fields(checked))
    return SignedRecord(payload, key.sign(payload), text.text_of(certificate))


def read_record(signed: SignedRecord, *, ca: str, now: datetime) -> ImageRecord:
    """The record in `signed`, if all of it holds at `now` (UTC).

    In this order: sizes; the certificate is by `ca`, for signing, and valid now; the signature is the certificate's;
    the payload is a record in canonical form with every field in its bounds; the publisher is the one that the
    certificate names, and it was valid when the record was issued; the record is not from the future and not over.
    Nothing of the payload is parsed before its signature is known to be good.

    Raises:
        UserError: `disk.signature`, with the check that failed. `input.invalid` if `ca` itself can't be read.
    """
    root = text.read_certificate(ca, "CA's certificate")
    if len(signed.payload) > LARGEST_PAYLOAD or len(signed.signature) != _SIGNATURE:
        raise _refused("", "payload or signature have an impossible size")
    try:
        certificate = text.read_certificate(signed.certificate, "signing certificate")
    except BitDewError as cause:
        raise _refused("", "its certificate can't be read") from cause
    if text.text_of(certificate).strip() != signed.certificate.strip():
        raise _refused("", "its certificate is not written in the usual form")
    if not text.verify_issued(certificate, root):
        raise _refused("", "its certificate was not issued by this service's CA")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise _refused(
            "",
            f"its publisher's certificate holds from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} "
            f"to {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}",
        )
    _verify(certificate, signed)
    record = _parsed(signed.payload)
    _check_publisher(certificate, record)
    if record.issued > now + CLOCK_SKEW:
        raise _refused(record.name, f"it was issued in the future, at {_time_text(record.issued)}")
    if record.expires <= now:
        raise _refused(record.name, f"it expired at {_time_text(record.expires)}")
    return record


def _refused(name: str, why: str) -> BitDewError:
    of = f" of {name}" if name else ""
    return error("disk.signature", f"The image record{of} does not hold", why=why)


def _verify(certificate: x509.Certificate, signed: SignedRecord) -> None:
    key = certificate.public_key()
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise _refused("", "its certificate is not for an Ed25519 key")
    try:
        key.verify(signed.signature, signed.payload)
    except InvalidSignature as cause:
        raise _refused("", "the signature is not by the key of its certificate") from cause


def _check_publisher(certificate: x509.Certificate, record: ImageRecord) -> None:
    """That `certificate` may speak for the record's publisher, and could when the record was issued."""
    try:
        subject = subject_in(certificate)
    except BitDewError as cause:
        raise _refused(record.name, f"its certificate names no publisher: {cause.message}") from cause
    uses = [use for ext in certificate.extensions if isinstance(ext.value, x509.ExtendedKeyUsage) for use in ext.value]
    if subject.role is not Role.SIGNING or uses != [ExtendedKeyUsageOID.CODE_SIGNING]:
        raise _refused(record.name, f"its certificate is for the role {subject.role}, not for signing")
    if subject.name != record.publisher:
        raise _refused(record.name, f"it names the publisher {record.publisher}, its certificate {subject.name}")
    if not certificate.not_valid_before_utc <= record.issued <= certificate.not_valid_after_utc:
        raise _refused(record.name, f"its certificate was not valid when it was issued, {_time_text(record.issued)}")


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _fields(record: ImageRecord) -> dict[str, Any]:
    return {
        "type": _TYPE,
        "uid": record.uid,
        "name": record.name,
        "root": record.root,
        "info_hash": record.info_hash,
        "size": record.size,
        "format": record.format,
        "os": record.os,
        "arch": record.arch,
        "version": record.version,
        "publisher": record.publisher,
        "issued": _time_text(record.issued),
        "expires": _time_text(record.expires),
    }


def _parsed(payload: bytes) -> ImageRecord:
    """The record in a payload whose signature holds: a publisher may be hostile too."""
    try:
        fields = json.loads(payload.decode("utf-8"))
        # Equal bytes leave no room for repeated keys, other spellings of a number or hidden text.
        canonical = isinstance(fields, dict) and _canonical(fields) == payload
    except (ValueError, RecursionError) as cause:
        raise _refused("", "its payload is no JSON") from cause
    if not canonical:
        raise _refused("", "its payload is not in canonical form")
    try:
        return _record(fields)
    except BitDewError as cause:
        raise _refused("", f"its payload is no image record: {cause}") from cause


def _record(fields: Mapping[str, Any]) -> ImageRecord:
    """The record that `fields` describe, each of its type and in its bounds.

    Raises:
        UserError: `input.invalid`.
    """
    if fields.keys() != _FIELDS:
        odd = ", ".join(sorted(fields.keys() ^ _FIELDS))[:200]
        raise error("input.invalid", "The image record lacks fields or has unknown ones", why=odd)
    if fields["type"] != _TYPE:
        raise error("input.invalid", f"The image record is not of type {_TYPE}")
    size = fields["size"]
    if type(size) is not int or not 1 <= size <= LARGEST_IMAGE:
        raise _odd("size", f"a whole number of bytes from 1 to {LARGEST_IMAGE}")
    if fields["format"] != "raw":
        raise _odd("format", '"raw"')
    issued, expires = _time(fields, "issued"), _time(fields, "expires")
    if not issued < expires:
        raise _odd("expires", "after the record is issued")
    return ImageRecord(
        uid=Uid(_matching(fields, "uid", _UID, "32 hexadecimal digits")),
        name=checked_name(_text(fields, "name")),
        root=ContentRoot(_matching(fields, "root", _HASH, "64 hexadecimal digits")),
        info_hash=_matching(fields, "info_hash", _HASH, "64 hexadecimal digits"),
        size=size,
        format="raw",
        os=_text(fields, "os"),
        arch=_matching(fields, "arch", _WORD, "1 to 32 small letters, digits, '_' or '-'"),
        version=_text(fields, "version"),
        publisher=checked_common_name(_text(fields, "publisher")),
        issued=issued,
        expires=expires,
    )


def _odd(name: str, rule: str) -> BitDewError:
    return error("input.invalid", f"The image record's {name} is impossible", why=f"it has to be {rule}", field=name)


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.isprintable():
        raise _odd(name, f"at most {_LONGEST_TEXT} printable characters")
    return value


def _matching(fields: Mapping[str, Any], name: str, pattern: re.Pattern[str], rule: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _odd(name, rule)
    return value


def _time(fields: Mapping[str, Any], name: str) -> datetime:
    value = fields[name]
    try:
        when = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _odd(name, "a time like 2030-01-31T12:00:00Z") from None
    if when.utcoffset() != timedelta(0) or _time_text(when) != value:
        raise _odd(name, "a time like 2030-01-31T12:00:00Z")
    return when


def _time_text(when: datetime) -> str:
    """ISO 8601 in UTC with a final Z."""
    if when.tzinfo is None:
        raise error("input.invalid", "An image record's time has no zone", do="Give it in UTC.")
    return when.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"
