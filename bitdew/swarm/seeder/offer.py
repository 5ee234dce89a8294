"""One content that is offered: its peers, what each of them is shown, and whose turn it is.

Owns the turns. As few peers at a time as fill the uplink are sent to: the first of them can pass on a whole piece while
the others still wait, which a source that sends to all at once delays by their number. How many that are is found out:
one more as long as that makes it faster. When every piece has left the source, there is nothing to pass on that others
wait for, and all may be sent to at a time.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError, error

from .revealing import Revealing
from .turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bitdew.swarm.metainfo import Metainfo

    from .peer import SeederPeer

TICK_SECONDS: Final = 0.25
AHEAD_SECONDS: Final = 0.4
"""A peer is shown its next piece when what it still has to be sent will last so long: a round trip through full queues,
and some, so that it can be sent to faster than it was."""
LEAST_AHEAD: Final = 192 * 1024
MOST_AHEAD: Final = 16 * 2**20
"""Bytes that it may be shown ahead of what it was sent, at least and at most."""

LAG_SECONDS: Final = 0.1
"""A peer that is so far behind the others, or ahead of them, is shown more at a time, or less."""
END_SECONDS: Final = 3.0
"""A peer that will be whole so soon may fetch from here whatever it lacks: it has asked others for most of it already,
and what is left of them comes late."""
MOST_FAVOUR: Final = 4.0
LEAST_FAVOUR: Final = 0.1
FAVOUR_SECONDS: Final = 0.25
"""No peer is shown more by favour than the whole uplink sends in this time. What lies there unasked is kept from the
others: where 16 hosts were shown twelve pieces each of a slow uplink, the last pieces were out seconds late."""
PACE_MEMORY: Final = 0.9
"""What is left of the pace that was known before, after each measurement."""


class Offer:
    """A whole file that peers may fetch.

    Attributes:
        metainfo: What it is.
        path: Where it is.
        uploaded: Payload bytes that were sent.
        fault: Why it can't be read any more, or None. Nothing more is sent then.
    """

    def __init__(self, metainfo: Metainfo, path: Path, on_fault: Callable[[Offer], None]) -> None:
        self.metainfo = metainfo
        self.path = path
        self.uploaded = 0
        self.fault: BitDewError | None = None
        self._on_fault = on_fault
        self._revealing: Revealing[SeederPeer] = Revealing(metainfo.content.pieces)
        self._peers: dict[SeederPeer, None] = {}
        self._readers: dict[SeederPeer, None] = {}
        self._shown: dict[SeederPeer, set[int]] = {}  # one by one: those are kept in memory until they are there
        self._bytes: dict[int, bytes] = {}
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._users: dict[int, int] = {}
        self._turns = Turns()
        self._counted = 0
        self._mean = 0.0  # pieces that a peer has, or is about to
        self._pace = 0.0  # by which that grows in a second
        self._tick: asyncio.TimerHandle | None = None
        self._stirred: asyncio.Handle | None = None

    @property
    def peers(self) -> int:
        """How many are connected."""
        return len(self._peers)

    # What peers tell

    def arrive(self, peer: SeederPeer) -> None:
        """A peer shook hands."""
        self._peers[peer] = None
        self._shown[peer] = set()
        self._revealing.arrive(peer)
        if self._tick is None:
            self._counted = self.uploaded
            self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self._on_tick)

    def serve(self, reader: SeederPeer) -> None:
        """One that reads parts shook hands: it is sent what it asks for, and has no part in the turns."""
        self._readers[reader] = None

    def leave(self, peer: SeederPeer) -> None:
        """A peer is gone."""
        if peer in self._readers:
            del self._readers[peer]
            for piece in peer.wanted:
                self.let_go(piece)
        if peer in self._peers:
            del self._peers[peer]
            for piece in (*self._shown.pop(peer), *peer.wanted):
                self.let_go(piece)
            self._revealing.leave(peer)
            self.stir()

    def has(self, peer: SeederPeer, piece: int) -> None:
        """A peer has a piece now."""
        self._revealing.has(peer, piece)
        if piece in peer.on_show:
            del peer.on_show[piece]
            if piece in self._shown[peer]:
                self._shown[peer].discard(piece)
                self.let_go(piece)

    def greet_if_whole(self, peer: SeederPeer) -> None:
        """A peer that has everything needs nothing more from here."""
        if self._revealing.is_whole(peer):
            peer.tell_all(self._revealing.pieces)

    # Turns

    def stir(self) -> None:
        """Something changed: turns are given anew, once for everything that comes at the same time."""
        if self._stirred is None:
            self._stirred = asyncio.get_running_loop().call_soon(self._give_turns)

    def _give_turns(self) -> None:
        """Show pieces to those whose turn it is."""
        self._stirred = None
        if self.fault is not None:
            return
        if self._revealing.is_out:
            self._open_to_some()
        while True:
            has_turn = self._revealing.is_out or sum(peer.is_busy for peer in self._peers) < self._turns.number
            waiting = [p for p in self._peers if p.wants_more(self._ahead(p)) and (p.is_busy or has_turn)]
            if not waiting:
                return
            peer = min(waiting, key=self._standing)
            least = self._standing(peer)
            if peer.is_busy and any(not p.is_busy and p.is_open and self._standing(p) < least for p in self._peers):
                # Those who have less come first, as soon as somebody's turn ends.
                others = [p for p in waiting if not p.is_busy]
                if not others:
                    return
                peer = min(others, key=self._standing)
            piece = self._revealing.reveal(peer)
            if piece is None:
                peer.is_open = False
                continue
            self._shown[peer].add(piece)
            self.use(piece)
            peer.show(piece)

    def _open_to_some(self) -> None:
        """Where nothing is fresh any more, let those who are behind, or almost whole, fetch whatever they don't have.

        The others get it from each other. As much as the uplink has goes to whom that leaves behind.
        """
        for peer in self._peers:
            if peer.is_open and (self._lag(peer) > 1.0 or self._ends_soon(peer)):
                peer.show_all(self._revealing.reveal_all(peer))

    def _ends_soon(self, peer: SeederPeer) -> bool:
        return self._revealing.pieces - self._revealing.count(peer) <= END_SECONDS * self._pace

    def _standing(self, peer: SeederPeer) -> int:
        """How far a peer is, in pieces. Whoever is behind comes first: something new lets it give to the others."""
        return self._revealing.count(peer) + len(self._shown[peer])

    def _lag(self, peer: SeederPeer) -> float:
        """How far it is behind the others, in units of what they get in `LAG_SECONDS`."""
        return (self._mean - self._standing(peer)) / max(1.0, LAG_SECONDS * self._pace)

    def _ahead(self, peer: SeederPeer) -> float:
        favour = min(MOST_FAVOUR, max(LEAST_FAVOUR, 1 + self._lag(peer)))
        rate = peer.rate
        if self._revealing.is_out:
            # Nothing fresh has to be spared for somebody else. With its share of the uplink at hand, a peer makes up
            # here for what others fail to send it for a moment: a full link that idles is lost for good.
            rate = max(rate, self._turns.best / len(self._peers))
        plain = max(LEAST_AHEAD, AHEAD_SECONDS * rate)
        return min(favour * plain, max(plain, FAVOUR_SECONDS * self._turns.best), MOST_AHEAD)

    def _on_tick(self) -> None:
        self._tick = None
        if not self._peers:
            self._turns = Turns()
            return
        rate = (self.uploaded - self._counted) / TICK_SECONDS
        self._counted = self.uploaded
        for peer in self._peers:
            peer.measure(TICK_SECONDS)
        mean = sum(map(self._standing, self._peers)) / len(self._peers)
        grown = max(0.0, mean - self._mean) / TICK_SECONDS
        self._pace = PACE_MEMORY * self._pace + (1 - PACE_MEMORY) * grown
        self._mean = mean
        waiting = any(peer.is_open and not peer.is_busy for peer in self._peers)
        self._turns.measure(rate, waiting=waiting)
        self.stir()
        self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self._on_tick)

    # Bytes

    def length(self, piece: int) -> int:
        """Bytes of a piece."""
        content = self.metainfo.content
        return min(content.piece_length, content.size - piece * content.piece_length)

    def bytes_of(self, piece: int) -> bytes | None:
        """The bytes of a piece that is on show, or None if they are being read still."""
        return self._bytes.get(piece)

    def use(self, piece: int) -> None:
        """Have the bytes of a piece at hand, until as many have let go of it."""
        self._users[piece] = self._users.get(piece, 0) + 1
        if piece not in self._bytes and piece not in self._loading:
            self._loading[piece] = asyncio.create_task(self._load(piece), name="seeder reads a piece")

    def let_go(self, piece: int) -> None:
        """One who used a piece needs its bytes no more."""
        self._users[piece] -= 1
        if not self._users[piece]:
            del self._users[piece]
            self._bytes.pop(piece, None)

    async def _load(self, piece: int) -> None:
        try:
            found = await asyncio.to_thread(self._read, piece)
        except BitDewError as fault:
            self.fault = fault
            self._on_fault(self)
            return
        finally:
            del self._loading[piece]
        if piece in self._users:
            self._bytes[piece] = found
            for peer in [*self._readers, *self._peers]:
                peer.flush()

    def _read(self, piece: int) -> bytes:
        length = self.length(piece)
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                found = os.pread(descriptor, length, piece * self.metainfo.content.piece_length)
            finally:
                os.close(descriptor)
        except OSError as cause:
            why = cause.strerror or str(cause)
            raise error("storage.failed", f"The file {self.path.name} could not be read", why=why) from cause
        if len(found) != length:
            raise error("storage.failed", f"The file {self.path.name} could not be read", why="it is cut off")
        return found

    async def end(self) -> None:
        """Hang up on everybody."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._stirred is not None:
            self._stirred.cancel()
        for peer in [*self._readers, *self._peers]:
            peer.hang_up()
        while self._loading:
            await asyncio.wait(list(self._loading.values()))
