"""The leaf hashes of a content's blocks: what proves them, and what they say of its likeness to another content.

Owns what can be said of blocks without reading any. The leaves are those of the hash tree that names the content (see
`content`): 32 bytes for each `BLOCK` of it, in order, so that the file's own root proves all of them.

A *sketch* is the smallest of these hashes, `SKETCH` of them. Hashes are as good as random numbers, so that two
contents have a hash of their sketches in common about as often as they have a block in common, wherever it lies in
either: A. Broder, "On the resemblance and containment of documents", 1997. Blocks of zeros say nothing: left out.
"""

from __future__ import annotations

import bisect
import hashlib
from typing import TYPE_CHECKING, Final

from .content import BLOCK, EMPTY_BLOCK, root_of_leaves, root_of_zeros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .content import Content

HASH: Final = 32
"""Bytes of one hash."""
SKETCH: Final = 64
"""Hashes in a sketch at most: 2 KiB."""
ZERO_LEAF: Final = hashlib.sha256(EMPTY_BLOCK).digest()
"""The leaf of a whole block of zeros."""


def blocks_in(size: int) -> int:
    """How many blocks `size` bytes have; the last one may be short."""
    return -(-size // BLOCK)


def length_of_piece(content: Content, number: int) -> int:
    """Bytes of a piece: the last one may be short."""
    return min(content.piece_length, content.size - number * content.piece_length)


def root_of(content: Content, number: int) -> bytes:
    """The root that piece `number` should have."""
    return content.piece_layer[number * HASH : number * HASH + HASH] or bytes.fromhex(content.root)


def is_zeros(content: Content, number: int) -> bool:
    """Whether piece `number` is nothing but zeros: their root is known beforehand."""
    return root_of(content, number) == root_of_zeros(length_of_piece(content, number), content.size)


def leaves_in(leaves: bytes, content: Content, number: int) -> bytes:
    """The leaves of piece `number`."""
    a_piece = content.piece_length // BLOCK * HASH
    return leaves[number * a_piece : (number + 1) * a_piece]


def proven(leaves: bytes, content: Content) -> bool:
    """Whether `leaves`, which may come from anyone, are those of `content`. About 2 s for 20 GB."""
    if len(leaves) != blocks_in(content.size) * HASH:
        return False
    for number in range(content.pieces):
        own = leaves_in(leaves, content, number)
        nodes = [own[at : at + HASH] for at in range(0, len(own), HASH)]
        if root_of_leaves(nodes, content.size) != root_of(content, number):
            return False
    return True


def sketch_of(leaves: bytes) -> bytes:
    """The sketch: the smallest distinct hashes among `leaves` in order, without that of zeros."""
    smallest: list[bytes] = []
    for at in range(0, len(leaves), HASH):
        leaf = leaves[at : at + HASH]
        if len(smallest) == SKETCH and leaf >= smallest[-1]:
            continue
        place = bisect.bisect_left(smallest, leaf)
        if leaf != ZERO_LEAF and (place == len(smallest) or smallest[place] != leaf):
            smallest.insert(place, leaf)
            del smallest[SKETCH:]
    return b"".join(smallest)


def alike(one: bytes, other: bytes) -> float:
    """How much two contents have in common, from 0 to 1, as far as their sketches tell; anything may be in those."""
    first, second = _hashes(one), _hashes(other)
    union = sorted({*first, *second})[:SKETCH]
    return len({*union} & {*first} & {*second}) / len(union) if union else 0.0


def _hashes(sketch: bytes) -> Sequence[bytes]:
    return [sketch[at : at + HASH] for at in range(0, len(sketch) - len(sketch) % HASH, HASH)]
