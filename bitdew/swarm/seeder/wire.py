"""The peer wire protocol as far as somebody who only sends needs it: read, bounded, and written.

Pure: bytes in, messages out. The forms are those of BEP 3, of the fast extension (BEP 6) and of v2 (BEP 52). Extensions
are not offered, so that none has to be read. What holds for one who only asks too stands here (`reader/wire`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from bitdew.core.content import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

M = TypeVar("M")

PROTOCOL: Final = b"\x13BitTorrent protocol"
HANDSHAKE_BYTES: Final = len(PROTOCOL) + 8 + 20 + 20
_RESERVED: Final = bytes((0, 0, 0, 0, 0, 0, 0, 0x04 | 0x10))
"""What we can do: the fast extension, and v2."""
_LONGEST_BESIDE_BITFIELDS: Final = 64 * 1024
"""Bytes of any other message: longer than a block, and than a list of hashes, which we did not ask for."""

KEEP_ALIVE: Final = bytes(4)
UNCHOKE: Final = b"\0\0\0\1\1"
HAVE_ALL: Final = b"\0\0\0\1\x0e"
HAVE_NONE: Final = b"\0\0\0\1\x0f"
READER: Final = b"-BR0100-"
"""How the id of a peer begins that reads parts, and keeps none: it is of no use to others, and shown everything."""
_REQUEST: Final = 6


class WireError(ValueError):
    """The peer does not speak the protocol, or not with us."""


@dataclass(frozen=True, slots=True)
class Have:
    """The peer has one more piece."""

    piece: int


@dataclass(frozen=True, slots=True)
class Bitfield:
    """What the peer has from the beginning; None for everything."""

    field: bytes | None


@dataclass(frozen=True, slots=True)
class Request:
    """The peer wants a block: `length` bytes from `start` of a piece."""

    piece: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The peer does not want a block any more."""

    block: Request


@dataclass(frozen=True, slots=True)
class HashRequest:
    """The peer asks for hashes of the tree. The whole of its body, to be given back with the refusal."""

    body: bytes


Message = Have | Bitfield | Request | Cancel | HashRequest


def handshake(info_hash: bytes, peer_id: bytes) -> bytes:
    """What is said first; `info_hash` has the 20 bytes that the protocol has room for."""
    return PROTOCOL + _RESERVED + info_hash + peer_id


def read_handshake(raw: bytes) -> tuple[bytes, bytes]:
    """The info-hash, cut to 20 bytes, and the peer's id.

    Raises:
        WireError: if it is no handshake, or of somebody without the fast extension.
    """
    if not raw.startswith(PROTOCOL):
        raise WireError("it does not speak BitTorrent")
    if not raw[27] & 0x04:
        raise WireError("it does not know the fast extension")
    return raw[28:48], raw[48:68]


def have(piece: int) -> bytes:
    """We have `piece`."""
    return b"\0\0\0\5\4" + piece.to_bytes(4, "big")


def place_of(block: Request) -> bytes:
    """How a block is named."""
    return block.piece.to_bytes(4, "big") + block.start.to_bytes(4, "big") + block.length.to_bytes(4, "big")


def block_header(block: Request) -> bytes:
    """What stands before the bytes of a block."""
    return (
        (9 + block.length).to_bytes(4, "big") + b"\7" + block.piece.to_bytes(4, "big") + block.start.to_bytes(4, "big")
    )


def reject(block: Request) -> bytes:
    """The block will not be sent."""
    return b"\0\0\0\x0d\x10" + place_of(block)


def hash_reject(request: HashRequest) -> bytes:
    """The hashes will not be sent: whoever has the .torrent has those that verify pieces."""
    return (1 + len(request.body)).to_bytes(4, "big") + b"\x17" + request.body


class Framed(Generic[M]):
    """Cuts what a peer sends, after the handshake and in any parts, into messages; a subclass says what they mean."""

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        self._field = -(-pieces // 8)
        self._longest = max(_LONGEST_BESIDE_BITFIELDS, 1 + self._field)
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[M]:
        """The messages that are whole now; those that mean nothing here are left out.

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
                start, at = at + 4, at + 4 + length
                if not length:
                    continue
                message = self._message(rest[start], bytes(memoryview(rest)[start + 1 : at]))
                if message is not None:
                    yield message
        finally:
            del rest[:at]

    def _message(self, kind: int, body: bytes) -> M | None:
        raise NotImplementedError

    def _piece(self, body: bytes) -> int:
        piece = int.from_bytes(body[:4], "big")
        if piece >= self._pieces:
            raise WireError(f"piece {piece} of {self._pieces}")
        return piece


class Reader(Framed[Message]):
    """What one who asks may say to one who only sends."""

    def _message(self, kind: int, body: bytes) -> Message | None:
        match kind:
            case 4 if len(body) == 4:
                return Have(self._piece(body))
            case 5:
                if len(body) != self._field:
                    raise WireError(f"a bitfield of {len(body)} bytes, not {self._field}")
                return Bitfield(body)
            case 6 | 8 if len(body) == 12:
                start, length = int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:], "big")
                if not 0 < length <= BLOCK:
                    raise WireError(f"a request for {length} bytes")
                block = Request(self._piece(body), start, length)
                return block if kind == _REQUEST else Cancel(block)
            case 14 if not body:
                return Bitfield(None)
            case 15 if not body:
                return Bitfield(bytes(self._field))
            case 21:
                return HashRequest(body)
            case 4 | 6 | 8 | 14 | 15:
                raise WireError(f"message {kind} with {len(body)} bytes")
            case _:
                return None
