"""Which blocks of a content are there, and where the others may come from: decided by their hashes alone.

Pure: nothing is read or written here. A block is taken for what its hash says, whatever file it was found in and
wherever in it; so a block that moved counts, and one that rotted does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitdew.core.blocks import HASH, ZERO_LEAF, blocks_in
from bitdew.core.content import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bitdew.core.content import Content


@dataclass(frozen=True, slots=True)
class Move:
    """A block of another file that is wanted elsewhere.

    Attributes:
        source: Its number there.
        leaf: Its hash.
        targets: The numbers that it has in the content.
    """

    source: int
    leaf: bytes
    targets: tuple[int, ...]


class BlockMap:
    """The blocks of one content. It holds a byte a block, beside the hashes that are handed in."""

    def __init__(self, content: Content, leaves: bytes, have: Sequence[bool]) -> None:
        """`leaves` are proven to be those of `content`; `have` says which pieces are there whole."""
        self.content = content
        self.leaves = leaves
        self.blocks = blocks_in(content.size)
        self._a_piece = content.piece_length // BLOCK
        self._there = bytearray(self.blocks)
        for number, there in enumerate(have):
            if there:
                first, end = self.span(number)
                self._there[first:end] = b"\x01" * (end - first)

    def leaf(self, block: int) -> bytes:
        """The hash that `block` should have."""
        return self.leaves[block * HASH : block * HASH + HASH]

    def span(self, piece: int) -> tuple[int, int]:
        """The blocks of `piece`: the first, and the one behind the last."""
        return piece * self._a_piece, min((piece + 1) * self._a_piece, self.blocks)

    def length(self, first: int, end: int) -> int:
        """Bytes of the blocks from `first` up to, not including, `end`."""
        return min(end * BLOCK, self.content.size) - first * BLOCK

    @property
    def missing(self) -> int:
        """How many blocks are missing."""
        return self._there.count(0)

    @property
    def done(self) -> int:
        """Bytes in the blocks that are there."""
        last = bool(self.blocks and self._there[-1])
        return self._there.count(1) * BLOCK - (last and self.blocks * BLOCK - self.content.size)

    def lacks(self, first: int, end: int) -> bool:
        """Whether one of the blocks from `first` up to `end` is missing."""
        return self._there.find(0, first, min(end, self.blocks)) >= 0

    def mark(self, first: int, end: int) -> None:
        """The blocks from `first` up to `end` are there."""
        self._there[first:end] = b"\x01" * (end - first)

    def fitting(self, first: int, hashes: Sequence[bytes]) -> list[tuple[int, int]]:
        """Runs of missing blocks that the blocks with `hashes`, the first of which is at `first`, are."""
        found: list[tuple[int, int]] = []
        for block, leaf in enumerate(hashes[: max(0, self.blocks - first)], first):
            if not self._there[block] and self.leaf(block) == leaf:
                if found and found[-1][1] == block:
                    found[-1] = found[-1][0], block + 1
                else:
                    found.append((block, block + 1))
        return found

    def empty(self, first: int, end: int) -> list[tuple[int, int]]:
        """Runs of missing blocks from `first` up to `end` that are to be nothing but zeros."""
        return self.fitting(first, [ZERO_LEAF] * (min(end, self.blocks) - first))

    def windows(self, most: int) -> Iterator[dict[bytes, list[int]]]:
        """All missing blocks by their hashes, at most so many of them at a time: an index takes 200 bytes for each."""
        window: dict[bytes, list[int]] = {}
        held, block = 0, self._there.find(0)
        while block >= 0:
            window.setdefault(self.leaf(block), []).append(block)
            held += 1
            if held == most:
                yield window
                window, held = {}, 0
            block = self._there.find(0, block + 1)
        if window:
            yield window

    def gaps(self, piece: int, joined: int) -> list[tuple[int, int]]:
        """Runs of missing blocks in `piece`; those with at most `joined` blocks between them are one."""
        found: list[tuple[int, int]] = []
        for block in range(*self.span(piece)):
            if not self._there[block]:
                if found and block - found[-1][1] <= joined:
                    found[-1] = found[-1][0], block + 1
                else:
                    found.append((block, block + 1))
        return found

    def have(self) -> list[bool]:
        """Which pieces are there whole."""
        return [not self.lacks(*self.span(piece)) for piece in range(self.content.pieces)]

    def unfinished(self) -> dict[int, list[bool]]:
        """Of each piece that is partly there, which blocks are."""
        found = {}
        for piece in range(self.content.pieces):
            own = self._there[slice(*self.span(piece))]
            if 0 < own.count(1) < len(own):
                found[piece] = [bool(there) for there in own]
        return found


def moves(wanted: Mapping[bytes, Sequence[int]], leaves: bytes) -> list[Move]:
    """Where the blocks that are `wanted` first are in a file with `leaves`, in its order."""
    left = dict(wanted)
    hashes = (leaves[at : at + HASH] for at in range(0, len(leaves), HASH))
    return [Move(at, leaf, tuple(left.pop(leaf))) for at, leaf in enumerate(hashes) if leaf in left]
