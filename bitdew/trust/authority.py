"""The private CA of one service: made at first start, kept in one file, it signs every certificate there is.

Owns which fields a certificate of each role has, and how long it lasts. It decides nothing about who may have one.
Leaves are signed by the root itself, because libtorrent trusts the first certificate it is given and no chains.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bitdew.core.errors import BitDewError, error

from . import pem as text
from . import private_files as files
from .keys import KeyPair, needs_renewal, new_key
from .roles import IDENTITIES, LONGEST_NAME, Role, checked_common_name, subject_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SERVICE_NAME: Final = "bitdew-service"
"""The DNS name in the service's certificate: what clients verify, whatever address they reached it at."""

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far before its making a certificate's validity begins, for machines whose clocks are behind."""

ROOT_VALIDITY: Final = timedelta(days=3650)
VALIDITY: Final = {
    Role.SERVICE: timedelta(days=365),
    Role.OPERATOR: timedelta(days=30),
    Role.PUBLISHER: timedelta(days=30),
    Role.USER: timedelta(days=30),
    Role.WORKER: timedelta(days=30),
    Role.SWARM: timedelta(days=30),
    Role.SIGNING: timedelta(days=365),
}

_LARGEST_REQUEST: Final = 4096
_MOST_NAMES: Final = 64
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_PURPOSES: Final = {
    Role.SERVICE: (ExtendedKeyUsageOID.SERVER_AUTH,),
    Role.SWARM: (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    Role.SIGNING: (ExtendedKeyUsageOID.CODE_SIGNING,),
    **dict.fromkeys(IDENTITIES, (ExtendedKeyUsageOID.CLIENT_AUTH,)),
}


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was just made.

    Attributes:
        pem: The certificate.
        serial: Its number, hexadecimal, as in `Subject.serial`.
        expires: The end of its validity, UTC.
    """

    pem: str
    serial: str
    expires: datetime


class Authority:
    """The CA's key and certificate. Methods that sign need no lock and touch no file; each takes well under 1 ms.

    Attributes:
        certificate: The root certificate, PEM: what everyone who joined trusts.
        fingerprint: SHA-256 of its DER, hexadecimal: what tokens carry.
    """

    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, root: x509.Certificate) -> None:
        self._folder = folder
        self._key = key
        self._root = root
        self.certificate: str = text.text_of(root)
        self.fingerprint: str = root.fingerprint(hashes.SHA256()).hex()
        self.expires: datetime = root.not_valid_after_utc

    @classmethod
    def open(cls, folder: Path, *, now: datetime, name: str) -> Authority:
        """The CA in `folder`, made there under `name` if there is none. Blocks: call it in a thread.

        Key and certificate are one file, `authority.pem`, renamed into place: a kill at any point leaves a whole CA or
        none, and of two processes that start at once one makes it and the other loads it.

        Raises:
            HostError: `storage.failed` if the file is damaged or can't be read, `storage.full`.
            UserError: `certificate.expired` after the CA's ten years; `input.invalid` for an impossible name.
        """
        files.make_private_folder(folder)
        path = folder / "authority.pem"
        stored = files.read_private(path)
        if stored is None:
            with files.alone_in(folder):
                stored = files.read_private(path)
                if stored is None:
                    files.sweep_unfinished(path)
                    stored = _new_root(name, now)
                    files.write_private(path, stored)
        key, root = _checked_root(path, stored)
        if now >= root.not_valid_after_utc:
            raise error(
                "certificate.expired",
                f"The service's CA ended on {root.not_valid_after_utc:%Y-%m-%d}",
                do=f"Move {path} away to start with a new CA; then every host and user has to join again.",
            )
        return cls(folder, key, root)

    def service_pair(self, names: Iterable[str], *, now: datetime) -> KeyPair:
        """The service's own pair, kept in the CA's folder. Blocks: call it in a thread.

        It is made anew when there is none, when it is not whole, when another name is asked for, or when less than a
        third of its validity is left.

        Raises:
            HostError: `storage.failed`, `storage.full`.
            UserError: as `issue_service`.
        """
        asked = list(names)
        wanted = _service_names(asked)
        path = self._folder / "service.pem"
        kept = self._kept_service(files.read_private(path) or "", wanted, now)
        if kept is None:
            kept = self.issue_service(asked, now=now)
            files.write_private(path, kept.certificate + kept.private_key)
        return kept

    def _kept_service(self, stored: str, wanted: Sequence[x509.GeneralName], now: datetime) -> KeyPair | None:
        try:
            certificate, key = text.read_certificate(stored), text.read_key(stored)
        except BitDewError:
            return None
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        whole = text.verify_issued(certificate, self._root) and text.same_key(certificate, key)
        pair = KeyPair(text.text_of(certificate), text.text_of_key(key))
        if not whole or not set(wanted) <= set(names) or needs_renewal(pair.certificate, now):
            return None
        return pair

    def issue_service(self, names: Iterable[str], *, now: datetime) -> KeyPair:
        """A fresh key and certificate for the service itself, 365 days.

        Args:
            names: Host names and IP addresses under which the service is reached, besides `bitdew-service`,
                `localhost` and the loopback addresses, which are always in it.
            now: UTC.

        Raises:
            UserError: `input.invalid` for what is no name or address; `certificate.expired` if the CA is.
        """
        key = new_key()
        public = text.read_key(key).public_key()
        issued = self._issue(public, Role.SERVICE, self.fingerprint[:32], SERVICE_NAME, _service_names(names), now)
        return KeyPair(issued.pem, key)

    def sign_identity(self, csr_pem: str, *, role: Role, subject_id: str, name: str, now: datetime) -> Issued:
        """A certificate, 30 days, with which an operator, publisher, user or worker asks the service.

        Of the request only the public key is used: whoever signs knows the role and the name.

        Raises:
            UserError: `certificate.role` for a role that is no identity; `input.invalid`, `input.too-large` for a
                request, a key (ECDSA on P-256 is wanted), an id or a name that can't be used; `certificate.expired`.
        """
        if role not in IDENTITIES:
            raise error("certificate.role", f"The role {role} is no identity")
        return self._issue(_requested_ec(csr_pem), role, subject_id, name, (), now)

    def sign_swarm(
        self, csr_pem: str, *, subject_id: str, name: str, now: datetime, lasting: timedelta | None = None
    ) -> Issued:
        """A certificate, 30 days or `lasting`, with which a host or a publisher exchanges pieces.

        Its DNS name `*` is what libtorrent asks for.

        Raises:
            UserError: as `sign_identity`.
        """
        return self._issue(_requested_ec(csr_pem), Role.SWARM, subject_id, name, (x509.DNSName("*"),), now, lasting)

    def sign_signing(self, csr_pem: str, *, subject_id: str, name: str, now: datetime) -> Issued:
        """A certificate, 365 days, for the Ed25519 key with which the publisher called `name` signs image records.

        Raises:
            UserError: as `sign_identity`; here the key has to be Ed25519.
        """
        public = _request(csr_pem).public_key()
        if not isinstance(public, ed25519.Ed25519PublicKey):
            raise error("input.invalid", "The request's key can't sign image records", why="it is not an Ed25519 key")
        return self._issue(public, Role.SIGNING, subject_id, name, (), now)

    def _issue(
        self,
        public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
        role: Role,
        subject_id: str,
        name: str,
        dns: Sequence[x509.GeneralName],
        now: datetime,
        lasting: timedelta | None = None,
    ) -> Issued:
        uri = x509.UniformResourceIdentifier(subject_uri(role, subject_id))
        start, expires = _span(now, lasting or VALIDITY[role])
        expires = min(expires, self._root.not_valid_after_utc)
        if expires <= now:
            raise error("certificate.expired", "The service's CA ended, it can't sign any more")
        serial = x509.random_serial_number()
        root_id = self._root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_named(checked_common_name(name)))
            .issuer_name(self._root.subject)
            .public_key(public)
            .serial_number(serial)
            .not_valid_before(start)
            .not_valid_after(expires)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_PURPOSES[role]), critical=True)
            .add_extension(x509.SubjectAlternativeName([uri, *dns]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return Issued(text.text_of(certificate), f"{serial:x}", expires)


def _span(now: datetime, validity: timedelta) -> tuple[datetime, datetime]:
    """Begin and end of a validity, in whole seconds as certificates count.

    Raises ValueError for a time without a zone: that is a defect of the caller.
    """
    if now.tzinfo is None:
        raise ValueError("a time without a zone was handed in")
    whole = now.replace(microsecond=0)
    return whole - CLOCK_SKEW, whole + validity


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _new_root(name: str, now: datetime) -> str:
    """A fresh root: its certificate and its key in one text."""
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise error(
            "input.invalid",
            f"{name[:80]!r} can't name a CA",
            why=f"1 to {LONGEST_NAME} printable characters are allowed",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    start, expires = _span(now, ROOT_VALIDITY)
    root = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(expires)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return text.text_of(root) + text.text_of_key(key)


def _checked_root(path: Path, stored: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    do = f"Restore {path} from a backup. Without it, move it away: then every host and user has to join again."
    try:
        root, key = text.read_certificate(stored, "CA's certificate"), text.read_key(stored, "CA's key")
    except BitDewError as cause:
        raise files.damaged(path, str(cause.why or cause.message), do) from cause
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not text.same_key(root, key):
        raise files.damaged(path, "the key is not the certificate's", do)
    if not text.verify_issued(root, root):
        raise files.damaged(path, "the certificate is not signed by its own key", do)
    return key, root


def _request(csr_pem: str) -> x509.CertificateSigningRequest:
    if len(csr_pem) > _LARGEST_REQUEST:
        raise error("input.too-large", "The certificate request is too large", why=f"over {_LARGEST_REQUEST} bytes")
    return text.read_request(csr_pem)


def _requested_ec(csr_pem: str) -> ec.EllipticCurvePublicKey:
    public = _request(csr_pem).public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise error("input.invalid", "The request's key can't be used for TLS here", why="it is not ECDSA on P-256")
    return public


def _service_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """The service's names, each once, its own first."""
    given = list(dict.fromkeys([SERVICE_NAME, "localhost", "127.0.0.1", "::1", *names]))
    if len(given) > _MOST_NAMES:
        raise error("input.too-large", f"The service has {len(given)} names", why=f"at most {_MOST_NAMES} are allowed")
    found: list[x509.GeneralName] = []
    for name in given:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name.partition("%")[0])))  # a zone is this machine's own
        except ValueError:
            if not _HOST_NAME.fullmatch(name):
                raise error("input.invalid", f"{name[:80]!r} is no host name and no IP address") from None
            found.append(x509.DNSName(name))
    return found
