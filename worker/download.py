"""One content on its way over the service's HTTPS: piece by piece, each verified before it is written.

Owns which pieces are in the file. It must not decide what becomes of the copy, and it seeds nothing. A piece that is
not what was published never reaches the file, so that what is there is right whatever the service sends; the pieces
are those of the swarm, so that either way of fetching goes on where the other stopped.

The service is asked for a part at a time, so that each request is within what it allows then, and shows the
certificate in force.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError, error
from bitdew.swarm.bitfield import packed, unpacked
from bitdew.swarm.disk_file import DiskFile

from .link import is_passing, patiently

if TYPE_CHECKING:
    from bitdew.core.content import Content

    from .surroundings import Surroundings

PART: Final = 64 * 2**20
"""Bytes that are asked for at a time."""


class Download:
    """Brings what is missing of one content into its file.

    Attributes:
        content: What it is.
        done: Bytes in verified pieces that are in the file.
        received: Payload bytes that came.
        corrupt: Pieces that came wrong.
        fault: What is being waited out; None while bytes come.
    """

    def __init__(self, content: Content, around: Surroundings) -> None:
        self.content = content
        self.done = 0
        self.received = 0
        self.corrupt = 0
        self.fault: BitDewError | None = None
        self._around = around
        self._file = DiskFile(around.storage.path(content.root), content, read_only=False)
        self._have = [False] * content.pieces
        self._next = 0  # every piece before it is there

    async def run(self, claimed: bytes | None) -> None:
        """Return when the file is whole and durable, however long the service is away meanwhile.

        `claimed` is the bitfield of the pieces that were durable; without it everything that is there is looked at.

        Raises:
            PeerError: `swarm.corrupt`, if a piece is not what was published.
            HostError: `storage.full`, `storage.failed`.
            BitDewError: what the service says: `data.not-found`, `storage.failed`, `certificate.revoked`.
        """
        async with self._around.bandwidth.turn():
            await self._adopt(claimed)
            while self.done < self.content.size:
                await patiently(self._fetch_part, on=self._passes)
        await asyncio.to_thread(self._file.sync, whole=True)

    async def checkpoint(self) -> bytes:
        """The bitfield of the pieces that are on the disk now and stay there.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        have = packed(self._have)
        await asyncio.to_thread(self._file.sync, whole=False)
        return have

    async def _adopt(self, claimed: bytes | None) -> None:
        """Look at what is in the file already: nobody watched it since."""
        content, storage = self.content, self._around.storage
        if await asyncio.to_thread(self._file.adopt) <= 0:
            return
        known = unpacked(claimed, content.pieces) if claimed is not None else None
        self._have = known or [True] * content.pieces
        for number, there in enumerate(self._have):
            if there and await asyncio.to_thread(storage.has_piece, content, number):
                self.done += self._length(number)
            else:
                self._have[number] = False

    async def _fetch_part(self) -> None:
        """Fetch the first pieces that are missing, as many as a part has."""
        content, around = self.content, self._around
        first, end = self._gap()
        path, start = f"/v1/content/{content.root}", first * content.piece_length
        stop = min(end * content.piece_length, content.size)
        buffer, number = bytearray(), first
        writing: asyncio.Future[None] | None = None  # one piece is verified and written while the next one comes
        try:
            async with aclosing(around.link.download(path, start, stop)) as chunks:
                async for chunk in chunks:
                    self.received += len(chunk)
                    self.fault = None
                    await around.bandwidth.take(len(chunk))
                    buffer += chunk
                    while number < end and len(buffer) >= (length := self._length(number)):
                        if writing is not None:
                            await writing
                        writing = asyncio.ensure_future(self._put(number, bytes(buffer[:length])))
                        del buffer[:length]
                        number += 1
            if writing is not None:
                await writing
        finally:
            if writing is not None:
                await asyncio.gather(writing, return_exceptions=True)

    def _gap(self) -> tuple[int, int]:
        """The first missing piece, and the piece behind the last one that is missing after it within a part."""
        while self._have[self._next]:
            self._next += 1
        end = self._next + 1
        most = min(self.content.pieces, self._next + PART // self.content.piece_length)
        while end < most and not self._have[end]:
            end += 1
        return self._next, end

    async def _put(self, number: int, raw: bytes) -> None:
        if not await asyncio.to_thread(self._around.storage.put_piece, self.content, number, raw):
            self.corrupt += 1
            name = f"{self.content.root[:16]}…"
            raise error(
                "swarm.corrupt",
                f"What the service sends of {name} is not what was published",
                why=f"piece {number} of {self.content.pieces} is wrong",
                do="Nothing: it was thrown away, the repository's copy is checked, and this one is taken again later.",
                piece=number,
                root=self.content.root,
            )
        self._have[number] = True
        self.done += len(raw)

    def _length(self, number: int) -> int:
        """Bytes of a piece: the last one may be short."""
        return min(self.content.piece_length, self.content.size - number * self.content.piece_length)

    def _passes(self, fault: Exception) -> bool:
        if not isinstance(fault, BitDewError) or not is_passing(fault):
            return False
        self.fault = fault
        return True
