"""The file of a transfer as it is on the disk: what may be claimed of it, and making it durable.

Everything here blocks: call it in a worker thread. libtorrent opens the file by its path whenever it needs to, and
makes it anew, folders included, where it vanished; what was written to the old one is then missing from the new one.
So the file's identity is kept, and a file that took its place is never taken for it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from bitdew.core.errors import BitDewError, error

from .bitfield import unpacked

if TYPE_CHECKING:
    from pathlib import Path

    from bitdew.core.content import Content


class DiskFile:
    """The file at `path` that holds, or shall hold, `content`; one that is `read_only` is never made or changed."""

    def __init__(self, path: Path, content: Content, *, read_only: bool) -> None:
        self.path = path
        self.content = content
        self.read_only = read_only
        self._identity: tuple[int, int] | None = None
        self._changed: int | None = None  # when the whole file was written to last, in nanoseconds

    def adopt(self) -> int:
        """Take what is at the path for the file from now on, made if it is missing; its size before, -1 if missing.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        found = -1
        try:
            if self.path.exists():
                found = self.path.stat().st_size if self.path.is_file() else -1
            if not self.read_only:
                # Bytes after the end belong to nobody.
                with self.path.open("ab") as file:
                    if found > self.content.size:
                        file.truncate(self.content.size)
            if not self.read_only or found >= 0:
                status = self.path.stat()
                self._identity = (status.st_dev, status.st_ino)
                self._changed = status.st_mtime_ns
        except OSError as cause:
            raise self._fault(cause) from cause
        return found

    def claim(self, *, have: bytes | None, complete: bool) -> tuple[list[bool] | None, str]:
        """Adopt the file; the pieces to believe in without hashing, or None to hash it all, and what speaks against.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        found, content = self.adopt(), self.content
        if complete:
            claim: list[bool] | None = [True] * content.pieces
        elif have is not None:
            claim = unpacked(have, content.pieces)
            if claim is None:
                return None, "the list of its pieces is of another file"
        else:
            # There is nothing to hash in a new file.
            return ([False] * content.pieces if found <= 0 else None), ""
        if claim is not None and any(claim):
            last = content.pieces - 1 - claim[::-1].index(True)
            needed = min((last + 1) * content.piece_length, content.size)
            if found < needed or (complete and found != content.size):
                why = f"it should have {needed} bytes and has {found}" if found >= 0 else "it is missing"
                return ([False] * content.pieces if found <= 0 else None), why
        return claim, ""

    def sync(self, *, whole: bool) -> None:
        """Have the operating system put the file on the disk. `whole`: it must have all its bytes.

        Raises:
            HostError: `storage.full`; `storage.failed`, also where another file took its place.
        """
        try:
            # Not read-only on Windows, which syncs only what is open for writing.
            descriptor = os.open(self.path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            try:
                os.fsync(descriptor)
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except OSError as cause:
            raise self._fault(cause) from cause
        if (status.st_dev, status.st_ino) != self._identity:
            raise storage_error(self.path, "another file took its place", full=False)
        if whole and status.st_size != self.content.size:
            raise storage_error(self.path, f"it has {status.st_size} bytes, not {self.content.size}", full=False)
        self._changed = status.st_mtime_ns

    def look(self) -> BitDewError | None:
        """What tells at a glance that the whole file is no longer what was adopted or synced last; None if nothing.

        A glance costs one call of the system. It sees a file that is gone, cut, replaced or written to; bytes that
        changed by themselves only reading shows.
        """
        try:
            status = self.path.stat()
        except OSError as cause:
            return self._fault(cause)
        if (status.st_dev, status.st_ino) != self._identity:
            return storage_error(self.path, "another file took its place", full=False)
        if status.st_size != self.content.size:
            return storage_error(self.path, f"it has {status.st_size} bytes, not {self.content.size}", full=False)
        if status.st_mtime_ns != self._changed:
            return storage_error(self.path, "somebody wrote to it after it was verified", full=False)
        return None

    def _fault(self, cause: OSError) -> BitDewError:
        full = cause.errno in {errno.ENOSPC, errno.EDQUOT}
        return storage_error(self.path, cause.strerror or str(cause), full=full)


def storage_error(path: Path, why: str, *, full: bool) -> BitDewError:
    """The error for a disk fault at `path`; `full` if for want of space."""
    if full:
        return error("storage.full", f"There is no space left for {path.name}", why=why, path=str(path))
    return error("storage.failed", f"The file {path.name} could not be read or written", why=why, path=str(path))
