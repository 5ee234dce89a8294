"""A database of an earlier release, with data in it, becomes one of this release, and the other way round."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from bitdew.catalog import migrations
from bitdew.catalog.attribute_store import AttributeRecord
from bitdew.catalog.data_store import DataStore, Datum, Disk
from bitdew.catalog.database import Database
from bitdew.scheduler.store import SchedulerStore
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.ids import ContentRoot, HostId, Uid, new_uid
from bitdew.core.requirement import Requirement
from bitdew.core.states import MachineState, PlacementState
from bitdew.testing.postgres import PostgresServer

NOW = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
HOST = HostId("7" * 32)
PLAIN = {"replica": 1, "ft": False, "requires": "", "priority": 0}
THREE = {"replica": 3, "ft": False, "requires": "", "priority": 0}
PICKY = {"replica": -1, "ft": True, "requires": "site in (orsay, lyon)", "priority": -7}
DATA: dict[str, tuple[dict[str, Any], bool]] = {
    "plain": (PLAIN, True),
    "three": (THREE, True),
    "three-too": (THREE, True),
    "picky": (PICKY, True),
    "dead": (THREE, False),
}
UIDS = {name: Uid(f"{number:032x}") for number, name in enumerate(DATA, 1)}
MACHINE, DEPLOYMENT = Uid("a" * 32), Uid("b" * 32)


@pytest.fixture
async def bare_postgres(postgres: PostgresServer) -> AsyncIterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    yield await postgres.create(name)
    await postgres.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without any tables."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/catalog.sqlite3"
    return str(request.getfixturevalue("bare_postgres"))


async def to_revision(url: str, revision: str, step: Callable[..., None] = command.upgrade) -> None:
    """Migrate with the same settings as the service, in one transaction, but to a revision of one's choice."""
    database = Database(url)

    def migrate(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", migrations.__path__[0])
        config.attributes["connection"] = connection
        step(config, revision)

    try:
        async with database._engine.begin() as connection:
            await connection.run_sync(migrate)
    finally:
        await database.close()


async def execute(url: str, *statements: tuple[str, dict[str, Any]]) -> None:
    engine: AsyncEngine = create_async_engine(url)
    async with engine.begin() as connection:
        for statement, values in statements:
            await connection.execute(text(statement), values)
    await engine.dispose()


async def rows(url: str, query: str) -> list[Any]:
    engine: AsyncEngine = create_async_engine(url)
    async with engine.connect() as connection:
        found = (await connection.execute(text(query))).all()
    await engine.dispose()
    return list(found)


def inserted(table: str, **values: Any) -> tuple[str, dict[str, Any]]:
    names = ", ".join(f'"{name}"' for name in values)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})", values  # noqa: S608


async def fill(url: str) -> None:
    """The rows that a service of revision 0001 leaves."""
    moment: Any = NOW if "postgresql" in url else NOW.strftime("%Y-%m-%d %H:%M:%S.%f")
    yes, no = (True, False) if "postgresql" in url else (1, 0)
    statements = [
        inserted(
            "hosts",
            uid=HOST,
            name="pc",
            state="alive",
            state_since=moment,
            last_seen=moment,
            report=json.dumps({"name": "pc", "swarm": "127.0.0.1:9"}),
            generation=4,
        )
    ]
    for name, (wishes, alive) in DATA.items():
        statements += [
            inserted(
                "data",
                uid=UIDS[name],
                name=name,
                root=UIDS[name] * 2,
                size=10**12,
                piece_length=65536,
                info_hash="e" * 64,
                created=moment,
                owner="ada",
                attribute=json.dumps(wishes),
                alive=yes if alive else no,
                damaged=no,
            ),
            inserted(
                "disks",
                uid=UIDS[name],
                format="raw",
                os="Debian",
                arch="x86_64",
                version="1",
                publisher="ada",
                expires=moment,
                payload=b"{}",
                signature=b"s",
                certificate="c",
            ),
            inserted(
                "placements",
                data=UIDS[name],
                host=HOST,
                state="held",
                since=moment,
                assigned=moment,
                generation=3,
                failures=0,
                cause="it was asked for",
                done=10**12,
                from_repository=5,
                from_peers=6,
                history="[]",
            ),
        ]
    statements += [
        inserted(
            "deployments",
            uid=DEPLOYMENT,
            data=UIDS["picky"],
            count=1,
            memory=1024,
            cpus=1,
            created=moment,
            owner="ada",
        ),
        inserted(
            "machines",
            uid=MACHINE,
            deployment=DEPLOYMENT,
            data=UIDS["picky"],
            host=HOST,
            state="running",
            since=moment,
            generation=4,
            stop_wanted=no,
            hypervisor="mock",
            cause="",
            console="",
            console_end=0,
        ),
    ]
    await execute(url, *statements)


@pytest.fixture
async def upgraded(url: str) -> AsyncIterator[Database]:
    """A database that a service of revision 0001 left, opened by this release."""
    await to_revision(url, "0001")
    await fill(url)
    database = Database(url)
    await database.migrate()
    yield database
    await database.close()


async def test_wishes_of_data_become_attributes_without_a_name_one_for_each_different_set(upgraded: Database) -> None:
    data = DataStore(upgraded)
    found = await data.get(UIDS.values())
    wishes = {datum.data.name: datum.attribute.attribute for datum in found.values()}
    assert wishes == {
        "plain": Attribute(),
        "three": Attribute(3),
        "three-too": Attribute(3),
        "picky": Attribute(-1, True, Requirement("site in (orsay, lyon)"), -7),
        "dead": Attribute(3),
    }
    stored = await data.attributes.all()
    assert len(stored) == 3
    assert {(r.name, r.owner, r.created, r.changed, r.version) for r in stored.values()} == {(None, "ada", NOW, NOW, 1)}
    assert await data.attributes.counts() == {
        found[UIDS["plain"]].attribute.uid: 1,
        found[UIDS["three"]].attribute.uid: 2,
        found[UIDS["picky"]].attribute.uid: 1,
    }


async def test_attributes_of_the_upgrade_are_found_again_by_their_wishes(upgraded: Database) -> None:
    data = DataStore(upgraded)
    for name in ("plain", "three", "picky"):
        known = (await data.get([UIDS[name]]))[UIDS[name]].attribute
        same = AttributeRecord(new_uid(), None, known.attribute, None, None, None, (), "grace", NOW, NOW)
        assert await data.attributes.add(same) == known


async def test_all_that_was_stored_of_data_is_there_after_the_upgrade(upgraded: Database) -> None:
    found = await DataStore(upgraded).get(UIDS.values())
    assert len(found) == len(DATA)
    for name, (_wishes, alive) in DATA.items():
        datum = found[UIDS[name]]
        assert isinstance(datum, Disk)
        root = ContentRoot(UIDS[name] * 2)
        assert datum.data == Data(UIDS[name], name, root, 10**12, 65536, NOW, "ada")
        assert (datum.alive, datum.damaged, datum.awaited, datum.ends, datum.died) == (alive, False, False, None, None)
        assert (datum.info_hash, datum.record.os, datum.signed.payload) == ("e" * 64, "Debian", b"{}")


async def test_what_refers_to_data_is_there_after_the_upgrade(upgraded: Database) -> None:
    store = SchedulerStore(upgraded)
    placements = await store.placements_on(HOST)
    assert placements.keys() == set(UIDS.values())
    assert {(p.state, p.freed, p.done) for p in placements.values()} == {(PlacementState.HELD, 0, 10**12)}
    (machine,) = await store.machines()
    assert (machine.uid, machine.data, machine.state) == (MACHINE, UIDS["picky"], MachineState.RUNNING)
    assert (await store.deployments([DEPLOYMENT]))[DEPLOYMENT].data == UIDS["picky"]


async def test_foreign_keys_hold_after_the_upgrade(upgraded: Database) -> None:
    refused = [
        "UPDATE disks SET uid = :stranger WHERE uid = :uid",
        "UPDATE data SET attribute = :stranger WHERE uid = :uid",
        "UPDATE placements SET data = :stranger WHERE data = :uid",
        "UPDATE machines SET data = :stranger WHERE data = :uid",
        "DELETE FROM data WHERE uid = :uid",
        "DELETE FROM attributes WHERE :uid <> :stranger",
    ]
    for statement in refused:
        with pytest.raises(IntegrityError):
            async with upgraded.write() as session:
                await session.execute(text(statement), {"uid": UIDS["picky"], "stranger": "f" * 32})
    assert len(await DataStore(upgraded).get(UIDS.values())) == len(DATA)


async def test_names_are_free_or_taken_after_the_upgrade_as_they_were_before(upgraded: Database) -> None:
    data = DataStore(upgraded)
    (known,) = (await data.get([UIDS["plain"]])).values()
    again = Datum(Data(new_uid(), "dead", ContentRoot("1" * 64), 1, 1, NOW, "ada"), "", known.attribute)
    await data.add(again)
    with pytest.raises(IntegrityError):
        async with upgraded.write() as session:
            await session.execute(text("UPDATE data SET name = 'dead' WHERE name = 'plain'"))


async def test_an_empty_database_is_upgraded_too_and_no_one_has_led_yet(url: str) -> None:
    await to_revision(url, "0001")
    await to_revision(url, "0002")
    assert await rows(url, "SELECT count(*) FROM attributes") == [(0,)]
    assert await rows(url, "SELECT uid, epoch FROM leadership") == [(1, 0)]


async def test_a_downgrade_gives_data_back_the_wishes_that_0001_knows(url: str) -> None:
    await to_revision(url, "0001")
    await fill(url)
    kept = "SELECT uid, name, root, size, created, owner, alive FROM data ORDER BY uid"
    before = await rows(url, kept), await rows(url, "SELECT data, host, state, done FROM placements ORDER BY data")
    await to_revision(url, "0002")
    await execute(url, ("UPDATE data SET ends = created, died_because = 'x'", {}))
    await to_revision(url, "0001", command.downgrade)
    assert (
        await rows(url, kept),
        await rows(url, "SELECT data, host, state, done FROM placements ORDER BY data"),
    ) == before
    found = await rows(url, "SELECT name, attribute FROM data")
    wishes = {name: value if isinstance(value, dict) else json.loads(value) for name, value in found}
    assert wishes == {name: wishes for name, (wishes, _alive) in DATA.items()}
    await to_revision(url, "head")
    database = Database(url)
    assert len(await DataStore(database).living()) == 4
    assert (await DataStore(database).living())[0].data.created - NOW == timedelta(0)
    await database.close()


async def test_data_of_before_are_files_and_a_folder_stays_as_its_archive_in_an_earlier_release(url: str) -> None:
    await to_revision(url, "0001")
    await fill(url)
    await to_revision(url, "head")
    assert await rows(url, "SELECT DISTINCT kind FROM data") == [("file",)]
    await execute(url, ("UPDATE data SET kind = 'folder' WHERE name = 'three'", {}))
    kept = "SELECT uid, name, root, size, alive FROM data ORDER BY uid"
    before = await rows(url, kept)
    await to_revision(url, "0002", command.downgrade)
    assert await rows(url, kept) == before
    await to_revision(url, "head")
    assert await rows(url, kept) == before
    assert await rows(url, "SELECT DISTINCT kind FROM data") == [("file",)]


async def test_an_upgrade_that_fails_leaves_the_database_as_it_was(url: str) -> None:
    await to_revision(url, "0001")
    await fill(url)
    await execute(url, ("UPDATE data SET attribute = '[]' WHERE name = 'picky'", {}))  # what no release has written
    before = await rows(url, "SELECT uid, attribute FROM data ORDER BY uid")
    with pytest.raises(AttributeError):
        await to_revision(url, "0002")
    assert await rows(url, "SELECT uid, attribute FROM data ORDER BY uid") == before
    assert await rows(url, "SELECT version_num FROM alembic_version") == [("0001",)]
    await execute(url, ("""UPDATE data SET attribute = '{"replica": 2}' WHERE name = 'picky'""", {}))
    await to_revision(url, "0002")
    assert await rows(url, "SELECT count(*) FROM placements") == [(len(DATA),)]
