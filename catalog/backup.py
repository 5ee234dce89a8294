"""Backups: everything of a service that can't be had again, in one file, taken while the service runs.

Owns what belongs to a backup and where it is put back: the catalog, the CA, and if wished the repository's files. The
file holds the CA's private key. What is replaced by a restore is moved aside, never deleted.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import URL, make_url

from bitdew.core.errors import BitDewError, error
from bitdew.lock import HomeLock
from bitdew.tasks import to_the_end

from . import dump
from .archive import About, ArchiveWriter, Progress, unpack

CATALOG: Final = {"sqlite": "catalog.sqlite3", "postgresql": "catalog.pgdump"}
_SIDES: Final = ("", "-wal", "-shm", "-journal")
"""What SQLite has beside a database: of no use, and of great harm, to another one of the same name."""

Report = Callable[[int, int], None]
"""Called with the bytes done and their total, in a thread of its own."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a service keeps what it has: as `bitdew serve` was told.

    Attributes:
        home: Its folder.
        database: The URL of its database.
        authority: The folder of the CA.
        repository: The repository's folder.
    """

    home: Path
    database: URL
    authority: Path
    repository: Path

    @classmethod
    def of(
        cls, home: Path, database: str | None = None, authority: Path | None = None, repository: Path | None = None
    ) -> Places:
        """The places of a service that was started with these; None stands for what lies in `home`.

        Raises:
            UserError: `input.invalid`.
        """
        from .database import Database

        url = Database(database).url if database else make_url(f"sqlite+aiosqlite:///{home / CATALOG['sqlite']}")
        return cls(home, url, authority or home / "authority", repository or home / "repository")

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.database.get_backend_name()

    @property
    def keys(self) -> Path:
        """The file without which there is no service."""
        return self.authority / "authority.pem"


@dataclass(frozen=True, slots=True)
class Done:
    """What was backed up or restored.

    Attributes:
        about: What the backup says of itself.
        files: How many files are in it.
        size: Their bytes.
        aside: Where a restore put what was there before; None if nothing was.
    """

    about: About
    files: int
    size: int
    aside: Path | None = None


async def backup(
    places: Places, target: Path, *, now: datetime, with_repository: bool, replace: bool, report: Report
) -> Done:
    """Back the service up into the file `target`, whether it runs or not.

    Raises:
        UserError: `backup.in-the-way`, if `target` is there and not to be replaced; `input.invalid`, if there is no
            service.
        HostError: `storage.failed`, `storage.full`; `target` is then as it was.
    """
    if not await asyncio.to_thread(places.keys.is_file):
        raise error("input.invalid", f"There is no service in {places.home}", why=f"{places.keys} does not exist")
    if not replace and await asyncio.to_thread(target.exists):
        raise error("backup.in-the-way", f"{target} is there already", path=str(target))
    with _told_as_storage("The backup can't be written"):
        folder = await asyncio.to_thread(_folder_beside, target)
        try:
            copy = folder / CATALOG[places.kind]
            await dump.dump(places.database, copy)
            made = now.isoformat(timespec="seconds")
            return await to_the_end(asyncio.to_thread(_pack, places, made, with_repository, copy, target, report))
        finally:
            await to_the_end(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def _pack(places: Places, made: str, with_repository: bool, catalog: Path, target: Path, report: Report) -> Done:
    from bitdew import __version__

    about = About(made, __version__, places.kind, with_repository)
    files = [(catalog.name, catalog), *((f"authority/{path.name}", path) for path in _files_in(places.authority))]
    if with_repository:
        inside = _files_in(places.repository, but="uploads")
        files += [(f"repository/{path.relative_to(places.repository)}", path) for path in inside]
    total = sum(path.stat().st_size for _, path in files if path.exists())
    part = catalog.parent / "backup.part"
    with ArchiveWriter(part, about, _counted(report, total)) as archive:
        for name, path in files:
            archive.add(name, path)
    part.replace(target)
    _sync_folder(target.parent)
    return Done(about, len(files), total)


async def restore(places: Places, source: Path, *, now: datetime, replace: bool, report: Report) -> Done:
    """Make the service what it was when `source` was taken. It must not run; what is there is moved aside.

    Everything is verified before anything is touched. Files of the repository are added to those that are there.

    Raises:
        UserError: `backup.damaged`; `backup.in-the-way`, if a service is there and not to be replaced;
            `input.invalid`, if the backup is one of another kind of database.
        HostError: `storage.locked`, if the service runs; `storage.failed`, `storage.full`.
    """
    lock = HomeLock(places.home, "service")
    await to_the_end(asyncio.to_thread(lock.acquire))
    try:
        with _told_as_storage("The backup can't be restored"):
            if not replace:
                await _refuse_to_replace(places)
            folder = await asyncio.to_thread(_folder_beside, places.home / "restore")
            try:
                return await _restore(places, source, folder, now, report)
            finally:
                await to_the_end(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
    finally:
        lock.release()


async def _refuse_to_replace(places: Places) -> None:
    there = [places.keys] if await asyncio.to_thread(places.keys.exists) else []
    if places.kind == "sqlite":
        path = dump.sqlite_path(places.database)
        there += [path] if await asyncio.to_thread(path.exists) else []
    else:
        async with dump.connected(places.database) as line:
            if await dump.is_filled(line):
                name = places.database.render_as_string(hide_password=True)
                raise error("backup.in-the-way", f"The database {name} is not empty")
    if there:
        raise error("backup.in-the-way", f"{there[0]} is there already", path=str(there[0]))


async def _restore(places: Places, source: Path, folder: Path, now: datetime, report: Report) -> Done:
    total = (await asyncio.to_thread(source.stat)).st_size
    about, names = await to_the_end(asyncio.to_thread(unpack, source, folder, _counted(report, total)))
    catalog = folder / CATALOG[about.database]
    if catalog.name not in names or f"authority/{places.keys.name}" not in names:
        raise error("backup.damaged", f"{source} can't be restored", why="it has no catalog or no CA", path=str(source))
    if about.database != places.kind:
        do = "Name an empty database with --database." if about.database == "postgresql" else "Leave --database out."
        why = f"it is a copy of {about.database}, and this service's database is {places.kind}"
        raise error("input.invalid", f"{source} can't be restored here", why=why, do=do)
    aside = places.home / f"replaced-{now:%Y%m%dT%H%M%SZ}"
    if about.database == "sqlite":
        await asyncio.to_thread(dump.check_sqlite, catalog)
    else:
        await dump.check_dump(places.database, catalog)
        await _load(places, catalog, aside)
    size = await to_the_end(asyncio.to_thread(_put_back, places, folder, names, aside))
    return Done(about, len(names), size, aside if await asyncio.to_thread(aside.exists) else None)


async def _load(places: Places, catalog: Path, aside: Path) -> None:
    async with dump.connected(places.database) as line:
        if others := await dump.services_at(line):
            why = f"services hold {others} connections to it"
            do = "Stop every service of this database first."
            raise error("storage.locked", "The database is in use", why=why, do=do)
        if await dump.is_filled(line):
            await asyncio.to_thread(aside.mkdir, mode=0o700, exist_ok=True)
            await dump.dump(places.database, aside / catalog.name)
            await dump.empty(line)
    await dump.load(places.database, catalog)


def _put_back(places: Places, folder: Path, names: list[str], aside: Path) -> int:
    """Move what is there aside and the restored into its place, the catalog last; how many bytes are restored."""
    size = sum((folder / name).stat().st_size for name in names)
    for name in names:
        if name.startswith("repository/"):  # named by their content: a whole one under the same name is the same
            target = places.repository / name.partition("/")[2]
            if not target.exists() or target.stat().st_size != (folder / name).stat().st_size:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(folder / name, target)
    if places.authority.exists():
        _move_aside(places.authority, aside / "authority")
    places.authority.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / "authority", places.authority)
    if places.kind == "sqlite":
        path = dump.sqlite_path(places.database)
        for side in _SIDES:
            if (old := path.with_name(path.name + side)).exists():
                _move_aside(old, aside / old.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / CATALOG["sqlite"], path)
        _sync_folder(path.parent)
    return size


def _move_aside(old: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.move(old, target)


def _files_in(folder: Path, but: str = "") -> Iterator[Path]:
    """The regular files below a folder, in the order of their names, without those that are being written."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != but and not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and (path := Path(parent, name)).is_file() and not path.is_symlink():
                yield path


def _folder_beside(target: Path) -> Path:
    """A folder of our own on the same file system: what is made in it can be moved to `target` in one step."""
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _counted(report: Report, total: int) -> Progress:
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        report(done, total)

    return add


@contextmanager
def _told_as_storage(what: str) -> Iterator[None]:
    try:
        yield
    except BitDewError:
        raise
    except OSError as fault:
        key = "storage.full" if fault.errno in {errno.ENOSPC, errno.EDQUOT} else "storage.failed"
        do = "Nothing that was there was changed." if key == "storage.full" else ""
        raise error(key, what, why=str(fault), do=do) from fault
