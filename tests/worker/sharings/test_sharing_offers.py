"""What is shared is tried again and again: offered while it holds, withdrawn when it vanishes."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress

import pytest
from bitdew.worker.sharings import offers as module
from bitdew.worker.sharings.declaration import Declaration
from bitdew.worker.sharings.offers import Offers
from bitdew.worker.sharings.probing import Finding, Sharing

from bitdew.clock import SystemClock
from bitdew.core.errors import HostError

TOOL = Declaration(command=("tool", "--version"))


class HastyClock(SystemClock):
    """Waits a thousandth of what it is asked for."""

    async def sleep(self, seconds):
        await asyncio.sleep(seconds / 1000)


@asynccontextmanager
async def running(offers):
    task = asyncio.create_task(offers.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def told():
    return []


@pytest.fixture
def new(told):
    def make(**declared):
        return Offers(HastyClock(), declared, lambda offer: told.append(str(offer)))

    return make


async def test_what_vanishes_is_withdrawn_and_what_comes_back_is_offered(new, told, programs, until):
    tool = programs("tool", "echo 1.0")
    offers = new(tool=TOOL)
    async with running(offers):
        await until(lambda: told == ["tool 1.0 is offered"])
        assert offers.programs("tool") == {"tool": tool}
        tool.unlink()
        await until(lambda: told[1:] == ["tool is not offered: tool is not there, or can't be run"])
        assert offers.sharings == []
        with pytest.raises(HostError) as refused:
            offers.programs("tool")
        assert (refused.value.key, refused.value.why) == ("sharing.missing", "tool is not there, or can't be run")
        programs("tool", "echo 1.1")
        await until(lambda: told[2:] == ["tool 1.1 is offered"])
        programs("tool", "echo 1.2")
        await until(lambda: told[3:] == ["tool 1.2 is offered"])


async def test_nothing_is_run_while_nothing_changes(new, told, programs, tmp_path, until):
    programs("tool", f"echo x >> {tmp_path / 'runs'}; echo 1.0")
    offers = new(tool=TOOL)
    looked = 0
    signatures = module._signatures

    def count(of):
        nonlocal looked
        looked += 1
        return signatures(of)

    module._signatures = count
    try:
        async with running(offers):
            await until(lambda: looked >= 5)
    finally:
        module._signatures = signatures
    assert (tmp_path / "runs").read_text() == "x\n"
    assert told == ["tool 1.0 is offered"]


async def test_a_host_that_shares_nothing_does_nothing(new, programs, until):
    class Still(SystemClock):
        async def sleep(self, seconds):
            raise AssertionError("it waits for an event, not for time")

    offers = Offers(Still(), {})
    async with running(offers):
        await asyncio.sleep(0.05)
    assert offers.sharings == []


async def test_what_is_declared_no_more_is_withdrawn_at_once_and_what_is_new_is_tried(new, told, programs, until):
    programs("tool", "echo 1.0")
    programs("other", "echo 2.0")
    offers = new(tool=TOOL)
    async with running(offers):
        await offers.settled()
        offers.declare({"other": Declaration(command=("other",))})
        assert offers.sharings == []
        await offers.settled()
        assert [(one.name, one.version) for one in offers.sharings] == [("other", "2.0")]
    assert told == ["tool 1.0 is offered", "tool is not offered", "other 2.0 is offered"]
    with pytest.raises(HostError, match="its volunteer does not share it"):
        offers.programs("tool")


async def test_another_way_of_trying_withdraws_what_the_old_one_found(new, told, programs):
    programs("tool", "echo 1.0")
    offers = new(tool=TOOL)
    await offers.settle()
    offers.declare({"tool": Declaration(command=("tool", "-v"))})
    assert offers.sharings == []
    await offers.settle()
    assert [one.version for one in offers.sharings] == ["1.0"]


async def test_everything_is_tried_when_it_is_asked_for(new, programs, tmp_path):
    programs("tool", f"cat {tmp_path / 'version'}")
    (tmp_path / "version").write_text("1.0")
    offers = new(tool=TOOL)
    async with running(offers):
        await offers.settled()
        (tmp_path / "version").write_text("2.0")
        offers.ask_again()
        await offers.settled()
        assert [one.version for one in offers.sharings] == ["2.0"]


async def test_one_that_takes_too_long_once_stays_and_is_withdrawn_the_second_time(new, told, monkeypatch):
    there = Finding(Sharing("tool", "1.0"), "", passing=False, files=(), signature=())
    slow = Finding(None, "tool: it did not end within 20 seconds", passing=True, files=(), signature=())
    findings = [there, slow, slow, there]
    monkeypatch.setattr(module, "probe", lambda *_args, **_more: findings.pop(0))
    offers = new(tool=TOOL)
    seen = []
    for _ in range(4):
        offers.ask_again()
        await offers.settle()
        seen.append([one.version for one in offers.sharings])
    assert seen == [["1.0"], ["1.0"], [], ["1.0"]]
    assert len(told) == 3


async def test_what_is_withdrawn_while_it_is_tried_is_not_offered_afterwards(new, told, programs, tmp_path, until):
    programs("tool", f"touch {tmp_path / 'asked'}; sleep 0.3; echo 1.0")
    offers = new(tool=TOOL)
    async with running(offers):
        await until((tmp_path / "asked").exists)
        offers.declare({})
        await offers.settled()
    assert (offers.sharings, told) == ([], [])


async def test_whoever_is_cancelled_leaves_no_program_behind(new, programs, tmp_path, until):
    programs("tool", f"echo $$ > {tmp_path / 'pid.new'}; mv {tmp_path / 'pid.new'} {tmp_path / 'pid'}; sleep 1000")
    offers = new(tool=TOOL)
    began = time.monotonic()
    async with running(offers):
        await until((tmp_path / "pid").exists)
    assert time.monotonic() - began < 5
    pid = (tmp_path / "pid").read_text().strip()
    await until(lambda: not (tmp_path.__class__("/proc") / pid).exists())
