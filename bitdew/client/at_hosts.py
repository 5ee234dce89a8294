"""Parts of data that only hosts have: read from them as a member of their swarm, kept nowhere.

Owns the readers of one connection: one for each content, made at the first read, ended when nobody has read for a while
or with the connection. When bytes are read so is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from bitdew.core.ids import ContentRoot

from .door import Door
from .flow import passing, released
from .from_hosts import HostCalls

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from types import TracebackType

    from bitdew.core.content import Content
    from bitdew.swarm.reader.reader import PieceReader
    from bitdew.wire import models as m

LINGER_SECONDS: Final = 30.0
"""How long a reader stays after the last read: who reads on finds what was connected, and what was fetched ahead."""
MOST_READERS: Final = 8
"""Contents that are read from hosts at a time without somebody who keeps them open: 32 MiB each may be in memory."""


class _Open:
    """One reader: who reads, who keeps it open, and when it ends by itself."""

    def __init__(self, reader: PieceReader) -> None:
        self.reader = reader
        self.reads = 0
        self.ending: asyncio.TimerHandle | None = None


class HostReads(HostCalls):
    """The part of `BitDew` by which parts of data are read from hosts."""

    _readers: dict[ContentRoot, _Open]
    _kept_open: dict[ContentRoot, int]
    _closing: set[asyncio.Task[None]]

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for root in list(self._readers):
            self._end_reader(root)
        await asyncio.gather(*self._closing, return_exceptions=True)
        await super().__aexit__(kind, fault, trace)

    @contextlib.asynccontextmanager
    async def reading(self, root: ContentRoot) -> AsyncIterator[None]:
        """Keep what reads from hosts open while the block lasts, and end it then; nothing else is done for it."""
        self.keep_open(root)
        try:
            yield
        finally:
            self.let_go(root)
            await asyncio.gather(*self._closing, return_exceptions=True)

    def keep_open(self, root: ContentRoot) -> None:
        """Somebody will read a content in many parts, and says `let_go` at the end."""
        self._kept_open[root] = self._kept_open.get(root, 0) + 1

    def let_go(self, root: ContentRoot) -> None:
        """One who read a content in many parts reads no more; the last one ends the reader."""
        self._kept_open[root] -= 1
        if not self._kept_open[root]:
            del self._kept_open[root]
            opened = self._readers.get(root)
            if opened is not None and not opened.reads:
                self._end_reader(root)

    async def _pieces_of_hosts(
        self, datum: m.DataView, content: Content, first: int, stop: int
    ) -> AsyncGenerator[tuple[int, bytes]]:
        """The pieces from `first` up to, not including, `stop`, in order, verified, from whoever has them.

        Raises:
            BitDewError: `data.nowhere`, `swarm.stalled`, `swarm.corrupt`, what the service says.
        """
        opened = await self._reader_of(datum, content)
        opened.reads += 1
        try:
            async with aclosing(opened.reader.pieces(first, stop)) as pieces:
                async for number, raw in pieces:
                    await released()
                    await passing(len(raw))
                    yield number, raw
        finally:
            opened.reads -= 1
            if not opened.reads and self._readers.get(content.root) is opened:
                loop = asyncio.get_running_loop()
                opened.ending = loop.call_later(LINGER_SECONDS, self._end_reader, content.root)

    async def _reader_of(self, datum: m.DataView, content: Content) -> _Open:
        opened = self._readers.get(content.root)
        if opened is None:
            from bitdew.swarm.metainfo import build_metainfo
            from bitdew.swarm.reader.door import reader_context
            from bitdew.swarm.reader.reader import PieceReader

            door = Door(self)
            await door.renew()
            context = await asyncio.to_thread(reader_context, door.credentials)
            metainfo = await asyncio.to_thread(build_metainfo, content)
            opened = self._readers.get(content.root)  # two may have begun at the same time
            if opened is None:
                self._make_room()
                reader = PieceReader(metainfo, context, lambda: self._who_has(datum.uid, datum.name))
                opened = self._readers[content.root] = _Open(reader)
        if opened.ending is not None:
            opened.ending.cancel()
            opened.ending = None
        return opened

    def _make_room(self) -> None:
        """End those that linger longest, where there are too many."""
        idle = [root for root, one in self._readers.items() if not one.reads and root not in self._kept_open]
        for root in idle[: max(0, len(idle) - MOST_READERS + 1)]:
            self._end_reader(root)

    def _end_reader(self, root: ContentRoot) -> None:
        opened = self._readers.pop(root, None)
        if opened is not None:
            if opened.ending is not None:
                opened.ending.cancel()
            task = asyncio.get_running_loop().create_task(opened.reader.close(), name="ends a piece reader")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
