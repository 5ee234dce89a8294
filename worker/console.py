"""A machine's console, read on from where the service has it: characters by characters, whatever bytes there are.

Owns where a text may be cut, and how much of it is worth telling: of a machine that writes faster than it can be told,
the last megabyte. Files give no events that are the same everywhere, so whoever follows one looks at its
size a few times a second. Everything here blocks; callers run it in a thread.
"""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from bitdew.wire import limits

if TYPE_CHECKING:
    from pathlib import Path

BACKLOG: Final = limits.CONSOLE
"""Bytes that may wait to be told: what the service keeps. Older ones are counted, and left out."""

_BLOCK: Final = 2**20


@dataclass(frozen=True, slots=True)
class ConsolePart:
    """A part of a console.

    Attributes:
        start: The byte from which it was asked for.
        offset: Characters before it.
        text: The part.
        end: Bytes up to its end: where the next part begins.
        more: Whether the file went on behind it when it was read.
    """

    start: int
    offset: int
    text: str
    end: int
    more: bool


def size_of(path: Path) -> int:
    """Bytes of the console so far; 0 while there is no file."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read_part(path: Path, start: int, offset: int, most: int, *, ended: bool) -> ConsolePart:
    """The part from byte `start`, which is character `offset`, of at most `most` bytes.

    Bytes that are no UTF-8 become U+FFFD. A character that is not whole yet is left for the next part, unless the
    machine has `ended`. A console that can't be read is empty: it must not keep a machine's end from being told.
    """
    begin = start
    try:
        with path.open("rb") as file:
            surplus = os.fstat(file.fileno()).st_size - start - BACKLOG
            if surplus > 0:
                skipped, characters = _skip(file, start, surplus)
                begin, offset = start + skipped, offset + characters
            file.seek(begin)
            raw = file.read(most + 1)
    except OSError:
        raw = b""
    more = len(raw) > most
    text, used = _decoded(raw[:most], final=ended and not more)
    return ConsolePart(start, offset, text, begin + used, more)


def _skip(file: BinaryIO, start: int, surplus: int) -> tuple[int, int]:
    """Pass over `surplus` bytes from byte `start`, or a few less; how many bytes and characters that were."""
    file.seek(start)
    passed = characters = 0
    while passed < surplus:
        text, used = _decoded(file.read(min(_BLOCK, surplus - passed)), final=False)
        if not used:
            break
        passed, characters = passed + used, characters + len(text)
        file.seek(start + passed)
    return passed, characters


def _decoded(raw: bytes, *, final: bool) -> tuple[str, int]:
    """The text in `raw` and how many of its bytes that is: a character that is not whole yet is left."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(raw, final=final)
    return text, len(raw) - len(decoder.getstate()[0])
