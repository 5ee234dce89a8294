"""How many are sent to at a time: as few as fill the uplink, found out from rates alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.swarm.seeder.turns import FEWEST, MOST, Turns


def settle(turns: Turns, uplink: float, each: float, measurements: int = 60, *, waiting: bool = True) -> int:
    """Links that carry `each` to a peer, behind an uplink."""
    for _ in range(measurements):
        turns.measure(min(uplink, each * turns.number), waiting=waiting)
    return turns.number


def test_where_two_peers_fill_the_uplink_two_are_sent_to() -> None:
    assert settle(Turns(), uplink=3e6, each=3e6) == FEWEST


@pytest.mark.parametrize("needed", [4, 8, 16, 32])
def test_where_it_takes_more_peers_as_many_are_found(needed: int) -> None:
    found = settle(Turns(), uplink=needed * 1e6, each=1e6, measurements=200)
    assert needed * 0.85 <= found <= needed + 1


def test_when_the_peers_get_slower_more_are_sent_to_and_fewer_when_they_are_fast_again() -> None:
    turns = Turns()
    settle(turns, uplink=4e6, each=4e6)
    busy = settle(turns, uplink=4e6, each=0.5e6, measurements=100)
    assert busy >= 7
    assert settle(turns, uplink=4e6, each=4e6, measurements=200) < busy


def test_nobody_is_looked_for_where_nobody_waits() -> None:
    assert settle(Turns(), uplink=100e6, each=1e6, waiting=False) == FEWEST


@given(st.lists(st.tuples(st.floats(0, 1e9), st.booleans()), max_size=300))
def test_whatever_the_rates_are_the_number_stays_within_its_bounds(rates) -> None:
    turns = Turns()
    for rate, waiting in rates:
        turns.measure(rate, waiting=waiting)
        assert FEWEST <= turns.number <= MOST
