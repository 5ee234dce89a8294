"""A backup holds what can't be had again and is made while the service runs; a restore loses nothing that was there."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sqlite3
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bitdew.catalog.archive import DIGESTS
from bitdew.catalog.backup import Done, Places, backup, restore
from bitdew.catalog.database import Database
from bitdew.catalog.tables import CertificateRow
from sqlalchemy import select

from bitdew.core.errors import BitDewError
from bitdew.lock import HomeLock
from bitdew.testing.postgres import PostgresServer
from bitdew.trust.authority import Authority

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def row(serial: str) -> CertificateRow:
    return CertificateRow(serial=serial, subject_id="5" * 32, role="user", name="ada", expires=NOW)


async def stored(url: str) -> list[str]:
    database = Database(url)
    async with database.read() as session:
        found = sorted(await session.scalars(select(CertificateRow.serial)))
    await database.close()
    return found


async def store(url: str, *serials: str) -> None:
    database = Database(url)
    async with database.write() as session:
        session.add_all(row(serial) for serial in serials)
    await database.close()


def no_report(_done: int, _total: int) -> None:
    """Nobody watches."""


async def back_up(places: Places, target: Path, *, with_repository: bool = False, replace: bool = False) -> Done:
    return await backup(
        places, target, now=NOW, with_repository=with_repository, replace=replace, report=no_report
    )  # fmt: skip


async def put_back(places: Places, source: Path, *, replace: bool = False) -> Done:
    return await restore(places, source, now=NOW, replace=replace, report=no_report)


def new_home(folder: Path) -> Path:
    Authority.open(folder / "authority", now=datetime.now(UTC), name="lab").service_pair([], now=datetime.now(UTC))
    files = folder / "repository/files"
    files.mkdir(parents=True)
    (files / ("a" * 64)).write_bytes(os.urandom(3_000_000))
    (files / ("a" * 64 + ".torrent")).write_bytes(b"d1:xe")
    (folder / "repository/uploads").mkdir()
    (folder / "repository/uploads/half").write_bytes(b"half")
    return folder


@pytest.fixture
async def places(tmp_path: Path, database_url: str, request: pytest.FixtureRequest) -> Places:
    """A service's places, with a catalog of three rows; once on each kind of database."""
    home = await asyncio.to_thread(new_home, tmp_path / "service")
    await store(database_url, "1", "2", "3")
    return Places.of(home, database_url)


@pytest.fixture
async def elsewhere(places: Places, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Places]:
    """The places of a service that is not there yet, with a database of the same kind."""
    home = tmp_path / "other"
    if places.kind == "sqlite":
        yield Places.of(home)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"empty_{os.urandom(8).hex()}"
    yield Places.of(home, await server.create(name))
    await server.drop(name)


def url_of(places: Places) -> str:
    return places.database.render_as_string(hide_password=False)


async def test_a_restored_service_is_what_it_was(places: Places, elsewhere: Places, tmp_path: Path) -> None:
    target = tmp_path / "safe.tar"
    done = await back_up(places, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert done.files == 3
    await store(url_of(places), "4")
    restored = await put_back(elsewhere, target)
    assert restored.aside is None
    assert restored.about.made == "2030-01-02T03:04:05+00:00"
    assert await stored(url_of(elsewhere)) == ["1", "2", "3"]
    for name in ("authority.pem", "service.pem"):
        assert (elsewhere.authority / name).read_bytes() == (places.authority / name).read_bytes()
        assert stat.S_IMODE((elsewhere.authority / name).stat().st_mode) == 0o600
    assert not elsewhere.repository.exists()
    database = Database(url_of(elsewhere))
    await database.migrate()
    await database.close()
    await store(url_of(elsewhere), "5")


async def test_the_repository_is_in_it_if_wished_without_what_is_being_uploaded(
    places: Places, elsewhere: Places, tmp_path: Path
) -> None:
    await back_up(places, tmp_path / "safe.tar", with_repository=True)
    await put_back(elsewhere, tmp_path / "safe.tar")
    assert sorted(p.name for p in elsewhere.repository.rglob("*") if p.is_file()) == ["a" * 64, "a" * 64 + ".torrent"]
    name = Path("files", "a" * 64)
    assert (elsewhere.repository / name).read_bytes() == (places.repository / name).read_bytes()


async def test_a_backup_is_of_one_moment_while_others_write(places: Places, elsewhere: Places, tmp_path: Path) -> None:
    """Each transaction stores two rows: a copy with an odd number of them would be one of no moment."""
    database = Database(url_of(places))
    stop = asyncio.Event()
    written = 0

    async def write() -> None:
        nonlocal written
        while not stop.is_set():
            async with database.write() as session:
                session.add_all([row(f"left {written}"), row(f"right {written}")])
            written += 1

    writing = asyncio.create_task(write())
    try:
        for number in range(3):
            before = written
            await back_up(places, tmp_path / f"{number}.tar")
        assert written > before  # nobody waited for the backup
    finally:
        stop.set()
        await writing
        await database.close()
    await put_back(elsewhere, tmp_path / "2.tar")
    found = await stored(url_of(elsewhere))
    sides = [{name.split()[1] for name in found if name.startswith(side)} for side in ("left", "right")]
    assert sides[0] == sides[1]
    assert len(sides[0]) >= before


async def test_a_restore_refuses_to_replace_a_service_unless_told_and_then_moves_it_aside(
    places: Places, tmp_path: Path
) -> None:
    await back_up(places, tmp_path / "safe.tar")
    await store(url_of(places), "4")
    with pytest.raises(BitDewError) as caught:
        await put_back(places, tmp_path / "safe.tar")
    assert caught.value.key == "backup.in-the-way"
    assert await stored(url_of(places)) == ["1", "2", "3", "4"]
    old_keys = places.keys.read_bytes()
    done = await put_back(places, tmp_path / "safe.tar", replace=True)
    assert done.aside
    assert await stored(url_of(places)) == ["1", "2", "3"]
    assert (done.aside / "authority/authority.pem").read_bytes() == old_keys
    assert (places.repository / "files" / ("a" * 64)).exists()
    if places.kind == "sqlite":
        with closing(sqlite3.connect(done.aside / "catalog.sqlite3")) as old:
            assert old.execute("SELECT count(*) FROM certificates").fetchone() == (4,)
    else:
        assert (done.aside / "catalog.pgdump").stat().st_size > 0
    assert not [path for path in places.home.iterdir() if path.name.startswith(".restore")]


async def test_what_was_not_yet_in_the_database_file_does_not_spoil_the_restored_one(
    sqlite_url: str, tmp_path: Path
) -> None:
    """SQLite's log of the old database must not be applied to the new one: it is moved aside with it."""
    home = await asyncio.to_thread(new_home, tmp_path / "service")
    places = Places.of(home, sqlite_url)
    await back_up(places, tmp_path / "safe.tar")
    database = Database(sqlite_url)
    async with database.write() as session:
        session.add(row("late"))
    async with database.read() as session:  # keeps the log from being taken into the file
        assert await session.scalar(select(CertificateRow.serial)) == "late"
        done = await put_back(places, tmp_path / "safe.tar", replace=True)
    await database.close()
    assert done.aside
    assert (done.aside / "catalog.sqlite3-wal").exists()
    assert await stored(sqlite_url) == []


async def test_a_service_that_runs_is_not_restored_over(places: Places, tmp_path: Path) -> None:
    await back_up(places, tmp_path / "safe.tar")
    lock = HomeLock(places.home, "service")
    await asyncio.to_thread(lock.acquire)
    try:
        with pytest.raises(BitDewError) as caught:
            await put_back(places, tmp_path / "safe.tar", replace=True)
    finally:
        lock.release()
    assert caught.value.key == "storage.locked"
    assert await stored(url_of(places)) == ["1", "2", "3"]


async def test_a_database_that_services_of_other_homes_use_is_not_restored_over(
    postgres_url: str, tmp_path: Path
) -> None:
    home = await asyncio.to_thread(new_home, tmp_path / "service")
    places = Places.of(home, postgres_url)
    await store(postgres_url, "1")
    await back_up(places, tmp_path / "safe.tar")
    other = Database(postgres_url)
    async with other.read() as session:
        await session.scalar(select(CertificateRow.serial))
        with pytest.raises(BitDewError) as caught:
            await put_back(places, tmp_path / "safe.tar", replace=True)
    await other.close()
    assert caught.value.key == "storage.locked"
    assert await stored(postgres_url) == ["1"]


async def test_a_backup_file_that_is_there_is_kept_unless_told(places: Places, tmp_path: Path) -> None:
    target = tmp_path / "safe.tar"
    target.write_bytes(b"last week's")
    with pytest.raises(BitDewError) as caught:
        await back_up(places, target)
    assert caught.value.key == "backup.in-the-way"
    assert target.read_bytes() == b"last week's"
    await back_up(places, target, replace=True)
    assert tarfile.is_tarfile(target)


async def test_where_no_service_is_nothing_is_backed_up(tmp_path: Path) -> None:
    with pytest.raises(BitDewError) as caught:
        await back_up(Places.of(tmp_path / "nowhere"), tmp_path / "safe.tar")
    assert caught.value.key == "input.invalid"
    assert os.listdir(tmp_path) == []


@pytest.fixture
async def good(sqlite_url: str, tmp_path: Path) -> bytes:
    """A good backup of a service on SQLite."""
    home = await asyncio.to_thread(new_home, tmp_path / "service")
    await store(sqlite_url, "1")
    await back_up(Places.of(home, sqlite_url), tmp_path / "good.tar")
    return (tmp_path / "good.tar").read_bytes()


def changed(good: bytes, change: Callable[[str, bytes], bytes | None], more: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """A backup whose members went through `change`, which leaves out those for which it gives None."""
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(good)) as old, tarfile.open(fileobj=made, mode="w") as new:
        members = old.getmembers()
        for number, member in enumerate(members):
            content = old.extractfile(member)
            assert content
            if (data := change(member.name, content.read())) is not None:
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
            if number == 0:
                for extra in more:
                    new.addfile(extra, io.BytesIO(b"x" * extra.size))
    return made.getvalue()


def outside(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    member.size = 1 if kind == tarfile.REGTYPE else 0
    return member


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda good: good[: len(good) // 2],
    "cut before the digests": lambda good: changed(good, lambda name, data: None if name == DIGESTS else data),
    "empty": lambda good: b"",
    "a letter": lambda good: b"Dear operator, " * 1000,
    "a bit flipped": lambda good: changed(
        good, lambda name, data: data[:9000] + bytes([data[9000] ^ 1]) + data[9001:] if "catalog" in name else data
    ),
    "no keys": lambda good: changed(good, lambda name, data: None if name.endswith("authority.pem") else data),
    "no catalog": lambda good: changed(
        good,
        lambda name, data: (
            None
            if "catalog" in name
            else json.dumps({n: d for n, d in json.loads(data).items() if "catalog" not in n}).encode()
            if name == DIGESTS
            else data
        ),
    ),
    "another format": lambda good: changed(
        good, lambda name, data: data.replace(b'"format": 1', b'"format": 2') if name == "about.json" else data
    ),
    "a path upwards": lambda good: changed(good, lambda _name, data: data, (outside("authority/../../evil"),)),
    "an absolute path": lambda good: changed(good, lambda _name, data: data, (outside("/evil"),)),
    "a link": lambda good: changed(good, lambda _name, data: data, (outside("authority/link", tarfile.SYMTYPE),)),
    "a stranger": lambda good: changed(good, lambda _name, data: data, (outside("authority/extra"),)),
    "twice the same": lambda good: changed(good, lambda _name, data: data, (outside("authority/authority.pem"),)),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_is_no_whole_backup_of_ours_is_refused_before_anything_is_touched(
    good: bytes, tmp_path: Path, damage: str
) -> None:
    source, home = tmp_path / "bad.tar", tmp_path / "other"
    source.write_bytes(DAMAGES[damage](good))
    with pytest.raises(BitDewError) as caught:
        await put_back(Places.of(home), source)
    assert caught.value.key == "backup.damaged"
    assert caught.value.why
    assert os.listdir(home) == ["service.lock"]
    assert "evil" not in os.listdir(tmp_path)


async def test_a_backup_of_another_kind_of_database_is_refused(good: bytes, postgres_url: str, tmp_path: Path) -> None:
    (tmp_path / "good.tar").write_bytes(good)
    await store(postgres_url, "kept")
    with pytest.raises(BitDewError) as caught:
        await put_back(Places.of(tmp_path / "other", postgres_url), tmp_path / "good.tar", replace=True)
    assert caught.value.key == "input.invalid"
    assert await stored(postgres_url) == ["kept"]


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(20, len(content) // 4096):
        content[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(content)


async def test_a_damaged_catalog_is_not_backed_up_as_if_it_were_sound(sqlite_url: str, tmp_path: Path) -> None:
    home = await asyncio.to_thread(new_home, tmp_path / "service")
    places = Places.of(home, sqlite_url)
    await store(sqlite_url, *map(str, range(500)))
    path = Path(places.database.database or "")
    await asyncio.to_thread(spoil, path)
    with pytest.raises(BitDewError) as caught:
        await back_up(places, tmp_path / "safe.tar")
    assert caught.value.key == "storage.failed"
    assert not (tmp_path / "safe.tar").exists()


async def test_a_database_that_does_not_exist_is_told(postgres: PostgresServer, tmp_path: Path) -> None:
    home = await asyncio.to_thread(new_home, tmp_path / "service")
    with pytest.raises(BitDewError) as caught:
        await back_up(Places.of(home, postgres.url("nowhere")), tmp_path / "safe.tar")
    assert caught.value.key == "storage.failed"
    assert "nowhere" in caught.value.why
    assert os.listdir(tmp_path) == ["service"]
