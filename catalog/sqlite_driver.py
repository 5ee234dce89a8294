"""SQLite's driver, with one trip to its thread for each statement.

Owns how statements reach the thread of a connection. SQLAlchemy's own way makes four trips for one: a cursor is made,
the statement is executed, its rows are read, the cursor is closed; each trip costs two changes of thread, which is more
than most of our statements take. Here the four are one, and what is left of a cursor is what the thread brought back.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiosqlite
from sqlalchemy import URL
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import EMPTY_DICT


def embedded_engine(url: URL) -> AsyncEngine:
    """The engine of a database in this process."""
    if url.get_driver_name() != "aiosqlite":
        return create_async_engine(url)
    # Every transaction here is committed or rolled back by its session: one rollback more would be a trip for nothing.
    return create_async_engine(url, module=_Driver(aiosqlite, sqlite3), pool_reset_on_return=None)


@dataclass(slots=True)
class _Done:
    """What a statement left behind."""

    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None
    arraysize: int = 1


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()

    _awaitable_cursor_close = False  # there is nothing left to close

    def __init__(self, adapt_connection: Any) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection  # noqa: SLF001
        self._cursor: Any = _Done()
        self._soft_closed_memoized = EMPTY_DICT
        self._rows = deque()

    def close(self) -> None:
        self._rows.clear()

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        await self._run(sqlite3.Connection.execute, operation, () if parameters is None else parameters)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Sequence[Any]) -> None:
        await self._run(sqlite3.Connection.executemany, operation, seq_of_parameters)

    async def _run(self, execute: Any, operation: Any, parameters: Any) -> None:
        line: Any = self._connection
        async with self._adapt_connection._execute_mutex:  # noqa: SLF001
            self._cursor, self._rows = await line._execute(_execute, execute, line._conn, operation, parameters)  # noqa: SLF001


def _execute(execute: Any, line: sqlite3.Connection, operation: Any, parameters: Any) -> tuple[_Done, deque[Any]]:
    """In the connection's thread: execute a statement and read all that it gives."""
    cursor = execute(line, operation, parameters)
    rows = deque(cursor.fetchall() if cursor.description else ())
    done = _Done(cursor.description, cursor.rowcount, cursor.lastrowid)
    cursor.close()
    return done, rows


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()

    _cursor_cls = _Cursor


class _Driver(AsyncAdapt_aiosqlite_dbapi):
    def connect(self, *args: Any, **options: Any) -> _Connection:
        return _Connection(self, super().connect(*args, **options)._connection)  # noqa: SLF001
