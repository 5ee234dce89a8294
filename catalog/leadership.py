"""Which process of a database plans: one leads, and when it ends, hangs or loses its connection, another does.

Owns the lock of the leader and the count of leaders, its epoch. It does not know what a leader does.

On SQLite the only process leads. On PostgreSQL leading is a lock of a session: the server gives it back when the
process or its machine is gone, and when the process, stopped or stuck, has not spoken for 20 s. A leader that wakes up
after that finds another epoch stored, and its writes refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.errors import error
from bitdew.tasks import to_the_end

from .database import Database
from .faults import storage_fault
from .postgres import Keys, Line
from .tables import LeadershipRow

log = structlog.get_logger(__name__)

SILENCE: Final = 20.0
"""Seconds without a word after which the server takes the lead from a process; it says one four times as often."""
WAITING: Final = 10
"""Seconds that the lock is waited for at a time, so that a server that is gone is noticed."""
PAUSE: Final = 1.0
"""Seconds before a database that can't be reached is tried again."""


class Leadership:
    """Whether this process leads, and since when.

    Attributes:
        epoch: The number of this process's lead, which no other has; None while it has not led yet.
        lost: Set whenever this process does not lead.
    """

    def __init__(self, database: Database, *, silence: float = SILENCE) -> None:
        """`silence` is for tests, who have less time."""
        self._database = database
        self._silence = silence
        self._gained = asyncio.Event()
        self.lost = asyncio.Event()
        self.epoch: int | None = None
        if database.shared:
            self.lost.set()
        else:
            self.epoch = 0
            self._gained.set()

    @property
    def held(self) -> bool:
        """Whether this process leads, as far as it knows."""
        return self._gained.is_set()

    async def gained(self) -> None:
        """Return once this process leads; at once if it does."""
        await self._gained.wait()

    async def check(self, session: AsyncSession) -> None:
        """Refuse to write in `session`, a transaction of `Database.write`, what a leader of old decided.

        What it lets through is committed before the next leader is counted.

        Raises:
            ServiceError: `leadership.lost`.
        """
        if not self._database.shared:
            return
        epoch = await session.scalar(select(LeadershipRow.epoch))
        if not self.held or epoch != self.epoch:
            why = f"this process led as number {self.epoch}, and number {epoch} was counted"
            raise error("leadership.lost", "Another process of the service decides now", why=why)

    async def run(self) -> None:
        """Try to lead, again and again, until cancelled; then the lead is given back."""
        if not self._database.shared:
            await asyncio.Event().wait()
        while True:
            try:
                async with self._lock() as ended:
                    await self._count()
                    log.info("leading", epoch=self.epoch)
                    self.lost.clear()
                    self._gained.set()
                    await ended.wait()
                    log.warning("the lead is lost: another process decides", epoch=self.epoch)
            except Exception as fault:
                if storage_fault(fault, "") is None and getattr(fault, "key", "") != "storage.failed":
                    raise
                log.warning("nobody can lead without the database; it is tried again", why=str(fault))
                await asyncio.sleep(PAUSE)
            finally:
                self._gained.clear()
                self.lost.set()

    @asynccontextmanager
    async def _lock(self) -> AsyncIterator[asyncio.Event]:
        """The leader's lock, for as long as this lasts, and an event for its end before that."""
        limits = {"idle_session_timeout": f"{self._silence * 1000:.0f}ms", "lock_timeout": f"{WAITING}s"}
        line = await Line.open(self._database.url, **limits)
        ended = asyncio.Event()
        try:
            line.driver.add_termination_listener(lambda _connection: ended.set())
            while not await _taken(line):
                pass
            probing = asyncio.create_task(_probe(line, self._silence / 4, ended), name="probe of the lead")
            try:
                yield ended
            finally:
                probing.cancel()
                await asyncio.wait({probing})
        finally:
            await to_the_end(line.hang_up())

    async def _count(self) -> None:
        query = update(LeadershipRow).values(epoch=LeadershipRow.epoch + 1).returning(LeadershipRow.epoch)
        async with self._database.write() as session:
            self.epoch = (await session.execute(query)).scalar_one()


async def _taken(line: Line) -> bool:
    """Whether the lock could be taken before the wait for it ended."""
    try:
        await line.say(f"SELECT pg_advisory_lock({Keys.LEADER})", seconds=2 * WAITING)
    except Exception as fault:
        if _is_timeout_of_lock(fault):
            return False
        raise
    return True


def _is_timeout_of_lock(fault: Any) -> bool:
    return getattr(fault, "sqlstate", None) == "55P03"


async def _probe(line: Line, seconds: float, ended: asyncio.Event) -> None:
    """Speak often enough to keep the lock, and notice when nobody answers."""
    try:
        while True:
            await asyncio.sleep(seconds)
            await line.say("SELECT 1", seconds=seconds)
    except Exception as fault:  # noqa: BLE001 - whatever it is, the lock can't be relied on any more
        log.warning("the leader's connection does not answer", why=str(fault))
    finally:
        ended.set()
