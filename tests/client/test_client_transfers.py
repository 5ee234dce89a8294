"""Transfers on a real grid: followed, waited for one, some and all, paused, limited, cancelled, and never leaked."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

import bitdew
from bitdew import BitDewError
from bitdew.client.flow import Tap
from bitdew.client.transfers import Transfers, TransferState

MIB = 2**20


async def test_a_transfer_is_followed_to_its_result(dew, tmp_path: Path) -> None:
    raw = os.urandom(6 * MIB)
    seen = []
    putting = dew.putting(raw, name="raw")
    async with asyncio.timeout(30):
        async for moment in putting.follow():
            seen.append((moment.state, moment.done))  # noqa: PERF401 (a comprehension hides what is waited for)
        datum = await putting
    assert (datum.name, datum.size) == ("raw", len(raw))
    assert seen[-1] == (TransferState.DONE, len(raw))
    assert [done for _, done in seen] == sorted(done for _, done in seen)
    back = await dew.getting("raw", tmp_path / "back")
    assert back.read_bytes() == raw


async def test_one_some_and_all_are_waited_for(dew) -> None:
    slow = dew.putting(os.urandom(2 * MIB), name="slow", rate=1024)
    quick = [dew.putting(b"%d" % number, name=f"quick-{number}") for number in range(6)]
    async with asyncio.timeout(30):
        first = await dew.transfers.wait(slow, *quick, some=1)
        assert first
        assert slow not in first
        assert len(await dew.transfers.wait(*quick, some=4)) >= 4
        await dew.transfers.wait(*quick)
        assert list(dew.transfers) == [slow]
        slow.limit(0)
        assert await dew.transfers.wait() == [slow]
    assert slow.state is TransferState.DONE
    assert await dew.transfers.wait() == []


async def test_a_paused_transfer_stands_still_and_goes_on(dew, tmp_path: Path) -> None:
    raw = os.urandom(8 * MIB)
    await dew.put(raw, name="raw")
    getting = dew.getting("raw", tmp_path / "back", rate=2 * MIB)
    async with asyncio.timeout(30):
        async for moment in getting.follow():
            if moment.done:
                break
        getting.pause()
        assert getting.state is TransferState.PAUSED
        await asyncio.sleep(0.3)
        stood = getting.done
        await asyncio.sleep(0.5)
        assert getting.done == stood < len(raw)
        getting.limit(0)
        getting.resume()
        assert (await getting).read_bytes() == raw


async def test_a_paused_upload_sends_nothing_and_goes_on(dew) -> None:
    raw = os.urandom(8 * MIB)
    putting = dew.putting(raw, name="raw", rate=2 * MIB)
    async with asyncio.timeout(30):
        async for moment in putting.follow():
            if moment.done:
                break
        putting.pause()
        await asyncio.sleep(0.5)
        stood = putting.done
        await asyncio.sleep(0.5)
        assert putting.done == stood < len(raw)
        putting.limit(0)
        putting.resume()
        assert await (await putting).read() == raw


def test_rates_that_would_count_as_a_dead_line_are_refused() -> None:
    for rate in (-1, 1, 1023):
        with pytest.raises(ValueError, match="1024"):
            Tap(rate)


async def test_a_rate_is_kept_by_one_and_by_all_together(dew, tmp_path: Path) -> None:
    raw = os.urandom(2 * MIB)
    await dew.put(raw, name="raw")
    begun = time.monotonic()
    await dew.getting("raw", tmp_path / "one", rate=2 * MIB)
    assert time.monotonic() - begun > 0.7
    dew.transfers.limit(4 * MIB)
    begun = time.monotonic()
    for number in range(2):
        dew.getting("raw", tmp_path / f"all-{number}")
    await dew.transfers.wait()
    assert time.monotonic() - begun > 0.7


async def test_a_cancelled_transfer_ends_and_is_gone_on_with(dew, tmp_path: Path) -> None:
    raw = os.urandom(8 * MIB)
    await dew.put(raw, name="raw")
    getting = dew.getting("raw", tmp_path / "back", rate=4 * MIB)
    async with asyncio.timeout(30):
        async for moment in getting.follow():
            if moment.done > MIB:
                break
        await getting.cancel()
        assert getting.state is TransferState.CANCELLED
        with pytest.raises(asyncio.CancelledError):
            await getting
        again = dew.getting("raw", tmp_path / "back")
        assert (await again).read_bytes() == raw
        assert again.total < len(raw)


async def test_whoever_waits_is_cancelled_alone(dew) -> None:
    putting = dew.putting(os.urandom(MIB), name="raw", rate=1024)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await putting
    assert putting.state is TransferState.MOVING
    putting.limit(0)
    assert (await putting).size == MIB


async def test_a_failure_is_told_to_whoever_waits_and_by_the_state(dew) -> None:
    getting = dew.getting("nothing")
    with pytest.raises(BitDewError) as fault:
        await getting
    assert fault.value.key == "data.not-found"
    assert getting.state is TransferState.FAILED


async def test_what_is_not_over_is_cancelled_with_the_connection(grid) -> None:
    async with bitdew.connect(grid.folder / "operator") as dew:
        transfers = [dew.putting(os.urandom(100_000), name=f"n{number}", rate=1024) for number in range(12)]
        await asyncio.sleep(0.1)
        states = [one.state for one in transfers]
        assert states.count(TransferState.WAITING) == 4
    assert {one.state for one in transfers} == {TransferState.CANCELLED}


async def test_no_more_move_at_a_time_than_may() -> None:
    transfers, moving, most = Transfers(at_once=2), 0, 0

    async def work(_progress) -> None:
        nonlocal moving, most
        moving += 1
        most = max(most, moving)
        await asyncio.sleep(0)
        moving -= 1

    for number in range(10):
        transfers.start(str(number), work)
    await transfers.wait()
    assert most == 2
    assert len(transfers) == 0
