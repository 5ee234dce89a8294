"""Changes: whoever waits for a topic is woken by its next change, and by nothing else."""

from __future__ import annotations

import asyncio

import pytest
from bitdew.scheduler.changes import Changes

from bitdew.testing.clock import SkippingClock


@pytest.fixture
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture
def changes(clock: SkippingClock) -> Changes:
    return Changes(clock)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_version_that_is_past_already_does_not_wait(changes: Changes) -> None:
    seen = changes.version("a")
    changes.bump("a")
    assert changes.version("a") > seen
    assert await changes.wait("a", seen, 1000)


async def test_a_first_look_never_waits(changes: Changes) -> None:
    assert await changes.wait("a", 0, 1000)


async def test_everyone_who_waits_for_a_topic_is_woken_and_no_one_else(changes: Changes, clock: SkippingClock) -> None:
    mine = [asyncio.create_task(changes.wait("a", changes.version("a"), 1000)) for _ in range(3)]
    other = asyncio.create_task(changes.wait("b", changes.version("b"), 1000))
    await settled()
    changes.bump("a")
    assert await asyncio.gather(*mine) == [True] * 3
    assert not other.done()
    clock.skip(1001)
    assert not await other


async def test_a_wait_ends_with_its_time(changes: Changes, clock: SkippingClock) -> None:
    seen = changes.version("a")
    assert not await changes.wait("a", seen, 0)
    task = asyncio.create_task(changes.wait("a", seen, 30))
    await settled()
    clock.skip(29)
    await settled()
    assert not task.done()
    clock.skip(2)
    assert not await task


async def test_a_wait_that_ended_leaves_nothing(changes: Changes, clock: SkippingClock) -> None:
    tasks = [asyncio.create_task(changes.wait("a", changes.version("a"), 30)) for _ in range(3)]
    await settled()
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    assert len(changes._waiting["a"]) == 2
    clock.skip(31)
    assert await asyncio.gather(*tasks[1:]) == [False, False]
    assert not changes._waiting


async def test_release_wakes_everyone(changes: Changes) -> None:
    tasks = [asyncio.create_task(changes.wait(topic, changes.version(topic), 1000)) for topic in "abc"]
    await settled()
    changes.release()
    assert await asyncio.gather(*tasks) == [True] * 3


async def test_a_version_from_before_a_restart_is_past(clock: SkippingClock) -> None:
    before = Changes(clock)
    for _ in range(100):
        before.bump("a")
    clock.skip(1)
    after = Changes(clock)
    assert after.version("a") > before.version("a")
    assert await after.wait("a", before.version("a"), 1000)
