"""What the trust tests share: a CA at a fixed time, and parties who hold its certificates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from bitdew.core.data import ImageRecord
from bitdew.core.ids import ContentRoot, Uid
from bitdew.trust.authority import Authority
from bitdew.trust.keys import KeyPair, certificate_request, new_key, new_signing_key
from bitdew.trust.roles import Role

if TYPE_CHECKING:
    from pathlib import Path

SUBJECT = "5" * 32


@dataclass(frozen=True)
class Parties:
    """Makes certificates by one CA."""

    authority: Authority
    now: datetime

    def identity(self, role: Role = Role.USER, name: str = "ada", now: datetime | None = None) -> KeyPair:
        key = new_key()
        request = certificate_request(key, name)
        issued = self.authority.sign_identity(request, role=role, subject_id=SUBJECT, name=name, now=now or self.now)
        return KeyPair(issued.pem, key)

    def swarm(self, name: str = "pc-7") -> KeyPair:
        key = new_key()
        request = certificate_request(key, name)
        return KeyPair(self.authority.sign_swarm(request, subject_id=SUBJECT, name=name, now=self.now).pem, key)

    def signing(self, name: str = "ada", now: datetime | None = None) -> KeyPair:
        key = new_signing_key()
        request = certificate_request(key, name)
        issued = self.authority.sign_signing(request, subject_id=SUBJECT, name=name, now=now or self.now)
        return KeyPair(issued.pem, key)


@pytest.fixture(scope="session")
def now() -> datetime:
    # OpenSSL reads the machine's clock in a handshake, so that the tests' time is the real one, read once.
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def parties(tmp_path_factory: pytest.TempPathFactory, now: datetime) -> Parties:
    return Parties(Authority.open(tmp_path_factory.mktemp("ours") / "ca", now=now, name="Our grid"), now)


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory, now: datetime) -> Parties:
    """Another service, whose CA bears the same name."""
    return Parties(Authority.open(tmp_path_factory.mktemp("theirs") / "ca", now=now, name="Our grid"), now)


@pytest.fixture(scope="session")
def authority(parties: Parties) -> Authority:
    return parties.authority


@pytest.fixture
def private_folder(tmp_path: Path) -> Path:
    return tmp_path / "private"


@pytest.fixture(scope="session")
def record(now: datetime) -> ImageRecord:
    return ImageRecord(
        uid=Uid("a" * 32),
        name="debian-12",
        root=ContentRoot("b" * 64),
        info_hash="c" * 64,
        size=20 << 30,
        format="raw",
        os="Debian 12 “bookworm”",
        arch="x86_64",
        version="12.4-1",
        publisher="ada",
        issued=now,
        expires=now + timedelta(days=90),
    )
