"""Real libtorrent nodes on loopback, each with an address and a certificate of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bitdew.core.content import ContentHasher
from bitdew.core.host import Endpoint
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.metainfo import Metainfo, build_metainfo
from bitdew.swarm.session import Swarm
from bitdew.swarm.settings import SwarmLimits

MB = 1024 * 1024
UNLIMITED = SwarmLimits()
_PEM = serialization.Encoding.PEM


class Authority:
    """A CA for tests, which signs leaves directly."""

    def __init__(self, name: str = "test CA") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key, 30, authority=True)

    def issue(self, days: int = 30) -> SwarmCredentials:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer")])
        private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        return SwarmCredentials(self.certificate, self._sign(name, key, days), private)

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, *, authority: bool = False) -> str:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=2))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("*")]), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_PEM).decode()


@dataclass
class Sample:
    """A file, what it is, and its plain SHA-256."""

    path: Path
    metainfo: Metainfo
    sha256: str


@dataclass
class Nodes:
    """Starts nodes, each at its own loopback address."""

    authority: Authority
    started: list[Swarm] = field(default_factory=list)
    addresses: itertools.count[int] = field(default_factory=lambda: itertools.count(2))

    async def start(
        self, credentials: SwarmCredentials | None = None, limits: SwarmLimits = UNLIMITED, host: str = ""
    ) -> Swarm:
        host = host or f"127.0.3.{next(self.addresses)}"
        swarm = await Swarm.start(Endpoint(host, 0), credentials or self.authority.issue(), limits)
        self.started.append(swarm)
        return swarm


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def other_authority() -> Authority:
    return Authority("other CA")


@pytest.fixture
async def nodes(authority: Authority) -> AsyncIterator[Nodes]:
    nodes = Nodes(authority)
    yield nodes
    for swarm in nodes.started:
        await swarm.close()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def make_sample(tmp_path: Path) -> Callable[..., Sample]:
    def make(size: int = 2 * MB, name: str = "original.raw") -> Sample:
        data = random.Random(size).randbytes(size)  # noqa: S311
        path = tmp_path / name
        path.write_bytes(data)
        hasher = ContentHasher(size)
        hasher.update(data)
        return Sample(path, build_metainfo(hasher.finish()), hashlib.sha256(data).hexdigest())

    return make


@pytest.fixture
def sample(make_sample: Callable[..., Sample]) -> Sample:
    return make_sample()


async def within(seconds: float, awaitable):  # type: ignore[no-untyped-def]
    async with asyncio.timeout(seconds):
        return await awaitable


async def until_progress(transfer, arrived: Callable[[], bool], seconds: float = 20) -> None:  # type: ignore[no-untyped-def]
    """Return when `arrived` holds after some change of the transfer."""
    async with asyncio.timeout(seconds):
        while not arrived():
            await transfer.next_change(transfer.changes)
