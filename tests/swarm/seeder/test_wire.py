"""The peer wire protocol: whatever a peer sends is read the same in any parts, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.swarm.seeder import wire

PIECES = 21
FIELD = 3


def framed(kind: int, body: bytes = b"") -> bytes:
    return (1 + len(body)).to_bytes(4, "big") + bytes([kind]) + body


def number(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


KNOWN = [
    (framed(4, number(20)), wire.Have(20)),
    (framed(5, b"\xff\0\xf8"), wire.Bitfield(b"\xff\0\xf8")),
    (framed(6, number(3, 16384, 16384)), wire.Request(3, 16384, 16384)),
    (framed(8, number(3, 0, 1)), wire.Cancel(wire.Request(3, 0, 1))),
    (framed(14), wire.Bitfield(None)),
    (framed(15), wire.Bitfield(bytes(FIELD))),
    (framed(21, bytes(48)), wire.HashRequest(bytes(48))),
]
SILENT = [b"\0\0\0\0", framed(0), framed(1), framed(2), framed(3), framed(9, b"\1\2"), framed(99, b"new")]


@given(st.lists(st.sampled_from([*KNOWN, *((raw, None) for raw in SILENT)]), max_size=12), st.data())
def test_messages_are_read_the_same_in_any_parts(sent, data) -> None:
    stream = b"".join(raw for raw, _ in sent)
    reader, found, at = wire.Reader(PIECES), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 40))
        found += reader.feed(stream[at : at + size])
        at += size
    assert found == [message for _, message in sent if message is not None]


@pytest.mark.parametrize(
    "raw",
    [
        framed(4, number(PIECES)),
        framed(4, b"\0"),
        framed(5, b"\0" * (FIELD + 1)),
        framed(6, number(0, 0, 16385)),
        framed(6, number(0, 0, 0)),
        framed(6, number(PIECES, 0, 16384)),
        framed(6, number(0, 0)),
        framed(14, b"x"),
        (2**20).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
    ],
)
def test_what_is_impossible_or_too_long_is_refused_before_it_is_kept(raw: bytes) -> None:
    with pytest.raises(wire.WireError):
        list(wire.Reader(PIECES).feed(raw))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_messages_or_a_refusal(raw: bytes) -> None:
    try:
        found = list(wire.Reader(PIECES).feed(raw))
    except wire.WireError:
        return
    for message in found:
        assert not isinstance(message, wire.Have) or message.piece < PIECES
        assert not isinstance(message, wire.Request) or (message.piece < PIECES and 0 < message.length <= 16384)


def test_a_handshake_is_read_as_it_was_written() -> None:
    assert wire.read_handshake(wire.handshake(b"h" * 20, b"p" * 20)) == (b"h" * 20, b"p" * 20)


@pytest.mark.parametrize("raw", [b"GET / HTTP/1.1".ljust(68), wire.PROTOCOL + bytes(48)])
def test_who_speaks_something_else_or_lacks_the_fast_extension_is_refused(raw: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.read_handshake(raw)


def test_what_is_written_has_the_forms_of_the_protocol() -> None:
    block = wire.Request(1, 16384, 100)
    assert wire.have(258) == b"\0\0\0\5\4\0\0\1\2"
    assert wire.block_header(block) == b"\0\0\0\x6d\7\0\0\0\1\0\0\x40\0"
    assert wire.reject(block) == b"\0\0\0\x0d\x10\0\0\0\1\0\0\x40\0\0\0\0\x64"
    assert wire.hash_reject(wire.HashRequest(b"ab")) == b"\0\0\0\3\x17ab"
