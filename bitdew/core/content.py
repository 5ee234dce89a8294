"""What bytes are: the BitTorrent v2 pieces root, computed in one pass.

Owns content identity. The tree is the one of BEP 52 (https://www.bittorrent.org/beps/bep_0052.html): SHA-256 leaves
over 16 KiB blocks, leaves beyond the end are 32 zero bytes, one layer of the tree is kept per piece. The piece length
follows from the size alone, so that the same bytes always name the same swarm. BEP 52 gives a file of no bytes no root;
here it has that of one empty leaf.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Final

from .errors import BitDewError, error
from .ids import ContentRoot

BLOCK: Final = 16 * 1024
SMALLEST_PIECE: Final = 64 * 1024
USUAL_PIECE: Final = 4 * 1024 * 1024
"""Bytes of a piece at most, as long as there are no more than `MOST_PIECES`."""
MOST_PIECES: Final = 2**16
"""Pieces of one content at most: their hashes take 2 MiB. 256 GiB have as many, of 4 MiB each."""
EMPTY_BLOCK: Final = bytes(BLOCK)
_ZERO: Final = bytes(32)
ROOT_OF_NOTHING: Final = ContentRoot(hashlib.sha256(b"").hexdigest())
"""The root of a file of no bytes."""
_EMPTY_LEAF: Final = hashlib.sha256(EMPTY_BLOCK).digest()


@dataclass(frozen=True, slots=True)
class Content:
    """The identity of a file's bytes.

    Attributes:
        root: The pieces root, hexadecimal.
        size: Bytes. Nothing is a content too: it has no piece, and the root of one empty leaf.
        piece_length: Bytes, a power of two.
        piece_layer: The root of each piece, 32 bytes each, in order; empty where the file fits in one piece.
    """

    root: ContentRoot
    size: int
    piece_length: int
    piece_layer: bytes

    @property
    def pieces(self) -> int:
        """How many pieces the bytes have."""
        return -(-self.size // self.piece_length)


def piece_length_for(size: int) -> int:
    """The piece length in bytes for a file of `size` bytes: about 1024 pieces, from 64 KiB to 4 MiB each.

    Many small pieces spread faster among few hosts; 4 MiB bounds the hashes of a 20 GB disk to 160 KiB. Only beyond
    `MOST_PIECES` of 4 MiB, which is 256 GiB, are pieces larger: up to 16 MiB for 1 TiB.
    """
    wanted = size // 1024
    length = SMALLEST_PIECE
    while length < wanted and length < USUAL_PIECE:
        length *= 2
    while length * MOST_PIECES < size:
        length *= 2
    return length


def _merkle(layer: list[bytes], padding: bytes) -> bytes:
    """The root over `layer`, padded with `padding` to the next power of two."""
    width = 1
    while width < len(layer):
        width *= 2
    while width > 1:
        if len(layer) % 2:
            layer = [*layer, padding]
        layer = [hashlib.sha256(layer[i] + layer[i + 1]).digest() for i in range(0, len(layer), 2)]
        padding = hashlib.sha256(padding + padding).digest()
        width //= 2
    return layer[0]


def _root_of_nothing(blocks: int) -> bytes:
    """The root of a piece that lies wholly beyond the end: `blocks` zero leaves."""
    node = _ZERO
    while blocks > 1:
        node = hashlib.sha256(node + node).digest()
        blocks //= 2
    return node


def root_of_layer(layer: bytes, piece_length: int) -> ContentRoot:
    """The pieces root over a piece layer (32 bytes a piece, at least two pieces) of pieces of `piece_length` bytes."""
    nodes = [layer[offset : offset + 32] for offset in range(0, len(layer), 32)]
    return ContentRoot(_merkle(nodes, _root_of_nothing(piece_length // BLOCK)).hex())


def leaf_of(block: bytes | bytearray | memoryview) -> bytes:
    """The leaf hash of a block of `BLOCK` bytes, or of fewer at the very end. One of zeros costs no hashing."""
    if not block[0] and len(block) == BLOCK and bytes(block) == EMPTY_BLOCK:
        return _EMPTY_LEAF
    return hashlib.sha256(block).digest()


def leaves_of(piece: bytes | memoryview) -> list[bytes]:
    """The leaf hashes of a piece's blocks, in order."""
    view = memoryview(piece)
    return [leaf_of(view[offset : offset + BLOCK]) for offset in range(0, len(view), BLOCK)]


def root_of_leaves(leaves: list[bytes], size: int) -> bytes:
    """The root of one piece of a content of `size` bytes, from its leaf hashes.

    A piece that is the only one has a tree that is only as wide as its blocks need; its root is the pieces root.
    """
    length = piece_length_for(size)
    if size > length:
        leaves = leaves + [_ZERO] * (length // BLOCK - len(leaves))
    return _merkle(leaves, _ZERO)


def root_of_piece(piece: bytes | memoryview, content: Content) -> bytes:
    """The 32-byte root of one piece of `content`: its entry in the piece layer, or the only piece's pieces root."""
    return root_of_leaves(leaves_of(piece), content.size)


@functools.lru_cache(maxsize=64)
def root_of_zeros(length: int, size: int) -> bytes:
    """The root of a piece of `length` zero bytes in a content of `size` bytes."""
    whole, rest = divmod(length, BLOCK)
    leaves = [_EMPTY_LEAF] * whole + ([hashlib.sha256(bytes(rest)).digest()] if rest else [])
    return root_of_leaves(leaves, size)


def sampled(size: int, most: int) -> list[int]:
    """The pieces, `most` at most, by which contents of `size` bytes are told apart before all of one is read.

    They are spread evenly over all of it, the first and the last among them.
    """
    pieces = -(-size // piece_length_for(size))
    if pieces <= most:
        return list(range(pieces))
    return [number * (pieces - 1) // (most - 1) for number in range(most)]


class ContentTree:
    """The hash tree of one content, filled piece by piece in any order. It holds 32 bytes a piece.

    Attributes:
        size: Bytes of the content.
        piece_length: Bytes of each piece but the last.
        pieces: How many there are.
        known: How many have their root.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.piece_length = piece_length_for(size)
        self.pieces = -(-size // self.piece_length)
        self.known = 0
        self._layer = bytearray(32 * self.pieces)
        self._has = bytearray(self.pieces)

    def length(self, number: int) -> int:
        """Bytes of piece `number`: the last one may be short."""
        return min(self.piece_length, self.size - number * self.piece_length)

    def has(self, number: int) -> bool:
        """Whether the root of piece `number` is known."""
        return bool(self._has[number])

    def root(self, number: int) -> bytes:
        """The root of piece `number`, which is known."""
        return bytes(self._layer[32 * number : 32 * number + 32])

    def put(self, number: int, root: bytes) -> None:
        """Piece `number` has this root. The first that is told of a piece counts."""
        if not self._has[number]:
            self._layer[32 * number : 32 * number + 32] = root
            self._has[number] = 1
            self.known += 1

    def put_zeros(self, first: int, end: int) -> None:
        """The pieces from `first` up to, not including, `end` are zeros, as far as their roots are not known."""
        for number in range(first, end):
            if not self._has[number]:
                self.put(number, root_of_zeros(self.length(number), self.size))

    def gaps(self) -> list[tuple[int, int]]:
        """The runs of pieces whose roots are not known: each the first one, and the one behind the last."""
        found, number = [], self._has.find(0)
        while number >= 0:
            end = self._has.find(1, number)
            end = self.pieces if end < 0 else end
            found.append((number, end))
            number = self._has.find(0, end)
        return found

    def content(self) -> Content:
        """The identity of it all.

        Raises:
            UserError: `disk.changed`, if a piece's root is missing.
        """
        if self.known != self.pieces:
            raise _not_all(self.size, min(self.size, self.known * self.piece_length))
        if not self.pieces:
            return Content(ROOT_OF_NOTHING, 0, self.piece_length, b"")
        layer = bytes(self._layer)
        if self.pieces == 1:
            return Content(ContentRoot(layer.hex()), self.size, self.piece_length, b"")
        return Content(root_of_layer(layer, self.piece_length), self.size, self.piece_length, layer)


class ContentHasher:
    """Computes a `Content` while bytes stream by in order, in any chunking, in the thread that calls.

    It holds 32 bytes a piece; with the leaf hashes that it keeps on request, 32 bytes a block. SHA-256 releases the
    interpreter's lock for blocks of this size, so `update` may run in a thread.
    """

    def __init__(self, size: int, *, keep_leaves: bool = False) -> None:
        """`size` is the announced number of bytes; it fixes the piece length."""
        self.size = size
        self.seen = 0
        self._tree = ContentTree(size)
        self.piece_length = self._tree.piece_length
        self._blocks_per_piece = self.piece_length // BLOCK
        self._rest = bytearray()
        self._piece: list[bytes] = []
        self._kept = bytearray() if keep_leaves else None

    @property
    def leaves(self) -> bytes:
        """The leaf hashes of all blocks seen, 32 bytes each, in order; that of a last short one once finished."""
        if self._kept is None:
            raise RuntimeError("the leaf hashes are kept with keep_leaves=True")
        return bytes(self._kept)

    def update(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes."""
        self.seen += len(chunk)
        view = memoryview(chunk)
        if self._rest:
            missing = BLOCK - len(self._rest)
            self._rest += view[:missing]
            view = view[missing:]
            if len(self._rest) < BLOCK:
                return
            self._leaf(self._rest)
            self._rest = bytearray()
        whole = len(view) - len(view) % BLOCK
        for offset in range(0, whole, BLOCK):
            self._leaf(view[offset : offset + BLOCK])
        self._rest += view[whole:]

    def _leaf(self, block: bytes | bytearray | memoryview) -> None:
        leaf = leaf_of(block)
        if self._kept is not None:
            self._kept += leaf
        self._piece.append(leaf)
        if len(self._piece) == self._blocks_per_piece:
            self._piece_ends()

    def _piece_ends(self) -> None:
        if self._tree.known < self._tree.pieces:  # else there are more bytes than announced
            self._tree.put(self._tree.known, root_of_leaves(self._piece, self.size))
        self._piece = []

    def finish(self) -> Content:
        """The identity of all bytes seen.

        Raises:
            UserError: `disk.changed`, if there were more or fewer bytes than announced.
        """
        if self.seen != self.size:
            raise _not_all(self.size, self.seen)
        if self._rest:
            self._leaf(self._rest)
            self._rest = bytearray()
        if self._piece:
            self._piece_ends()
        return self._tree.content()


def _not_all(announced: int, read: int) -> BitDewError:
    return error(
        "disk.changed",
        "The bytes are not as many as announced",
        why=f"{announced} announced, {read} read",
        announced=announced,
        read=read,
    )
