"""A stream of bytes cut into parts of known lengths: pieces, out of the chunks in which they come.

Owns the cutting alone: what a part is, and whether it is right, is for whoever asked for it. Each byte is copied once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable


async def in_parts(chunks: AsyncIterator[bytes], lengths: Iterable[int]) -> AsyncGenerator[bytes]:
    """The bytes of `chunks` in parts of `lengths`, each as soon as it is whole.

    It ends when `chunks` end, or with the last length; what is too few for a part, or is left over, is dropped. Close
    `chunks` yourself.
    """
    wanted = iter(lengths)
    length = next(wanted, 0)
    kept: list[bytes | memoryview] = []
    size = 0
    async for chunk in chunks:
        rest = memoryview(chunk)
        while length and size + len(rest) >= length:
            kept.append(rest[: length - size])
            rest = rest[length - size :]
            yield b"".join(kept)
            kept.clear()
            size, length = 0, next(wanted, 0)
        if rest:
            kept.append(rest)
            size += len(rest)
