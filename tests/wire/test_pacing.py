"""A rate that many replies keep together: never more than it, first come, first served."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.clock import SystemClock
from bitdew.core.errors import BitDewError
from bitdew.trust.roles import Role
from bitdew.wire import limits
from bitdew.wire.models import Nothing
from bitdew.wire.pacing import CATCH_UP_SECONDS, SMALLEST_PART, Pace
from bitdew.wire.server import Call, FileReply, Routes

RATE = 2 * 2**20


class Hand:
    """A clock that goes on by sleeping alone."""

    def __init__(self):
        self.time = 1000.0

    def monotonic(self):
        return self.time

    async def sleep(self, seconds):
        self.time += seconds


@given(st.integers(1, 10**9), st.lists(st.tuples(st.integers(1, 10**7), st.floats(0, 5)), min_size=1, max_size=30))
def test_no_more_is_sent_in_any_time_than_the_rate_allows(rate, steps):
    async def run():
        clock = Hand()
        pace = Pace(rate, clock)
        sent = []
        for size, idle in steps:
            clock.time += idle
            await pace.take(size)
            sent.append((clock.time, size))
        for number, (began, _) in enumerate(sent):
            # What was taken last is sent from then on, so that it is not in what was sent until then.
            for end in range(number, len(sent)):
                total = sum(size for _, size in sent[number:end])
                assert total <= (sent[end][0] - began + CATCH_UP_SECONDS) * rate * (1 + 1e-6) + 1

    asyncio.run(run())


@given(st.integers(1, 10**10))
def test_a_part_is_short_at_its_rate_and_never_large(rate):
    part = Pace(rate, Hand()).part
    assert SMALLEST_PART <= part <= limits.CHUNK
    assert part == SMALLEST_PART or part <= rate


async def test_without_a_rate_nobody_waits():
    clock = Hand()
    await Pace(0, clock).take(10**12)
    assert clock.time == 1000.0


def test_the_first_that_is_sent_and_the_last_are_told():
    told = []
    pace = Pace(0, Hand(), told.append)
    with pace.sending():
        with pace.sending():
            assert told == [True]
        assert told == [True]
    assert told == [True, False]
    with pace.sending():
        assert told == [True, False, True]


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "file"
    made.write_bytes(bytes(range(256)) * 4096)  # 1 MiB
    return made


async def got(line, size):
    async with aclosing(line.download("/file", 0, size)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_all_replies_together_keep_the_rate_and_each_gets_its_bytes(wire, path):
    pace = Pace(RATE, SystemClock())

    async def content(call: Call[Nothing]) -> FileReply:
        return FileReply(path, None, pace)

    routes = Routes()
    routes.add("GET", "/file", content, roles=[Role.USER])
    url = await wire.serve(routes)
    lines = [await wire.line(url) for _ in range(4)]
    whole = path.read_bytes()
    began = time.monotonic()
    assert await asyncio.gather(*(got(line, len(whole)) for line in lines)) == [whole] * 4
    assert time.monotonic() - began > 4 * len(whole) / RATE - 2 * CATCH_UP_SECONDS - 0.1


async def test_a_reply_that_may_not_go_on_breaks_off_and_what_was_sent_is_counted(wire, path):
    allowed, sent = iter([True, True, False]), []
    pace = Pace(RATE, SystemClock())

    async def content(call: Call[Nothing]) -> FileReply:
        return FileReply(path, sent.append, pace, lambda: next(allowed))

    routes = Routes()
    routes.add("GET", "/file", content, roles=[Role.USER])
    line = await wire.line(await wire.serve(routes))
    with pytest.raises(BitDewError) as broken:
        await got(line, 2**20)
    assert broken.value.key == "service.unreachable"
    assert sent == [2 * pace.part]
