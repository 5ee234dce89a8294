"""Which blocks are there and where others may come from: whatever is planned, nothing wrong is ever taken for right."""

from __future__ import annotations

import itertools
import random

from bitdew.worker.blockmap import BlockMap, moves
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.content import BLOCK, ContentHasher, leaves_of

LETTERS = {letter: random.Random(letter).randbytes(BLOCK) for letter in "abcdefgh"} | {"0": bytes(BLOCK)}  # noqa: S311
WORDS = st.text(alphabet=sorted(LETTERS), min_size=1, max_size=24)
TAILS = st.sampled_from([BLOCK, 1, 100, BLOCK - 1])


def spelled(word, tail=BLOCK):
    """Bytes with a block for each letter, the last of which is cut."""
    data = b"".join(LETTERS[letter] for letter in word)
    return data[: len(data) - BLOCK + tail]


def map_of(data, have=None):
    hasher = ContentHasher(len(data), keep_leaves=True)
    hasher.update(data)
    content = hasher.finish()
    return BlockMap(content, hasher.leaves, have or [False] * content.pieces)


def block_of(data, number):
    return data[number * BLOCK : (number + 1) * BLOCK]


@given(new=WORDS, tail=TAILS, old=WORDS, old_tail=TAILS)
def test_what_is_taken_from_another_file_is_right_and_all_that_it_has_is_taken(new, tail, old, old_tail):
    data, base = spelled(new, tail), spelled(old, old_tail)
    map_, file = map_of(data), bytearray(len(data))
    hashes = leaves_of(base)
    for first, end in map_.fitting(0, hashes):
        at, stop = first * BLOCK, first * BLOCK + map_.length(first, end)
        file[at:stop] = base[at:stop]
        map_.mark(first, end)
    for window in map_.windows(5):
        for move in moves(window, b"".join(hashes)):
            raw = block_of(base, move.source)
            for target in move.targets:
                file[target * BLOCK : target * BLOCK + len(raw)] = raw
                map_.mark(target, target + 1)
    there = {block_of(base, number) for number in range(len(hashes))}
    for number in range(map_.blocks):
        has = block_of(data, number) in there
        assert map_.lacks(number, number + 1) != has
        if has:
            assert block_of(bytes(file), number) == block_of(data, number)
    assert len(file) == len(data)


@given(word=WORDS, tail=TAILS, chance=st.randoms(use_true_random=False))
def test_pieces_masks_and_figures_tell_the_same(word, tail, chance):
    data = spelled(word, tail)
    map_ = map_of(data)
    chosen = [number for number in range(map_.blocks) if chance.random() < 0.6]
    for number in chosen:
        map_.mark(number, number + 1)
    assert map_.missing == map_.blocks - len(chosen)
    assert map_.done == sum(len(block_of(data, number)) for number in chosen)
    have, unfinished = map_.have(), map_.unfinished()
    for piece in range(map_.content.pieces):
        first, end = map_.span(piece)
        mask = [number in chosen for number in range(first, end)]
        assert have[piece] == all(mask)
        assert unfinished.get(piece) == (mask if any(mask) and not all(mask) else None)
    again = map_of(data, have)
    assert again.have() == have


@given(word=WORDS, joined=st.integers(0, 5), chance=st.randoms(use_true_random=False))
def test_gaps_cover_what_is_missing_and_little_else(word, joined, chance):
    map_ = map_of(spelled(word))
    for number in range(map_.blocks):
        if chance.random() < 0.5:
            map_.mark(number, number + 1)
    for piece in range(map_.content.pieces):
        gaps = map_.gaps(piece, joined)
        covered = {number for first, end in gaps for number in range(first, end)}
        assert all(number in covered for number in range(*map_.span(piece)) if map_.lacks(number, number + 1))
        assert all(map_.lacks(first, first + 1) and map_.lacks(end - 1, end) for first, end in gaps)
        assert all(after[0] - before[1] > joined for before, after in itertools.pairwise(gaps))


@given(word=WORDS, tail=TAILS)
def test_zero_blocks_are_known_without_reading(word, tail):
    map_ = map_of(spelled(word, tail))
    empty = {number for first, end in map_.empty(0, map_.blocks) for number in range(first, end)}
    whole = len(word) if tail == BLOCK else len(word) - 1
    assert empty == {number for number, letter in enumerate(word[:whole]) if letter == "0"}


@given(word=WORDS, most=st.integers(1, 7))
def test_windows_name_every_missing_block_once_and_are_bounded(word, most):
    map_ = map_of(spelled(word))
    windows = list(map_.windows(most))
    named = [number for window in windows for numbers in window.values() for number in numbers]
    assert sorted(named) == list(range(map_.blocks))
    assert all(sum(map(len, window.values())) <= most for window in windows)
