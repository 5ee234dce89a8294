"""PEM text read into keys, requests and certificates, bounded, with every malformation told as one error.

Owns the border between text that came from somewhere and the objects of `cryptography`. What passes here has been
parsed to its last field, so that code behind it meets no late parsing error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning

from bitdew.core.errors import error

if TYPE_CHECKING:
    from collections.abc import Callable

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey

LARGEST_PEM: Final = 16 * 1024
"""Bytes of one key, request or certificate at most; ours have under 1 KiB."""

# What `cryptography` raises on malformed input, lazily parsed fields included. The warning is listed for processes
# that turn warnings into errors.
_MALFORMED: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.ExtensionNotFound,
    CryptographyDeprecationWarning,
)
_T = TypeVar("_T")


def _read(pem: str, what: str, parse: Callable[[bytes], _T]) -> _T:
    if len(pem) > LARGEST_PEM:
        raise error("input.too-large", f"The {what} is too large", why=f"over {LARGEST_PEM} bytes")
    try:
        return parse(pem.encode("ascii"))
    except _MALFORMED as cause:
        why = " ".join(str(cause).split())[:120] or type(cause).__name__
        raise error("input.invalid", f"The {what} can't be read", why=why) from cause


def read_certificate(pem: str, what: str = "certificate") -> x509.Certificate:
    """The first certificate in `pem`. Nothing is verified.

    Raises:
        UserError: `input.invalid`, `input.too-large`.
    """

    def parse(data: bytes) -> x509.Certificate:
        certificate = x509.load_pem_x509_certificate(data)
        for _ in (certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key()):
            pass
        if certificate.serial_number <= 0:
            raise ValueError("its serial number is not positive")
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return certificate

    return _read(pem, what, parse)


def read_request(pem: str) -> x509.CertificateSigningRequest:
    """The certificate request in `pem`, signed by the key that it holds.

    Raises:
        UserError: `input.invalid`, `input.too-large`.
    """

    def parse(data: bytes) -> x509.CertificateSigningRequest:
        request = x509.load_pem_x509_csr(data)
        if not request.is_signature_valid:
            raise ValueError("its signature is not by the key that it holds")
        return request

    return _read(pem, "certificate request", parse)


def read_key(pem: str, what: str = "private key") -> PrivateKey:
    """The private key in `pem`.

    Raises:
        UserError: `input.invalid`, `input.too-large`.
    """

    def parse(data: bytes) -> PrivateKey:
        key = load_pem_private_key(data, password=None)
        if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
            raise TypeError("it is neither an elliptic curve key nor an Ed25519 key")
        return key

    return _read(pem, what, parse)


def verify_issued(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Whether `ca` itself signed `certificate`. Says nothing about validity or revocation."""
    try:
        certificate.verify_directly_issued_by(ca)
    except _MALFORMED:
        return False
    return True


def same_key(certificate: x509.Certificate, key: PrivateKey) -> bool:
    """Whether `certificate` is for `key`."""
    return key_bytes(certificate) == key_bytes(key)


def key_bytes(holder: x509.Certificate | x509.CertificateSigningRequest | PrivateKey) -> bytes:
    """The public key in DER (SubjectPublicKeyInfo)."""
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def text_of(thing: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """The PEM text."""
    return thing.public_bytes(Encoding.PEM).decode("ascii")


def text_of_key(key: PrivateKey) -> str:
    """The PEM text, PKCS#8, not encrypted: whoever stores it does so in a private file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
