"""A disk image on its way to the repository: read once, identified while it is sent, watched for changes.

Owns what a file on this machine may be and how it is read. It must not know the service.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Final

from bitdew.core.content import Content, ContentHasher
from bitdew.core.errors import BitDewError, error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

CHUNK: Final = 1024 * 1024
"""Bytes of one read: large enough that the thread's switch costs nothing, small enough for a live bar."""


class ImageFile:
    """One file, opened for one pass.

    Attributes:
        path: Where it is.
        size: Its bytes when it was opened.
        fault: Why reading ended early, if it did: the sender sees only that the body broke off.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`. Blocks for a moment.

        Raises:
            UserError: `disk.file-missing`, `disk.file-unreadable`, `disk.empty`; `input.invalid` for a folder or a
                device.
        """
        self.path = path
        self.fault: BitDewError | None = None
        try:
            about = path.stat()
            _check_regular(path, about)
            # Unbuffered: each read is one system call of a chunk, into one buffer.
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise error("disk.file-missing", f"{path} does not exist", path=str(path)) from None
        except OSError as fault:
            why = fault.strerror or str(fault)
            raise error("disk.file-unreadable", f"{path} can't be read", why=why, path=str(path)) from None
        self._before = _marks(os.fstat(self._file.fileno()))
        self.size = self._before[0]
        if not self.size:
            self._file.close()
            raise error("disk.empty", f"{path} is empty", path=str(path))
        self._hasher = ContentHasher(self.size)
        self._ahead: asyncio.Task[bytes] | None = None

    async def close(self) -> None:
        """Close the file. A read under way is waited for: its thread can't be cancelled, and needs the file open."""
        if self._ahead is not None:
            await asyncio.wait({self._ahead})
            if not self._ahead.cancelled():
                self._ahead.exception()
        self._file.close()

    async def chunks(self, progress: Callable[[int, int], None] | None = None) -> AsyncGenerator[bytes]:
        """The bytes in order, the next ones being read and hashed in a thread while these are sent.

        Raises:
            BitDewError: what `fault` says too: `disk.changed` if there are fewer bytes than at first,
                `storage.failed` if reading fails.
        """
        done = 0
        try:
            while chunk := await asyncio.shield(self._read_ahead()):
                self._ahead = None
                self._read_ahead()
                yield chunk
                done += len(chunk)
                if progress:
                    progress(done, self.size)
        except BitDewError as fault:
            self.fault = fault
            raise

    def _read_ahead(self) -> asyncio.Task[bytes]:
        if self._ahead is None:
            self._ahead = asyncio.create_task(asyncio.to_thread(self._next))
        return self._ahead

    def finish(self) -> Content:
        """What was read, provided that it is still what lies at the path. Blocks for a moment.

        Raises:
            UserError: `disk.changed`.
        """
        content = self._hasher.finish()
        try:
            now = _marks(self.path.stat())
        except OSError as fault:
            raise self._changed(f"afterwards it could not be looked at: {fault.strerror}") from None
        if now != self._before:
            names = ("size", "time of modification", "inode")
            what = ", ".join(name for name, old, new in zip(names, self._before, now, strict=True) if old != new)
            raise self._changed(f"its {what} changed")
        return content

    def _next(self) -> bytes:
        wanted = min(CHUNK, self.size - self._hasher.seen)
        if not wanted:
            return b""
        try:
            chunk = self._file.read(wanted)
        except OSError as fault:
            why = fault.strerror or str(fault)
            raise error("storage.failed", f"Reading {self.path} failed", why=why, path=str(self.path)) from fault
        if not chunk:
            raise self._changed(f"it had {self.size} bytes, and ended after {self._hasher.seen}")
        self._hasher.update(chunk)
        return chunk

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
