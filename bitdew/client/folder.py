"""A folder on its way to the service: read as its archive, without a temporary file, and watched for changes.

Owns what a folder on this machine may hold and how it is read. The archive's form is `bitdew.core.tree`'s. Everything
here blocks; call it in a thread.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import stat
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bitdew.core.errors import BitDewError, error
from bitdew.core.tree import ENTRIES, Entry, EntryKind, Placed, Tree, checked, header

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPECIAL: Final = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""What has no bytes that could be kept."""


MOST_HOLES: Final = 100_000
"""Holes that are told of: the others are read where they are."""


class _Marks(NamedTuple):
    """What changes when a file does."""

    size: int
    modified: int
    inode: int
    device: int


@dataclass(frozen=True, slots=True)
class _Found:
    """An entry as it was found."""

    entry: Entry
    marks: _Marks | None = None
    sparse: bool = field(default=False, compare=False, repr=False)
    """Whether the file system keeps fewer bytes of it than it has; it may decide otherwise at any time."""


class FolderSource:
    """The bytes of a folder's archive, read from wherever is asked for. Its methods may run in several threads.

    Attributes:
        label: What it is called in messages.
        size: Bytes of the archive.
        fingerprint: What it is as far as that can be told without reading the files: 64 hexadecimal digits.
    """

    def __init__(self, path: Path) -> None:
        """Look at everything in the folder at `path`.

        Raises:
            UserError: `disk.file-missing`, `disk.file-unreadable`; `input.invalid` and `input.too-large` for what an
                archive can't hold: sockets, pipes and devices, links that may lead out of the folder, names that are
                not UTF-8, too many or too deep folders.
        """
        self.label = str(path)
        self._path = path
        self._found = _scan(path)
        self._tree = Tree([one.entry for one in self._found.values()])
        self.size = self._tree.size
        self.fingerprint = self._told_apart()

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly the `length` bytes of the archive from `offset` on.

        Raises:
            UserError: `disk.changed`; HostError: `storage.failed`.
        """
        end = min(offset + length, self.size)
        parts: list[bytes] = []
        for placed in self._tree.from_offset(offset):
            if placed.offset >= end or offset >= end:
                break
            for part in self._parts(placed, offset, end):
                parts.append(part)
                offset += len(part)
        parts.append(bytes(max(0, end - offset)))
        return b"".join(parts)

    def holes(self) -> list[tuple[int, int]]:
        """Ranges of the archive, from an offset to an end, that are known to be zero: the holes in its files.

        Raises:
            UserError: `disk.changed`; HostError: `storage.failed`.
        """
        sparse = (placed for placed in self._tree.placed if self._found[placed.entry.path].sparse)
        return list(islice((hole for placed in sparse for hole in self._holes_of(placed)), MOST_HOLES))

    def check_unchanged(self) -> None:
        """Look at everything once more.

        Raises:
            UserError: `disk.changed`, with the first path that is not as it was.
        """
        try:
            now = _scan(self._path)
        except BitDewError as fault:
            raise self._changed(fault.message) from None
        if now == self._found:
            return
        path = min(path for path in now.keys() | self._found.keys() if now.get(path) != self._found.get(path))
        what = "is gone" if path not in now else "is new" if path not in self._found else "changed"
        raise self._changed(f"{path} {what}")

    def close(self) -> None:
        """Nothing is kept open."""

    def _parts(self, placed: Placed, offset: int, end: int) -> Iterator[bytes]:
        """What of an entry's header, bytes and padding lies between `offset` and `end`."""
        if offset < placed.start:
            yield header(placed.entry, placed.offset)[offset - placed.offset : end - placed.offset]
            offset = placed.start
        if offset < min(placed.stop, end):
            yield self._read(placed, offset - placed.start, min(placed.stop, end) - offset)
            offset = placed.stop
        if offset < min(placed.end, end):
            yield bytes(min(placed.end, end) - offset)

    def _read(self, placed: Placed, position: int, length: int) -> bytes:
        path = placed.entry.path
        descriptor = self._open(path)
        try:
            parts: list[bytes] = []
            while length:
                part = os.pread(descriptor, length, position)
                if not part:
                    raise self._changed(f"{path} is shorter")
                parts.append(part)
                position += len(part)
                length -= len(part)
            return b"".join(parts)
        except OSError as fault:
            why = fault.strerror or str(fault)
            raise error("storage.failed", f"Reading {self._path / path} failed", why=why) from fault
        finally:
            os.close(descriptor)

    def _holes_of(self, placed: Placed) -> Iterator[tuple[int, int]]:
        descriptor = self._open(placed.entry.path)
        try:
            size, position = placed.entry.size, 0
            while position < size:
                data = _data_after(descriptor, position, size)
                if data > position:
                    yield placed.start + position, placed.start + data
                position = os.lseek(descriptor, data, os.SEEK_HOLE) if data < size else size
        except OSError:
            return  # a file system that knows of no holes: they are read as zeros
        finally:
            os.close(descriptor)

    def _open(self, path: str) -> int:
        """Open a file, provided that it is the one that was found. It is opened for each read: there may be many."""
        try:
            descriptor = os.open(self._path / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as fault:
            raise self._changed(f"{path} can't be opened: {fault.strerror}") from None
        if _marks(os.fstat(descriptor)) != self._found[path].marks:
            os.close(descriptor)
            raise self._changed(f"{path} changed")
        return descriptor

    def _told_apart(self) -> str:
        digest = hashlib.sha256(repr((platform.node(), str(self._path.resolve()))).encode(errors="surrogateescape"))
        for _path, one in sorted(self._found.items()):
            digest.update(repr(one).encode())
        return digest.hexdigest()

    def _changed(self, why: str) -> BitDewError:
        return error("disk.changed", f"{self._path} changed while it was being added", why=why, path=str(self._path))


def _data_after(descriptor: int, position: int, size: int) -> int:
    try:
        return min(size, os.lseek(descriptor, position, os.SEEK_DATA))
    except OSError as fault:
        if fault.errno == errno.ENXIO:  # all the rest is a hole
            return size
        raise


def _scan(top: Path) -> dict[str, _Found]:
    """Everything in the folder `top`, by its path in there."""
    found: dict[str, _Found] = {}
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(top / inside) as entries:
                for one in entries:
                    path = f"{inside}/{one.name}" if inside else one.name
                    if len(found) >= ENTRIES:
                        why = f"it has more than {ENTRIES} files, folders and links"
                        raise error("input.too-large", f"{top} is too large a folder", why=why, path=str(top))
                    found[path] = made = _found(one, path)
                    if made.entry.kind is EntryKind.FOLDER:
                        waiting.append(path)
        except FileNotFoundError:
            raise error("disk.file-missing", f"{top / inside} does not exist", path=str(top / inside)) from None
        except OSError as fault:
            why, place = fault.strerror or str(fault), top / inside
            raise error("disk.file-unreadable", f"{place} can't be read", why=why, path=str(place)) from None
    return found


def _found(one: os.DirEntry[str], path: str) -> _Found:
    about = one.stat(follow_symlinks=False)
    kind = stat.S_IFMT(about.st_mode)
    if kind == stat.S_IFLNK:
        return _Found(checked(Entry(path, EntryKind.LINK, target=str(Path(one.path).readlink()))))
    if kind == stat.S_IFDIR:
        return _Found(checked(Entry(path, EntryKind.FOLDER)))
    if kind != stat.S_IFREG:
        why = f"it is {_SPECIAL.get(kind, 'no file')}"
        do = "Leave it out of the folder."
        raise error("input.invalid", f"{path[:200]!r} can't be in a folder's archive", why=why, do=do, path=path[:200])
    entry = Entry(path, EntryKind.FILE, about.st_size, executable=bool(about.st_mode & stat.S_IXUSR))
    return _Found(checked(entry), _marks(about), sparse=about.st_blocks * 512 < about.st_size)


def _marks(about: os.stat_result) -> _Marks:
    return _Marks(about.st_size, about.st_mtime_ns, about.st_ino, about.st_dev)
