"""A lock that one task of one process has at a time, of all processes that share a database.

Owns how it is held: by a transaction of its own that stores nothing, so that it ends with the process, or with its
connection. It is for what changes beside the database too, like files; what is stored needs none.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Self

from bitdew.tasks import to_the_end

from .database import Database


class SharedLock:
    """An async context manager. Not to be taken inside of `Database.write` or `Database.facts`."""

    def __init__(self, database: Database, key: int) -> None:
        """`key` is what the lock is called in the database: one of `postgres.Keys`."""
        self._database = database
        self._key = key
        self._mine = asyncio.Lock()
        self._held = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._mine)
            await held.enter_async_context(self._database.alone(self._key))
            self._held = held.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await to_the_end(self._held.aclose())
