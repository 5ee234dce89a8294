"""A volunteer's cap on what comes in is one cap, however it comes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from bitdew.worker import bandwidth
from bitdew.worker.bandwidth import Bandwidth

from bitdew.core.errors import error
from bitdew.swarm.settings import SwarmLimits


class StillClock:
    """Time passes by sleeping alone."""

    def __init__(self):
        self.at = 0.0

    def monotonic(self):
        return self.at

    async def sleep(self, seconds):
        self.at += max(0.0, seconds)
        await asyncio.sleep(0)


class PretendedSwarm:
    """Remembers its limits; `fetching` says whether one of its transfers is."""

    def __init__(self):
        self.limits = SwarmLimits()
        self.fetching = False
        self.closed = False

    @property
    def transfers(self):
        return {"seed": SimpleNamespace(fetching=False), "other": SimpleNamespace(fetching=self.fetching)}

    def set_limits(self, limits):
        if self.closed:
            raise error("swarm.failed", "The swarm is closed")
        self.limits = limits


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
def swarm():
    return PretendedSwarm()


async def test_without_a_cap_nothing_waits_and_the_swarm_is_left_alone(swarm, clock):
    free = Bandwidth(SwarmLimits(upload=7), swarm, clock)
    async with free.turn():
        await free.take(10**9)
        assert swarm.limits == SwarmLimits()
    assert clock.at == 0


async def test_http_has_the_whole_cap_while_no_swarm_fetches(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1000), swarm, clock)
    for _ in range(10):
        await capped.take(500)
    assert clock.at == pytest.approx(5)


async def test_http_and_swarms_share_the_cap_while_both_fetch(swarm, clock):
    capped = Bandwidth(SwarmLimits(upload=5, download=1001), swarm, clock)
    swarm.fetching = True
    async with capped.turn():
        assert swarm.limits == SwarmLimits(upload=5, download=500)
        await capped.take(5000)
        assert clock.at == pytest.approx(10)
        async with capped.turn():
            assert swarm.limits.download == 500
        assert swarm.limits.download == 500
    assert swarm.limits == SwarmLimits(upload=5, download=1001)


async def test_the_smallest_cap_never_becomes_none(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1), swarm, clock)
    async with capped.turn():
        assert swarm.limits.download == 1  # 0 would be no limit


async def test_a_quiet_time_is_not_saved_up(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1000), swarm, clock)
    await clock.sleep(60)
    await capped.take(1000)
    await capped.take(1000)
    assert clock.at == pytest.approx(62)


async def test_a_closed_swarm_ends_no_turn_badly(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1000), swarm, clock)
    async with capped.turn():
        swarm.closed = True


async def test_so_many_run_at_once_and_the_next_one_waits_its_turn(swarm, clock):
    free = Bandwidth(SwarmLimits(), swarm, clock)
    inside, most, leave = 0, 0, asyncio.Event()

    async def one():
        nonlocal inside, most
        async with free.turn():
            inside += 1
            most = max(most, inside)
            await leave.wait()
            inside -= 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(bandwidth.AT_ONCE + 3):
            tasks.create_task(one())
        while inside < bandwidth.AT_ONCE:
            await asyncio.sleep(0)
        leave.set()
    assert most == bandwidth.AT_ONCE
