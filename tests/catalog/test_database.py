"""The database: its migrations make the tables that the stores use, and its transactions hold what they promise."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import bitdew.catalog.tables
import bitdew.scheduler.tables
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from bitdew.catalog import migrations
from bitdew.catalog.data_store import DataStore
from bitdew.catalog.database import Base, Database
from bitdew.catalog.tables import CertificateRow
from bitdew.scheduler.store import SchedulerStore
from sqlalchemy import Connection, create_engine, func, inspect, select
from sqlalchemy.exc import IntegrityError, StatementError

from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def row(serial: str, expires: datetime = NOW) -> CertificateRow:
    return CertificateRow(serial=serial, subject_id="5" * 32, role="user", name="ada", expires=expires)


async def count(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(CertificateRow)) or 0


async def tables_of(database: Database) -> set[str]:
    async with database._engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_migrations_and_tables_agree(database: Database) -> None:
    assert {bitdew.catalog.tables.DataRow.__tablename__, bitdew.scheduler.tables.HostRow.__tablename__} <= set(
        Base.metadata.tables
    )

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        )
        return list(compare_metadata(context, Base.metadata))

    async with database._engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_twice_changes_nothing(database: Database) -> None:
    async with database.write() as session:
        session.add(row("1"))
    before = await tables_of(database)
    await database.migrate()
    await database.migrate()
    assert await tables_of(database) == before
    assert await count(database) == 1


async def test_a_downgrade_takes_every_table_away_and_an_upgrade_brings_them_back(database: Database) -> None:
    def down() -> None:
        config = Config()
        config.set_main_option("script_location", migrations.__path__[0])
        engine = create_engine(database.name.replace("+aiosqlite", ""))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "base")
        engine.dispose()

    full = await tables_of(database)
    await asyncio.to_thread(down)
    assert await tables_of(database) == {"alembic_version"}
    await database.migrate()
    assert await tables_of(database) == full


@pytest.mark.parametrize(
    "content", [b"this is a letter, not a database\n" * 400, b"SQLite format 3\x00" + b"\xff" * 8000]
)
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "catalog.sqlite3"
    path.write_bytes(content)
    database = Database.in_file(path)
    with pytest.raises(BitDewError) as refusal:
        await database.migrate()
    await database.close()
    assert refusal.value.key == "storage.failed"
    assert refusal.value.why
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [path.name]


async def test_a_database_of_another_program_is_refused_and_gets_no_tables_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite3"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE placements (colour TEXT)")
    other.close()
    database = Database.in_file(path)
    with pytest.raises(BitDewError) as refusal:
        await database.migrate()
    assert refusal.value.key == "storage.failed"
    assert await tables_of(database) == {"placements"}
    await database.close()


async def test_a_database_of_a_newer_release_is_refused_and_left_as_it_is(database: Database) -> None:
    async with database._engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BitDewError) as refusal:
        await database.migrate()
    assert refusal.value.key == "storage.failed"
    assert "9999" in refusal.value.why
    async with database._engine.connect() as connection:
        versions = await connection.exec_driver_sql("SELECT version_num FROM alembic_version")
        assert versions.scalars().all() == ["9999"]


async def test_a_naive_moment_is_refused_and_nothing_is_stored(database: Database) -> None:
    with pytest.raises(StatementError, match="naive"):
        async with database.write() as session:
            session.add(row("1", expires=NOW.replace(tzinfo=None)))
    assert await count(database) == 0


async def test_a_moment_of_another_zone_comes_back_as_the_same_instant_in_utc(database: Database) -> None:
    async with database.write() as session:
        session.add(row("1", expires=NOW.astimezone(timezone(timedelta(hours=-7)))))
    async with database.read() as session:
        found = await session.scalar(select(CertificateRow.expires))
    assert found == NOW
    assert found.tzinfo is UTC


async def test_a_reader_sees_one_view_while_others_write(database: Database) -> None:
    async with database.write() as session:
        session.add(row("1"))
    query = select(func.count()).select_from(CertificateRow)
    async with database.read() as reader:
        assert await reader.scalar(query) == 1
        async with database.write() as writer:
            writer.add(row("2"))
        assert await reader.scalar(query) == 1
    assert await count(database) == 2


async def test_a_transaction_that_fails_late_stores_nothing(database: Database) -> None:

    async def write() -> None:
        async with database.write() as session:
            session.add(row("1"))
            await session.flush()
            await session.execute(CertificateRow.__table__.insert().values(serial="2"))

    with pytest.raises(IntegrityError):
        await write()
    assert await count(database) == 0


async def test_a_cancelled_transaction_stores_nothing_and_lets_the_next_one_in(database: Database) -> None:
    inside = asyncio.Event()

    async def write() -> None:
        async with database.write() as session:
            session.add(row("1"))
            await session.flush()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.write() as session:
        session.add(row("2"))
    assert await count(database) == 1


async def test_writers_queue_and_none_is_lost(database: Database) -> None:
    async def write(number: int) -> None:
        async with database.write() as session:
            before = await session.scalar(select(func.count()).select_from(CertificateRow))
            session.add(row(f"{before}"))  # two that read the same count would collide
            await session.flush()
            assert number >= 0

    await asyncio.gather(*(write(number) for number in range(20)))
    assert await count(database) == 20


async def test_an_order_to_an_unknown_host_can_not_be_stored(database: Database) -> None:
    order = bitdew.scheduler.tables.OrderRow(
        uid="1" * 32, host="2" * 32, generation=1, kind="place", subject="3" * 32, cause="", created=NOW
    )
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            session.add(order)


async def test_more_values_than_a_statement_can_name_are_still_told_apart(tmp_path) -> None:
    database = Database.in_file(tmp_path / "catalog.sqlite3")
    await database.migrate()
    many = [Uid(f"{number:032x}") for number in range(40_000)]
    assert await DataStore(database).get(many) == {}
    assert await SchedulerStore(database).machines(data=many, uids=many) == []
    assert set(await SchedulerStore(database).placements_of(many)) == set(many)
    await database.close()


@pytest.mark.parametrize("url", ["nonsense", "mysql://localhost/x", "sqlite:///sync-driver.db", "nope+nope://x"])
def test_a_url_of_no_usable_database_is_refused_by_name(url) -> None:
    with pytest.raises(BitDewError) as caught:
        Database(url)
    assert caught.value.key == "input.invalid"
