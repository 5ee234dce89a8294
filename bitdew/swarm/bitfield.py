"""Which pieces are there, as bytes: one bit a piece, the first piece in the highest bit, as BitTorrent writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def packed(pieces: Sequence[bool]) -> bytes:
    """The bitfield of `pieces`; spare bits are zero."""
    field = bytearray(-(-len(pieces) // 8))
    for index, there in enumerate(pieces):
        if there:
            field[index >> 3] |= 0x80 >> (index & 7)
    return bytes(field)


def unpacked(field: bytes, pieces: int) -> list[bool] | None:
    """Which of `pieces` pieces are there, or None if `field` can't be a bitfield of that many."""
    if len(field) != -(-pieces // 8) or (pieces % 8 and field[-1] & (0xFF >> (pieces % 8))):
        return None
    return [bool(field[index >> 3] & (0x80 >> (index & 7))) for index in range(pieces)]
