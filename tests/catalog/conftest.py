"""What the catalog's tests share: a migrated database, a CA, the repository's own swarm, and requests to sign."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bitdew.catalog.database import Database
from bitdew.catalog.identity_store import IdentityStore
from bitdew.catalog.registry import Registry

from bitdew.core.host import Endpoint
from bitdew.core.ids import new_uid
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.session import Swarm
from bitdew.testing.clock import SkippingClock
from bitdew.trust.authority import Authority
from bitdew.trust.keys import certificate_request, new_key, new_signing_key
from bitdew.wire.models import EnrolRequest


@pytest.fixture
async def database(empty_database: bytes, tmp_path: Path) -> AsyncIterator[Database]:
    path = tmp_path / "catalog.sqlite3"
    path.write_bytes(empty_database)
    database = Database.in_file(path)
    yield database
    await database.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("ca") / "ca", now=datetime.now(UTC), name="test grid")


@pytest.fixture
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture
def registry(authority: Authority, database: Database, clock: SkippingClock) -> Registry:
    return Registry(authority, IdentityStore(database), clock)


@pytest.fixture
async def swarm(authority: Authority) -> AsyncIterator[Swarm]:
    key = new_key()
    request = certificate_request(key, "repository")
    issued = authority.sign_swarm(request, subject_id=new_uid(), name="repository", now=datetime.now(UTC))
    swarm = await Swarm.start(Endpoint("127.0.0.1", 0), SwarmCredentials(authority.certificate, issued.pem, key))
    yield swarm
    await swarm.close()


@pytest.fixture
def asks() -> Callable[..., EnrolRequest]:
    """Makes a request for every kind of certificate, by keys of its own."""

    def make(secret: str, name: str = "ada") -> EnrolRequest:
        return EnrolRequest(
            secret=secret,
            name=name,
            identity_csr=certificate_request(new_key(), "x"),
            swarm_csr=certificate_request(new_key(), "x"),
            signing_csr=certificate_request(new_signing_key(), "x"),
        )

    return make
