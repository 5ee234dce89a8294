"""The folder that holds one's identity: whose service it is, the keys, and the certificates granted for them.

Owns the files of a worker's home or a user's profile. It must not talk to a service: it prepares requests, and stores
what was granted. Everything here blocks; callers run it in a thread.

A key is stored before a certificate is asked for it, and is kept for life. So a crash between the two loses nothing
(the same request can be sent again), and a renewal replaces one file, which fits its key before and after.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError, error

from . import pem as text
from . import private_files as files
from .keys import KeyPair, certificate_request, fingerprint, new_key, new_signing_key, subject_in
from .roles import IDENTITIES, Role, Subject

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

_JOIN_AGAIN: Final = "Remove this profile's folder and join the service again with a new token."
_LONGEST_URL: Final = 2048


@dataclass(frozen=True, slots=True)
class Requests:
    """Certificate requests (PEM) that wait to be granted; None where the role has no use for one."""

    identity: str
    swarm: str | None = None
    signing: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity that was granted.

    Attributes:
        url: The service's URL.
        ca: The certificate of its CA, PEM.
        fingerprint: SHA-256 of that, hexadecimal.
        subject: Who one is, as the identity certificate says.
        identity: The pair to ask the service with.
        swarm: The pair to exchange pieces with: a worker's.
        signing: The pair to sign image records with: a publisher's or operator's.
        folder: Where all of it is kept.
    """

    url: str
    ca: str
    fingerprint: str
    subject: Subject
    identity: KeyPair
    swarm: KeyPair | None
    signing: KeyPair | None
    folder: Path

    def has_expired(self, now: datetime) -> bool:
        """Whether the identity certificate ended."""
        return self.subject.expires is not None and now >= self.subject.expires

    def require_valid(self, now: datetime) -> None:
        """Check, before anything is asked, what the service would answer by closing the connection without a word.

        Raises:
            UserError: `certificate.expired`.
        """
        if self.subject.expires is not None and self.has_expired(now):
            raise error(
                "certificate.expired",
                f"The certificate of {self.subject.name} ended on {self.subject.expires:%Y-%m-%d %H:%M} UTC",
                why="it was not renewed in time",
                expires=self.subject.expires.isoformat(),
            )


class IdentityFolder:
    """One identity on disk: `service.json`, `ca.pem`, and a `.key` and a `.pem` for identity, swarm and signing.

    `service.json` is written last: with it the identity exists, without it only keys wait for their certificates.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        """Whether an identity was granted and stored here."""
        return files.is_there(self._path("service.json"))

    def load(self) -> Identity:
        """The identity that is stored here, its parts checked against each other. Expiry is not looked at.

        Raises:
            UserError: `profile.missing`, if there is none.
            HostError: `storage.failed`, if files are missing, damaged or do not belong together.
        """
        if not self.exists():
            raise error("profile.missing", f"There is no identity in {self.folder}", path=str(self.folder))
        url, expected = self._service()
        ca_path = self._path("ca.pem")
        root = self._certificate(ca_path)
        ca = text.text_of(root)
        if fingerprint(ca) != expected:
            raise files.damaged(ca_path, "it is not the CA that service.json names", _JOIN_AGAIN)
        found, subject = self._pair("identity", root)
        if subject.role not in IDENTITIES:
            raise files.damaged(self._path("identity.pem"), f"its role is {subject.role}", _JOIN_AGAIN)
        swarm = self._pair("swarm", root)[0] if files.is_there(self._path("swarm.pem")) else None
        signing = self._pair("signing", root)[0] if files.is_there(self._path("signing.pem")) else None
        return Identity(url, ca, expected, subject, found, swarm, signing, self.folder)

    def prepare(self, role: Role) -> Requests:
        """Requests for the certificates that `role` needs, by keys that are kept here; keys there are used again.

        Raises:
            UserError: `certificate.role`, if that is no role one can join with.
            HostError: `storage.failed`, `storage.full`.
        """
        if role not in IDENTITIES:
            raise error("certificate.role", f"No one joins with the role {role}")
        files.make_private_folder(self.folder)
        signs = role in {Role.PUBLISHER, Role.OPERATOR}
        return Requests(
            identity=self._request("identity"),
            swarm=self._request("swarm") if role is Role.WORKER else None,
            signing=self._request("signing") if signs else None,
        )

    def store(
        self, *, url: str, ca: str, identity: str, swarm: str | None = None, signing: str | None = None
    ) -> Identity:
        """Keep what the service granted, at enrolment and at each renewal.

        Args:
            url: The service's URL.
            ca: Its CA's certificate, PEM, checked before against a token or known from before.
            identity: The identity certificate, PEM.
            swarm: The swarm certificate, PEM; None keeps the one that is there.
            signing: The signing certificate, PEM; None keeps the one that is there.

        Kept certificates of another subject than `identity` names are removed.

        Raises:
            UserError: `profile.taken`, if an identity of another service is here; `certificate.foreign`, if a
                certificate is not by `ca` or not for our key; `input.invalid`.
            HostError: `storage.failed`, `storage.full`. What was there before then still holds.
        """
        root = text.read_certificate(ca, "CA's certificate")
        ours = fingerprint(ca)
        if self.exists() and self._service()[1] != ours:
            raise error("profile.taken", f"{self.folder} holds the identity of another service", path=str(self.folder))
        subject = self._granted("identity", identity, root, IDENTITIES)
        others = {"swarm": (swarm, Role.SWARM), "signing": (signing, Role.SIGNING)}
        for kind, (granted, role) in others.items():
            if granted is not None and self._granted(kind, granted, root, {role}).subject_id != subject.subject_id:
                raise error("certificate.foreign", f"The {kind} certificate is another subject's")
        # The identity comes after what goes with it, and service.json after all.
        files.write_private(self._path("ca.pem"), text.text_of(root))
        for kind, (granted, _) in others.items():
            if granted is not None:
                files.write_private(self._path(f"{kind}.pem"), granted)
            elif self._of_another(kind, subject):
                files.remove(self._path(f"{kind}.pem"))
        files.write_private(self._path("identity.pem"), identity)
        about = {
            "url": url,
            "fingerprint": ours,
            "subject_id": subject.subject_id,
            "name": subject.name,
            "role": str(subject.role),
        }
        files.write_private(self._path("service.json"), json.dumps(about, indent=2) + "\n")
        return self.load()

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _service(self) -> tuple[str, str]:
        """The URL and the CA's fingerprint. The rest of service.json is for people: the certificate says it too."""
        path = self._path("service.json")
        try:
            about = json.loads(self._text(path))
            url, expected = about["url"], about["fingerprint"]
        except (ValueError, KeyError, TypeError, RecursionError) as cause:
            raise files.damaged(path, "it is not the JSON that was written", _JOIN_AGAIN) from cause
        if not isinstance(url, str) or len(url) > _LONGEST_URL or not isinstance(expected, str):
            raise files.damaged(path, "its url or fingerprint is no text", _JOIN_AGAIN)
        return url, expected

    def _text(self, path: Path) -> str:
        found = files.read_private(path)
        if found is None:
            raise files.damaged(path, "the file is missing", _JOIN_AGAIN)
        return found

    def _certificate(self, path: Path) -> x509.Certificate:
        try:
            return text.read_certificate(self._text(path))
        except BitDewError as cause:
            if cause.key == "storage.failed":
                raise
            raise files.damaged(path, str(cause), _JOIN_AGAIN) from cause

    def _key(self, kind: str) -> text.PrivateKey:
        path = self._path(f"{kind}.key")
        stored = self._text(path)
        try:
            return text.read_key(stored)
        except BitDewError as cause:
            raise files.damaged(path, str(cause), _JOIN_AGAIN) from cause

    def _pair(self, kind: str, root: x509.Certificate) -> tuple[KeyPair, Subject]:
        path = self._path(f"{kind}.pem")
        certificate, key = self._certificate(path), self._key(kind)
        if not text.same_key(certificate, key):
            raise files.damaged(path, f"it is not for the key in {kind}.key", _JOIN_AGAIN)
        if not text.verify_issued(certificate, root):
            raise files.damaged(path, "it is not by the CA in ca.pem", _JOIN_AGAIN)
        return KeyPair(text.text_of(certificate), text.text_of_key(key)), subject_in(certificate)

    def _request(self, kind: str) -> str:
        path = self._path(f"{kind}.key")
        if not files.is_there(path):
            files.write_private(path, new_signing_key() if kind == "signing" else new_key())
        return certificate_request(text.text_of_key(self._key(kind)), kind)

    def _granted(self, kind: str, granted: str, root: x509.Certificate, roles: frozenset[Role] | set[Role]) -> Subject:
        certificate = text.read_certificate(granted, f"{kind} certificate")
        if not text.same_key(certificate, self._key(kind)):
            raise error("certificate.foreign", f"The {kind} certificate is not for our key")
        if not text.verify_issued(certificate, root):
            raise error("certificate.foreign", f"The {kind} certificate is not by the service's CA")
        subject = subject_in(certificate)
        if subject.role not in roles:
            raise error("certificate.role", f"The {kind} certificate came with the role {subject.role}")
        return subject

    def _of_another(self, kind: str, subject: Subject) -> bool:
        path = self._path(f"{kind}.pem")
        return files.is_there(path) and subject_in(self._certificate(path)).subject_id != subject.subject_id
