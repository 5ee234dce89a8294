"""The database: its migrations make the tables that the stores use, and its transactions hold what they promise."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bitdew.catalog.tables
import bitdew.scheduler.jobs.tables
import bitdew.scheduler.tables
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from bitdew.catalog import migrations
from bitdew.catalog.data_store import DataStore
from bitdew.catalog.database import Base, Database
from bitdew.catalog.postgres import Keys
from bitdew.catalog.tables import CertificateRow
from bitdew.scheduler.store import SchedulerStore
from sqlalchemy import Connection, Identity, Index, event, func, inspect, select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.errors import BitDewError, HostError, UserError, error
from bitdew.core.ids import Uid
from bitdew.testing.postgres import PostgresServer

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def row(serial: str, expires: datetime = NOW) -> CertificateRow:
    return CertificateRow(serial=serial, subject_id="5" * 32, role="user", name="ada", expires=expires)


async def count(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(CertificateRow)) or 0


async def tables_of(database: Database) -> set[str]:
    async with database._engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


def without_directions(found: list[object]) -> list[object]:
    """Of what differs, all but indexes that differ in this only, that SQLite tells of no column that it descends."""

    def columns(index: Index) -> list[str]:
        return [re.sub(r"^\w+\.| DESC$", "", str(one)) for one in index.expressions]

    def told(kind: str) -> dict[str, Index]:
        indexes = [one[1] for one in found if isinstance(one, tuple) and one[0] == kind]
        return {str(index.name): index for index in indexes if isinstance(index, Index)}

    removed, added = told("remove_index"), told("add_index")
    same = {name for name in removed.keys() & added if columns(removed[name]) == columns(added[name])}
    assert all(any(" DESC" in str(one) for one in added[name].expressions) for name in same)
    return [one for one in found if not (isinstance(one, tuple) and getattr(one[1], "name", None) in same)]


async def test_migrations_and_tables_agree(database: Database) -> None:
    known = bitdew.catalog.tables.DataRow, bitdew.scheduler.tables.HostRow, bitdew.scheduler.jobs.tables.JobRow
    assert {one.__tablename__ for one in known} <= set(Base.metadata.tables)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        )
        found = list(compare_metadata(context, Base.metadata))
        if connection.dialect.name == "sqlite":  # it numbers rows by itself, and tells of no identity
            found = [one for one in found if not (isinstance(one, list) and isinstance(one[0][-1], Identity))]
            found = without_directions(found)
        return found

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
    def down(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", migrations.__path__[0])
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    full = await tables_of(database)
    async with database._engine.begin() as connection:
        await connection.run_sync(down)
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


# Who may write, and when ----------------------------------------------------------------------------------------------


async def test_the_facts_are_one_tasks_at_a_time(database: Database) -> None:
    inside = most = 0

    async def change() -> None:
        nonlocal inside, most
        async with database.facts():
            inside += 1
            most = max(most, inside)
            async with database.write() as session:
                found = await session.scalar(select(func.count()).select_from(CertificateRow))
                session.add(row(f"{found}"))
            inside -= 1

    await asyncio.gather(*(change() for _ in range(10)))
    assert (most, await count(database)) == (1, 10)


async def test_who_gives_up_waiting_for_the_facts_keeps_no_one_from_them(database: Database) -> None:
    async with database.facts():
        waiting = [asyncio.create_task(database.facts().__aenter__()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(10), database.facts(), database.write() as session:
        session.add(row("1"))
    assert await count(database) == 1


async def test_an_error_inside_the_facts_gives_them_back(database: Database) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            async with database.facts():
                raise ZeroDivisionError
    async with asyncio.timeout(10), database.facts():
        pass


async def test_a_task_that_outlives_the_facts_it_was_made_in_still_writes(database: Database) -> None:
    ended = asyncio.Event()

    async def write() -> None:
        await ended.wait()
        async with database.write() as session:
            session.add(row("1"))

    async with database.facts():
        task = asyncio.create_task(write())
        async with database.write() as session:
            session.add(row("2"))
    ended.set()
    await task
    assert await count(database) == 2


# Group commit ---------------------------------------------------------------------------------------------------------


def adds(serial: str) -> Callable[[AsyncSession], Awaitable[str]]:
    async def work(session: AsyncSession) -> str:
        session.add(row(serial))
        return serial

    return work


class Commits:
    """Counts the transactions that were committed."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        event.listen(database._engine.sync_engine, "commit", self.add)

    def add(self, _connection: Connection) -> None:
        self.count += 1


async def test_writes_of_many_callers_share_few_transactions_and_each_gets_its_own_result(database: Database) -> None:
    commits = Commits(database)
    results = await asyncio.gather(*(database.gather(adds(f"{number}")) for number in range(300)))
    assert results == [f"{number}" for number in range(300)]
    assert commits.count < 20
    assert await count(database) == 300


async def test_a_write_is_in_the_database_when_its_caller_is_told(database: Database, database_url: str) -> None:
    other = Database(database_url)
    await database.gather(adds("1"))
    assert await count(other) == 1
    await other.close()


@pytest.mark.parametrize("flushes", [True, False])
async def test_a_write_that_is_refused_fails_alone(database: Database, flushes: bool) -> None:
    await database.gather(adds("taken"))

    async def refused(session: AsyncSession) -> None:
        session.add(row("half"))
        await session.execute(CertificateRow.__table__.insert().values(**vars_of(row("taken"))))
        if flushes:
            await session.flush()

    async def raises(session: AsyncSession) -> None:
        session.add(row("other half"))
        await session.flush()
        raise error("token.used", "The token was used up")

    works = [adds("1"), refused, adds("2"), raises, adds("3"), adds("taken"), adds("4")]
    results = await asyncio.gather(*(database.gather(work) for work in works), return_exceptions=True)
    assert [r if isinstance(r, str) else type(r) for r in results] == [
        "1", IntegrityError, "2", UserError, "3", IntegrityError, "4",
    ]  # fmt: skip
    async with database.read() as session:
        assert sorted(await session.scalars(select(CertificateRow.serial))) == ["1", "2", "3", "4", "taken"]


def vars_of(one: CertificateRow) -> dict[str, object]:
    return {column.name: getattr(one, column.name) for column in CertificateRow.__table__.columns}


async def test_a_write_sees_what_those_before_it_wrote(database: Database) -> None:
    async def numbered(session: AsyncSession) -> int:
        found = await session.scalar(select(func.count()).select_from(CertificateRow)) or 0
        session.add(row(f"{found}"))
        return found

    assert sorted(await asyncio.gather(*(database.gather(numbered) for _ in range(40)))) == list(range(40))


async def test_a_caller_that_is_cancelled_in_the_queue_stores_nothing_and_harms_no_one(database: Database) -> None:
    async with database.write():  # nothing is begun before this ends
        tasks = [asyncio.create_task(database.gather(adds(f"{number}"))) for number in range(6)]
        await asyncio.sleep(0)
        tasks[4].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results].count(str) == 5
    async with database.read() as session:
        stored = set(await session.scalars(select(CertificateRow.serial)))
    assert {"0", "1", "2", "3", "5"} <= stored


async def test_a_caller_that_is_cancelled_while_its_write_runs_takes_no_other_one_with_it(database: Database) -> None:
    begun = asyncio.Event()

    async def slow(session: AsyncSession) -> None:
        begun.set()
        for _ in range(5):
            await session.scalar(select(func.count()).select_from(CertificateRow))
        session.add(row("slow"))

    first = asyncio.create_task(database.gather(slow))
    others = [asyncio.create_task(database.gather(adds(f"{number}"))) for number in range(5)]
    await begun.wait()
    first.cancel()
    assert await asyncio.gather(*others) == ["0", "1", "2", "3", "4"]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_closing_stores_what_was_handed_in(database: Database, database_url: str) -> None:
    tasks = [asyncio.create_task(database.gather(adds(f"{number}"))) for number in range(50)]
    await asyncio.sleep(0)
    await database.close()
    assert len(await asyncio.gather(*tasks)) == 50
    other = Database(database_url)
    assert await count(other) == 50
    await other.close()


async def test_no_caller_waits_for_all_those_after_it(database: Database) -> None:
    """Whoever goes on asking gets its turns among the others: the queue is in the order of asking."""
    order: list[int] = []

    async def asks(caller: int) -> None:
        for turn in range(20):
            await database.gather(adds(f"{caller}-{turn}"))
            order.append(caller)

    await asyncio.gather(*(asks(caller) for caller in range(20)))
    firsts = [order.index(caller) for caller in range(20)]
    assert max(firsts) < 60


# A database that goes away --------------------------------------------------------------------------------------------


async def test_a_full_disk_is_told_as_such_and_group_commit_tells_everyone(sqlite_url: str) -> None:
    database = Database(sqlite_url)

    def limit(connection: Any, _record: object) -> None:
        connection.cursor().execute("PRAGMA max_page_count = 70")

    event.listen(database._engine.sync_engine, "connect", limit)
    large = [replace_name(row(f"{number}"), "x" * 100) for number in range(3000)]

    async def fill(part: list[CertificateRow]) -> Callable[[AsyncSession], Awaitable[None]]:
        async def work(session: AsyncSession) -> None:
            session.add_all(part)

        return work

    works = [await fill(large[start::3]) for start in range(3)]
    results = await asyncio.gather(*(database.gather(work) for work in works), return_exceptions=True)
    assert [getattr(result, "key", result) for result in results] == ["storage.full"] * 3
    assert await count(database) == 0
    await database.gather(adds("small"))
    await database.close()


def replace_name(one: CertificateRow, name: str) -> CertificateRow:
    one.name = name
    return one


async def test_a_server_that_stops_is_told_and_used_again_when_it_is_back(own_postgres: PostgresServer) -> None:
    database = Database(await own_postgres.create("bitdew"))
    await database.migrate()
    await database.gather(adds("1"))
    for abruptly in (False, True):
        await asyncio.to_thread(own_postgres.stop, abruptly=abruptly)
        for attempt in (count(database), database.gather(adds("lost")), hold_facts(database), write(database)):
            async with asyncio.timeout(5):
                with pytest.raises(HostError) as caught:
                    await attempt
            assert caught.value.key == "storage.failed"
            assert caught.value.why
        await asyncio.to_thread(own_postgres.start)
        # Nothing fails afterwards: the connections that the server ended are not given out.
        assert await count(database) == 1
        await hold_facts(database)
    await database.gather(adds("2"))
    await write(database)
    assert await count(database) == 3
    await database.close()


async def hold_facts(database: Database) -> None:
    async with database.facts(), database.read() as session:
        await session.scalar(select(func.count()).select_from(CertificateRow))


async def write(database: Database) -> None:
    async with database.write() as session:
        session.add(row("written"))


async def end_sessions(database: Database, holding: int) -> None:
    """Let the server end the session that holds the advisory lock `holding`."""
    async with database.write() as session:
        low, high = holding & 0xFFFFFFFF, holding >> 32
        query = (
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = :h AND objid = :l"
        )
        ended = await session.execute(text(query), {"h": high, "l": low})
        assert ended.scalars().all() == [True]


async def test_who_loses_the_facts_can_store_nothing_more(postgres_url: str) -> None:
    database, other = Database(postgres_url), Database(postgres_url)
    async with database.facts():
        await write(database)
        await end_sessions(other, Keys.FACTS)
        async with asyncio.timeout(5):
            await asyncio.create_task(hold_facts(other))  # they are another's now
        with pytest.raises(HostError) as caught:
            async with database.write() as session:
                session.add(row("too late"))
    assert caught.value.key == "storage.failed"
    assert await count(other) == 1
    await hold_facts(database)  # and they can be had again
    await database.close()
    await other.close()


HOLDER = """
import asyncio, sys
import bitdew.catalog.database, bitdew.catalog.postgres
from bitdew.catalog.database import Database
from bitdew.core.errors import BitDewError
from sqlalchemy import text

bitdew.catalog.database.STALLED = bitdew.catalog.postgres.STALLED = 1

async def wait(word):
    print(word, flush=True)
    await asyncio.to_thread(sys.stdin.readline)

async def write(database, epoch, waiting):
    async with database.write() as session:
        await session.execute(text("UPDATE leadership SET epoch = :epoch"), {"epoch": epoch})
        if waiting:
            await wait("held")

async def main():
    database = Database(sys.argv[1])
    try:
        async with database.facts():
            await write(database, 1, waiting=sys.argv[2] == "in a transaction")
            if sys.argv[2] == "between two":
                await wait("held")
            await write(database, 2, waiting=False)
            print("stored", flush=True)
    except BitDewError as fault:
        print(fault.key, flush=True)
    await database.close()

asyncio.run(main())
"""


@asynccontextmanager
async def holder(url: str, where: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that holds the facts, and goes on when it reads a line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", HOLDER, url, where),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout
    try:
        assert await process.stdout.readline() == b"held\n"
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.communicate()


async def epoch(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(text("SELECT epoch FROM leadership")) or 0


@pytest.mark.parametrize(("where", "stored"), [("in a transaction", 0), ("between two", 1)])
async def test_a_killed_process_gives_the_facts_back(postgres_url: str, where: str, stored: int) -> None:
    database = Database(postgres_url)
    async with holder(postgres_url, where) as process:
        mine = asyncio.create_task(hold_facts(database))
        done, _ = await asyncio.wait({mine}, timeout=0.3)
        assert not done
        process.kill()
        async with asyncio.timeout(5):
            await mine
    assert await epoch(database) == stored
    await database.close()


@pytest.mark.parametrize(("where", "stored"), [("in a transaction", 0), ("between two", 1)])
async def test_a_stopped_process_loses_the_facts_and_stores_nothing_when_it_wakes_up(
    postgres_url: str, where: str, stored: int
) -> None:
    database = Database(postgres_url)
    async with holder(postgres_url, where) as process:
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(10):
            await hold_facts(database)
        process.send_signal(signal.SIGCONT)
        said, _ = await process.communicate(b"go on\n")
    assert said.splitlines()[-1] == b"storage.failed"
    assert await epoch(database) == stored
    await database.close()


async def test_who_is_cancelled_while_storing_facts_leaves_them_to_the_next(database: Database) -> None:
    for number in range(8):
        begun = asyncio.Event()

        async def change(begun: asyncio.Event, number: int) -> None:
            async with database.facts(), database.write() as session:
                begun.set()
                for turn in range(50):
                    session.add(row(f"{number}-{turn}"))
                    await session.flush()

        task = asyncio.create_task(change(begun, number))
        await begun.wait()
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        async with asyncio.timeout(5), database.facts():
            pass
    assert await count(database) == 0


async def test_processes_that_start_at_once_migrate_one_after_the_other(postgres: PostgresServer) -> None:
    url = await postgres.create(f"fresh_{uuid.uuid4().hex}")
    databases = [Database(url) for _ in range(4)]
    await asyncio.gather(*(database.migrate() for database in databases))
    await write(databases[0])
    assert await count(databases[3]) == 1
    for database in databases:
        await database.close()
    await postgres.drop(url.rpartition("/")[2].partition("?")[0])
