"""The database of a simulated grid: the services' own, without a thread for each of its connections.

Owns that shortcut. A service must not wait for its disk in the event loop, so that its connections work in threads;
where nobody is kept waiting, handing every statement over and back takes most of the time, and is all that is left to
chance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import aiosqlite
from sqlalchemy import event

from ...catalog.database import Database

_empty: list[bytes] = []


class SimulatedDatabase(Database):
    """SQLite in a file, each statement of which is carried out at once."""

    @classmethod
    def in_file(cls, path: Path) -> Self:
        """The database in this file."""
        database = cls(f"sqlite+aiosqlite:///{path}")
        event.listen(database._engine.sync_engine, "do_connect", _connect_here)
        return database


def _connect_here(_dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
    options["async_creator_fn"] = _connection


def _connection(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    connection: Any = aiosqlite.connect(*arguments, **options)
    connection._tx, connection._thread = _Here(), _NoThread()  # noqa: SLF001 (its queue, and who works it off)
    made: aiosqlite.Connection = connection
    return made


class _Here:
    """Stands in for the queue of a connection's thread: what is put into it is done."""

    def put_nowait(self, asked: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        future, function = asked
        try:
            result = function()
        except Exception as fault:  # noqa: BLE001 (it is told to whoever asked)
            if future is not None:
                future.set_exception(fault)
        else:
            if future is not None:
                future.set_result(result)


class _NoThread:
    daemon = True

    def start(self) -> None:
        """There is nothing to start."""


async def put_empty_database(path: Path) -> None:
    """Begin with a database that has been migrated: that is done once a process."""
    if not _empty:
        database = SimulatedDatabase.in_file(path)
        await database.migrate()
        await database.close()
        _empty.append(await asyncio.to_thread(path.read_bytes))
    else:
        await asyncio.to_thread(path.write_bytes, _empty[0])
