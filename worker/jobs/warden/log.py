"""What a command prints, in one file of bounded size: its first bytes, and its last ones in a ring.

Owns the file's form, for who writes and who reads it. A header tells how many bytes were printed so far; it is written
after the bytes, and readers look at it again after they have read, so that they know what was overwritten meanwhile.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_MAGIC: Final = b"bitdew-log 1\n\0\0\0"
_HEADER: Final = 40
"""Bytes: the magic ones, then the head's size, the ring's size and the bytes printed so far, 8 bytes each."""
SMALLEST: Final = 4096
"""Bytes that a log may keep at least."""


class LogWriter:
    """Writes one log anew.

    Attributes:
        printed: Bytes so far.
        failed: Whether the disk refused some of them.
    """

    def __init__(self, path: str, bound: int) -> None:
        """`bound`: bytes kept at most; half of them are the first ones."""
        self.head = max(SMALLEST, bound) // 2
        self.ring = max(SMALLEST, bound) - self.head
        self.printed = 0
        self.failed = False
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        sizes = b"".join(number.to_bytes(8, "little") for number in (self.head, self.ring, 0))
        os.pwrite(self._descriptor, _MAGIC + sizes, 0)

    def write(self, data: bytes) -> None:
        """Add `data`. The disk being full costs bytes of the log, never the job."""
        view = memoryview(data)
        while view:
            place, room = self._place(self.printed)
            self._put(view[:room], place)
            self.printed += min(room, len(view))
            view = view[room:]
        self._put(self.printed.to_bytes(8, "little"), _HEADER - 8)

    def _put(self, data: bytes | memoryview, place: int) -> None:
        try:
            os.pwrite(self._descriptor, data, place)
        except OSError:
            self.failed = True

    def _place(self, offset: int) -> tuple[int, int]:
        """Where in the file the byte at `offset` goes, and how many may follow it there."""
        if offset < self.head:
            return _HEADER + offset, self.head - offset
        inside = (offset - self.head) % self.ring
        return _HEADER + self.head + inside, self.ring - inside

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class LogReader:
    """Reads a log, also while it is written. Close it, or let a context do so.

    Attributes:
        printed: Bytes that had been printed when something was read last.
    """

    def __init__(self, path: str) -> None:
        """Open the log.

        Raises:
            OSError: If it is not there.
            ValueError: If it is none.
        """
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        header = os.pread(self._descriptor, _HEADER, 0)
        if len(header) < _HEADER or not header.startswith(_MAGIC):
            os.close(self._descriptor)
            raise ValueError("no log of a job")
        self._head = int.from_bytes(header[16:24], "little")
        self._ring = int.from_bytes(header[24:32], "little")
        self.printed = int.from_bytes(header[32:40], "little")

    def read(self, offset: int, size: int) -> tuple[int, bytes]:
        """Up to `size` bytes from `offset`, or from the first one after it that is still kept; and where that is.

        No bytes: nothing was printed there yet.
        """
        self._look()
        offset = max(0, offset)
        if offset < self._head:
            end = min(offset + size, self._head, self.printed)
            return offset, self._pread(_HEADER + offset, end - offset)
        start = max(offset, self._oldest())
        end = min(start + size, self.printed)
        inside = (start - self._head) % self._ring
        first = self._pread(_HEADER + self._head + inside, min(end - start, self._ring - inside))
        data = first + self._pread(_HEADER + self._head, end - start - len(first))
        self._look()
        lost = min(max(0, self._oldest() - start), len(data))
        return start + lost, data[lost:]

    def text(self) -> bytes:
        """All that is kept, with a line in the place of what was left out."""
        _, head = self.read(0, self._head)
        start, tail = self.read(self._head, self._ring)
        gap = start - self._head if tail else 0
        return head + (b"\n[%d bytes left out]\n" % gap if gap else b"") + tail

    def tail(self, size: int) -> bytes:
        """The last bytes that were printed: `size` of them, or as many as follow each other without a gap."""
        self._look()
        offset = max(0, self.printed - size)
        if self._oldest() > self._head:
            offset = max(offset, self._oldest())
        found = b""
        while len(found) < size:
            start, data = self.read(offset, size - len(found))
            if not data:
                break
            found = data if start > offset else found + data
            offset = start + len(data)
        return found

    def _oldest(self) -> int:
        """The first byte of the ring that is still there."""
        return max(self._head, self.printed - self._ring)

    def _look(self) -> None:
        self.printed = int.from_bytes(os.pread(self._descriptor, 8, _HEADER - 8), "little")

    def _pread(self, place: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, place) if size > 0 else b""

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
