"""Which piece is shown to which peer: each one once before any a second time.

Pure: no bytes, no clock, no connections. A source that shows everything to everybody sends a piece twice before all of
them are out once, and where it is no faster than its peers, each such piece costs all of them time. Shown one by one,
every piece leaves it once, to one peer, which passes it on. This is super-seeding (BEP 16), but with as many pieces on
show as keep a peer busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

P = TypeVar("P", bound="Hashable")


class Revealing(Generic[P]):
    """What the peers of one content have, and what was shown to them."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self._held = [0] * pieces  # by how many of the peers that are here
        self._on_show = [0] * pieces  # to how many of the peers that are here and don't have it
        self._missing = pieces  # that none of the peers that are here has
        self._fresh = 0  # every piece before it was shown at least once
        self._has: dict[P, bytearray] = {}
        self._count: dict[P, int] = {}
        self._shown: dict[P, dict[int, None]] = {}

    def arrive(self, peer: P) -> None:
        """A peer is here, and has nothing as far as one knows."""
        self._has[peer] = bytearray(self.pieces)
        self._count[peer] = 0
        self._shown[peer] = {}

    def leave(self, peer: P) -> None:
        """It is gone, and with it what it had."""
        for piece, there in enumerate(self._has.pop(peer)):
            self._held[piece] -= there
            self._missing += there and not self._held[piece]
        del self._count[peer]
        for piece in self._shown.pop(peer):
            self._on_show[piece] -= 1

    def has(self, peer: P, piece: int) -> None:
        """`peer` has `piece` now."""
        known = self._has[peer]
        if not known[piece]:
            known[piece] = 1
            self._missing -= not self._held[piece]
            self._held[piece] += 1
            self._count[peer] += 1
        if piece in self._shown[peer]:
            del self._shown[peer][piece]
            self._on_show[piece] -= 1

    def count(self, peer: P) -> int:
        """How many pieces `peer` has."""
        return self._count[peer]

    def is_whole(self, peer: P) -> bool:
        """Whether `peer` has everything."""
        return self._count[peer] == self.pieces

    @property
    def is_out(self) -> bool:
        """Whether the peers that are here have every piece between them."""
        return not self._missing

    def reveal_all(self, peer: P) -> list[int]:
        """Show `peer` everything that it does not have; what it was not shown before."""
        known, shown = self._has[peer], self._shown[peer]
        rest = [piece for piece in range(self.pieces) if not known[piece] and piece not in shown]
        for piece in rest:
            shown[piece] = None
            self._on_show[piece] += 1
        return rest

    def reveal(self, peer: P) -> int | None:
        """Show one more piece to `peer`: one that nobody has or was shown, or else the rarest. None if none is left."""
        known, shown = self._has[peer], self._shown[peer]
        self._skip()
        chosen = self._next_fresh(known)
        if chosen is None:
            rarest: tuple[int, int] | None = None
            for piece in range(self.pieces):
                if not known[piece] and piece not in shown:
                    copies = (self._held[piece] + self._on_show[piece], self._held[piece])
                    if rarest is None or copies < rarest:
                        rarest, chosen = copies, piece
        if chosen is not None:
            shown[chosen] = None
            self._on_show[chosen] += 1
        return chosen

    def _skip(self) -> None:
        while self._fresh < self.pieces and (self._held[self._fresh] or self._on_show[self._fresh]):
            self._fresh += 1

    def _next_fresh(self, known: bytearray) -> int | None:
        piece = self._fresh
        while piece < self.pieces:
            if not self._held[piece] and not self._on_show[piece] and not known[piece]:
                return piece
            piece += 1
        return None
