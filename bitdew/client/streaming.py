"""A datum's bytes as a stream: from any place on, verified piece by piece, nothing kept on disk.

Owns how much is asked for at a time, and that a line which breaks is gone on with. What the bytes have to be is
`getting`'s knowledge.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot

from .following import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .grid import BitDew

WINDOW: Final = 8 * 2**20
"""Bytes that are asked for at a time at most: all of them are verified before the first is given."""
FIRST: Final = 512 * 1024
"""Bytes that are asked for at first, twice as many each time: so that the first are there soon."""


async def stream(grid: BitDew, name: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
    """The bytes of the datum `name` from `start` up to, not including, `end`, in order, verified.

    A service that is away for less than `grid.patience` seconds is waited for. What only hosts have is fetched ahead
    while the last part is at work; nothing of that is left when the stream ends.

    Raises:
        BitDewError: as `BitDew.read`.
    """
    datum = await grid.datum(name)
    stop = datum.size if end is None else end
    if not 0 <= start <= stop <= datum.size:
        why = f"it has {datum.size} bytes"
        raise error("input.invalid", f"{name!r} has no bytes from {start} to {stop}", why=why)
    patience, at, window = Patience(grid.patience), start, FIRST
    async with grid.reading(ContentRoot(datum.root)):
        while at < stop:
            try:
                part = await grid.read(datum.uid, at, min(stop, at + window - at % window))
            except BitDewError as fault:
                await patience.bear(fault)
                continue
            patience.answered()
            at += len(part)
            window = min(WINDOW, 2 * window)
            yield part


async def whole(grid: BitDew, name: str) -> bytes:
    """All bytes of the datum `name`, in memory.

    Raises:
        BitDewError: as `BitDew.read`.
    """
    parts: list[bytes] = []
    async with aclosing(stream(grid, name)) as chunks:
        async for chunk in chunks:
            parts.append(chunk)  # noqa: PERF401 (a comprehension would not close what it reads from)
    return b"".join(parts)
