"""Bytes in memory, or of a stream, as something to publish.

Owns what a stream is kept in until all of it is there. It must not know the service.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING

from bitdew.core.errors import error
from bitdew.tasks import to_the_end
from bitdew.wire import limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from .source import ByteSource


class BytesSource:
    """A `ByteSource` of bytes that are in memory.

    Attributes:
        size: How many there are.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.size = len(raw)

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.size} bytes in memory"

    @property
    def fingerprint(self) -> str:
        """Of the bytes themselves."""
        return hashlib.sha256(self._raw).hexdigest()

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly the `length` bytes from `offset` on; what lies there never changes."""
        return self._raw[offset : offset + length]

    def holes(self) -> list[tuple[int, int]]:
        """None are known."""
        return []

    def check_unchanged(self) -> None:
        """They never change."""

    def close(self) -> None:
        """Nothing is open."""


class StreamSource:
    """A `ByteSource` of what came by a stream, in a file that has no name and goes when it is closed."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="bitdew-stream-")  # noqa: SIM115 (`close` ends it)
        self.size = 0

    @property
    def label(self) -> str:
        """What people call it."""
        return f"a stream of {self.size} bytes"

    @property
    def fingerprint(self) -> str:
        """Nothing can be told of it: a stream that comes again may be another."""
        return ""

    def add(self, chunk: bytes) -> None:
        """Take in what comes next. Blocks.

        Raises:
            UserError: `input.too-large`. HostError: `storage.failed`.
        """
        if self.size + len(chunk) > limits.LARGEST_DISK:
            raise error("input.too-large", "The stream is too large", why=f"{limits.LARGEST_DISK} bytes are allowed")
        try:
            self._file.write(chunk)
        except OSError as fault:
            why = fault.strerror or str(fault)
            raise error("storage.failed", "The stream could not be kept until all of it is there", why=why) from fault
        self.size += len(chunk)

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly the `length` bytes from `offset` on."""
        import os

        self._file.flush()
        return os.pread(self._file.fileno(), length, offset)

    def holes(self) -> list[tuple[int, int]]:
        """None are known."""
        return []

    def check_unchanged(self) -> None:
        """Nobody else has the file."""

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


@asynccontextmanager
async def collected(stream: AsyncIterable[bytes]) -> AsyncIterator[ByteSource]:
    """All that `stream` gives, as a source; kept in a temporary file, which goes at the end."""
    source = await asyncio.to_thread(StreamSource)
    try:
        async for chunk in stream:
            await to_the_end(asyncio.to_thread(source.add, bytes(chunk)))
        yield source
    finally:
        source.close()
