"""Which way the bytes of a copy come: over HTTPS from the repository, or by swarm.

Owns the choice and its figures. It must not fetch anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from bitdew.core.content import SMALLEST_PIECE

ONE_PIECE: Final = SMALLEST_PIECE
"""Bytes that are one piece: hosts have no parts of it to give each other while it comes."""

TOGETHER: Final = 8 * 2**20
"""Bytes that the repository sends to all hosts together, where that is as fast as a swarm.

Measured (`benchmarks/crossover.py`, docs/performance.md): joining a swarm takes a while that is the same for any size,
and what HTTP takes grows with the size and with the number of hosts, since all bytes leave the repository.
"""


class Way(StrEnum):
    """How bytes come."""

    HTTP = "http"
    SWARM = "bittorrent"


def way_for(protocol: str, size: int, copies: int) -> Way:
    """The way for a content of `size` bytes of which there are, or are to be, `copies`; 0 if that was not told.

    `protocol` is the wish: "http", "bittorrent", or "auto", with which small data and single copies come over HTTPS,
    and the rest by swarm.
    """
    if protocol != "auto":
        return Way(protocol)
    if copies == 1 or 0 < copies * size <= TOGETHER or (copies and size <= ONE_PIECE):
        return Way.HTTP
    return Way.SWARM
