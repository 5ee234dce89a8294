"""The peer wire protocol as far as somebody who only asks needs it: read, bounded, and written.

Pure: bytes in, messages out. The forms are those of BEP 3 and of the fast extension (BEP 6). What is said by both sides
stands in the seeder's half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bitdew.swarm.seeder.wire import Bitfield, Framed, Have, Request, WireError, place_of

INTERESTED: Final = b"\0\0\0\1\2"


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
    return b"\0\0\0\x0d\x06" + place_of(block)


def cancel(block: Request) -> bytes:
    """A block is wanted no more."""
    return b"\0\0\0\x0d\x08" + place_of(block)


class Inbox(Framed[Message]):
    """What one who has pieces may say to one who only asks."""

    def _message(self, kind: int, body: bytes) -> Message | None:
        size = len(body)
        match kind:
            case 0 | 1 if not size:
                return Choked(kind == 0)
            case 4 if size == 4:
                return Have(self._piece(body))
            case 5 if size == self._field:
                return Bitfield(body)
            case 7 if size > 8:
                return Block(self._piece(body), int.from_bytes(body[4:8], "big"), body[8:])
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
