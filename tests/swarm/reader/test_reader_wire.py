"""What peers send to one who asks: read the same in any parts, or refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.swarm.reader import wire

PIECES = 21


def framed(kind: int, body: bytes = b"") -> bytes:
    return (1 + len(body)).to_bytes(4, "big") + bytes([kind]) + body


def number(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


KNOWN = [
    (framed(0), wire.Choked(True)),
    (framed(1), wire.Choked(False)),
    (framed(4, number(20)), wire.Have(20)),
    (framed(5, b"\xff\0\xf8"), wire.Bitfield(b"\xff\0\xf8")),
    (framed(7, number(3, 16384) + b"bytes"), wire.Block(3, 16384, b"bytes")),
    (framed(14), wire.Bitfield(None)),
    (framed(15), wire.Bitfield(bytes(3))),
    (framed(16, number(3, 0, 16384)), wire.Rejected(3)),
]
SILENT = [b"\0\0\0\0", framed(2), framed(3), framed(6, number(1, 0, 1)), framed(20, b"d1:ei0ee"), framed(99, b"new")]


@given(st.lists(st.sampled_from([*KNOWN, *((raw, None) for raw in SILENT)]), max_size=12), st.data())
def test_messages_are_read_the_same_in_any_parts(sent, data) -> None:
    stream = b"".join(raw for raw, _ in sent)
    inbox, found, at = wire.Inbox(PIECES), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 40))
        found += inbox.feed(stream[at : at + size])
        at += size
    assert found == [message for _, message in sent if message is not None]


@pytest.mark.parametrize(
    "said",
    [
        framed(4, number(PIECES)),
        framed(7, number(PIECES, 0) + b"x"),
        framed(7, number(1, 0)),
        framed(16, number(1)),
        framed(5, b"\xff"),
        framed(14, b"x"),
        (1 << 20).to_bytes(4, "big"),
    ],
)
def test_what_is_no_message_or_too_much_is_refused(said) -> None:
    with pytest.raises(wire.WireError):
        list(wire.Inbox(PIECES).feed(said))


@given(st.binary(max_size=400))
def test_nonsense_is_refused_or_means_nothing(said) -> None:
    with contextlib.suppress(wire.WireError):
        list(wire.Inbox(PIECES).feed(said))
