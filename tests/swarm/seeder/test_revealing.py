"""What is shown to whom: everything once before anything twice, and in the end everything to everybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bitdew.swarm.seeder.revealing import Revealing


def test_each_piece_is_shown_once_before_any_a_second_time() -> None:
    revealing: Revealing[str] = Revealing(6)
    for peer in "ab":
        revealing.arrive(peer)
    shown = [revealing.reveal(peer) for peer in "ababab"]
    assert sorted(shown) == list(range(6))
    assert revealing.reveal("a") in {shown[1], shown[3], shown[5]}


def test_a_piece_that_was_shown_to_a_peer_that_left_without_it_comes_first_again() -> None:
    revealing: Revealing[str] = Revealing(3)
    for peer in "ab":
        revealing.arrive(peer)
    lost = revealing.reveal("a")
    revealing.leave("a")
    found = {revealing.reveal("b") for _ in range(3)}
    assert lost in found
    assert found == {0, 1, 2}


def test_the_rarest_piece_is_shown_when_all_are_out() -> None:
    revealing: Revealing[str] = Revealing(3)
    for peer in "abc":
        revealing.arrive(peer)
    for peer, pieces in (("a", [0, 1, 2]), ("b", [0, 2])):
        for piece in pieces:
            revealing.has(peer, piece)
    assert revealing.reveal("c") == 1
    assert revealing.reveal("b") == 1


@given(st.integers(1, 30), st.integers(1, 6))
def test_peers_that_pass_nothing_on_still_get_everything(pieces: int, peers: int) -> None:
    revealing: Revealing[int] = Revealing(pieces)
    for peer in range(peers):
        revealing.arrive(peer)
    for _ in range(pieces):
        for peer in range(peers):
            piece = revealing.reveal(peer)
            assert piece is not None
            revealing.has(peer, piece)
    assert all(revealing.is_whole(peer) and revealing.reveal(peer) is None for peer in range(peers))


class RevealingMachine(RuleBasedStateMachine):
    """Peers come, get, tell and go in any order; the counts are those that a naive reckoning finds."""

    @initialize(pieces=st.integers(1, 12))
    def begin(self, pieces: int) -> None:
        self.pieces = pieces
        self.revealing: Revealing[int] = Revealing(pieces)
        self.has: dict[int, set[int]] = {}
        self.shown: dict[int, set[int]] = {}
        self.count = 0

    @rule()
    def a_peer_comes(self) -> None:
        self.count += 1
        self.revealing.arrive(self.count)
        self.has[self.count], self.shown[self.count] = set(), set()

    @rule(pick=st.integers(0, 99))
    def a_peer_goes(self, pick: int) -> None:
        if self.has:
            peer = sorted(self.has)[pick % len(self.has)]
            self.revealing.leave(peer)
            del self.has[peer], self.shown[peer]

    @rule(pick=st.integers(0, 99), piece=st.integers(0, 11))
    def a_peer_tells(self, pick: int, piece: int) -> None:
        if self.has:
            peer = sorted(self.has)[pick % len(self.has)]
            self.revealing.has(peer, piece % self.pieces)
            self.has[peer].add(piece % self.pieces)
            self.shown[peer].discard(piece % self.pieces)

    @rule(pick=st.integers(0, 99))
    def a_piece_is_shown(self, pick: int) -> None:
        if not self.has:
            return
        peer = sorted(self.has)[pick % len(self.has)]
        copies = [self.copies(piece) for piece in range(self.pieces)]
        open_to_it = [p for p in range(self.pieces) if p not in self.has[peer] | self.shown[peer]]
        shown = self.revealing.reveal(peer)
        if not open_to_it:
            assert shown is None
            return
        assert shown in open_to_it
        assert copies[shown] == min(copies[piece] for piece in open_to_it)
        self.shown[peer].add(shown)

    @rule(pick=st.integers(0, 99))
    def all_is_shown(self, pick: int) -> None:
        if self.has:
            peer = sorted(self.has)[pick % len(self.has)]
            rest = set(range(self.pieces)) - self.has[peer] - self.shown[peer]
            assert self.revealing.reveal_all(peer) == sorted(rest)
            self.shown[peer] |= rest

    def copies(self, piece: int) -> int:
        return sum(piece in held for held in self.has.values()) + sum(piece in shown for shown in self.shown.values())

    @invariant()
    def who_is_whole_is_known(self) -> None:
        for peer, held in getattr(self, "has", {}).items():
            assert self.revealing.is_whole(peer) == (len(held) == self.pieces)

    @invariant()
    def whether_everything_is_out_is_known(self) -> None:
        if hasattr(self, "has"):
            assert self.revealing.is_out == (set().union(*self.has.values()) == set(range(self.pieces)))


TestRevealing = RevealingMachine.TestCase
