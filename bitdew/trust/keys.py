"""Keys, certificate requests, and what can be read from a certificate.

Owns how the holder's side makes keys. A private key is made where it is used and never leaves that machine: only a
request for a certificate does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from . import pem as text
from .roles import Subject, checked_common_name, subject_from

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and the private key that it is for, both PEM. The key is kept out of `repr`, so out of logs."""

    certificate: str
    private_key: str = field(repr=False)


def new_key() -> str:
    """A fresh key for TLS: ECDSA on P-256, PKCS#8 PEM."""
    return text.text_of_key(ec.generate_private_key(ec.SECP256R1()))


def new_signing_key() -> str:
    """A fresh key for image records: Ed25519, PKCS#8 PEM."""
    return text.text_of_key(ed25519.Ed25519PrivateKey.generate())


def certificate_request(key_pem: str, name: str) -> str:
    """A request (PKCS#10, PEM) that proves possession of the key. The CA uses nothing of it but the public key.

    Raises:
        UserError: `input.invalid`, for a key that can't be read or a name that no certificate can hold.
    """
    key = text.read_key(key_pem)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, checked_common_name(name))])
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return text.text_of(x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, digest))


def request_digest(csr_pem: str) -> str:
    """SHA-256 of the public key in a request, hexadecimal.

    The same for every request by the same key, so that an enrolment asked again after a crash can be recognised.

    Raises:
        UserError: `input.invalid`.
    """
    return hashlib.sha256(text.key_bytes(text.read_request(csr_pem))).hexdigest()


def certificate_expires(pem: str) -> datetime:
    """The end of the certificate's validity, UTC.

    Raises:
        UserError: `input.invalid`.
    """
    return text.read_certificate(pem).not_valid_after_utc


def certificate_subject(pem: str) -> Subject:
    """Whom the certificate names. Nothing is verified: for certificates that are one's own, or were verified before.

    Raises:
        UserError: `certificate.role` if it names none; `input.invalid`.
    """
    return subject_in(text.read_certificate(pem))


def subject_in(certificate: x509.Certificate) -> Subject:
    """Whom a certificate that has been read names.

    Raises:
        UserError: as `certificate_subject`.
    """
    uris: list[str] = []
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            uris += extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    names = [str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return subject_from(uris, names, certificate.serial_number, certificate.not_valid_after_utc)


def fingerprint(pem: str) -> str:
    """SHA-256 of the certificate's DER, hexadecimal.

    Raises:
        UserError: `input.invalid`.
    """
    return text.read_certificate(pem).fingerprint(hashes.SHA256()).hex()


def needs_renewal(pem: str, now: datetime) -> bool:
    """Whether two thirds of the certificate's validity have passed: early enough to try again for days.

    Raises:
        UserError: `input.invalid`.
    """
    certificate = text.read_certificate(pem)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= start + (end - start) * 2 / 3
