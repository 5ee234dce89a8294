"""What this host has of a content before anything is fetched: zeros, blocks of an earlier attempt, blocks of others.

Owns the reading and copying. It must not fetch a byte of the content, nor trust any: a block is there if its hash is
right, so that a base which rotted, changes or goes meanwhile costs only what it did not give. A base is only read, and
opened for one step at a time: it may be in use, or be dropped.

The order is: pieces of zeros, which need no more than the piece hashes; then, where the hashes of the blocks are known,
what is in the content's own file; then the same place in each base, and then every other place in it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.core.blocks import is_zeros, length_of_piece
from bitdew.core.content import BLOCK, leaf_of, leaves_of
from bitdew.swarm.bitfield import packed, unpacked
from bitdew.swarm.disk_file import storage_error

from .blockmap import BlockMap, moves
from .blocks import Blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bitdew.core.content import Content

    from .blockmap import Move
    from .storage import Storage
    from .surroundings import Surroundings

log = structlog.get_logger(__name__)

STEP: Final = 8 * 2**20
"""Bytes that are read in one go: between two of them, it can be ended."""
WINDOW: Final = 2**18
"""Blocks that are looked for at a time where they may have moved: an index of 50 MB."""
_MOVES: Final = STEP // BLOCK


class Known(Enum):
    """What is known of the pieces that an attempt finds in its file."""

    NOTHING = auto()
    BELIEVED = auto()
    """An earlier attempt, or worker, wrote down which are there."""
    READ = auto()
    """They were just read."""


@dataclass(slots=True)
class Found:
    """What is there.

    Attributes:
        have: Which pieces are there whole.
        unfinished: Of those that are partly there, which blocks are.
        reused: Bytes that were taken from other contents.
        map: All blocks, where their hashes are known.
        read: Whether all that is there was read and found right.
    """

    have: list[bool]
    unfinished: Mapping[int, Sequence[bool]] = field(default_factory=dict)
    reused: int = 0
    map: BlockMap | None = None
    read: bool = False

    def done(self, content: Content) -> int:
        """Bytes in the pieces that are there whole."""
        return sum(length_of_piece(content, number) for number, there in enumerate(self.have) if there)


async def found_here(
    content: Content, have: bytes | None, around: Surroundings, progressed: Callable[[int], None]
) -> Found:
    """Fill the file of `content` with what this host has of it, and keep which pieces are there.

    As `Reuse.run`; `have` is the bitfield of the pieces that are known to be there.
    """
    storage = around.storage
    reuse = Reuse(content, storage, Blocks(storage, around.link, around.clock), progressed)
    found = await reuse.run(None if have is None else unpacked(have, content.pieces))
    progressed(found.done(content))
    if any(found.have) or found.unfinished:
        await asyncio.to_thread(storage.write_have, content.root, packed(found.have))
    if found.reused:
        log.info("blocks of other contents are used", root=content.root, reused=found.reused, size=content.size)
    return found


class Reuse:
    """Fills the file of one content with what this host has of it."""

    def __init__(self, content: Content, storage: Storage, blocks: Blocks, progressed: Callable[[int], None]) -> None:
        """`progressed` is told now and then how many bytes are there."""
        self._content = content
        self._storage = storage
        self._blocks = blocks
        self._path = storage.path(content.root)
        self._progressed = progressed
        self._reused = 0

    async def run(self, have: Sequence[bool] | None) -> Found:
        """What is there in the end, on the disk to stay. The file has its full length then, with holes.

        `have` are the pieces that are known to be there. Without it the file is read; and only then others are: what
        they have was taken before it was first known what is there.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        content = self._content
        was = await asyncio.to_thread(self._prepare)
        if have is not None and was < _reach(content, have):
            have = None  # the file went, or was cut
        nothing_known = have is None
        bases = await self._blocks.bases_of(content) if have is None else []
        leaves = await (self._blocks.fetched(content) if bases else self._blocks.known(content))
        if have is None and leaves is None and was > 0:
            have = await self._read_pieces()
        found = Found(list(have or [False] * content.pieces), read=nothing_known)
        await self._clear_zeros(found.have)
        if leaves is not None:
            found.map = BlockMap(content, leaves, found.have)
            await self._read_own(found.map)
            for root in bases:
                if found.map.missing:
                    await self._take_from(self._storage.path(root), found.map)
            found.have, found.unfinished, found.reused = found.map.have(), found.map.unfinished(), self._reused
        await asyncio.to_thread(self._sync)
        return found

    async def _read_pieces(self) -> list[bool]:
        """Which pieces are there, where nothing is known but their hashes."""
        has = self._storage.has_piece
        return [await asyncio.to_thread(has, self._content, number) for number in range(self._content.pieces)]

    async def _clear_zeros(self, have: list[bool]) -> None:
        """Make what is to be zeros zeros."""
        content = self._content
        for number in await asyncio.to_thread(_empty_pieces, content, have):
            first = number * content.piece_length
            await asyncio.to_thread(self._clear, [(first, first + length_of_piece(content, number))])
            have[number] = True

    async def _read_own(self, map_: BlockMap) -> None:
        """Find the blocks that are in the file, from an earlier attempt; and make those of zeros zeros."""
        for first, end in self._steps(map_.blocks):
            if map_.lacks(first, end):
                await asyncio.to_thread(self._look_at, map_, first, end)
                self._progressed(map_.done)

    async def _take_from(self, base: Path, map_: BlockMap) -> None:
        """Copy what `base` has."""
        leaves = bytearray()
        while await asyncio.to_thread(self._take_in_place, base, map_, leaves):
            self._progressed(map_.done)
        for window in map_.windows(WINDOW):
            found = await asyncio.to_thread(moves, window, bytes(leaves))
            for at in range(0, len(found), _MOVES):
                await asyncio.to_thread(self._take_moved, base, map_, found[at : at + _MOVES])
                self._progressed(map_.done)

    @staticmethod
    def _steps(blocks: int) -> Iterator[tuple[int, int]]:
        a_step = STEP // BLOCK
        return ((first, min(first + a_step, blocks)) for first in range(0, blocks, a_step))

    # In a thread

    def _prepare(self) -> int:
        """Give the file its full length; what it had before, 0 if there was none."""
        with self._told(), self._path.open("ab") as file:
            was = file.tell()
            file.truncate(self._content.size)
            return was

    def _clear(self, ranges: Sequence[tuple[int, int]]) -> None:
        with self._told(), self._path.open("r+b", buffering=0) as file:
            for start, end in ranges:
                _clear(file.fileno(), start, end)

    def _look_at(self, map_: BlockMap, first: int, end: int) -> None:
        stop = first * BLOCK + map_.length(first, end)
        with self._told(), self._path.open("rb", buffering=0) as file:
            runs = []
            if _next_data(file.fileno(), first * BLOCK, stop)[0] < stop:
                runs = map_.fitting(first, leaves_of(_read(file.fileno(), first * BLOCK, stop - first * BLOCK)))
        for run in runs:
            map_.mark(*run)
        empty = map_.empty(first, end)
        self._clear([(run[0] * BLOCK, run[0] * BLOCK + map_.length(*run)) for run in empty])
        for run in empty:
            map_.mark(*run)

    def _take_in_place(self, base: Path, map_: BlockMap, leaves: bytearray) -> bool:
        """Take the next step of `base`, behind what `leaves` are of; False if there is none."""
        first = len(leaves) // 32
        try:
            with base.open("rb", buffering=0) as file:
                raw = memoryview(_read(file.fileno(), first * BLOCK, STEP))
        except OSError as fault:
            log.info("a similar content can't be read", path=str(base), why=str(fault))
            return False
        hashes = leaves_of(raw) if raw else []
        with self._told(), self._path.open("r+b", buffering=0) as file:
            for start, end in map_.fitting(first, hashes):
                at = (start - first) * BLOCK
                _write(file.fileno(), raw[at : at + map_.length(start, end)], start * BLOCK)
                map_.mark(start, end)
                self._reused += map_.length(start, end)
        for leaf in hashes:
            leaves += leaf
        return len(raw) == STEP

    def _take_moved(self, base: Path, map_: BlockMap, found: Sequence[Move]) -> None:
        try:
            with base.open("rb", buffering=0) as file:
                blocks = [(move, _read(file.fileno(), move.source * BLOCK, BLOCK)) for move in found]
        except OSError as fault:
            log.info("a similar content can't be read any more", path=str(base), why=str(fault))
            return
        with self._told(), self._path.open("r+b", buffering=0) as file:
            for move, raw in blocks:
                if not raw or leaf_of(raw) != move.leaf:
                    continue  # it was written to since
                for target in move.targets:
                    _write(file.fileno(), memoryview(raw), target * BLOCK)
                    map_.mark(target, target + 1)
                    self._reused += len(raw)

    def _sync(self) -> None:
        with self._told(), self._path.open("r+b") as file:
            os.fsync(file.fileno())

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns the system's error about the content's own file into ours."""
        try:
            yield
        except OSError as cause:
            full = cause.errno in {errno.ENOSPC, errno.EDQUOT}
            raise storage_error(self._path, cause.strerror or str(cause), full=full) from cause


def _reach(content: Content, have: Sequence[bool]) -> int:
    """How many bytes a file has at least that has these pieces."""
    last = max((number for number, there in enumerate(have) if there), default=-1)
    return min((last + 1) * content.piece_length, content.size)


def _empty_pieces(content: Content, have: Sequence[bool]) -> list[int]:
    return [number for number, there in enumerate(have) if not there and is_zeros(content, number)]


def _clear(descriptor: int, start: int, end: int) -> None:
    """Make zeros of the bytes from `start` up to `end`. Where the file has a hole, it stays one."""
    while start < end:
        start, stop = _next_data(descriptor, start, end)
        while start < stop:
            found = _read(descriptor, start, min(STEP, stop - start))
            if not found:
                return
            if found.count(0) != len(found):
                _write(descriptor, memoryview(bytes(len(found))), start)
            start += len(found)


def _next_data(descriptor: int, start: int, end: int) -> tuple[int, int]:
    """The next range with data from `start` on, within `end`; where the system can't tell, all may be data."""
    if not hasattr(os, "SEEK_DATA"):
        return start, end
    try:
        first = os.lseek(descriptor, start, os.SEEK_DATA)
        return min(first, end), min(os.lseek(descriptor, first, os.SEEK_HOLE), end)
    except OSError as fault:
        return (end, end) if fault.errno == errno.ENXIO else (start, end)


def _read(descriptor: int, start: int, length: int) -> bytes:
    """Up to `length` bytes from `start` on, fewer only at the end of the file."""
    os.lseek(descriptor, start, os.SEEK_SET)
    parts = []
    while length > 0 and (part := os.read(descriptor, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _write(descriptor: int, raw: memoryview, start: int) -> None:
    os.lseek(descriptor, start, os.SEEK_SET)
    while raw:
        raw = raw[os.write(descriptor, raw) :]
