"""Waiting with a limit: it returns, gives up, is cancelled or fails, and never leaves a task."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from bitdew.clock import SystemClock, wait_at_most
from bitdew.testing.clock import SkippingClock

LONG = 3600.0


def others() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_the_systems_clock_tells_the_machines_time_with_its_zone() -> None:
    clock = SystemClock()
    before, now, after = datetime.now(UTC), clock.now(), datetime.now(UTC)
    assert before <= now <= after
    assert now.tzinfo is UTC
    steady = time.monotonic()
    assert steady <= clock.monotonic() <= time.monotonic()


async def test_the_systems_clock_sleeps_as_long_as_it_is_told() -> None:
    clock = SystemClock()
    start = clock.monotonic()
    await clock.sleep(0.05)
    assert 0.05 <= clock.monotonic() - start < 5


async def test_what_comes_in_time_ends_the_wait() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await wait_at_most(SystemClock(), LONG, event.wait()) is True
    assert others() == set()


async def test_what_is_there_already_ends_the_wait_at_once() -> None:
    event = asyncio.Event()
    event.set()
    assert await wait_at_most(SkippingClock(), LONG, event.wait()) is True
    assert others() == set()


async def test_what_does_not_come_is_cancelled_when_the_time_is_over() -> None:
    ended = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    assert await wait_at_most(SystemClock(), 0.01, endless()) is False
    assert ended == ["cleaned up"]
    assert others() == set()


async def test_the_time_is_that_of_the_clock() -> None:
    clock = SkippingClock()
    waiting = asyncio.create_task(wait_at_most(clock, LONG, asyncio.Event().wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.skip(LONG)
    assert await asyncio.wait_for(waiting, 5) is False


async def test_a_failure_of_what_is_awaited_is_the_callers() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        await wait_at_most(SystemClock(), LONG, fail())
    assert others() == set()


async def test_a_waiter_that_is_cancelled_takes_along_what_it_waits_for() -> None:
    ended = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # leaving may take its time
            ended.append("cancelled")
            raise

    waiting = asyncio.create_task(wait_at_most(SystemClock(), LONG, endless()))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == ["cancelled"]
    assert others() == set()


async def test_a_failure_while_giving_up_does_not_hide_that_the_time_is_over() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("on the way out")

    assert await wait_at_most(SystemClock(), 0.01, stubborn()) is False
    assert others() == set()


async def test_many_wait_on_one_event_and_none_is_left() -> None:
    event = asyncio.Event()
    waits = asyncio.gather(*(wait_at_most(SystemClock(), LONG, event.wait()) for _ in range(50)))
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await waits == [True] * 50
    assert others() == set()
