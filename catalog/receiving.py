"""One part of an upload while it comes: cut into pieces, each hashed and written in a thread, durable at the end.

Owns the order of these steps and how much may be under way. It never leaves a piece half recorded: what broke off in
the middle of one is thrown away with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Collection
from typing import Final

from bitdew.core.content import ContentTree
from bitdew.core.errors import error
from bitdew.core.units import format_size
from bitdew.tasks import to_the_end

from .upload_file import UploadFile

SILENCE: Final = 60.0
"""Seconds within which the next bytes of a part have to come."""
AHEAD: Final = 4
"""Pieces of one part that may wait for a processor."""


class Claims:
    """Which pieces of an upload are being written. Each is by one part at a time, and none once it is closed."""

    def __init__(self) -> None:
        self._busy: set[int] = set()
        self._closed = False
        self._idle = asyncio.Event()

    def require_open(self, name: str) -> None:
        """Refuse a part that comes when no piece may be written any more.

        Raises:
            UserError: `upload.not-found`.
        """
        if self._closed:
            why = "it was completed, or given up"
            raise error("upload.not-found", f"A part of the upload of {name!r} came too late", why=why)

    def take(self, number: int) -> bool:
        """Whether the caller may write piece `number` now; if so it has to release it."""
        if number in self._busy:
            return False
        self._busy.add(number)
        return True

    def release(self, numbers: Collection[int]) -> None:
        """These pieces are written, or are not going to be."""
        self._busy.difference_update(numbers)
        if not self._busy:
            self._idle.set()

    def refuse(self) -> None:
        """Let no more pieces be written."""
        self._closed = True

    async def close(self) -> None:
        """Let no more pieces be written, and return when those under way are."""
        self.refuse()
        while self._busy:
            self._idle.clear()
            await self._idle.wait()


class Part:
    """Bytes from `offset` on, of one upload."""

    def __init__(self, files: UploadFile, tree: ContentTree, claims: Claims, offset: int, most: int) -> None:
        """`offset` is where a piece begins. At most `most` bytes are taken. A piece that is another's is left to it."""
        self._files = files
        self._tree = tree
        self._claims = claims
        self._claimed: set[int] = set()
        self._most = most
        self._next = offset // tree.piece_length
        self._taken = 0
        self._roots: dict[int, bytes] = {}
        self._works: set[asyncio.Task[None]] = set()
        self._buffer = bytearray()

    async def receive(self, chunks: AsyncIterator[bytes], name: str) -> int:
        """Take in all of `chunks`; how many bytes those were. However it ends, the whole pieces that came are kept.

        Raises:
            UserError: `input.invalid` if it is too large; `disk.changed` if it goes beyond the end; `upload.not-found`
                after a long silence, or once the upload was completed or given up.
            OSError: what the disk says. And whatever `chunks` raises.
        """
        descriptor = await asyncio.to_thread(self._files.open)
        try:
            try:
                async for chunk in _in_time(chunks, name):
                    self._claims.require_open(name)
                    self._check_room(len(chunk), name)
                    self._taken += len(chunk)
                    self._buffer += chunk
                    await self._cut(descriptor, name)
            except BaseException:
                with contextlib.suppress(OSError):
                    await to_the_end(self._keep(descriptor))
                raise
            await to_the_end(self._keep(descriptor))
        finally:
            await to_the_end(asyncio.to_thread(os.close, descriptor))
        return self._taken

    def _check_room(self, more: int, name: str) -> None:
        behind = self._next * self._tree.piece_length + len(self._buffer) + more
        if behind > self._tree.size:
            raise error("disk.changed", f"More bytes came for {name!r} than announced")
        if self._taken + more > self._most:
            why = f"a part has {format_size(self._most)} at most"
            raise error("input.invalid", f"A part of {name!r} is too large", why=why)

    async def _cut(self, descriptor: int, name: str) -> None:
        """Hand on the whole pieces that are there."""
        while self._next < self._tree.pieces and len(self._buffer) >= (length := self._tree.length(self._next)):
            self._claims.require_open(name)
            number, self._next = self._next, self._next + 1
            # A piece that is there is never written again: what its root was computed of must not change.
            if not self._tree.has(number) and self._claims.take(number):
                self._claimed.add(number)
                work = self._put(descriptor, number, bytes(memoryview(self._buffer)[:length]))
                self._works.add(asyncio.create_task(work))
            del self._buffer[:length]
            while len(self._works) >= AHEAD:
                done, self._works = await asyncio.wait(self._works, return_when=asyncio.FIRST_COMPLETED)
                _raise_first([work.exception() for work in done])

    async def _put(self, descriptor: int, number: int, raw: bytes) -> None:
        self._roots[number] = await asyncio.to_thread(self._files.put, descriptor, self._tree, number, raw)

    async def _keep(self, descriptor: int) -> None:
        """Make the pieces that were written durable, and then known."""
        try:
            works, self._works = self._works, set()
            failures = await asyncio.gather(*works, return_exceptions=True)
            await asyncio.to_thread(self._files.sync, descriptor, self._roots)
            for number, root in self._roots.items():
                self._tree.put(number, root)
            _raise_first(failures)
        finally:
            self._claims.release(self._claimed)


def _raise_first(failures: Collection[BaseException | None]) -> None:
    for failure in failures:
        if failure is not None:
            raise failure


async def _in_time(chunks: AsyncIterator[bytes], name: str) -> AsyncIterator[bytes]:
    """The chunks, as long as each comes within `SILENCE` seconds of the one before."""
    while True:
        try:
            async with asyncio.timeout(SILENCE):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            why = f"nothing came for {SILENCE:g} s"
            raise error("upload.not-found", f"The upload of {name!r} was given up", why=why) from None
        yield chunk
