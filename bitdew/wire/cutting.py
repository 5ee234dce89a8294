"""A stream of bytes cut into pieces, out of the chunks in which they come.

Owns the cutting alone: what a part is, and whether it is right, is for whoever asked for it. Each byte is copied once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing

from bitdew.core.blocks import length_of_piece
from bitdew.core.content import Content


async def in_pieces(
    content: Content, numbers: range, fetch: Callable[[int, int], AsyncGenerator[bytes]]
) -> AsyncGenerator[tuple[int, bytes]]:
    """The pieces `numbers` of `content`, which follow each other, in order, with their numbers; not verified.

    `fetch` gives the bytes from one up to, not including, another. Close the generator if you leave it early.
    """
    lengths = [length_of_piece(content, number) for number in numbers]
    start, number = numbers.start * content.piece_length, numbers.start
    async with aclosing(fetch(start, start + sum(lengths))) as chunks, aclosing(in_parts(chunks, lengths)) as pieces:
        async for piece in pieces:
            yield number, piece
            number += 1


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
