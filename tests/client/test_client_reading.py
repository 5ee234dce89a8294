"""Reading on all processors: the identity is that of one pass in order, whatever is zeros, and the loop runs on."""

import asyncio
import random
import threading
import time
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.client.image import FileSource
from bitdew.client.reading import Reader
from bitdew.core.content import BLOCK, SMALLEST_PIECE, ContentHasher
from bitdew.core.errors import BitDewError, error

PIECE = SMALLEST_PIECE
NOISE = random.Random(11).randbytes(40 * PIECE + 999)


def serial(data):
    """What one pass in order says."""
    hasher = ContentHasher(len(data))
    hasher.update(data)
    return hasher.finish()


class Bytes:
    """Bytes in memory as a source, which notes what was read of it."""

    label, fingerprint = "memory", ""

    def __init__(self, data, holes=()):
        self.data, self.size, self._holes = data, len(data), holes
        self.reads, self.open, self.lock = [], True, threading.Lock()

    def read_at(self, offset, length):
        assert self.open
        with self.lock:
            self.reads.append((offset, length))
        return self.data[offset : offset + length]

    def holes(self):
        return self._holes

    def check_unchanged(self):
        assert self.open

    def close(self):
        self.open = False


@given(data=st.data(), size=st.one_of(st.integers(0, len(NOISE)), st.sampled_from([0, BLOCK, PIECE, PIECE + 1])))
def test_the_identity_is_that_of_one_pass_for_any_size_holes_and_zeros(data, size):
    raw, holes, at = bytearray(NOISE[:size]), [], 0
    while at < size and data.draw(st.booleans()):
        start = data.draw(st.integers(at, size))
        at = data.draw(st.integers(start, size))
        raw[start:at] = bytes(at - start)
        if start < at and data.draw(st.booleans()):
            holes.append((start, at))
    source = Bytes(bytes(raw), holes)

    async def identified():
        async with Reader(source, threads=data.draw(st.integers(1, 4))) as reader:
            return await reader.identify(), reader.empty

    content, empty = asyncio.run(identified())
    assert content == serial(bytes(raw))
    assert not source.open
    assert sum(length for _, length in source.reads) == size - empty


async def test_holes_of_a_file_are_neither_read_nor_hashed(tmp_path):
    path = tmp_path / "sparse"
    size = 120 * 2**30
    with path.open("wb") as file:
        file.truncate(size)
        for at in (0, 50 * 2**30 + 5, size - 9):
            file.seek(at)
            file.write(b"something")
    source = await asyncio.to_thread(FileSource, path)
    if not source.holes():
        source.close()
        pytest.skip("this file system does not tell holes")
    started = time.monotonic()
    seen = []
    async with Reader(source) as reader:
        content = await reader.identify(lambda *done: seen.append(done))
        assert size - reader.empty == 3 * content.piece_length
    assert time.monotonic() - started < 20
    assert (content.size, content.pieces, seen[-1]) == (size, 30720, (size, size))
    empty = content.piece_layer[32:64]
    assert [content.piece_layer.count(empty), len(content.piece_layer)] == [30717, 32 * 30720]


async def test_progress_rises_to_the_size_and_a_source_is_read_once():
    source, seen = Bytes(NOISE), []
    async with Reader(source) as reader:
        await reader.identify(lambda *done: seen.append(done))
    assert seen[-1] == (len(NOISE), len(NOISE))
    assert seen == sorted(seen)
    assert sorted(source.reads) == [(at, min(PIECE, len(NOISE) - at)) for at in range(0, len(NOISE), PIECE)]


async def test_pieces_come_in_order_with_those_bytes_that_are_wanted_and_never_zeros():
    raw = NOISE[: 3 * PIECE] + bytes(2 * PIECE) + NOISE[5 * PIECE : 9 * PIECE]
    async with Reader(Bytes(raw), threads=3) as reader:
        taken = []
        async with aclosing(reader.pieces(1, 9, lambda number: number % 2 == 0)) as pieces:
            while piece := await pieces.next():
                taken.append((piece.number, piece.raw))
        wanted = {number: raw[number * PIECE : (number + 1) * PIECE] for number in (2, 6, 8)}
        assert taken == [(number, wanted.get(number)) for number in range(1, 9)]
        assert [number for number in range(9) if reader.is_zeros(number)] == [3, 4]
        async with aclosing(reader.pieces(0, 9, lambda number: number in {3, 5})) as pieces:
            again = [piece.number for piece in [await pieces.next(), await pieces.next()]]
            assert again == [0, 5]  # what is known and not wanted is not read again
            assert await pieces.next() is None


async def test_the_event_loop_runs_on_while_much_is_hashed():
    source, longest = Bytes(NOISE * 20), 0.0

    async def ticking():
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - before)

    ticker = asyncio.create_task(ticking())
    async with Reader(source) as reader:
        await reader.identify()
    ticker.cancel()
    await asyncio.gather(ticker, return_exceptions=True)
    assert longest < 1.0


async def test_what_fails_while_it_is_read_is_told_and_the_source_closed():
    class Failing(Bytes):
        def read_at(self, offset, length):
            if offset >= 7 * PIECE:
                raise error("storage.failed", "Reading failed")
            return super().read_at(offset, length)

    source = Failing(NOISE)
    with pytest.raises(BitDewError) as caught:
        async with Reader(source) as reader:
            await reader.identify()
    assert (caught.value.key, source.open) == ("storage.failed", False)


async def test_a_cancelled_reader_closes_its_source_only_when_no_thread_reads_it():
    class Slow(Bytes):
        def read_at(self, offset, length):
            self.begun.set()
            assert self.goes_on.wait(10)
            return super().read_at(offset, length)  # which asserts that it is open

    source = Slow(NOISE)
    source.begun, source.goes_on = threading.Event(), threading.Event()

    async def identified():
        async with Reader(source, threads=2) as reader:
            await reader.identify()

    task = asyncio.create_task(identified())
    assert await asyncio.to_thread(source.begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0.05)
    assert (source.open, task.done()) == (True, False)
    source.goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not source.open
    assert source.reads
