"""Parts cut out of chunks: the same bytes, each part as soon as it is whole."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from hypothesis import given
from hypothesis import strategies as st

from bitdew.wire.cutting import in_parts

chunk_sizes = st.lists(st.integers(0, 40), max_size=30)
part_sizes = st.lists(st.integers(1, 40), max_size=30)


def some_bytes(count):
    return bytes(number % 251 for number in range(count))


async def cut(chunks, lengths):
    """The parts, and with each how many chunks had been taken for it."""

    async def coming():
        for number, chunk in enumerate(chunks, 1):
            taken[0] = number
            yield chunk

    taken = [0]
    async with aclosing(coming()) as source, aclosing(in_parts(source, lengths)) as parts:
        return [(part, taken[0]) async for part in parts]


def chunked(whole, sizes):
    chunks, at = [], 0
    for size in sizes:
        chunks.append(whole[at : at + size])
        at += size
    return chunks


@given(chunk_sizes, part_sizes)
def test_parts_are_the_bytes_of_the_chunks_in_order(sizes, lengths):
    whole = some_bytes(sum(sizes))
    parts = [part for part, _ in asyncio.run(cut(chunked(whole, sizes), lengths))]
    ends = [sum(lengths[:count]) for count in range(1, len(lengths) + 1)]
    expected = [whole[end - length : end] for end, length in zip(ends, lengths, strict=True) if end <= len(whole)]
    assert parts == expected
    assert all(type(part) is bytes for part in parts)


@given(chunk_sizes, part_sizes)
def test_a_part_is_there_as_soon_as_its_last_byte_is(sizes, lengths):
    whole = some_bytes(sum(sizes))
    for number, (_, taken) in enumerate(asyncio.run(cut(chunked(whole, sizes), lengths))):
        end = sum(lengths[: number + 1])
        assert sum(sizes[:taken]) >= end > sum(sizes[: taken - 1])


def test_whoever_leaves_early_leaves_nothing_open():
    closed = []

    async def endless():
        try:
            while True:
                yield b"x"
        finally:
            closed.append(True)

    async def run():
        source = endless()
        async with aclosing(source), aclosing(in_parts(source, [3] * 5)) as parts:
            async for part in parts:
                assert part == b"xxx"
                break
        assert closed == [True]

    asyncio.run(run())
