"""One content on its way over the service's HTTPS: piece by piece, each verified before it is written.

Owns which pieces are in the file. It must not decide what becomes of the copy, and it seeds nothing. A piece that is
not what was published never reaches the file, so that what is there is right whatever the service sends; the pieces
are those of the swarm, so that either way of fetching goes on where the other stopped.

The service is asked for a part at a time, so that each request is within what it allows then, and shows the
certificate in force.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from bitdew.clock import wait_at_most
from bitdew.core.blocks import length_of_piece
from bitdew.core.content import BLOCK, leaves_of
from bitdew.core.errors import BitDewError, error
from bitdew.swarm.bitfield import packed
from bitdew.swarm.disk_file import DiskFile
from bitdew.wire.cutting import in_pieces

from .link import is_passing, patiently

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection

    from bitdew.core.content import Content

    from .blockmap import BlockMap
    from .reuse import Found
    from .surroundings import Surroundings

TURN_SECONDS: Final = 15.0
"""How long a service that is away is waited for, where the bytes can be had in another way."""

LOOK_SECONDS: Final = 0.25
"""How often the figures of a download are looked at."""

PART: Final = 64 * 2**20
"""Bytes that are asked for at a time."""

WRITES: Final = 3
"""Pieces that are verified and written at the same time, while the next one comes."""

WRITTEN: Final = 32 * 2**20
"""Bytes of these at most, unless one piece alone has more."""

RUNS: Final = 4
"""Runs of blocks that are asked for at the same time, where only some of a piece are missing: each is a request."""

JOINED: Final = 1
"""A block that is there between two runs is fetched again, rather than asked around."""


class Download:
    """Brings what is missing of one content into its file.

    Attributes:
        content: What it is.
        done: Bytes in verified pieces that are in the file.
        received: Payload bytes that came.
        corrupt: Pieces that came wrong.
        fault: What is being waited out; None while bytes come.
    """

    def __init__(self, content: Content, around: Surroundings, has_another_way: Callable[[], bool]) -> None:
        """`has_another_way` says whether the service is waited for as long as `TURN_SECONDS` only."""
        self.content = content
        self.done = 0
        self.received = 0
        self.corrupt = 0
        self.fault: BitDewError | None = None
        self._around = around
        self._has_another_way = has_another_way
        self._away_since = 0.0
        self._file = DiskFile(around.storage.path(content.root), content, read_only=False)
        self._have = [False] * content.pieces
        self._at_once = max(1, min(WRITES, WRITTEN // content.piece_length))
        self._next = 0  # every piece before it is there
        self._partly: Collection[int] = ()

    async def run(self, found: Found, look: Callable[[], Awaitable[None]]) -> None:
        """Return when the file is whole and durable. Where there is no other way, the service is waited for.

        `found` is what is in the file; its pieces are looked at, unless that was just done. `look` is called now and
        then meanwhile, for the figures.

        Raises:
            PeerError: `swarm.corrupt`, if a piece is not what was published.
            HostError: `storage.full`, `storage.failed`.
            BitDewError: what the service says: `data.not-found`, `storage.failed`, `certificate.revoked`; if there is
                another way, also `service.unreachable` and its like.
        """
        work = asyncio.ensure_future(self._run(found))
        try:
            while not work.done():
                await wait_at_most(self._around.clock, LOOK_SECONDS, asyncio.wait({work}))
                await look()
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _run(self, found: Found) -> None:
        async with self._around.bandwidth.coming(self.content.root):
            await self._adopt(found)
            while self.done < self.content.size:
                await patiently(lambda: self._fetch_next(found.map), on=self._passes)
        await asyncio.to_thread(self._file.sync, whole=True)

    async def checkpoint(self) -> bytes:
        """The bitfield of the pieces that are on the disk now and stay there.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        have = packed(self._have)
        await asyncio.to_thread(self._file.sync, whole=False)
        return have

    async def _adopt(self, found: Found) -> None:
        """Look at what is in the file already, if nobody watched it since."""
        content, storage = self.content, self._around.storage
        if await asyncio.to_thread(self._file.adopt) <= 0:
            return
        self._have, self._partly = list(found.have), found.unfinished
        for number, there in enumerate(self._have):
            if there and (found.read or await asyncio.to_thread(storage.has_piece, content, number)):
                self.done += length_of_piece(content, number)
            else:
                self._have[number] = False

    async def _fetch_next(self, map_: BlockMap | None) -> None:
        while self._have[self._next]:
            self._next += 1
        if map_ is not None and self._next in self._partly:
            await self._fetch_blocks(map_)
        else:
            await self._fetch_part()

    async def _fetch_part(self) -> None:
        """Fetch the first pieces that are missing, as many as a part has."""
        writing: deque[asyncio.Future[None]] = deque()  # pieces are verified and written while the next ones come
        try:
            async with aclosing(in_pieces(self.content, self._gap(), self._chunks)) as pieces:
                async for number, piece in pieces:
                    if len(writing) >= self._at_once:
                        await writing.popleft()
                    writing.append(asyncio.ensure_future(self._put(number, piece)))
            while writing:
                await writing.popleft()
        finally:
            await asyncio.gather(*writing, return_exceptions=True)

    async def _chunks(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        """The bytes from `start` up to, not including, `stop`, as they come, at the pace that is allowed."""
        around = self._around
        async with aclosing(around.link.download(f"/v1/content/{self.content.root}", start, stop)) as chunks:
            async for chunk in chunks:
                self.received += len(chunk)
                self.fault = None
                await around.bandwidth.take(len(chunk), self.content.root)
                yield chunk

    def _gap(self) -> range:
        """The first missing piece, and those after it that are missing as a whole within a part."""
        end = self._next + 1
        most = min(self.content.pieces, self._next + PART // self.content.piece_length)
        while end < most and not self._have[end] and end not in self._partly:
            end += 1
        return range(self._next, end)

    async def _fetch_blocks(self, map_: BlockMap) -> None:
        """Fetch the missing blocks of the first piece that is missing, a few runs of them at the same time."""
        number, turn = self._next, asyncio.Semaphore(RUNS)

        async def fetch(first: int, end: int) -> None:
            async with turn:
                await self._fetch_run(map_, first, end)

        results = await asyncio.gather(*(fetch(*run) for run in map_.gaps(number, JOINED)), return_exceptions=True)
        for fault in results:
            if fault is not None:
                raise fault
        self._have[number] = True
        self.done += length_of_piece(self.content, number)

    async def _fetch_run(self, map_: BlockMap, first: int, end: int) -> None:
        content, around, start = self.content, self._around, first * BLOCK
        async with aclosing(self._chunks(start, start + map_.length(first, end))) as chunks:
            raw = b"".join([chunk async for chunk in chunks])
        hashes = await asyncio.to_thread(leaves_of, raw)
        if any(map_.leaf(block) != leaf for block, leaf in enumerate(hashes, first)):
            raise self._wrong(first * BLOCK // content.piece_length)
        await asyncio.to_thread(around.storage.put_blocks, content.root, start, raw)
        map_.mark(first, end)

    async def _put(self, number: int, raw: bytes) -> None:
        if not await asyncio.to_thread(self._around.storage.put_piece, self.content, number, raw):
            raise self._wrong(number)
        self._have[number] = True
        self.done += len(raw)

    def _wrong(self, number: int) -> BitDewError:
        """Something of piece `number` came wrong."""
        self.corrupt += 1
        return error(
            "swarm.corrupt",
            f"What the service sends of {self.content.root[:16]}… is not what was published",
            why=f"piece {number} of {self.content.pieces} is wrong",
            do="Nothing: it was thrown away, the repository's copy is checked, and this one is taken again later.",
            piece=number,
            root=self.content.root,
        )

    def _passes(self, fault: Exception) -> bool:
        if not isinstance(fault, BitDewError) or not is_passing(fault):
            return False
        now = self._around.clock.monotonic()
        if self.fault is None:
            self._away_since = now
        self.fault = fault
        return now - self._away_since < TURN_SECONDS or not self._has_another_way()
