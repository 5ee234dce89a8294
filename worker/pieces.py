"""Whether bytes are the piece of a content that they are taken for.

Owns the comparison, of bytes in memory and of bytes in an open file. It must not open or write any. It blocks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from bitdew.core.blocks import root_of
from bitdew.core.content import root_of_piece

if TYPE_CHECKING:
    from bitdew.core.content import Content


def holds(file: BinaryIO, content: Content, number: int) -> bool:
    """Whether piece `number` of `content` is in `file`."""
    file.seek(number * content.piece_length)
    return is_piece(file.read(min(content.piece_length, content.size - file.tell())), content, number)


def forget_cached(file: BinaryIO, start: int, length: int) -> None:
    """Have the system forget what it remembers of the file; where it can't, the disk is not seen."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, length, os.POSIX_FADV_DONTNEED)


def is_piece(raw: bytes, content: Content, number: int) -> bool:
    """Whether `raw` is piece `number` of `content`, by its hash tree."""
    return bool(raw) and root_of_piece(raw, content) == root_of(content, number)
