"""A file on this machine as something to publish: what it may be, how it is read, and whether it changed meanwhile.

It must not know the service.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import stat
from typing import TYPE_CHECKING, Final

from bitdew.core.content import ContentHasher
from bitdew.core.errors import BitDewError, error

if TYPE_CHECKING:
    from pathlib import Path

    from bitdew.core.ids import ContentRoot

    from .source import ByteSource

READ: Final = 4 * 2**20
"""Bytes that are read at once where a file is only identified."""
MOST_HOLES: Final = 100_000
"""Holes that are asked for: a file with more is read where they are."""


class FileSource:
    """One file as a source of bytes.

    Attributes:
        path: Where it is.
        size: Its bytes when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            UserError: `disk.file-missing`, `disk.file-unreadable`; `input.invalid` for a folder or a device.
        """
        self.path = path
        try:
            _check_regular(path, path.stat())
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise error("disk.file-missing", f"{path} does not exist", path=str(path)) from None
        except OSError as fault:
            why = fault.strerror or str(fault)
            raise error("disk.file-unreadable", f"{path} can't be read", why=why, path=str(path)) from None
        self._opened = os.fstat(self._file.fileno())
        self.size = self._opened.st_size

    @property
    def label(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def fingerprint(self) -> str:
        """Of the machine, the inode, and the times of its last change: what writes to a file changes them."""
        about = self._opened
        told = (platform.node(), about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly the `length` bytes from `offset` on.

        Raises:
            UserError: `disk.changed`, if there are fewer. HostError: `storage.failed`.
        """
        parts = []
        while length > 0:
            try:
                part = os.pread(self._file.fileno(), length, offset)
            except OSError as fault:
                why = fault.strerror or str(fault)
                raise error("storage.failed", f"Reading {self.path} failed", why=why, path=str(self.path)) from fault
            if not part:
                raise self._changed(f"it had {self.size} bytes, and ended after {offset}")
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def holes(self) -> list[tuple[int, int]]:
        """The ranges that the file system keeps no bytes for, as far as it tells."""
        found: list[tuple[int, int]] = []
        at, descriptor = 0, self._file.fileno()
        try:
            while at < self.size and len(found) < MOST_HOLES:
                start = min(self.size, os.lseek(descriptor, at, os.SEEK_HOLE))
                if start >= self.size:
                    break
                try:
                    at = min(self.size, os.lseek(descriptor, start, os.SEEK_DATA))
                except OSError as fault:
                    if fault.errno != errno.ENXIO:  # else there is no more data up to the end
                        raise
                    at = self.size
                found.append((start, at))
        except (OSError, AttributeError):
            pass  # the system can't tell: what was found is right, and the rest is read
        return found

    def check_unchanged(self) -> None:
        """Look whether it is still the same file, as it was when it was opened.

        Raises:
            UserError: `disk.changed`.
        """
        try:
            now = _marks(self.path.stat())
        except OSError as fault:
            raise self._changed(f"afterwards it could not be looked at: {fault.strerror}") from None
        before = _marks(self._opened)
        if now != before:
            names = ("size", "time of modification", "inode")
            what = ", ".join(name for name, old, new in zip(names, before, now, strict=True) if old != new)
            raise self._changed(f"its {what} changed")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _changed(self, why: str) -> BitDewError:
        return error("disk.changed", f"{self.path} changed while it was being added", why=why, path=str(self.path))


def _check_regular(path: Path, about: os.stat_result) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise error("input.invalid", f"{path} is a folder", do="Give a disk image's file.", path=str(path))
    if not stat.S_ISREG(about.st_mode):
        raise error("input.invalid", f"{path} is not a regular file", do="Copy it to a file first.", path=str(path))


def _marks(about: os.stat_result) -> tuple[int, int, int]:
    """What changes when the file does."""
    return about.st_size, about.st_mtime_ns, about.st_ino


def root_of_file(path: Path) -> ContentRoot:
    """What the bytes of the file at `path` are. Blocks while it reads.

    Raises:
        UserError: `disk.file-missing`, `disk.file-unreadable`; `disk.changed`, if it grows or shrinks meanwhile.
    """
    try:
        with path.open("rb") as file:
            hasher = ContentHasher(os.fstat(file.fileno()).st_size)
            while chunk := file.read(READ):
                hasher.update(chunk)
    except FileNotFoundError:
        raise error("disk.file-missing", f"{path} does not exist", path=str(path)) from None
    except OSError as fault:
        why = fault.strerror or str(fault)
        raise error("disk.file-unreadable", f"{path} can't be read", why=why, path=str(path)) from None
    return hasher.finish().root


def root_of(source: ByteSource) -> ContentRoot:
    """What the bytes of a source are. Blocks while it reads; what they are later is up to whoever sends them.

    Raises:
        BitDewError: as `ByteSource.read_at`.
    """
    hasher = ContentHasher(source.size)
    for offset in range(0, source.size, READ):
        hasher.update(source.read_at(offset, min(READ, source.size - offset)))
    return hasher.finish().root
