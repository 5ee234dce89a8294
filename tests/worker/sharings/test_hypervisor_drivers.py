"""Hypervisors are looked at while the worker runs: withdrawn when they vanish, announced when they are there."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from bitdew.worker.sharings import drivers as module
from bitdew.worker.sharings.drivers import Drivers

from bitdew.clock import SystemClock
from bitdew.core.host import Sharing
from bitdew.hypervisor import Fingerprint


class Box:
    """A driver whose program is a file."""

    def __init__(self, name, program):
        self.name, self.program, self.missing, self.asked = name, program, "", 0
        self.fault, self.doubtful, self.broken = None, False, ""

    async def fingerprint(self):
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        self.doubtful, self.missing = False, self.broken
        if self.broken:
            return None
        return await asyncio.to_thread(self._look)

    def _look(self):
        if not self.program.exists():
            self.missing = f"{self.program.name} not found"
            return None
        version = self.program.read_text().split()[-1]
        return Fingerprint(Sharing(self.name, version), "none", programs=(str(self.program),))


@pytest.fixture(autouse=True)
def _look_often(monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)


@pytest.fixture
def told():
    return []


@pytest.fixture
def boxes(programs):
    return [Box("one", programs("one", "echo 1.0")), Box("two", programs("two", "echo 2.0"))]


@asynccontextmanager
async def running(boxes, told):
    drivers = Drivers(SystemClock(), lambda _name, text: told.append(text))
    await drivers.probe(boxes)
    task = asyncio.create_task(drivers.run())
    try:
        yield drivers
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_one_that_vanishes_is_withdrawn_stays_for_its_machines_and_comes_after_the_others(
    boxes, told, until, programs
):
    async with running(boxes, told) as drivers:
        table = drivers.hypervisors
        assert (list(table), list(drivers.found), told) == (["one", "two"], ["one", "two"], [])
        boxes[0].program.unlink()
        await until(lambda: told == ["one is not offered: one not found"])
        assert (list(table), list(drivers.found)) == (["two", "one"], ["two"])
        programs("one", "echo 1.1")
        await until(lambda: told[1:] == ["one 1.1 is offered"])
        assert (list(table), list(drivers.found)) == (["one", "two"], ["one", "two"])
        assert drivers.hypervisors is table


async def test_nobody_is_asked_while_nothing_changes(boxes, told, programs, until):
    async with running(boxes, told) as drivers:
        programs("two", "echo 2.2")
        await until(lambda: told == ["two 2.2 is offered"])
        await asyncio.sleep(0.1)
        assert (boxes[0].asked, boxes[1].asked) == (1, 2)
        assert drivers.found["two"].sharing.version == "2.2"


async def test_one_that_was_not_there_is_announced_when_it_comes(boxes, told, until, monkeypatch, programs):
    boxes[1].program.unlink()
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    async with running(boxes, told) as drivers:
        assert list(drivers.hypervisors) == ["one"]
        programs("two", "echo 2.0")
        await until(lambda: told == ["two 2.0 is offered"])
        assert list(drivers.hypervisors) == ["one", "two"]


async def test_one_that_failed_to_start_a_machine_is_asked_and_withdrawn_with_the_reason_until_it_works_again(
    boxes, told, until, monkeypatch
):
    monkeypatch.setattr(module, "DOUBT_SECONDS", 0.05)
    async with running(boxes, told) as drivers:
        boxes[0].broken, boxes[0].doubtful = "its kernel module is not loaded", True
        await until(lambda: told == ["one is not offered: its kernel module is not loaded"])
        assert (list(drivers.found), list(drivers.hypervisors)) == (["two"], ["two", "one"])
        await until(lambda: boxes[0].asked == 3)  # once more: it may have been too busy to answer
        boxes[0].broken = ""
        await asyncio.sleep(0.2)
        assert boxes[0].asked == 3, "then it has its ten minutes, like all others"
        boxes[0].doubtful = True
        await until(lambda: told[1:] == ["one 1.0 is offered"])
        assert boxes[1].asked == 1


async def test_one_that_fails_again_and_again_is_not_asked_each_time(boxes, told):
    async with running(boxes, told):
        for _ in range(5):
            boxes[0].doubtful = True
            await asyncio.sleep(0.05)
        assert boxes[0].asked == 1


async def test_a_trial_that_breaks_changes_nothing(boxes, told, until, programs):
    async with running(boxes, told) as drivers:
        boxes[0].fault = OSError("no more processes")
        programs("one", "echo 1.5")
        await until(lambda: boxes[0].asked >= 2)
        assert (list(drivers.found), told) == (["one", "two"], [])


async def test_a_host_without_any_waits_for_nothing():
    drivers = Drivers(SystemClock(), lambda *_: None)
    await drivers.probe([])
    async with asyncio.timeout(1):
        await drivers.run()
