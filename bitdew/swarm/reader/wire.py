"""The peer wire protocol as far as somebody who only asks needs it: read, bounded, and written.

Pure: bytes in, messages out. The forms are those of BEP 3 and of the fast extension (BEP 6). What is said by both sides
stands in the seeder's half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bitdew.core.content import BLOCK
from bitdew.swarm.seeder.wire import READER, Bitfield, Have, Request, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

ID: Final = READER
"""How a reader's peer id begins."""
INTERESTED: Final = b"\0\0\0\1\2"
_BESIDE: Final = 64 * 1024
"""Bytes of a message that is no block and no bitfield: what means nothing to us is left out, whatever it is."""
_HEAD: Final = 9
"""Bytes before those of a block: what kind it is, of which piece, from where."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a piece."""

    piece: int
    start: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Choked:
    """Whether the peer answers requests no longer."""

    is_choked: bool


@dataclass(frozen=True, slots=True)
class Rejected:
    """The peer will not send a block."""

    piece: int


Message = Have | Bitfield | Block | Choked | Rejected


def request(block: Request) -> bytes:
    """A block is wanted."""
    return b"\0\0\0\x0d\x06" + _place(block)


def cancel(block: Request) -> bytes:
    """A block is wanted no more."""
    return b"\0\0\0\x0d\x08" + _place(block)


def _place(block: Request) -> bytes:
    return block.piece.to_bytes(4, "big") + block.start.to_bytes(4, "big") + block.length.to_bytes(4, "big")


class Inbox:
    """Turns what a peer sends, after the handshake and in any parts, into messages."""

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        self._field = -(-pieces // 8)
        self._longest = max(_BESIDE, 1 + self._field, _HEAD + BLOCK)
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole now; those that mean nothing to one who asks are left out.

        Raises:
            WireError: what came is no message, too long, or about a piece that does not exist.
        """
        rest = self._rest
        rest += data
        at = 0
        try:
            while len(rest) - at >= 4:
                length = int.from_bytes(rest[at : at + 4], "big")
                if length > self._longest:
                    raise WireError(f"a message of {length} bytes")
                if len(rest) - at - 4 < length:
                    break
                body = bytes(memoryview(rest)[at + 4 : at + 4 + length])
                at += 4 + length
                if body and (message := self._message(body)) is not None:
                    yield message
        finally:
            del rest[:at]

    def _message(self, body: bytes) -> Message | None:
        kind, size = body[0], len(body) - 1
        match kind:
            case 0 | 1 if not size:
                return Choked(kind == 0)
            case 4 if size == 4:
                return Have(self._piece(body))
            case 5 if size == self._field:
                return Bitfield(body[1:])
            case 7 if size > 8:
                return Block(self._piece(body), int.from_bytes(body[5:9], "big"), body[9:])
            case 14 if not size:
                return Bitfield(None)
            case 15 if not size:
                return Bitfield(bytes(self._field))
            case 16 if size == 12:
                return Rejected(self._piece(body))
            case 0 | 1 | 4 | 5 | 7 | 14 | 15 | 16:
                raise WireError(f"message {kind} with {size} bytes")
            case _:
                return None

    def _piece(self, body: bytes) -> int:
        piece = int.from_bytes(body[1:5], "big")
        if piece >= self._pieces:
            raise WireError(f"piece {piece} of {self._pieces}")
        return piece
