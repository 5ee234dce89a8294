"""Block hashes are believed only if the root proves them, and sketches tell how much two contents have in common."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.blocks import HASH, SKETCH, ZERO_LEAF, alike, blocks_in, is_zeros, leaves_in, proven, sketch_of
from bitdew.core.content import BLOCK, EMPTY_BLOCK, SMALLEST_PIECE, ContentHasher, leaf_of

SOURCE = random.Random(11).randbytes(40 * BLOCK + 100)  # noqa: S311 - nothing secret


def hashed(data):
    hasher = ContentHasher(len(data), keep_leaves=True)
    hasher.update(data)
    content = hasher.finish()
    return content, hasher.leaves


def leaves_from(numbers):
    return b"".join(random.Random(number).randbytes(HASH) for number in numbers)  # noqa: S311 - nothing secret


@given(size=st.integers(1, len(SOURCE)))
def test_the_hashes_of_a_content_are_proven_by_its_root(size):
    content, leaves = hashed(SOURCE[:size])
    assert len(leaves) == blocks_in(size) * HASH
    assert proven(leaves, content)
    pieces = [leaves_in(leaves, content, number) for number in range(content.pieces)]
    assert b"".join(pieces) == leaves


@given(size=st.integers(1, len(SOURCE)), at=st.integers(0), bit=st.integers(0, 7))
def test_one_wrong_bit_among_the_hashes_is_noticed(size, at, bit):
    content, leaves = hashed(SOURCE[:size])
    wrong = bytearray(leaves)
    wrong[at % len(wrong)] ^= 1 << bit
    assert not proven(bytes(wrong), content)


@pytest.mark.parametrize("cut", [1, HASH])
def test_too_few_or_too_many_hashes_are_refused(cut):
    content, leaves = hashed(SOURCE)
    assert not proven(leaves[:-cut], content)
    assert not proven(leaves + leaves[:cut], content)
    assert not proven(b"", content)


@pytest.mark.parametrize("tail", [0, 1, BLOCK - 1, BLOCK, SMALLEST_PIECE - 1])
def test_pieces_of_zeros_are_known_by_their_hash_a_short_last_one_too(tail):
    data = SOURCE[:SMALLEST_PIECE] + bytes(2 * SMALLEST_PIECE) + b"\x01" * SMALLEST_PIECE + bytes(tail)
    content, _ = hashed(data)
    expected = [False, True, True, False, True][: content.pieces]
    assert [is_zeros(content, number) for number in range(content.pieces)] == expected


def test_a_content_of_one_piece_of_zeros_is_known_too():
    content, _ = hashed(bytes(BLOCK + 5))
    assert content.pieces == 1
    assert is_zeros(content, 0)


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=300), st.randoms(use_true_random=False))
def test_a_sketch_depends_on_the_blocks_and_not_on_their_places_or_number(numbers, chance):
    shuffled = [*numbers, *chance.choices(sorted(numbers), k=5)]
    chance.shuffle(shuffled)
    sketch = sketch_of(leaves_from(shuffled) + 3 * ZERO_LEAF)
    assert sketch == sketch_of(leaves_from(sorted(numbers)))
    assert len(sketch) == HASH * min(len(numbers), SKETCH)
    assert alike(sketch, sketch) == 1.0


@given(st.integers(0, 2000))
def test_likeness_is_about_the_share_of_common_blocks(common):
    one = sketch_of(leaves_from(range(2000)))
    other = sketch_of(leaves_from(range(2000 - common, 4000 - common)))
    assert alike(one, other) == alike(other, one)
    assert abs(alike(one, other) - common / (4000 - common)) < 0.3


def test_contents_of_zeros_resemble_nothing():
    assert leaf_of(EMPTY_BLOCK) == ZERO_LEAF
    assert alike(sketch_of(ZERO_LEAF * 100), sketch_of(ZERO_LEAF * 100)) == 0.0


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_may_come_as_a_sketch(one, other):
    assert 0.0 <= alike(one, other) <= 1.0
