"""What bytes are: the BitTorrent v2 pieces root, computed in one pass.

Owns content identity. The tree is the one of BEP 52 (https://www.bittorrent.org/beps/bep_0052.html): SHA-256 leaves
over 16 KiB blocks, leaves beyond the end are 32 zero bytes, one layer of the tree is kept per piece. The piece length
follows from the size alone, so that the same bytes always name the same swarm.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from .errors import error
from .ids import ContentRoot

BLOCK: Final = 16 * 1024
SMALLEST_PIECE: Final = 64 * 1024
LARGEST_PIECE: Final = 4 * 1024 * 1024
_ZERO: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Content:
    """The identity of a file's bytes.

    Attributes:
        root: The pieces root, hexadecimal.
        size: Bytes; at least 1.
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
    """The piece length in bytes for a file of `size` bytes: about 256 pieces, from 64 KiB to 4 MiB each.

    Many small pieces spread faster among few hosts; 4 MiB bounds the hashes of a 20 GB disk to 160 KiB.
    """
    wanted = size // 256
    length = SMALLEST_PIECE
    while length < wanted and length < LARGEST_PIECE:
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


def root_of_piece(piece: bytes | memoryview, content: Content) -> bytes:
    """The 32-byte root of one piece of `content`: its entry in the piece layer, or the only piece's pieces root."""
    view = memoryview(piece)
    leaves = [hashlib.sha256(view[offset : offset + BLOCK]).digest() for offset in range(0, len(view), BLOCK)]
    if content.pieces > 1:
        leaves += [_ZERO] * (content.piece_length // BLOCK - len(leaves))
    return _merkle(leaves, _ZERO)


class ContentHasher:
    """Computes a `Content` while bytes stream by, in any chunking, holding one piece's hashes at most.

    SHA-256 releases the interpreter's lock for blocks of this size, so `update` may run in a thread.
    """

    def __init__(self, size: int) -> None:
        """`size` is the announced number of bytes; it fixes the piece length."""
        if size < 1:
            raise error("disk.empty", "There are no bytes to identify")
        self.size = size
        self.seen = 0
        self.piece_length = piece_length_for(size)
        self._blocks_per_piece = self.piece_length // BLOCK
        self._rest = bytearray()
        self._leaves: list[bytes] = []
        self._layer: list[bytes] = []

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
        self._leaves.append(hashlib.sha256(block).digest())
        if len(self._leaves) == self._blocks_per_piece:
            self._layer.append(_merkle(self._leaves, _ZERO))
            self._leaves = []

    def finish(self) -> Content:
        """The identity of all bytes seen.

        Raises:
            UserError: `disk.changed`, if there were more or fewer bytes than announced.
        """
        if self.seen != self.size:
            raise error(
                "disk.changed",
                "The bytes are not as many as announced",
                why=f"{self.size} announced, {self.seen} read",
                announced=self.size,
                read=self.seen,
            )
        if self._rest:
            self._leaf(self._rest)
            self._rest = bytearray()
        if not self._layer and self._leaves:  # one piece: the tree is only as wide as its blocks need
            return Content(ContentRoot(_merkle(self._leaves, _ZERO).hex()), self.size, self.piece_length, b"")
        if self._leaves:
            self._leaves += [_ZERO] * (self._blocks_per_piece - len(self._leaves))
            self._layer.append(_merkle(self._leaves, _ZERO))
            self._leaves = []
        if len(self._layer) == 1:
            return Content(ContentRoot(self._layer[0].hex()), self.size, self.piece_length, b"")
        layer = b"".join(self._layer)
        return Content(root_of_layer(layer, self.piece_length), self.size, self.piece_length, layer)
