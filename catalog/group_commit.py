"""Group commit: small writes of many callers share one transaction, and so one wait for the disk.

Owns what is in a transaction; whose turn it is, is a `Batcher`'s. All writes of a transaction are tried together first;
if one of them is refused, each is done again in a savepoint of its own, so that it fails alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.batching import Batcher

from .faults import storage_fault

T = TypeVar("T")
Work = Callable[[AsyncSession], Awaitable[T]]

TOGETHER: Final = 128
"""Writes in one transaction at most: whoever comes next waits for them all."""


class GroupCommit:
    """Stores what callers hand in, in the order in which they came."""

    def __init__(self, write: Callable[[], AbstractAsyncContextManager[AsyncSession]]) -> None:
        """`write` opens a transaction."""
        self._write = write
        self._batcher: Batcher[Work[Any], Any] = Batcher(self._store, name="group commit", most=TOGETHER)

    async def store(self, work: Work[T]) -> T:
        """What `work` returned, once it is committed together with others' works; or what it raised.

        `work` only reads and writes in the session that it is given: it may be called a second time, after what the
        first did was taken back. If the caller is cancelled before it began, it is left out; after that it is stored
        with the others, and the cancellation is raised then.
        """
        result: T = await self._batcher.ask(work)
        return result

    async def close(self) -> None:
        """Store what was handed in before."""
        await self._batcher.close()

    async def _store(self, works: Sequence[Work[Any]]) -> Sequence[Any]:
        """What each returned or raised. A transaction that fails as a whole is every caller's failure."""
        try:
            return await self._together(works)
        except _RefusedError:
            return await self._one_by_one(works)

    async def _together(self, works: Sequence[Work[Any]]) -> Sequence[Any]:
        outcomes = []
        async with self._write() as session:
            try:
                for work in works:
                    outcomes.append(await work(session))
                    if session.sync_session.identity_map:  # one's rows are not the next one's: they may have changed
                        await session.flush()
                        session.expunge_all()
                await session.flush()
            except Exception as fault:
                if storage_fault(fault, "") is not None:
                    raise
                raise _RefusedError from fault
        return outcomes

    async def _one_by_one(self, works: Sequence[Work[Any]]) -> Sequence[Any]:
        outcomes: list[Any] = []
        async with self._write() as session:
            for work in works:
                try:
                    async with session.begin_nested():
                        outcome = await work(session)
                except Exception as fault:
                    if storage_fault(fault, "") is not None:
                        raise
                    outcome = fault
                session.expunge_all()
                outcomes.append(outcome)
        return outcomes


class _RefusedError(Exception):
    """One of several writes failed, and nothing of any of them was stored."""
