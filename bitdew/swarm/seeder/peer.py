"""One peer that fetches from the seeder: its connection, what it may ask for, and what it asked for.

Owns the conversation with one peer. Whose turn it is, and what is shown to whom, is the offer's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from bitdew.swarm.members import is_member

from . import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .offer import Offer
    from .seeder import Seeder

HANDSHAKE_SECONDS: Final = 10.0
KEEP_ALIVE_SECONDS: Final = 10.0
PARTING_SECONDS: Final = 3.0
MOST_PENDING: Final = 4096
"""Blocks that a peer may have asked for: 64 MiB."""
MOST_ON_SHOW: Final = 32 * 2**20
"""Bytes of the pieces on show to one peer, beside one more: they are kept in memory."""
STUCK_TICKS: Final = 8
"""Measurements, four a second, without a byte or a word, after which a peer loses its turn."""
GULP_SECONDS: Final = 0.02
LEAST_GULP: Final = 32 * 1024
LARGEST_GULP: Final = 1024 * 1024
"""Bytes that are handed to a connection at a time, and that the system may keep unsent for it: what it sends in
`GULP_SECONDS`, within these bounds. What is in there can't be given to another peer any more."""
READING_GULP: Final = 256 * 1024
"""The same for one that reads: nobody else waits for what it is sent."""
_TCP_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25)


class SeederPeer(asyncio.Protocol):
    """A connection that came.

    Attributes:
        on_show: The pieces that it may ask for: shown, and not known to be there.
        rate: Bytes per second, lately.
        is_open: Whether it said what it has, and there may be more to show to it.
        reads: Whether it reads parts, and keeps and passes on nothing: it may ask for anything, and is shown nothing.
    """

    def __init__(self, seeder: Seeder) -> None:
        self.on_show: dict[int, None] = {}
        self.rate = 0.0
        self.is_open = False
        self.reads = False
        self._seeder = seeder
        self._offer: Offer | None = None
        self._transport: asyncio.Transport | None = None
        self._reader: wire.Reader | None = None
        self._greeting = bytearray()
        self._pending: deque[wire.Request] = deque()
        self._wanted: dict[int, int] = {}  # how many blocks of which piece are pending
        self._unasked: set[int] = set()  # shown, and not reacted to
        self._told: set[int] = set()  # it heard that we have them
        self._gulp = LEAST_GULP
        self._still = 0  # measurements for which nothing moved
        self._writable = True
        self._sent = self._measured = 0
        self._timer: asyncio.TimerHandle | None = None

    # Connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up: the peer has a certificate of our CA."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (of a server for streams)
        self._transport = transport
        if not is_member(transport.get_extra_info("peercert")) or not self._seeder.enter(self):
            transport.abort()
            return
        self._set_gulp(LEAST_GULP)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self._on_timer)

    def _set_gulp(self, size: int) -> None:
        self._gulp = size
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=size, low=size // 2)
            with contextlib.suppress(OSError, AttributeError):  # a system that does not know it sends as well
                self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, size)

    def connection_lost(self, _exc: Exception | None, /) -> None:
        """It is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._seeder.forget(self)
        offer, self._offer = self._offer, None
        if offer is not None:
            offer.leave(self)

    def pause_writing(self) -> None:
        """The connection takes no more for now."""
        self._writable = False

    def resume_writing(self) -> None:
        """The connection takes more."""
        self._writable = True
        self.flush()
        if self._offer is not None:
            self._offer.stir()

    def hang_up(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Something came."""
        try:
            if self._reader is None:
                data = self._greet(data)
            if self._reader is not None and self._offer is not None:
                for message in self._reader.feed(data):
                    self._take(self._offer, message)
                self.flush()
                self._offer.stir()
        except wire.WireError:
            self.hang_up()

    def _greet(self, data: bytes) -> bytes:
        """Shake hands; what came behind the handshake."""
        self._greeting += data
        if len(self._greeting) < wire.HANDSHAKE_BYTES:
            return b""
        info_hash, peer_id = wire.read_handshake(bytes(self._greeting[: wire.HANDSHAKE_BYTES]))
        rest = bytes(self._greeting[wire.HANDSHAKE_BYTES :])
        self._greeting.clear()
        offer = self._seeder.offer_of(info_hash)
        if offer is None:
            raise wire.WireError("it asks for something that is not here")
        self._reader = wire.Reader(offer.metainfo.content.pieces)
        self.reads = peer_id.startswith(wire.READER)
        shown = wire.HAVE_ALL if self.reads else wire.HAVE_NONE
        self._write(wire.handshake(info_hash, self._seeder.peer_id) + shown + wire.UNCHOKE)
        self._offer = offer
        if self.reads:
            self._set_gulp(READING_GULP)
            offer.serve(self)
        else:
            offer.arrive(self)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(KEEP_ALIVE_SECONDS, self._on_timer)
        return rest

    def _on_timer(self) -> None:
        if self._offer is None:
            self.hang_up()
            return
        self._write(wire.KEEP_ALIVE)
        self._timer = asyncio.get_running_loop().call_later(KEEP_ALIVE_SECONDS, self._on_timer)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # Messages

    def _take(self, offer: Offer, message: wire.Message) -> None:
        match message:
            case wire.Have() | wire.Bitfield() if self.reads:
                pass  # it has nothing for others
            case wire.Have(piece):
                offer.has(self, piece)
                self._unasked.discard(piece)
                self._still = 0
                offer.greet_if_whole(self)
            case wire.Bitfield(field):
                self.is_open = True
                for piece in range(offer.metainfo.content.pieces):
                    if field is None or field[piece >> 3] & (0x80 >> (piece & 7)):
                        offer.has(self, piece)
                offer.greet_if_whole(self)
            case wire.Request():
                self._ask(message)
            case wire.Cancel(block):
                if block in self._pending:
                    self._pending.remove(block)
                    self._settle(offer, block.piece)
                    self._write(wire.reject(block))
            case wire.HashRequest():
                self._write(wire.hash_reject(message))

    def _ask(self, block: wire.Request) -> None:
        if not (self.reads or block.piece in self.on_show) or len(self._pending) >= MOST_PENDING:
            self._write(wire.reject(block))
            return
        offer = self._offer
        if offer is None or block.start + block.length > offer.length(block.piece):
            raise wire.WireError("a block that does not exist")
        if block.piece not in self._wanted:
            if (len(self._wanted) + 1) * offer.metainfo.content.piece_length > MOST_ON_SHOW and self._wanted:
                self._write(wire.reject(block))
                return
            offer.use(block.piece)
        self._wanted[block.piece] = self._wanted.get(block.piece, 0) + 1
        self._pending.append(block)
        self._unasked.discard(block.piece)
        self._still = 0

    def _settle(self, offer: Offer, piece: int) -> None:
        self._wanted[piece] -= 1
        if not self._wanted[piece]:
            del self._wanted[piece]
            offer.let_go(piece)

    @property
    def wanted(self) -> Iterable[int]:
        """The pieces of which blocks are still to be sent."""
        return self._wanted

    # Turns

    @property
    def is_busy(self) -> bool:
        """Whether it is its turn: it is sent to, or is about to ask. One that lets its turn pass loses it."""
        return bool(self._pending or self._unasked) and not self.is_stuck

    @property
    def is_stuck(self) -> bool:
        """Whether nothing has moved for so long that others come first."""
        return self._still >= STUCK_TICKS

    def wants_more(self, ahead: float) -> bool:
        """Whether it should be shown another piece, so that `ahead` bytes are to be sent to it."""
        if not self.is_open or not self._writable or self.is_stuck or self._offer is None:
            return False
        length = self._offer.metainfo.content.piece_length
        if length * len(self.on_show) > MOST_ON_SHOW:
            return False
        return sum(block.length for block in self._pending) + length * len(self._unasked) < ahead

    def show(self, piece: int) -> None:
        """Let it ask for a piece."""
        self.on_show[piece] = None
        self._unasked.add(piece)
        self._told.add(piece)
        self._write(wire.have(piece))

    def show_all(self, pieces: list[int]) -> None:
        """Let it ask for whatever it does not have."""
        self.is_open = False
        self.on_show.update(dict.fromkeys(pieces))
        self._told.update(pieces)
        self._write(b"".join(map(wire.have, pieces)))

    def tell_all(self, pieces: int) -> None:
        """Let it know that we have everything, as it has: two that are whole have no more to do with each other."""
        self.is_open = False
        self._write(b"".join(wire.have(piece) for piece in range(pieces) if piece not in self._told))
        self._told.update(range(pieces))
        if self._timer is not None:
            self._timer.cancel()
        # Not at once: the peer counts what came over connections that are open.
        self._timer = asyncio.get_running_loop().call_later(PARTING_SECONDS, self.hang_up)

    def measure(self, seconds: float) -> None:
        """Take note of how fast it is, and whether anything moves."""
        moved = self._sent - self._measured
        self._measured = self._sent
        self.rate = 0.5 * self.rate + 0.5 * moved / seconds
        wanted = min(LARGEST_GULP, max(LEAST_GULP, int(GULP_SECONDS * self.rate)))
        if not 0.5 * self._gulp <= wanted <= 1.5 * self._gulp:
            self._set_gulp(wanted)
        self._still = 0 if moved or not (self._pending or self._unasked) else self._still + 1

    def serves(self, offer: Offer) -> bool:
        """Whether this is what it fetches."""
        return self._offer is offer

    def flush(self) -> None:
        """Send what it asked for, as long as the connection takes it."""
        offer = self._offer
        if offer is None or offer.fault is not None:
            return
        while self._writable and self._pending:
            parts: list[bytes | memoryview] = []
            size = 0
            while self._pending and size < self._gulp:
                block = self._pending[0]
                whole = offer.bytes_of(block.piece)
                if whole is None:
                    if not self.reads and block.piece not in self.on_show:  # it has it from somebody else by now
                        self._pending.popleft()
                        self._settle(offer, block.piece)
                        parts.append(wire.reject(block))
                        continue
                    break
                if not self._seeder.may_send(block.length, self):
                    break
                self._pending.popleft()
                parts += (wire.block_header(block), memoryview(whole)[block.start : block.start + block.length])
                size += block.length
                self._settle(offer, block.piece)
            if not parts:
                return
            self._write(b"".join(parts))
            self._sent += size
            offer.uploaded += size
