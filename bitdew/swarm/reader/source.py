"""One peer that pieces are asked of: its connection, what it has, and what it was asked for.

Owns the conversation with one peer. Which piece is asked of whom, and whether what came is right, is the reader's
matter.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bitdew.core.blocks import length_of_piece
from bitdew.core.content import BLOCK
from bitdew.swarm.members import is_member

from ..seeder.wire import (
    HANDSHAKE_BYTES,
    HAVE_NONE,
    KEEP_ALIVE,
    Bitfield,
    Have,
    Request,
    WireError,
    handshake,
    read_handshake,
)
from . import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from bitdew.swarm.metainfo import Metainfo

HANDSHAKE_SECONDS: Final = 10.0
KEEP_ALIVE_SECONDS: Final = 10.0
REFUSED_SECONDS: Final = 1.0
"""How long one that refused a block is not asked for another."""


class Asked:
    """A piece that was asked for: what came of it."""

    def __init__(self, number: int, length: int, now: float) -> None:
        self.since = now
        self._raw = bytearray(length)
        self._missing = {start: min(BLOCK, length - start) for start in range(0, length, BLOCK)}
        self._number = number

    def requests(self) -> list[Request]:
        """The blocks that have not come."""
        return [Request(self._number, start, length) for start, length in self._missing.items()]

    def take(self, start: int, raw: bytes) -> bytes | None:
        """A block came; the piece, once it is whole. What nobody asked for is thrown away."""
        if self._missing.get(start) != len(raw):
            return None
        del self._missing[start]
        self._raw[start : start + len(raw)] = raw
        return None if self._missing else bytes(self._raw)


class Source(asyncio.Protocol):
    """A connection that goes out to a peer.

    Attributes:
        asked: The pieces that it was asked for and has not sent.
        heard: When it last sent a part of a piece, or was first asked for one after it had sent all.
        received: Payload bytes that came from it.
        is_ready: Whether it answers requests.
    """

    def __init__(
        self,
        metainfo: Metainfo,
        peer_id: bytes,
        *,
        came: Callable[[Source, int, bytes], None],
        stirred: Callable[[], None],
        lost: Callable[[Source, str], None],
    ) -> None:
        """`came` is given a piece, not verified; `stirred` is called when it may do more, `lost` when it is gone."""
        self.asked: dict[int, Asked] = {}
        self.heard = 0.0
        self.received = 0
        self.is_ready = False
        self._content = metainfo.content
        self._info_hash = bytes.fromhex(metainfo.info_hash)[:20]
        self._peer_id = peer_id
        self._came, self._stirred, self._lost = came, stirred, lost
        self._transport: asyncio.Transport | None = None
        self._inbox: wire.Inbox | None = None
        self._greeting = bytearray()
        self._has: set[int] | None = set()  # None: everything
        self._rests_until = 0.0
        self._now = asyncio.get_running_loop().time
        self._timer: asyncio.TimerHandle | None = None
        self._why = "it hung up"

    # Connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up, and the peer's certificate is of our CA."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (a stream)
        self._transport = transport
        if not is_member(transport.get_extra_info("peercert")):
            self._give_up("its certificate is none for swarms")
            return
        transport.write(handshake(self._info_hash, self._peer_id) + HAVE_NONE + wire.INTERESTED)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self._on_timer)

    def connection_lost(self, exc: Exception | None, /) -> None:
        """It is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self.is_ready = False
        self._lost(self, str(exc) if exc is not None else self._why)

    def hang_up(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _give_up(self, why: str) -> None:
        self._why = why
        self.hang_up()

    def _on_timer(self) -> None:
        if self._inbox is None or self._transport is None:
            self._give_up("it does not answer")
            return
        self._transport.write(KEEP_ALIVE)
        self._timer = asyncio.get_running_loop().call_later(KEEP_ALIVE_SECONDS, self._on_timer)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        try:
            if self._inbox is None:
                data = self._greet(data)
            if self._inbox is not None:
                for message in self._inbox.feed(data):
                    self._take(message)
        except WireError as fault:
            self._give_up(str(fault))

    def _greet(self, data: bytes) -> bytes:
        """Shake hands; what came behind the handshake."""
        self._greeting += data
        if len(self._greeting) < HANDSHAKE_BYTES:
            return b""
        info_hash, _ = read_handshake(bytes(self._greeting[:HANDSHAKE_BYTES]))
        if info_hash != self._info_hash:
            raise WireError("it speaks of another content")
        self._inbox = wire.Inbox(self._content.pieces)
        return bytes(self._greeting[HANDSHAKE_BYTES:])

    # Messages

    def _take(self, message: wire.Message) -> None:
        match message:
            case wire.Block():
                self._take_block(message)
                return
            case Have(piece):
                if self._has is not None:
                    self._has.add(piece)
            case Bitfield(field):
                pieces = range(self._content.pieces)
                self._has = None if field is None else {p for p in pieces if field[p >> 3] & (0x80 >> (p & 7))}
            case wire.Choked(is_choked):
                self.is_ready = not is_choked
                if is_choked:
                    self.asked.clear()  # one with the fast extension rejects them one by one, which comes to the same
            case wire.Rejected(piece):
                if piece not in self.asked:
                    return
                self.take_back(piece)
                self.rest(REFUSED_SECONDS)
        self._stirred()

    def _take_block(self, block: wire.Block) -> None:
        self.received += len(block.raw)
        asked = self.asked.get(block.piece)
        if asked is None:
            return
        self.heard = self._now()
        whole = asked.take(block.start, block.raw)
        if whole is not None:
            del self.asked[block.piece]
            self._came(self, block.piece, whole)

    # What it is asked for

    def can_give(self, number: int) -> bool:
        """Whether it has a piece, and can be asked for it now."""
        return self.is_ready and self._now() >= self._rests_until and (self._has is None or number in self._has)

    def rest(self, seconds: float) -> None:
        """Ask it for nothing for a while."""
        self._rests_until = self._now() + seconds

    @property
    def backlog(self) -> int:
        """Bytes of the pieces that it was asked for, as if nothing of them had come."""
        return sum(length_of_piece(self._content, number) for number in self.asked)

    def ask(self, number: int) -> None:
        """Ask for a piece."""
        if self._transport is None or number in self.asked:
            return
        now = self._now()
        if not self.asked:
            self.heard = now
        asked = self.asked[number] = Asked(number, length_of_piece(self._content, number), now)
        self._transport.write(b"".join(map(wire.request, asked.requests())))

    def take_back(self, number: int) -> None:
        """A piece is wanted no more from it; what comes of it still is thrown away."""
        asked = self.asked.pop(number, None)
        if asked is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(map(wire.cancel, asked.requests())))
