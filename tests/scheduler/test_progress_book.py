"""Progress: a copy that moves prolongs its lease, one that does not move lets it run out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bitdew.scheduler.progress import UNFINISHED, ProgressBook

from bitdew.core.ids import HostId, Uid
from bitdew.wire.models import PlacementReport

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=120)
DATUM, HOST = Uid("d" * 32), HostId("a" * 32)


def report(done: int, **says: Any) -> PlacementReport:
    said = {"uid": DATUM, "root": "0" * 64, "state": "fetching", "generation": 1, "done": done, "size": 1000}
    return PlacementReport.model_validate(said | says)


@pytest.fixture
def book() -> ProgressBook:
    return ProgressBook(LEASE)


def lease(book: ProgressBook) -> datetime:
    step = book.of(DATUM, HOST)
    assert step is not None
    return step.lease_until


def test_the_first_report_begins_a_lease(book: ProgressBook) -> None:
    assert book.of(DATUM, HOST) is None
    assert book.note(HOST, report(0), NOW)
    assert lease(book) == NOW + LEASE


def test_bytes_that_arrived_prolong_the_lease(book: ProgressBook) -> None:
    book.note(HOST, report(1), NOW)
    assert book.note(HOST, report(2), NOW + timedelta(seconds=100))
    assert lease(book) == NOW + timedelta(seconds=100) + LEASE


def test_a_copy_that_waits_for_its_turn_prolongs_its_lease_by_saying_so(book: ProgressBook) -> None:
    waits = {"reason": {"key": "copy.waiting", "message": "It waits for its turn"}, "state": "assigned"}
    book.note(HOST, report(0, **waits), NOW)
    assert not book.note(HOST, report(0, **waits), NOW + timedelta(seconds=100))  # nothing that anybody would look at
    assert lease(book) == NOW + timedelta(seconds=100) + LEASE
    assert book.take_fresh(NOW)[DATUM, HOST].lease_until == lease(book)  # but another process plans with it


def test_repeating_oneself_does_not_prolong_the_lease(book: ProgressBook) -> None:
    book.note(HOST, report(5), NOW)
    assert not book.note(HOST, report(5), NOW + timedelta(seconds=100))
    assert lease(book) == NOW + LEASE


def test_throwing_corrupt_pieces_away_is_told_but_is_no_progress(book: ProgressBook) -> None:
    book.note(HOST, report(5), NOW)
    assert book.note(HOST, report(5, corrupt=16, from_peers=16), NOW + timedelta(seconds=100))
    assert lease(book) == NOW + LEASE
    step = book.of(DATUM, HOST)
    assert step is not None
    assert (step.corrupt, step.from_peers) == (16, 16)


def test_bytes_of_a_piece_that_is_not_done_yet_prolong_the_lease(book: ProgressBook) -> None:
    """Over a slow link a piece takes longer than a lease, and its source lives nevertheless."""
    book.note(HOST, report(5), NOW)
    for hundreds in range(1, 9):
        now = NOW + timedelta(seconds=100 * hundreds)
        assert book.note(HOST, report(5, from_peers=1000 * hundreds), now)
        assert lease(book) == now + LEASE


def test_bytes_without_end_that_never_become_a_piece_let_the_lease_run_out(book: ProgressBook) -> None:
    book.note(HOST, report(5), NOW)
    book.note(HOST, report(5, from_peers=UNFINISHED), NOW + timedelta(seconds=50))
    assert lease(book) == NOW + timedelta(seconds=50) + LEASE
    assert book.note(HOST, report(5, from_peers=UNFINISHED + 1), NOW + timedelta(seconds=100))
    assert lease(book) == NOW + timedelta(seconds=50) + LEASE
    assert book.note(HOST, report(6, from_peers=UNFINISHED + 2), NOW + timedelta(seconds=150))
    assert book.note(HOST, report(6, from_peers=UNFINISHED + 3), NOW + timedelta(seconds=250))
    assert lease(book) == NOW + timedelta(seconds=250) + LEASE


def test_each_copy_has_its_own_lease_and_may_be_forgotten(book: ProgressBook) -> None:
    other = HostId("b" * 32)
    book.note(HOST, report(1), NOW)
    book.note(other, report(2), NOW)
    book.forget(DATUM, HOST)
    book.forget(DATUM, HOST)
    assert book.of(DATUM, HOST) is None
    step = book.of(DATUM, other)
    assert step is not None
    assert step.done == 2


def test_a_step_by_an_order_that_was_replaced_says_nothing_of_the_new_one(book: ProgressBook) -> None:
    book.note(HOST, report(5), NOW)
    assert book.of(DATUM, HOST, 1) is not None
    assert book.of(DATUM, HOST, 2) is None


def test_what_is_fresh_is_handed_out_once(book: ProgressBook) -> None:
    assert book.take_fresh(NOW) == {}
    book.note(HOST, report(5), NOW)
    book.note(HOST, report(6), NOW)
    assert {pair: step.done for pair, step in book.take_fresh(NOW).items()} == {(DATUM, HOST): 6}
    book.note(HOST, report(6), NOW)
    assert book.take_fresh(NOW) == {}, "it did not move"
    book.note(HOST, report(7), NOW)
    book.forget(DATUM, HOST)
    assert book.take_fresh(NOW) == {}


def test_a_copy_of_which_nothing_is_heard_any_more_is_forgotten(book: ProgressBook) -> None:
    book.note(HOST, report(5), NOW)
    book.take_fresh(NOW + LEASE)
    assert book.of(DATUM, HOST) is not None
    book.take_fresh(NOW + 3 * LEASE)
    assert book.of(DATUM, HOST) is None, "its host talks to another process, perhaps"
