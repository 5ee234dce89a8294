"""Zeros take no room, and what is read is what was written."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew import holes
from bitdew.client.part import PartFile
from bitdew.core.content import BLOCK, ContentHasher

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 6 * BLOCK + 100
MIB = 2**20


@pytest.fixture(scope="module")
def descriptor(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("holes") / "file"
    found = os.open(path, os.O_RDWR | os.O_CREAT)
    yield found
    os.close(found)


# Runs of zeros and of ones, which begin and end anywhere.
runs = st.lists(st.tuples(st.booleans(), st.integers(1, 2 * BLOCK + 7)), min_size=1, max_size=5)
steps = st.lists(st.tuples(st.integers(0, SIZE - 1), runs), max_size=6)


@given(steps)
def test_what_is_read_is_what_was_written(descriptor, written) -> None:
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, SIZE)
    expected = bytearray(SIZE)
    for at, made in written:
        raw = b"".join(bytes([one]) * length for one, length in made)[: SIZE - at]
        holes.put(descriptor, raw, at)
        expected[at : at + len(raw)] = raw
    assert os.pread(descriptor, SIZE + 1, 0) == expected


def test_zeros_take_no_room(descriptor) -> None:
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, 4 * MIB)
    holes.put(descriptor, bytes(MIB) + b"x" * BLOCK + bytes(3 * MIB - BLOCK), 0)
    os.fsync(descriptor)
    assert 0 < os.fstat(descriptor).st_blocks * 512 < MIB


def test_a_piece_that_is_fetched_for_one_block_takes_the_room_of_that_block(tmp_path: Path) -> None:
    hasher = ContentHasher(64 * MIB)
    raw = bytearray(64 * MIB)
    raw[5 * MIB : 5 * MIB + BLOCK] = random.Random(1).randbytes(BLOCK)  # noqa: S311
    hasher.update(bytes(raw))
    content = hasher.finish()
    part = PartFile(tmp_path / "part", content)
    for number in range(content.pieces):
        start = number * content.piece_length
        if not part.look(number):
            assert part.put(number, bytes(raw[start : start + content.piece_length]))
    part.become(tmp_path / "whole", force=False)
    part.close()
    assert (tmp_path / "whole").read_bytes() == raw
    assert (tmp_path / "whole").stat().st_blocks * 512 <= 4 * BLOCK
