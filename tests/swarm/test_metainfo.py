"""The one form of a .torrent: libtorrent reads it as meant, and nothing else is let in."""

from __future__ import annotations

import dataclasses
import random

import libtorrent as lt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.content import MOST_PIECES, SMALLEST_PIECE, Content, ContentHasher, ContentTree
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot
from bitdew.swarm.metainfo import LARGEST_METAINFO, build_metainfo, read_metainfo
from bitdew.wire import limits
from bitdew.wire.models import MetainfoReply


def content_of(size: int) -> Content:
    hasher = ContentHasher(size)
    hasher.update(random.Random(size).randbytes(size))  # noqa: S311
    return hasher.finish()


SIZES = [1, SMALLEST_PIECE, SMALLEST_PIECE + 1, 700_001]
GENUINE = {size: build_metainfo(content_of(size)) for size in SIZES}
LARGE = GENUINE[700_001]


@pytest.mark.parametrize("size", SIZES)
def test_libtorrent_reads_it_as_one_private_v2_file(size: int) -> None:
    metainfo = GENUINE[size]
    info = lt.load_torrent_buffer(metainfo.encoded).ti
    assert str(info.info_hashes().v2) == metainfo.info_hash
    assert not info.info_hashes().has_v1()
    assert info.priv()
    # libtorrent lays out a second file, of padding, that fills up the last piece and exists on paper only.
    files = info.layout()
    padding = [bool(files.file_flags(index) & lt.file_flags_t.flag_pad_file) for index in range(files.num_files())]
    assert padding in ([False], [False, True])
    assert info.name() == metainfo.content.root
    assert files.file_size(0) == size
    assert info.piece_length() == metainfo.content.piece_length
    assert str(files.root(0)) == metainfo.content.root
    assert not info.ssl_cert()


@pytest.mark.parametrize("size", SIZES)
def test_it_is_byte_for_byte_what_libtorrent_writes(size: int) -> None:
    encoded = GENUINE[size].encoded
    assert lt.bencode(lt.bdecode(encoded)) == encoded


@pytest.mark.parametrize("size", SIZES)
def test_what_was_built_is_read_back(size: int) -> None:
    metainfo = GENUINE[size]
    assert read_metainfo(metainfo.encoded) == metainfo
    assert read_metainfo(metainfo.encoded, expected=metainfo.content.root) == metainfo


@pytest.mark.parametrize("size", [256 * 2**30, limits.LARGEST_DISK])
def test_the_metainfo_of_what_has_the_most_pieces_is_within_every_bound(size: int) -> None:
    tree = ContentTree(size)
    tree.put_zeros(0, tree.pieces)
    metainfo = build_metainfo(tree.content())
    assert metainfo.content.pieces == MOST_PIECES
    assert read_metainfo(metainfo.encoded) == metainfo
    reply = MetainfoReply(metainfo=metainfo.encoded).model_dump_json()
    assert len(reply) <= limits.REPLY
    assert MetainfoReply.model_validate_json(reply).metainfo == metainfo.encoded
    assert lt.load_torrent_buffer(metainfo.encoded).ti.num_pieces() == MOST_PIECES


def test_equal_bytes_make_equal_swarms() -> None:
    assert build_metainfo(content_of(123_456)) == build_metainfo(content_of(123_456))


def refusal(encoded: bytes, expected: ContentRoot | None = None) -> BitDewError:
    with pytest.raises(BitDewError) as caught:
        read_metainfo(encoded, expected=expected)
    return caught.value


def changed(change) -> bytes:  # type: ignore[no-untyped-def]
    torrent = lt.bdecode(LARGE.encoded)
    change(torrent)
    return lt.bencode(torrent)


def rename(torrent) -> None:  # type: ignore[no-untyped-def]
    info = torrent[b"info"]
    info[b"name"] = b"0" * 64
    info[b"file tree"] = {b"0" * 64: next(iter(info[b"file tree"].values()))}


def escape(torrent) -> None:  # type: ignore[no-untyped-def]
    info = torrent[b"info"]
    info[b"name"] = b"../../etc/passwd"
    info[b"file tree"] = {b"../../etc/passwd": next(iter(info[b"file tree"].values()))}


def second_file(torrent) -> None:  # type: ignore[no-untyped-def]
    torrent[b"info"][b"file tree"][b"z"] = {b"": {b"length": 1, b"pieces root": bytes(32)}}


def swap_pieces(torrent) -> None:  # type: ignore[no-untyped-def]
    layers = torrent[b"piece layers"]
    for root, layer in layers.items():
        layers[root] = layer[32:64] + layer[:32] + layer[64:]


def drop_a_piece(torrent) -> None:  # type: ignore[no-untyped-def]
    torrent[b"piece layers"] = {root: layer[:-32] for root, layer in torrent[b"piece layers"].items()}


@pytest.mark.parametrize(
    "change",
    [
        rename,
        escape,
        second_file,
        swap_pieces,
        drop_a_piece,
        lambda torrent: torrent[b"info"].pop(b"private"),
        lambda torrent: torrent[b"info"].update({b"private": 0}),
        lambda torrent: torrent[b"info"].update({b"piece length": 2 * SMALLEST_PIECE}),
        lambda torrent: torrent[b"info"].update({b"piece length": 0}),
        lambda torrent: torrent[b"info"].update({b"ssl-cert": b"-----BEGIN"}),
        lambda torrent: torrent[b"info"].update({b"pieces": bytes(20), b"length": 1}),
        lambda torrent: torrent.update({b"announce": b"http://example.org/announce"}),
        lambda torrent: torrent.update({b"url-list": b"http://example.org/"}),
        lambda torrent: torrent.update({b"piece layers": {}}),
        lambda torrent: torrent.pop(b"piece layers"),
    ],
)
def test_any_deviation_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    problem = refusal(changed(change))
    assert problem.key == "input.invalid"
    assert problem.why


def test_another_size_than_the_layer_tells_is_refused() -> None:
    for size in (1, 10**14, LARGE.content.size + SMALLEST_PIECE):
        assert refusal(build_metainfo(dataclasses.replace(LARGE.content, size=size)).encoded).key == "input.invalid"


def test_another_content_than_expected_is_refused() -> None:
    problem = refusal(LARGE.encoded, GENUINE[1].content.root)
    assert problem.key == "input.invalid"
    assert LARGE.content.root in problem.why


def test_what_is_too_large_is_refused_unread() -> None:
    assert refusal(LARGE.encoded + bytes(LARGEST_METAINFO)).key == "input.too-large"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(encoded: bytes) -> None:
    refusal(encoded)


@given(
    base=st.sampled_from(SIZES),
    edits=st.lists(
        st.tuples(st.integers(0, 1 << 16), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4
    ),
)
def test_an_edited_torrent_is_refused_unless_it_is_the_same_again(
    base: int, edits: list[tuple[int, int, bytes]]
) -> None:
    genuine = GENUINE[base].encoded
    encoded = bytearray(genuine)
    for where, removed, added in edits:
        start = where % (len(encoded) + 1)
        encoded[start : start + removed] = added
    if bytes(encoded) == genuine:
        assert read_metainfo(bytes(encoded)).encoded == genuine
    elif base > SMALLEST_PIECE:
        assert refusal(bytes(encoded)).key == "input.invalid"
    else:  # the size of a content of one piece is not told by its root: whoever signs the root signs the size too
        try:
            read = read_metainfo(bytes(encoded))
        except BitDewError as problem:
            assert problem.key == "input.invalid"  # noqa: PT017 (either may happen)
        else:
            assert read.encoded == bytes(encoded)
            assert read.content.size <= SMALLEST_PIECE
