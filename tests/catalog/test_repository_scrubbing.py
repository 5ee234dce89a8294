"""Reading the repository back: in which order, how fast, and from where on after a restart."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from bitdew.catalog.scrubbing import DAY, MOST_RATE, Scrubber, _load, _save, fault_of_piece
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.content import Content, ContentHasher, piece_length_for
from bitdew.core.ids import ContentRoot
from bitdew.testing.clock import SkippingClock

MB = 2**20


def content(number: int, pieces: int) -> Content:
    size = max(1, pieces * 65536 - 7)
    return Content(ContentRoot(f"{number:064x}"), size, piece_length_for(size), b"")


class Reader(Scrubber):
    """One that only notes what it would read."""

    def __init__(self, held, state, days=1.0, clock=None):
        repository = SimpleNamespace(seeded_content=held.get, seeded_contents=lambda: iter(held.values()))
        super().__init__(
            SimpleNamespace(repository=repository),
            clock or SkippingClock(),
            state,
            days=days,
            is_mine=lambda: True,
            is_busy=lambda: False,
        )
        self.noted = []

    async def _look(self):
        held = list(self._contents.repository.seeded_contents())
        self._total, self._roots = sum(one.size for one in held), sorted(one.root for one in held)

    def take(self):
        """Read the next piece."""
        turn = self._turn()
        if turn is not None:
            one, piece = turn
            self.noted.append((one.root, piece))
            self._at = one.root, piece + 1


@given(pieces=st.lists(st.integers(1, 9), min_size=1, max_size=6), begun=st.integers(0, 5), at=st.integers(0, 12))
def test_from_wherever_a_round_begins_every_piece_is_read_once_before_any_again(tmp_path_factory, pieces, begun, at):
    held = {one.root: one for one in (content(3 * number, many) for number, many in enumerate(pieces, 1))}
    reader = Reader(held, tmp_path_factory.getbasetemp() / "none")
    reader._total, reader._roots = sum(one.size for one in held.values()), sorted(held)
    reader._at = f"{3 * begun:064x}", at
    everything = {(root, piece) for root, one in held.items() for piece in range(one.pieces)}
    for _ in everything:
        reader.take()
    assert set(reader.noted) == everything
    reader._thread.shutdown()


def test_contents_that_come_and_go_meanwhile_are_no_hindrance(tmp_path):
    held = {one.root: one for one in (content(number, 2) for number in range(1, 5))}
    reader = Reader(held, tmp_path / "state")
    reader._total, reader._roots = 1, sorted(held)
    reader.take()
    del held[f"{1:064x}"], held[f"{2:064x}"]
    for _ in range(4):
        reader.take()
    assert [int(root, 16) for root, _ in reader.noted] == [1, 3, 3, 4, 4]
    held.clear()
    assert reader._turn() is None
    reader._thread.shutdown()


@pytest.mark.parametrize("days", [1.0, 1e-9])
async def test_the_pace_is_that_of_the_period_and_never_faster_than_the_bound(tmp_path, days, monkeypatch):
    one = content(1, 64)
    clock = SkippingClock()
    reader = Reader({one.root: one}, tmp_path / "state", days, clock)

    async def note(_content, piece):
        reader.noted.append(piece)
        reader._at = one.root, piece + 1

    monkeypatch.setattr(reader, "_read_piece", note)
    began = clock.monotonic()
    while len(reader.noted) < 65:
        clock.skip(await reader._step())
    took = clock.monotonic() - began
    least = max(days * DAY, one.size / MOST_RATE)
    assert least * 0.95 <= took <= least * 1.2 + 1
    reader._thread.shutdown()


def test_a_piece_is_good_or_it_is_said_what_is_wrong_with_it(tmp_path):
    raw = random.Random(3).randbytes(200_000)
    hasher = ContentHasher(len(raw))
    hasher.update(raw)
    known, path = hasher.finish(), tmp_path / "file"
    path.write_bytes(raw)
    assert [fault_of_piece(path, known, number) for number in range(known.pieces)] == [None] * known.pieces
    path.write_bytes(raw[:70_000] + bytes([raw[70_000] ^ 1]) + raw[70_001:-5])
    assert fault_of_piece(path, known, 0) is None
    assert fault_of_piece(path, known, 1).fields["pieces"] == [1]
    assert fault_of_piece(path, known, known.pieces - 1).key == "storage.rotten"
    path.unlink()
    assert "No such file" in fault_of_piece(path, known, 0).why


@pytest.mark.parametrize("left", [b"", b"[]", b'{"root": 1}', b'{"root": "00", "piece": -1}', b"{" * 5000, b"\xff\xfe"])
def test_a_state_that_cannot_be_read_begins_a_round_anew(tmp_path, left):
    path = tmp_path / "scrubbing.json"
    path.write_bytes(left)
    assert _load(path) == ("", 0)
    _save(path, ("ab" * 32, 7))
    assert _load(path) == ("ab" * 32, 7)
