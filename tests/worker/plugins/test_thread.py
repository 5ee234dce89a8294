"""A plug-in's code runs on a thread of its own: bounded, one call at a time, and whatever it does harms nobody."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from bitdew.worker.plugins.thread import PluginThread

from bitdew.core.errors import BitDewError, error


@pytest.fixture
async def thread():
    made = PluginThread("mine")
    yield made
    await made.close()


async def test_plain_and_async_code_runs_on_one_thread_that_is_not_ours(thread):
    async def later():
        await asyncio.sleep(0)
        return threading.get_ident()

    first = await thread.call(threading.get_ident, seconds=5)
    assert first == await thread.call(later, seconds=5)
    assert first != threading.get_ident()
    assert await thread.call(max, 1, 3, seconds=5) == 3


async def test_code_that_blocks_keeps_our_loop_free_and_is_given_up_in_time(thread):
    let_go, turns = threading.Event(), 0
    call = asyncio.ensure_future(thread.call(let_go.wait, 30, seconds=0.2))
    while not call.done():
        turns += 1
        await asyncio.sleep(0.01)
    with pytest.raises(BitDewError, match="did not return") as caught:
        await call
    assert caught.value.key == "plugin.failed"
    assert turns > 20
    with pytest.raises(BitDewError, match="has not returned from an earlier call"):
        await thread.call(max, 1, 2, seconds=5)
    let_go.set()
    async with asyncio.timeout(5):
        while thread.busy:
            await asyncio.sleep(0.01)
    assert await thread.call(max, 1, 2, seconds=5) == 2


async def test_async_code_that_takes_too_long_is_cancelled(thread):
    ended = threading.Event()

    async def forever():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(BitDewError, match="did not return"):
        await thread.call(forever, seconds=0.1)
    assert await asyncio.to_thread(ended.wait, 5)
    assert await thread.call(max, 1, 2, seconds=5) == 2


@pytest.mark.parametrize(
    "fault", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr
)
@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
async def test_whatever_it_raises_becomes_an_error_with_a_key(thread, fault, later):
    def now():
        raise fault

    async def then():
        raise fault

    with pytest.raises(BitDewError) as caught:
        await thread.call(then if later else now, seconds=5)
    assert caught.value.key == "plugin.failed"
    assert type(fault).__name__ in str(caught.value)
    assert await thread.call(max, 1, 2, seconds=5) == 2


async def test_an_error_of_ours_keeps_its_key(thread):
    def now():
        raise error("bridge.unreachable", "The door is closed")

    with pytest.raises(BitDewError) as caught:
        await thread.call(now, seconds=5)
    assert caught.value.key == "bridge.unreachable"


async def test_closing_ends_async_code_and_does_not_wait_for_code_that_blocks(thread):
    sleeping = asyncio.ensure_future(thread.call(asyncio.sleep, 60, seconds=60))
    while not thread.busy:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert await thread.close()
    with pytest.raises(BitDewError):
        await sleeping

    other, let_go = PluginThread("other"), threading.Event()
    blocked = asyncio.ensure_future(other.call(let_go.wait, 30, seconds=0.1))
    with pytest.raises(BitDewError):
        await blocked
    began = time.monotonic()
    assert not await other.close()
    assert time.monotonic() - began < 10
    let_go.set()
    async with asyncio.timeout(5):
        while other.busy:
            await asyncio.sleep(0.01)


async def test_who_stops_waiting_leaves_the_thread_usable(thread):
    let_go = threading.Event()
    call = asyncio.ensure_future(thread.call(let_go.wait, 30, seconds=30))
    await asyncio.sleep(0.05)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert thread.busy
    let_go.set()
    async with asyncio.timeout(5):
        while thread.busy:
            await asyncio.sleep(0.01)
    assert await thread.call(max, 1, 2, seconds=5) == 2
