"""The database: engine, transactions, migrations, and the column types that both services use.

Owns connections. A transaction here holds no network or file I/O of ours: whoever opens one does only statements in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    Connection,
    DateTime,
    Dialect,
    MetaData,
    Select,
    TypeDecorator,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InvalidatePoolError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import NullPool

from bitdew.core.errors import BitDewError, error
from bitdew.tasks import to_the_end

from . import migrations
from .faults import storage_fault
from .group_commit import GroupCommit
from .postgres import STALLED, Keys, Line, pooled_engine
from .sqlite_driver import embedded_engine

log = structlog.get_logger(__name__)
T = TypeVar("T")
Carrier = Callable[[AsyncSession, list[Any]], Awaitable[None]]
_NOTES: Final = "bitdew notes"


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


class Database:
    """One database, with one writer at a time. SQLite's has one process; PostgreSQL's may have many.

    Locks are taken in this order, and given back in the opposite one: the facts, the right to write.

    Attributes:
        url: Where it is; with its password.
        name: The same without.
        shared: Whether other processes may use it at the same time.
        carry: Is handed what was noted in a transaction, at its end: the feed's part.
    """

    def __init__(self, url: str) -> None:
        """Nothing is opened yet.

        Raises:
            UserError: `input.invalid`, for what is no URL of a database that can be used here.
        """
        try:
            self.url = make_url(url)
            self.shared = self.url.get_backend_name() == "postgresql"
            self._engine = pooled_engine(self.url) if self.shared else embedded_engine(self.url)
        except (ArgumentError, InvalidRequestError, ImportError) as fault:
            do = "Write it like sqlite+aiosqlite:////srv/bitdew.sqlite3 or postgresql+asyncpg://user@host/bitdew."
            raise error("input.invalid", "The database's URL can't be used", why=str(fault), do=do) from None
        self.name = self.url.render_as_string(hide_password=True)
        engine = self._engine.sync_engine
        if self.shared:
            event.listen(engine, "checkout", _refuse_a_closed_one)
            views = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self._engines = (views, self._engine)
        else:
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_in_sqlite)
            self._engines = (self._engine, self._engine.execution_options(bitdew_writes=True))
        self._views, self._writes = (async_sessionmaker(one, expire_on_commit=False) for one in self._engines)
        self._writer = asyncio.Lock()
        self._facts = asyncio.Lock()
        self._line: Line | None = None
        self._group = GroupCommit(self.write)
        self.carry: Carrier | None = None

    @classmethod
    def in_file(cls, path: Path) -> Database:
        """The embedded default: SQLite in WAL mode."""
        return cls(f"sqlite+aiosqlite:///{path}")

    async def migrate(self) -> None:
        """Bring the schema up to this release; of several processes that start at once, one does.

        Raises:
            HostError: `storage.failed`, if the file is not a database of ours.
        """
        # A connection of its own: on a pooled one a statement has a minute, and a migration takes what it takes.
        engine = create_async_engine(self.url, poolclass=NullPool) if self.shared else self._engine
        try:
            async with engine.begin() as connection:
                if self.shared:
                    await connection.execute(_lock_of_transaction(Keys.SCHEMA))
                await connection.run_sync(_upgrade)
        except (DatabaseError, DBAPIError, CommandError, OSError) as fault:
            # Alembic's own error: the database is at a revision that only a newer release knows. The system's: a
            # database server does not answer.
            why = str(fault.orig) if isinstance(fault, DBAPIError) else str(fault)
            do = "Restore it from a backup, or start the service with another --home. Nothing was changed."
            raise error("storage.failed", f"The database {self.name} can't be used", why=why, do=do) from None
        finally:
            if self.shared:
                await engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads, in one consistent view.

        Raises:
            HostError: `storage.failed`, if the database can't be reached.
        """
        with self._told_as_storage():
            async with self._views() as session, session.begin():
                yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A transaction: all of it is stored when the block ends, or nothing.

        Transactions that write follow one upon the other, in all processes: each statement sees all that was stored
        before, none waits for another's rows, and none has to be tried again. Inside of `facts`, nothing is stored
        once the right to them is lost.

        Raises:
            HostError: `storage.full`, `storage.failed`, if the database can't.
        """
        with self._told_as_storage():
            async with self._writer, self._session() as session, session.begin():
                if self.shared:
                    await session.execute(_lock_of_transaction(Keys.WRITES))
                yield session
                if self.carry is not None and (notes := session.info.get(_NOTES)):
                    await self.carry(session, notes)

    @staticmethod
    def note(session: AsyncSession, what: Any) -> None:
        """Have `carry` take this along with what `session` stores, just before that is committed."""
        session.info.setdefault(_NOTES, []).append(what)

    async def gather(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Do a small write together with those of others, in one transaction that is committed when this returns.

        Not inside of `write`. `work` only uses the session it is given, and may be called a second time after what the
        first did was taken back, because another's work was refused; it fails alone.

        Raises:
            HostError: `storage.full`, `storage.failed`; and what `work` raises.
        """
        return await self._group.store(work)

    @asynccontextmanager
    async def facts(self) -> AsyncIterator[None]:
        """The right to change facts and to plan, which one task of one process has at a time. Not inside of `write`.

        On PostgreSQL it is a lock of a session, on whose connection everything is stored inside of this: when the lock
        is lost, because this process was stopped for half a minute or the connection broke, nothing more is stored.

        Raises:
            HostError: `storage.failed`, if the database can't be reached, or others don't give it back.
        """
        async with self._facts:
            if not self.shared:
                yield
                return
            with self._told_as_storage():
                turn = _Turn(self, await self._take_facts())
            before = _turn.set(turn)
            try:
                yield
            finally:
                _turn.reset(before)
                turn.over = True
                await to_the_end(self._give_facts_back(turn.line))

    @asynccontextmanager
    async def alone(self, key: int) -> AsyncIterator[None]:
        """Hold an advisory lock of the database, if other processes share it; `SharedLock` is for tasks of one process.

        Raises:
            HostError: `storage.failed`, if the database can't be reached, or others don't give it back.
        """
        if not self.shared:
            yield
            return
        async with AsyncExitStack() as exits:
            with self._told_as_storage():
                connection = await exits.enter_async_context(self._engine.connect())
                await connection.execute(_lock_of_transaction(key))
            yield

    async def _take_facts(self) -> Line:
        # A session that waits long for its turn must not be ended for it; one that has it and does nothing, must.
        take = f"SET idle_session_timeout = '{STALLED}s'; SELECT pg_advisory_lock({Keys.FACTS})"
        for last in (False, True):
            if self._line is None or self._line.closed:
                await self._hang_up()
                self._line = await Line.open(self.url)
            try:
                await self._line.say(take)
            except BaseException as fault:
                fresh = not self._line.closed
                # Whatever became of the lock, it ends with the connection.
                await to_the_end(self._hang_up())
                if last or fresh or not isinstance(fault, Exception):
                    raise
            else:
                return self._line
        raise AssertionError("the last attempt returns or raises")

    async def _give_facts_back(self, line: Line) -> None:
        try:
            await line.say(f"SELECT pg_advisory_unlock({Keys.FACTS}); SET idle_session_timeout = 0")
        except Exception as fault:  # noqa: BLE001 - the lock ends with the connection; what was stored, is
            log.warning("the connection that held the facts was lost", why=str(fault))
            await self._hang_up()

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.hang_up()

    def _session(self) -> AsyncSession:
        turn = _turn.get()
        return turn.line.session() if turn is not None and turn.of is self and not turn.over else self._writes()

    @contextmanager
    def _told_as_storage(self) -> Iterator[None]:
        try:
            yield
        except BitDewError:
            raise
        except Exception as fault:
            told = storage_fault(fault, self.name)
            if told is None:
                raise
            raise told from fault

    async def close(self) -> None:
        """Store what is under way, and close all connections."""
        await self._group.close()
        await self._hang_up()
        await self._engine.dispose()


@dataclass(slots=True)
class _Turn:
    """One holding of the facts, and the connection that holds them. Tasks that were made meanwhile may outlive it."""

    of: Database
    line: Line
    over: bool = False


_turn: ContextVar[_Turn | None] = ContextVar("turn", default=None)


def _lock_of_transaction(key: int) -> Select[Any]:
    return select(func.pg_advisory_xact_lock(key))


def _refuse_a_closed_one(connection: Any, _record: object, _proxy: object) -> None:
    # The driver knows of a connection that its server ended; whoever gets it from the pool would have to fail first.
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling begins too late for a consistent view; `_begin_in_sqlite` does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL: what was acknowledged survives a power cut. Group commit makes it cheap.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_in_sqlite(connection: Connection) -> None:
    # Who is going to write says so first: a view that was read before others wrote can't become a writer.
    writes = connection.get_execution_options().get("bitdew_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
