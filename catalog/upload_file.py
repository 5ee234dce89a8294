"""One upload's files: the bytes that have come, and which of them are durable.

Owns `<uid>` (the bytes, with holes where nothing came or zeros did); and for an upload that is to outlast the process
`<uid>.pieces` (the root of each piece that is there to stay, with a checksum) and `<uid>.upload` (whose upload it is,
and of what). A piece is written, made durable,
and only then recorded: what the record names survives a crash of the machine. Everything here blocks.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bitdew import holes
from bitdew.core.content import ContentTree, leaves_of, root_of_leaves

_ENTRY: Final = struct.Struct("!32sI")
_LARGEST_ABOUT: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class About:
    """Whose upload it is, and of what: what a later process needs to go on with it.

    Attributes:
        owner: The subject id of who sends it.
        name: The datum's name.
        size: Bytes.
        fingerprint: The sender's mark for these very bytes, by which it finds the upload again.
        empty: Bytes of it that the sender knows to be zeros.
    """

    owner: str
    name: str
    size: int
    fingerprint: str = ""
    empty: int = 0


class UploadFile:
    """The files of one upload."""

    def __init__(self, path: Path, *, lasting: bool) -> None:
        """`path` is where the bytes are. `lasting` uploads can be gone on with by a later process."""
        self.path = path
        self._lasting = lasting
        self._pieces = path.with_suffix(".pieces")
        self._about = path.with_suffix(".upload")

    def create(self, about: About) -> None:
        """Make the files: that of the bytes is one hole."""
        with self.path.open("xb") as file:
            file.truncate(about.size)
        if not self._lasting:
            return
        self._pieces.touch(exist_ok=False)
        partial = self.path.with_suffix(".new")
        with partial.open("w") as file:
            json.dump({name: getattr(about, name) for name in About.__slots__}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._about)
        sync_folder(self.path.parent)

    def load(self) -> tuple[About, ContentTree] | None:
        """What was there when an earlier process ended; None if that can't be gone on with."""
        try:
            with self._about.open("rb") as file:
                about = _about_from(json.loads(file.read(_LARGEST_ABOUT)))
            if self.path.stat().st_size != about.size:
                return None
            tree, raw = ContentTree(about.size), self._pieces.read_bytes()
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        for number in range(min(tree.pieces, len(raw) // _ENTRY.size)):
            root, check = _ENTRY.unpack_from(raw, number * _ENTRY.size)
            if any(root) and check == _check(number, root):
                tree.put(number, root)
        return about, tree

    def remove(self) -> None:
        """Remove the files, that which makes them an upload first."""
        for path in (self._about, self._pieces, self.path.with_suffix(".new"), self.path):
            path.unlink(missing_ok=True)

    def touch(self, now: datetime) -> None:
        """Somebody went on with it at `now`."""
        if self._lasting:
            os.utime(self._pieces, (now.timestamp(), now.timestamp()))

    def touched(self) -> float:
        """When somebody last went on with it, in seconds since the epoch."""
        return self._pieces.stat().st_mtime

    def open(self) -> int:
        """A descriptor for `put` and `sync`, to be closed."""
        return os.open(self.path, os.O_RDWR)

    def put(self, descriptor: int, tree: ContentTree, number: int, raw: bytes | memoryview) -> bytes:
        """Write a piece, and return its root. Blocks of zeros are written only where something else is."""
        holes.put(descriptor, raw, number * tree.piece_length)
        return root_of_leaves(leaves_of(raw), tree.size)

    def sync(self, descriptor: int, roots: Mapping[int, bytes]) -> None:
        """Make what was written durable, and then record that these pieces are there."""
        os.fsync(descriptor)
        if not self._lasting or not roots:
            return
        record = os.open(self._pieces, os.O_RDWR)
        try:
            for number, root in roots.items():
                _write(record, memoryview(_ENTRY.pack(root, _check(number, root))), number * _ENTRY.size)
            os.fsync(record)
        finally:
            os.close(record)

    def fill(self, tree: ContentTree, gaps: Iterable[tuple[int, int]]) -> None:
        """Make zeros of the pieces in `gaps`, durably: something may be left there of a process that ended."""
        descriptor = self.open()
        try:
            for first, end in gaps:
                holes.clear(descriptor, first * tree.piece_length, min(end * tree.piece_length, tree.size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """A new name or a removal is on the disk only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _check(number: int, root: bytes) -> int:
    return zlib.crc32(root, number)


def _about_from(found: Any) -> About:
    """What a file says, if it has the types that it must have."""
    about = About(found["owner"], found["name"], found["size"], found["fingerprint"], found["empty"])
    texts, numbers = (about.owner, about.name, about.fingerprint), (about.size, about.empty)
    if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError("it is not an upload's description")
    return about
