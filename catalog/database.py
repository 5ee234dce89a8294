"""The database: engine, transactions, migrations, and the column types that both services use.

Owns connections. A transaction here holds no network or file I/O of ours: whoever opens one does only statements in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import ColumnElement, Connection, DateTime, Dialect, MetaData, TypeDecorator, event, true
from sqlalchemy.exc import ArgumentError, DatabaseError, InvalidRequestError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute

from bitdew.core.errors import error

from . import migrations


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. Naive datetimes are refused: they would mean another moment on another machine."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """To the database, in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a naive datetime can't be stored: {value}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database; SQLite has no zones, so what it gives back is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The tables of both services: one database, one history of migrations."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


MOST_NAMED: Final = 10_000
"""Values that one statement names at most: databases bound them (SQLite at 32,766). Beyond, all rows are read."""


def among(column: InstrumentedAttribute[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """The condition that `column` is one of `values`; true of every row if those are too many to be named.

    Whoever uses it sorts out the rest, which is little: who names so many means nearly all.
    """
    return column.in_(values) if len(values) <= MOST_NAMED else true()


class Database:
    """One database. SQLite allows one writer at a time, so writers of this process queue here, not in the engine."""

    def __init__(self, url: str) -> None:
        """Nothing is opened yet.

        Raises:
            UserError: `input.invalid`, for what is no URL of a database that can be used here.
        """
        try:
            self._engine = create_async_engine(url)
        except (ArgumentError, InvalidRequestError, ImportError) as fault:
            do = "Write it like sqlite+aiosqlite:////srv/bitdew.sqlite3 or postgresql+asyncpg://user@host/bitdew."
            raise error("input.invalid", "The database's URL can't be used", why=str(fault), do=do) from None
        self.name = self._engine.url.render_as_string(hide_password=True)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._writer = asyncio.Lock()
        if url.startswith("sqlite"):
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin)

    @classmethod
    def in_file(cls, path: Path) -> Database:
        """The embedded default: SQLite in WAL mode."""
        return cls(f"sqlite+aiosqlite:///{path}")

    async def migrate(self) -> None:
        """Bring the schema up to this release.

        Raises:
            HostError: `storage.failed`, if the file is not a database of ours.
        """
        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(_upgrade)
        except (DatabaseError, CommandError, OSError) as fault:
            # Alembic's own error: the database is at a revision that only a newer release knows. The system's: a
            # database server does not answer.
            why = str(fault.orig) if isinstance(fault, DatabaseError) else str(fault)
            do = "Restore it from a backup, or start the service with another --home. Nothing was changed."
            raise error("storage.failed", f"The database {self.name} can't be used", why=why, do=do) from None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads, in one consistent view."""
        async with self._sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A transaction: all of it is stored when the block ends, or nothing.

        Raises:
            HostError: `storage.full`, `storage.failed`, if the database can't.
        """
        try:
            async with self._writer, self._sessions() as session, session.begin():
                yield session
        except OperationalError as fault:
            key = "storage.full" if "full" in str(fault.orig) else "storage.failed"
            do = "Look after the disk or server of the database, and try again. Nothing of this was stored."
            raise error(key, "The database can't store this", why=str(fault.orig), do=do) from fault

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling begins too late for a consistent view; `_begin` does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
