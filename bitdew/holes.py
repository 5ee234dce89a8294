"""Bytes written so that zeros take no room: where a file has a hole, it stays one.

Owns the writing of verified bytes into files that may have holes. Disks of machines are mostly zeros, and a piece that
is fetched for the sake of one block is too. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from .core.content import BLOCK, EMPTY_BLOCK

_STEP: Final = 2**20


def put(descriptor: int, raw: bytes | bytearray | memoryview, at: int) -> None:
    """Write `raw` at the byte `at`; of its blocks, those of zeros only where something else is.

    Raises:
        OSError: As of a write.
    """
    view = memoryview(raw)
    first = 0
    while first < len(view):
        empty = _is_empty(view[first : first + BLOCK])
        end = first + BLOCK
        while end < len(view) and _is_empty(view[end : end + BLOCK]) == empty:
            end += BLOCK
        end = min(end, len(view))
        if empty:
            clear(descriptor, at + first, at + end)
        else:
            _write(descriptor, view[first:end], at + first)
        first = end


def clear(descriptor: int, start: int, end: int) -> None:
    """Make zeros of the bytes from `start` up to `end`, as far as the file has any there.

    Raises:
        OSError: As of a read or a write.
    """
    while start < end:
        start, stop = _next_data(descriptor, start, end)
        while start < stop:
            found = os.pread(descriptor, min(_STEP, stop - start), start)
            if not found:
                return
            if found.count(0) != len(found):
                _write(descriptor, memoryview(bytes(len(found))), start)
            start += len(found)


def _is_empty(block: memoryview) -> bool:
    return block == EMPTY_BLOCK[: len(block)]


def _next_data(descriptor: int, start: int, end: int) -> tuple[int, int]:
    """The next range with data from `start` on, within `end`; where the system can't tell, all may be data."""
    try:
        first = os.lseek(descriptor, start, os.SEEK_DATA)
        return min(first, end), min(os.lseek(descriptor, first, os.SEEK_HOLE), end)
    except OSError as fault:
        return (end, end) if fault.errno == errno.ENXIO else (start, end)
    except AttributeError:
        return start, end


def _write(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
