"""Our one-pass content identity against libtorrent's own, byte for byte."""

from __future__ import annotations

import hashlib
import itertools
import random
from pathlib import Path

import libtorrent as lt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitdew.core.content import (
    BLOCK,
    MOST_PIECES,
    ROOT_OF_NOTHING,
    SMALLEST_PIECE,
    USUAL_PIECE,
    Content,
    ContentHasher,
    ContentTree,
    leaves_of,
    piece_length_for,
    root_of_layer,
    root_of_leaves,
    root_of_piece,
    root_of_zeros,
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


@given(size=st.one_of(st.integers(1, 10**14), st.integers(1, MOST_PIECES * USUAL_PIECE)))
def test_a_piece_is_a_power_of_two_and_pieces_are_few_until_it_is_as_large_as_usual(size: int) -> None:
    length = piece_length_for(size)
    assert length & (length - 1) == 0
    assert length >= SMALLEST_PIECE
    assert -(-size // length) <= MOST_PIECES
    if length < USUAL_PIECE:
        assert -(-size // length) <= 1025
    if SMALLEST_PIECE < length <= USUAL_PIECE:
        assert -(-size // length) > 512
    if length > USUAL_PIECE:
        assert -(-size // length) > MOST_PIECES // 2


def test_pieces_are_larger_than_usual_only_beyond_256_gigabytes() -> None:
    sizes = [20 * 10**9, 256 * 2**30, 256 * 2**30 + 1, 512 * 2**30, 2**40]
    assert [piece_length_for(size) // 2**20 for size in sizes] == [4, 4, 8, 8, 16]


@pytest.mark.parametrize("seen", [0, 9, 11])
def test_bytes_that_are_not_as_many_as_announced_have_no_identity(seen: int) -> None:
    hasher = ContentHasher(10)
    hasher.update(bytes(seen))
    with pytest.raises(UserError) as caught:
        hasher.finish()
    assert caught.value.key == "disk.changed"
    assert caught.value.fields == {"announced": 10, "read": seen}


def test_nothing_is_a_content_without_pieces() -> None:
    nothing = ContentHasher(0).finish()
    assert nothing == Content(ROOT_OF_NOTHING, 0, SMALLEST_PIECE, b"")
    assert nothing.root == hashlib.sha256(b"").hexdigest()
    assert nothing.pieces == 0
    assert ContentTree(0).content() == nothing


# Leaves, zeros, and pieces in any order -------------------------------------------------------------------------------


@given(size=st.one_of(st.integers(0, 4 * PIECE), st.sampled_from(EDGES)), cuts=st.lists(st.integers(0, 1 << 22)))
def test_the_leaves_that_are_kept_are_those_of_the_blocks_and_lead_to_the_root(size: int, cuts: list[int]) -> None:
    data = SOURCE[:size]
    hasher, edges = ContentHasher(size, keep_leaves=True), [0, *sorted(cut % (size + 1) for cut in cuts), size]
    for start, end in itertools.pairwise(edges):
        hasher.update(data[start:end])
    content = hasher.finish()
    blocks = [data[offset : offset + BLOCK] for offset in range(0, size, BLOCK)]
    leaves = [hashlib.sha256(block).digest() for block in blocks]
    assert hasher.leaves == b"".join(leaves)
    tree, wide = ContentTree(size), content.piece_length // BLOCK
    for number in range(tree.pieces):
        tree.put(number, root_of_leaves(leaves[number * wide : (number + 1) * wide], size))
    assert tree.content() == content


def test_leaves_that_were_not_asked_for_are_not_there() -> None:
    with pytest.raises(RuntimeError, match="keep_leaves"):
        _ = ContentHasher(1).leaves


@given(data=st.data(), size=st.integers(1, 9 * PIECE))
def test_pieces_give_the_same_content_in_any_order_with_zeros_told_or_hashed(data: st.DataObject, size: int) -> None:
    tree = ContentTree(size)
    zeros = data.draw(st.sets(st.integers(0, tree.pieces - 1)))
    raw = bytearray(SOURCE[:size])
    for number in zeros:
        raw[number * PIECE : number * PIECE + tree.length(number)] = bytes(tree.length(number))
    whole = in_chunks(bytes(raw), [])
    for number in data.draw(st.permutations(range(tree.pieces))):
        if number in zeros and data.draw(st.booleans()):
            continue
        piece = bytes(raw[number * PIECE : number * PIECE + tree.length(number)])
        assert tree.has(number) is False
        tree.put(number, root_of_piece(piece, whole))
        tree.put(number, bytes(32))  # what is known is not told anew
    assert {n for first, end in tree.gaps() for n in range(first, end)} <= zeros
    assert tree.known == tree.pieces - sum(end - first for first, end in tree.gaps())
    tree.put_zeros(0, tree.pieces)
    assert (tree.gaps(), tree.content()) == ([], whole)


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, PIECE - 1, PIECE])
def test_zeros_have_the_root_that_hashing_them_gives(length: int) -> None:
    zeros = bytes(length)
    plain = [hashlib.sha256(zeros[offset : offset + BLOCK]).digest() for offset in range(0, length, BLOCK)]
    assert leaves_of(zeros) == plain
    for size in (length, 5 * PIECE):
        assert root_of_zeros(length, size) == root_of_leaves(plain, size)


def test_a_tree_with_a_missing_piece_has_no_content() -> None:
    tree = ContentTree(3 * PIECE)
    tree.put(1, bytes(32))
    assert tree.gaps() == [(0, 1), (2, 3)]
    with pytest.raises(UserError) as caught:
        tree.content()
    assert caught.value.key == "disk.changed"


def test_a_hundred_gigabytes_of_zeros_are_identified_without_hashing_them() -> None:
    tree = ContentTree(100 * 2**30)
    tree.put_zeros(0, tree.pieces)
    content = tree.content()
    assert content.pieces == 25_600
    assert content.piece_layer == root_of_zeros(content.piece_length, content.size) * 25_600
    assert root_of_layer(content.piece_layer, content.piece_length) == content.root
