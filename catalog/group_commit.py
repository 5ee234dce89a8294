"""Group commit: small writes of many callers share one transaction, and so one wait for the disk.

Owns the queue of writes and the task that empties it. All writes of a transaction are tried together first; if one of
them is refused, each is done again in a savepoint of its own, so that it fails alone.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from .faults import storage_fault

T = TypeVar("T")
Work = Callable[[AsyncSession], Awaitable[T]]

TOGETHER: Final = 128
"""Writes in one transaction at most: whoever comes next waits for them all."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    work: Work[Any]
    result: asyncio.Future[Any]

    def settle(self, outcome: Any) -> None:
        if self.result.done():  # its caller was cancelled
            return
        if isinstance(outcome, Exception):
            self.result.set_exception(outcome)
        else:
            self.result.set_result(outcome)


class GroupCommit:
    """Stores what callers hand in, in the order in which they came."""

    def __init__(self, write: Callable[[], AbstractAsyncContextManager[AsyncSession]]) -> None:
        """`write` opens a transaction."""
        self._write = write
        self._asked: deque[_Asked] = deque()
        self._storing: asyncio.Task[None] | None = None

    async def store(self, work: Work[T]) -> T:
        """What `work` returned, once it is committed together with others' works; or what it raised.

        `work` only reads and writes in the session that it is given: it may be called a second time, after what the
        first did was taken back. If the caller is cancelled before it began, it is left out; after that it is stored
        with the others.
        """
        asked = _Asked(work, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if self._storing is None:
            # In a context of its own: the first caller's belongs to that caller alone.
            self._storing = asyncio.create_task(self._store_all(), name="group commit", context=contextvars.Context())
        result: T = await asked.result
        return result

    async def close(self) -> None:
        """Store what was handed in before."""
        if self._storing is not None:
            await asyncio.wait({self._storing})

    async def _store_all(self) -> None:
        try:
            # Whoever is ready in this turn of the loop still comes along.
            await asyncio.sleep(0)
            while batch := self._next():
                for asked, outcome in zip(batch, await self._outcomes(batch), strict=True):
                    asked.settle(outcome)
                await asyncio.sleep(0)
        finally:
            self._storing = None
            for asked in self._asked:  # there are some only if this was cancelled, as the end of a loop does
                asked.result.cancel()

    def _next(self) -> list[_Asked]:
        batch: list[_Asked] = []
        while self._asked and len(batch) < TOGETHER:
            asked = self._asked.popleft()
            if not asked.result.done():
                batch.append(asked)
        return batch

    async def _outcomes(self, batch: Sequence[_Asked]) -> Sequence[Any]:
        """What each returned or raised. A transaction that fails as a whole is every caller's failure."""
        try:
            try:
                return await self._together(batch)
            except _RefusedError:
                return await self._one_by_one(batch)
        except asyncio.CancelledError:
            for asked in batch:
                asked.result.cancel()
            raise
        except Exception as fault:  # noqa: BLE001 - whoever asked is told
            return [fault] * len(batch)

    async def _together(self, batch: Sequence[_Asked]) -> Sequence[Any]:
        outcomes = []
        async with self._write() as session:
            try:
                for asked in batch:
                    outcomes.append(await asked.work(session))
                    if session.sync_session.identity_map:  # one's rows are not the next one's: they may have changed
                        await session.flush()
                        session.expunge_all()
                await session.flush()
            except Exception as fault:
                if storage_fault(fault, "") is not None:
                    raise
                raise _RefusedError from fault
        return outcomes

    async def _one_by_one(self, batch: Sequence[_Asked]) -> Sequence[Any]:
        outcomes: list[Any] = []
        async with self._write() as session:
            for asked in batch:
                try:
                    async with session.begin_nested():
                        outcome = await asked.work(session)
                except Exception as fault:
                    if storage_fault(fault, "") is not None:
                        raise
                    outcome = fault
                session.expunge_all()
                outcomes.append(outcome)
        return outcomes


class _RefusedError(Exception):
    """One of several writes failed, and nothing of any of them was stored."""
