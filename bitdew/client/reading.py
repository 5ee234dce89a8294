"""Reading what is published, and taking its identity, on all processors and without holding up the event loop.

Owns the threads that read, and how far they read ahead. Pieces are independent of each other, and hashing them leaves
the interpreter free: they are read and hashed side by side. What is known to be zeros is neither read nor hashed.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from bitdew.core.content import Content, ContentTree, leaves_of, root_of_leaves, root_of_zeros
from bitdew.tasks import to_the_end

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

    from .source import ByteSource

    Progress = Callable[[int, int], None]

STRIDE: Final = 2**20
"""Bytes that a thread reads and hashes at a time, if pieces are smaller: so that its switch costs little."""
AHEAD: Final = 32 * 2**20
"""Bytes that may be read ahead, if they are more than two pieces."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece that was read.

    Attributes:
        number: Which one.
        root: Its root.
        raw: Its bytes, if they were asked for and are not all zeros.
    """

    number: int
    root: bytes
    raw: bytes | None


class Reader:
    """Reads the pieces of a source into its hash tree. An async context manager, which closes the source at its end.

    Attributes:
        source: What is read.
        tree: What is known of it so far.
        empty: Bytes that are known to be zeros without reading.
        stride: Pieces that one thread reads at a time.
        most: Strides that may be read ahead.
    """

    def __init__(self, source: ByteSource, threads: int | None = None) -> None:
        """`threads` is how many read at once; as many as there are processors, if it is not said."""
        self.source = source
        self.tree = ContentTree(source.size)
        self.empty = 0
        threads = threads or max(1, os.cpu_count() or 1)
        self.stride = max(1, STRIDE // self.tree.piece_length)
        self.most = max(2, min(2 * threads, AHEAD // (self.stride * self.tree.piece_length)))
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="reading")

    async def __aenter__(self) -> Self:
        """Look for holes. What lies wholly in them is known from then on."""
        for start, end in await asyncio.to_thread(self.source.holes):
            length = self.tree.piece_length
            first, behind = -(-start // length), self.tree.pieces if end == self.tree.size else end // length
            if first < behind:
                self.tree.put_zeros(first, behind)
                self.empty += min(behind * length, self.tree.size) - first * length
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Reads under way are waited for: their threads can't be cancelled, and need the source open."""

        def end() -> None:
            self.pool.shutdown(wait=True, cancel_futures=True)
            self.source.close()

        await to_the_end(asyncio.to_thread(end))

    def is_zeros(self, number: int) -> bool:
        """Whether piece `number` is known to be zeros."""
        zeros = root_of_zeros(self.tree.length(number), self.tree.size)
        return self.tree.has(number) and self.tree.root(number) == zeros

    def pieces(self, first: int, end: int, wanted: Callable[[int], bool]) -> PieceStream:
        """The pieces from `first` up to `end`, without those that are known to be zeros.

        Those that `wanted` says come with their bytes; the others are read only if their root is not known yet.
        """
        return PieceStream(self, first, end, wanted)

    def read(self, asked: Collection[tuple[int, bool]]) -> list[Piece]:
        """Read and hash these pieces; those that are marked come with their bytes. Blocks.

        Raises:
            BitDewError: as `ByteSource.read_at`.
        """
        found = []
        for number, wanted in asked:
            raw = self.source.read_at(number * self.tree.piece_length, self.tree.length(number))
            root = root_of_leaves(leaves_of(raw), self.tree.size)
            zeros = root == root_of_zeros(len(raw), self.tree.size)
            found.append(Piece(number, root, raw if wanted and not zeros else None))
        return found

    async def identify(self, progress: Progress | None = None) -> Content:
        """Read all that is not known yet; what it is.

        `progress` is called with the bytes identified and their total.

        Raises:
            BitDewError: as `ByteSource.read_at` and `ByteSource.check_unchanged`.
        """
        async with aclosing(self.pieces(0, self.tree.pieces, lambda _: False)) as pieces:
            while await pieces.next():
                if progress:
                    progress(self.known, self.tree.size)
        if progress:
            progress(self.tree.size, self.tree.size)
        return await self.content()

    @property
    def known(self) -> int:
        """Bytes that were identified."""
        return min(self.tree.size, self.tree.known * self.tree.piece_length)

    async def content(self) -> Content:
        """What was read, provided that it is still what lies there.

        Raises:
            UserError: `disk.changed`.
        """
        content = await asyncio.to_thread(self.tree.content)
        await asyncio.to_thread(self.source.check_unchanged)
        return content


class PieceStream:
    """Pieces of a source in order, read ahead. Whoever takes them may be cancelled at any time; close it at the end."""

    def __init__(self, reader: Reader, first: int, end: int, wanted: Callable[[int], bool]) -> None:
        self._reader = reader
        self._wanted = wanted
        self._end = end
        self._strides = iter(range(first, end, reader.stride))
        self._reading: deque[asyncio.Future[list[Piece]]] = deque()
        self._read: deque[Piece] = deque()

    async def next(self) -> Piece | None:
        """The next piece; None behind the last.

        Raises:
            BitDewError: as `ByteSource.read_at`.
        """
        self._read_ahead()
        while not self._read:
            if not self._reading:
                return None
            found = await asyncio.shield(self._reading[0])
            self._reading.popleft()
            for piece in found:
                self._reader.tree.put(piece.number, piece.root)
            self._read += found
            self._read_ahead()
        return self._read.popleft()

    def _read_ahead(self) -> None:
        reader, tree = self._reader, self._reader.tree
        while len(self._reading) < reader.most and (start := next(self._strides, None)) is not None:
            numbers = range(start, min(self._end, start + reader.stride))
            asked = [(number, self._wanted(number)) for number in numbers if not reader.is_zeros(number)]
            asked = [(number, raw) for number, raw in asked if raw or not tree.has(number)]
            if asked:
                loop = asyncio.get_running_loop()
                self._reading.append(loop.run_in_executor(reader.pool, reader.read, asked))

    async def aclose(self) -> None:
        """Read no further. A thread that is reading goes on to the end of its stride."""
        reading, self._reading, self._strides = self._reading, deque(), iter(range(0))
        for work in reading:
            work.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
