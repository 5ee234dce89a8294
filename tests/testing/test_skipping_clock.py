"""The clock that tests push ahead: real waits pass by themselves, long ones are skipped."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from bitdew.testing.clock import SkippingClock

HOUR = 3600.0


async def turns(count: int = 5) -> None:
    """Let the others run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_time_passes_by_itself() -> None:
    clock = SkippingClock()
    start = clock.monotonic()
    await clock.sleep(0.02)
    assert 0.02 <= clock.monotonic() - start < 5
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)


async def test_a_skip_moves_both_times_and_real_time_goes_on() -> None:
    clock, real = SkippingClock(), time.monotonic()
    wall, steady = clock.now(), clock.monotonic()
    clock.skip(HOUR)
    clock.skip(HOUR)
    assert timedelta(hours=2) <= clock.now() - wall < timedelta(hours=2, seconds=5)
    assert 2 * HOUR <= clock.monotonic() - steady < 2 * HOUR + 5
    assert time.monotonic() - real < 5


async def test_whoever_sleeps_wakes_when_the_moment_was_skipped() -> None:
    clock = SkippingClock()
    sleepers = [asyncio.create_task(clock.sleep(seconds)) for seconds in (HOUR / 2, HOUR)]
    await turns()
    clock.skip(HOUR)
    await asyncio.wait_for(asyncio.gather(*sleepers), 5)


async def test_whoever_sleeps_longer_sleeps_on_for_the_rest() -> None:
    clock = SkippingClock()
    short, long = asyncio.create_task(clock.sleep(HOUR)), asyncio.create_task(clock.sleep(2 * HOUR))
    await turns()
    clock.skip(HOUR)
    await asyncio.wait_for(short, 5)
    assert not long.done()
    clock.skip(HOUR / 2)
    await turns()
    assert not long.done()
    clock.skip(HOUR / 2)
    await asyncio.wait_for(long, 5)


async def test_a_skip_that_leaves_a_moment_leaves_a_real_moment() -> None:
    clock = SkippingClock()
    sleeper = asyncio.create_task(clock.sleep(HOUR + 0.02))
    await turns()
    clock.skip(HOUR)
    await asyncio.wait_for(sleeper, 5)


async def test_a_sleep_that_begins_after_a_skip_is_not_shortened_by_it() -> None:
    clock = SkippingClock()
    clock.skip(HOUR)
    sleeper = asyncio.create_task(clock.sleep(HOUR))
    await turns()
    assert not sleeper.done()
    sleeper.cancel()
    await asyncio.gather(sleeper, return_exceptions=True)


async def test_a_sleeper_can_be_cancelled() -> None:
    clock = SkippingClock()
    sleeper = asyncio.create_task(clock.sleep(HOUR))
    await turns()
    sleeper.cancel()
    (outcome,) = await asyncio.gather(sleeper, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError)


async def test_no_time_at_all_and_less_pass_at_once() -> None:
    clock = SkippingClock()
    for seconds in (0.0, -1.0):
        await asyncio.wait_for(clock.sleep(seconds), 5)
