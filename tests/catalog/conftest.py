"""What the catalog's tests share: a migrated database, a CA, the repository's own swarm, and requests to sign."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bitdew.catalog.attributes import Attributes
from bitdew.catalog.contents import Contents
from bitdew.catalog.data import DataRoom
from bitdew.catalog.data_store import DataStore
from bitdew.catalog.database import Database
from bitdew.catalog.identity_store import IdentityStore
from bitdew.catalog.registry import Registry
from bitdew.catalog.repository import Repository

from bitdew.core.host import Endpoint
from bitdew.core.ids import HostId, Uid, new_uid
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.seeder.seeder import Seeder
from bitdew.testing.clock import SkippingClock
from bitdew.trust.authority import Authority
from bitdew.trust.keys import certificate_request, new_key, new_signing_key
from bitdew.trust.roles import Role, Subject
from bitdew.wire.models import EnrolRequest


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
async def swarm(authority: Authority) -> AsyncIterator[Seeder]:
    key = new_key()
    request = certificate_request(key, "repository")
    issued = authority.sign_swarm(request, subject_id=new_uid(), name="repository", now=datetime.now(UTC))
    swarm = await Seeder.start(Endpoint("127.0.0.1", 0), SwarmCredentials(authority.certificate, issued.pem, key))
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


# Rooms ----------------------------------------------------------------------------------------------------------------


def someone(role: Role = Role.PUBLISHER, subject_id: str = "ada") -> Subject:
    """Who asks for something."""
    return Subject(role, subject_id, "1", subject_id)


@dataclass
class Rooms:
    """The catalog's rooms on one database, and what they told the scheduler."""

    store: DataStore
    contents: Contents
    attributes: Attributes
    data: DataRoom
    hosts: dict[str, list[HostId]]
    clock: SkippingClock
    told: list[set[Uid]]
    told_attributes: list[Uid]
    ada: Subject
    grace: Subject
    operator: Subject


@pytest.fixture
async def rooms(database: Database, swarm: Seeder, clock: SkippingClock, tmp_path: Path) -> Rooms:
    """The rooms as the service has them, without a service."""
    store, hosts = DataStore(database), {"pc-1": [HostId("1" * 32)], "twin": [HostId("2" * 32), HostId("3" * 32)]}
    contents = Contents(store, Repository(tmp_path / "repository", swarm, clock), clock)
    attributes = Attributes(store, lambda: hosts, clock)
    data = DataRoom(store, attributes, contents, clock)
    told: list[set[Uid]] = []
    told_attributes: list[Uid] = []
    contents.changed = data.changed = lambda uids: told.append(set(uids))
    attributes.changed = told_attributes.append
    await contents.open()
    people = (someone(), someone(subject_id="grace"), someone(Role.OPERATOR, "root"))
    return Rooms(store, contents, attributes, data, hosts, clock, told, told_attributes, *people)
