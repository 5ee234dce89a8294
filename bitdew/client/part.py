"""The file that bytes come into until they are whole: verified piece by piece, and taken up again after a break.

Owns one `.part` file. Nothing is written to it that was not verified, and nothing in it is believed that was not read
again: so it needs no notes beside it. Zeros stay holes. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final

from bitdew import holes
from bitdew.core.blocks import length_of_piece, root_of
from bitdew.core.content import root_of_piece, root_of_zeros
from bitdew.core.errors import BitDewError, error
from bitdew.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bitdew.core.content import Content

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems without hard links say."""


class PartFile:
    """The file at `path` that shall hold `content`.

    Attributes:
        path: Where it is.
        content: What it is to be.
        have: Which pieces are there.
    """

    def __init__(self, path: Path, content: Content) -> None:
        """Open the file, made if it is missing, for this process alone.

        Raises:
            HostError: `storage.locked`, if another process fetches into it; `storage.failed`, `storage.full`.
        """
        self.path, self.content = path, content
        self.have = [False] * content.pieces
        with _told(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            with _told(path):
                self._lock()
                os.ftruncate(self._descriptor, content.size)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; it stays where it is. Closing it again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def look(self, number: int) -> bool:
        """Whether piece `number` is there: it is read, unless nothing was ever written there.

        Raises:
            HostError: `storage.failed`.
        """
        start, length = number * self.content.piece_length, length_of_piece(self.content, number)
        with _told(self.path):
            if not self._has_data(start, start + length):
                self.have[number] = root_of_zeros(length, self.content.size) == root_of(self.content, number)
            else:
                raw = os.pread(self._descriptor, length, start)
                whole = len(raw) == length
                self.have[number] = whole and root_of_piece(raw, self.content) == root_of(self.content, number)
        return self.have[number]

    def put(self, number: int, raw: bytes) -> bool:
        """Write piece `number`, if `raw` is it, zeros as holes; whether it is.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        if root_of_piece(raw, self.content) != root_of(self.content, number):
            return False
        with _told(self.path):
            holes.put(self._descriptor, raw, number * self.content.piece_length)
        self.have[number] = True
        return True

    def missing(self) -> int:
        """Bytes in pieces that are not there."""
        return sum(length_of_piece(self.content, number) for number, there in enumerate(self.have) if not there)

    def runs(self, most: int) -> Iterator[tuple[int, int]]:
        """The missing pieces, as ranges from one to the one behind the last, each of about `most` bytes at most."""
        longest = max(1, most // self.content.piece_length)
        number = 0
        while number < len(self.have):
            end = number
            while end < len(self.have) and end - number < longest and not self.have[end]:
                end += 1
            if end > number:
                yield number, end
            number = max(end, number + 1)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`; fewer where the file ends.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.path):
            return os.pread(self._descriptor, length, offset)

    def become(self, target: Path, *, force: bool) -> None:
        """Make this the file at `target`, durably: in place of another one only by `force`.

        Raises:
            UserError: `data.in-the-way`; HostError: `storage.failed`, `storage.full`.
        """
        with _told(self.path):
            os.fsync(self._descriptor)
            if force:
                self.path.replace(target)
                return
            try:
                os.link(self.path, target)
            except FileExistsError:
                raise in_the_way(target) from None
            except OSError as fault:
                if fault.errno not in _NO_LINKS:
                    raise
                if os.path.lexists(target):
                    raise in_the_way(target) from None
                self.path.replace(target)
            else:
                self.path.unlink()

    def remove(self) -> None:
        """Close the file and free its bytes."""
        with contextlib.suppress(FileNotFoundError), _told(self.path):
            self.path.unlink()
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            do = "Wait for it, or choose another path."
            raise error("storage.locked", f"Another process fetches into {self.path}", do=do) from None

    def _has_data(self, start: int, end: int) -> bool:
        try:
            return os.lseek(self._descriptor, start, os.SEEK_DATA) < end
        except OSError as fault:
            return fault.errno != errno.ENXIO  # then all the rest is a hole; else nobody knows


def in_the_way(target: Path) -> BitDewError:
    """The error for what is at `target` already."""
    what = "is a folder" if target.is_dir() else "is there"
    return error("data.in-the-way", f"{target} {what} already", path=str(target))


def no_room(target: Path, wanted: int, free: int) -> BitDewError:
    """The error for a file system that `wanted` more bytes do not fit on."""
    why = f"{format_size(free)} are free"
    message = f"There is no room for {format_size(wanted)} more in {target.parent}"
    return error("storage.full", message, why=why, wanted=wanted, free=free)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns the failures of the file system into ours."""
    try:
        yield
    except OSError as fault:
        why = fault.strerror or str(fault)
        if fault.errno in _FULL:
            raise error("storage.full", f"There is no space left for {path}", why=why, path=str(path)) from fault
        raise error("storage.failed", f"{path} could not be read or written", why=why, path=str(path)) from fault
