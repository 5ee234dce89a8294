"""Whose bytes they were, over any sequence of connections, and how pieces are written as bits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.host import Endpoint
from bitdew.swarm.bitfield import packed, unpacked
from bitdew.swarm.progress import PeerSample, Progress, ReceivedTally

DIALLED = Endpoint("10.0.0.1", 6881)
CAME = Endpoint("10.0.0.2", 40_001)


def test_bytes_of_a_closed_connection_stay() -> None:
    tally = ReceivedTally()
    tally.take([PeerSample(DIALLED, incoming=False, received=10), PeerSample(CAME, incoming=True, received=5)])
    tally.take([PeerSample(DIALLED, incoming=False, received=12)])
    assert tally.by_listener() == {DIALLED: 12, Endpoint("10.0.0.2", 0): 5}


def test_a_connection_that_counts_from_zero_again_is_a_new_one() -> None:
    tally = ReceivedTally()
    for received in (10, 3, 4):
        tally.take([PeerSample(DIALLED, incoming=False, received=received)])
    assert tally.by_listener() == {DIALLED: 14}


def test_a_connection_reported_closed_is_not_counted_twice() -> None:
    tally = ReceivedTally()
    tally.take([PeerSample(DIALLED, incoming=False, received=10)])
    tally.close(DIALLED)
    tally.close(DIALLED)
    tally.take([PeerSample(DIALLED, incoming=False, received=11)])
    assert tally.by_listener() == {DIALLED: 21}


def test_who_came_is_known_by_its_address_alone() -> None:
    tally = ReceivedTally()
    tally.take([PeerSample(Endpoint(DIALLED.host, 40_002), incoming=True, received=5), PeerSample(DIALLED, False, 7)])
    assert tally.by_listener() == {Endpoint(DIALLED.host, 0): 5, DIALLED: 7}


def test_addresses_add_up_their_ports() -> None:
    received = {Endpoint("10.0.0.1", 1): 5, Endpoint("10.0.0.1", 0): 7, Endpoint("10.0.0.2", 1): 1}
    assert Progress(0, 1, "fetching", received_from=received).received_by_address == {"10.0.0.1": 12, "10.0.0.2": 1}


@given(st.lists(st.booleans(), min_size=1, max_size=100))
def test_a_bitfield_is_read_back(pieces: list[bool]) -> None:
    assert unpacked(packed(pieces), len(pieces)) == pieces


@given(st.binary(max_size=4), st.integers(1, 30))
def test_any_bytes_are_a_bitfield_or_none(field: bytes, pieces: int) -> None:
    read = unpacked(field, pieces)
    assert read is None or packed(read) == field


def test_the_first_piece_is_the_highest_bit() -> None:
    assert packed([True] + [False] * 8) == b"\x80\x00"
