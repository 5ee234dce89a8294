"""Our one-pass content identity against libtorrent's own, byte for byte."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import libtorrent as lt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitdew.core.content import (
    BLOCK,
    LARGEST_PIECE,
    SMALLEST_PIECE,
    Content,
    ContentHasher,
    piece_length_for,
    root_of_layer,
)
from bitdew.core.errors import UserError

PIECE = SMALLEST_PIECE
SOURCE = random.Random(7).randbytes(3 * 1024 * 1024 + 12_345)  # noqa: S311
EDGES = [
    base + offset
    for base in (BLOCK, 2 * BLOCK, 3 * BLOCK, PIECE, PIECE + BLOCK, 2 * PIECE, 3 * PIECE, 5 * PIECE, 32 * PIECE)
    for offset in (-1, 0, 1)
]


def by_libtorrent(path: Path, size: int) -> tuple[str, bytes]:
    """Root and piece layer as libtorrent's creator of torrents computes them."""
    creator = lt.create_torrent(lt.list_files(str(path)), piece_length_for(size), lt.create_torrent.v2_only)
    lt.set_piece_hashes(creator, str(path.parent))
    torrent = creator.generate()
    root = torrent[b"info"][b"file tree"][path.name.encode()][b""][b"pieces root"]
    return root.hex(), torrent[b"piece layers"].get(root, b"")


def in_chunks(data: bytes, cuts: list[int]) -> Content:
    hasher = ContentHasher(len(data))
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        hasher.update(memoryview(data)[start:end])
    return hasher.finish()


def check(folder: Path, data: bytes, cuts: list[int]) -> None:
    path = folder / "file"
    path.write_bytes(data)
    content = in_chunks(data, cuts)
    assert (content.root, content.piece_layer) == by_libtorrent(path, len(data))
    assert content.size == len(data)
    if content.pieces > 1:
        assert root_of_layer(content.piece_layer, content.piece_length) == content.root


@given(
    size=st.one_of(
        st.integers(1, len(SOURCE)),
        st.integers(1, 4 * PIECE),
        st.sampled_from(EDGES),
        st.sampled_from([1, len(SOURCE)]),
    ),
    cuts=st.lists(st.integers(0, 1 << 22), max_size=8),
)
@example(size=1, cuts=[])
@example(size=BLOCK, cuts=[0, BLOCK])
@example(size=PIECE, cuts=[1, PIECE - 1])
@example(size=PIECE + 1, cuts=[PIECE])
@example(size=len(SOURCE), cuts=list(range(0, 5 * BLOCK, 777)))
def test_root_and_layer_are_libtorrents_for_any_size_and_chunking(
    tmp_path_factory: pytest.TempPathFactory, size: int, cuts: list[int]
) -> None:
    check(tmp_path_factory.mktemp("content"), SOURCE[:size], cuts)


@pytest.mark.parametrize("size", EDGES)
def test_root_and_layer_are_libtorrents_at_the_edges_of_blocks_and_pieces(tmp_path: Path, size: int) -> None:
    check(tmp_path, SOURCE[:size], [size // 3, size // 3 + 1])


@pytest.mark.parametrize("size", [256 * PIECE, 256 * PIECE + 256, 257 * PIECE + 5])
def test_root_and_layer_are_libtorrents_where_the_piece_length_doubles(tmp_path: Path, size: int) -> None:
    data = (SOURCE * (size // len(SOURCE) + 1))[:size]
    check(tmp_path, data, [size - 1])


def test_the_hash_of_empty_space_is_libtorrents(tmp_path: Path) -> None:
    check(tmp_path, bytes(5 * PIECE + 3), [])


@given(size=st.integers(1, 10**14))
def test_a_piece_is_a_power_of_two_and_pieces_are_few_until_it_is_largest(size: int) -> None:
    length = piece_length_for(size)
    assert length & (length - 1) == 0
    assert SMALLEST_PIECE <= length <= LARGEST_PIECE
    if length < LARGEST_PIECE:
        assert -(-size // length) <= 257
    if length > SMALLEST_PIECE:
        assert -(-size // length) > 128


@pytest.mark.parametrize("seen", [0, 9, 11])
def test_bytes_that_are_not_as_many_as_announced_have_no_identity(seen: int) -> None:
    hasher = ContentHasher(10)
    hasher.update(bytes(seen))
    with pytest.raises(UserError) as caught:
        hasher.finish()
    assert caught.value.key == "disk.changed"
    assert caught.value.fields == {"announced": 10, "read": seen}


def test_nothing_has_no_identity() -> None:
    with pytest.raises(UserError) as caught:
        ContentHasher(0)
    assert caught.value.key == "disk.empty"
