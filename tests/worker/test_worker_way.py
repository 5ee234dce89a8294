"""Which way bytes come: what is asked for, else by size and by how many hosts want it."""

from __future__ import annotations

from bitdew.worker.way import ONE_PIECE, TOGETHER, Way, way_for
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.integers(1, 2**40)
COPIES = st.integers(1, 100_000)


@given(SIZES, st.integers(0, 100_000))
def test_a_wish_is_followed_whatever_the_size(size, copies):
    assert way_for("http", size, copies) is Way.HTTP
    assert way_for("bittorrent", size, copies) is Way.SWARM


@given(SIZES)
def test_a_single_copy_comes_over_https_and_what_nobody_counted_by_swarm(size):
    assert way_for("auto", size, 1) is Way.HTTP
    assert way_for("auto", size, 0) is Way.SWARM


@given(SIZES, st.integers(2, 100_000))
def test_what_the_repository_sends_over_https_is_little_in_all_or_one_piece_each(size, copies):
    by_http = way_for("auto", size, copies) is Way.HTTP
    assert by_http == (size * copies <= TOGETHER or size <= ONE_PIECE)


@given(SIZES, COPIES, st.integers(0, 2**30), st.integers(0, 1000))
def test_larger_data_and_more_hosts_never_turn_a_swarm_into_downloads(size, copies, larger, more):
    if way_for("auto", size, copies) is Way.SWARM:
        assert way_for("auto", size + larger, copies + more) is Way.SWARM
