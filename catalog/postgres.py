"""What PostgreSQL needs beside SQLAlchemy: the settings of its sessions, connections of one's own, its programs.

Owns the figures by which a session that nobody attends to ends, and with it whatever it holds. It knows no tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

STALLED: Final = 30
"""Seconds after which the server ends the session of a process that holds a lock and does nothing: it was stopped."""
LOCK_SECONDS: Final = 45
"""Seconds that a lock is waited for: longer than a stalled process can hold it."""
CONNECT_SECONDS: Final = 10
STATEMENT_SECONDS: Final = 60
"""Seconds that a statement may take, waiting included."""
POOL: Final = {"pool_size": 10, "max_overflow": 20, "pool_timeout": 30}
"""Connections: ten are kept. One process has one writer, so that the others only read."""
CACHED_STATEMENTS: Final = 500
"""Statements that stay prepared in each session; the services have about 150."""


class Keys:
    """The advisory locks of a database; the numbers mean nothing, but are nobody else's."""

    FACTS: Final = 0x62697464_0001
    """Who holds it may change facts and plan: of a session."""
    WRITES: Final = 0x62697464_0002
    """Who holds it writes: of a transaction, the innermost of them all."""
    LEADER: Final = 0x62697464_0003
    """Who holds it leads: of a session."""
    SCHEMA: Final = 0x62697464_0004
    """Who holds it changes the schema: of a transaction."""
    CONTENTS: Final = 0x62697464_0005
    """Who holds it changes files of the repository and what is stored of them: of a transaction of its own."""
    LINKS: Final = 0x62697464_0006
    """Who holds it attaches data to attributes, or attributes to others: of a transaction of its own."""


def session_settings(**more: str) -> dict[str, str]:
    """The settings of a session: it ends when its process is stopped, or when its machine is gone from the network."""
    return {
        "application_name": "bitdew",
        "jit": "off",  # it costs more than our statements take
        "lock_timeout": f"{LOCK_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{STALLED}s",
        "tcp_keepalives_idle": "15",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": f"{STALLED}s",
        **more,
    }


def pooled_engine(url: URL) -> AsyncEngine:
    """The engine for ordinary transactions."""
    connect_args = {
        "timeout": CONNECT_SECONDS,
        "command_timeout": STATEMENT_SECONDS,
        "server_settings": session_settings(),
        "statement_cache_size": 0,  # SQLAlchemy prepares statements itself, and keeps them
        "prepared_statement_cache_size": CACHED_STATEMENTS,
    }
    return create_async_engine(url, connect_args=connect_args, **POOL)


class Line:
    """A connection of one's own. What its session holds ends with it, whatever its end."""

    def __init__(self, engine: AsyncEngine, connection: AsyncConnection, driver: Any) -> None:
        """Use `open`."""
        self._engine = engine
        self._connection = connection
        self.driver = driver
        """asyncpg's connection."""

    @classmethod
    async def open(cls, url: URL, **settings: str) -> Self:
        """Connect; `settings` are added to the session's.

        Raises:
            OSError, TimeoutError, DBAPIError: It can't be reached.
        """
        opening = asyncio.ensure_future(cls._open(url, settings))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # Half a connection belongs to no one: it is made, which takes seconds at most, and ended.
            await asyncio.wait({opening})
            if opening.exception() is None:
                await opening.result().hang_up()
            raise

    @classmethod
    async def _open(cls, url: URL, settings: Mapping[str, str]) -> Self:
        connect_args = {"timeout": CONNECT_SECONDS, "server_settings": session_settings(**settings)}
        engine = create_async_engine(url, connect_args=connect_args, poolclass=NullPool)
        connection = await engine.connect()
        return cls(engine, connection, (await connection.get_raw_connection()).driver_connection)

    @property
    def closed(self) -> bool:
        """Whether the server or we ended it, as far as is known here."""
        return bool(self.driver.is_closed())

    async def say(self, statements: str, *, seconds: float = STATEMENT_SECONDS) -> None:
        """Execute statements without parameters outside of any transaction of ours, in one round trip."""
        await self.driver.execute(statements, timeout=seconds)

    def session(self) -> AsyncSession:
        """A session whose transactions run on this connection: they can't outlive what it holds."""
        return AsyncSession(self._connection, expire_on_commit=False)

    async def hang_up(self) -> None:
        """End it, at once and in whatever state it is."""
        self.driver.terminate()
        # The pool behind it would ask the dead for a last rollback.
        with contextlib.suppress(Exception):
            await self._connection.invalidate()
        with contextlib.suppress(Exception):
            await self._connection.close()
        await self._engine.dispose()
        await asyncio.sleep(0)  # the socket closes in the loop's next turn


def find_program(name: str) -> Path | None:
    """One of PostgreSQL's programs: in PATH, or Debian's newest; None if there is none."""
    if found := shutil.which(name):
        return Path(found)
    installed = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    return max(installed, key=lambda path: int(path.parts[-3]) if path.parts[-3].isdecimal() else 0, default=None)


def program_environment(url: URL) -> dict[str, str]:
    """The environment in which PostgreSQL's programs find the database of `url`; a password stands in no command."""
    host, port, ssl = url.query.get("host", url.host), url.query.get("port", url.port), url.query.get("ssl")
    given = {
        "PGHOST": host,
        "PGPORT": port,
        "PGUSER": url.query.get("user", url.username),
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": ssl if ssl != "true" else "require",
    }
    return {**os.environ, **{name: str(value) for name, value in given.items() if value}, "PGAPPNAME": "bitdew backup"}
