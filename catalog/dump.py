"""A database's copy in one file, taken while it is used, and the way back.

Owns how each kind of database is copied and what makes a copy a good one. It does not know what else a service keeps.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from bitdew.core.errors import BitDewError, error
from bitdew.tasks import to_the_end

from .faults import storage_fault
from .postgres import Line, find_program, program_environment

PATIENCE: Final = 10.0
"""Seconds that a copier which was told to stop may take."""


async def dump(url: URL, target: Path) -> None:
    """Copy the database into `target`, as it is at one moment. Others go on reading and writing meanwhile.

    Raises:
        HostError: `storage.failed`, `storage.full`.
    """
    if url.get_backend_name() == "sqlite":
        await to_the_end(asyncio.to_thread(_copy_sqlite, sqlite_path(url), target))
        await to_the_end(asyncio.to_thread(check_sqlite, target))
        return
    await _run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={target}", url=url)
    await check_dump(url, target)


async def check_dump(url: URL, path: Path) -> None:
    """Make sure that a dump of PostgreSQL can be read to its end.

    Raises:
        HostError: `storage.failed`.
    """
    await _run("pg_restore", f"--file={os.devnull}", str(path), url=url)


async def load(url: URL, path: Path) -> None:
    """Fill an empty PostgreSQL database from a dump: with all of it, or nothing.

    Raises:
        HostError: `storage.failed`.
    """
    options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
    await _run("pg_restore", *options, f"--dbname={url.database}", str(path), url=url)


@asynccontextmanager
async def connected(url: URL) -> AsyncIterator[Line]:
    """A connection to a PostgreSQL database.

    Raises:
        HostError: `storage.failed`, if it can't be reached.
    """
    name = url.render_as_string(hide_password=True)
    try:
        line = await Line.open(url)
    except (DBAPIError, OSError) as fault:
        # A database that is not there is an operator's slip, where everywhere else it is a defect.
        do = "Make an empty database of that name first, and check the URL."
        told = error("storage.failed", f"The database {name} can't be reached", why=str(getattr(fault, "orig", fault)))
        raise storage_fault(fault, name) or BitDewError(told.key, told.message, why=told.why, do=do) from None
    try:
        yield line
    finally:
        await to_the_end(line.hang_up())


async def is_filled(line: Line) -> bool:
    """Whether any table is there."""
    return bool(await line.driver.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"))


async def services_at(line: Line) -> int:
    """How many connections of services the database has."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'bitdew'"
    return int(await line.driver.fetchval(f"{query} AND pid <> pg_backend_pid()"))


async def empty(line: Line) -> None:
    """Drop all tables, and the functions by which they are counted."""
    query = "SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = current_schema()"
    names = [row["name"] for row in await line.driver.fetch(query)]
    if names:
        await line.say(f"DROP TABLE {', '.join(names)} CASCADE")
    query = (
        "SELECT quote_ident(proname) AS name FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
        r" AND proname LIKE 'bitdew\_%'"
    )
    names = [row["name"] for row in await line.driver.fetch(query)]
    if names:
        await line.say(f"DROP FUNCTION {', '.join(names)}")


def sqlite_path(url: URL) -> Path:
    """The file of an SQLite database."""
    return Path(url.database or "")


def _copy_sqlite(source: Path, target: Path) -> None:
    # VACUUM INTO reads one view, and what others write meanwhile neither waits for it nor makes it begin anew.
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as fault:
        key = "storage.full" if "full" in str(fault) else "storage.failed"
        raise error(key, f"The database {source} can't be copied", why=str(fault), path=str(source)) from None


def check_sqlite(path: Path) -> None:
    """Make sure that a file is a sound database of ours. Blocks.

    Raises:
        HostError: `storage.failed`.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            verdicts = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
            strays = connection.execute("PRAGMA foreign_key_check").fetchmany(5)
            connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as fault:
        raise error("storage.failed", f"{path.name} is no sound catalog", why=str(fault)) from None
    if verdicts != ["ok"] or strays:
        why = "; ".join(verdicts) if verdicts != ["ok"] else f"rows refer to what is not there: {strays}"
        raise error("storage.failed", f"{path.name} is no sound catalog", why=why)


async def _run(program: str, *arguments: str, url: URL) -> None:
    """Run one of PostgreSQL's programs to its end."""
    found = await asyncio.to_thread(find_program, program)
    if found is None:
        do = "Install PostgreSQL's client programs, of the server's release or a newer one."
        raise error("storage.failed", f"{program} is needed for this", why="it is not on this machine", do=do)
    process = await asyncio.create_subprocess_exec(
        found,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=program_environment(url),
    )
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        await to_the_end(_stop(process))
        raise
    if process.returncode:
        raise error("storage.failed", f"{program} failed", why=_end_of(said.decode(errors="replace").splitlines()))


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _end_of(lines: Sequence[str]) -> str:
    return " / ".join(line.strip() for line in lines[-5:] if line.strip())
