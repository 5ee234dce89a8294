"""`dew.executor` on a real grid: functions called on hosts, given up, and never leaked."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import BrokenExecutor
from contextlib import aclosing
from pathlib import Path

import pytest

import bitdew
from bitdew import Attribute, BitDewError
from bitdew.client import batches
from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.core.states import JobState
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire import limits

from .conftest import machine

LIMITS = {"runtime": "1m", "memory": 256 * 2**20, "output": "1MB"}


async def nothing_is_left(dew) -> None:
    """Of calls there is no job, no archive and no result."""
    assert [job async for job in dew.jobs()] == []
    assert [datum.name async for datum in dew.search("") if datum.name != "kept"] == []


def scaled(x: int, factor: int = 2) -> int:
    return x * factor


def sleeps(path: str = "") -> None:
    import time

    time.sleep(600)


async def jobs_become(dew, state: JobState, number: int = 1) -> None:
    async with asyncio.timeout(60):
        while len([job async for job in dew.jobs(state)]) < number:
            await asyncio.sleep(0.05)


async def test_functions_are_called_on_hosts_and_nothing_of_them_is_left(grid, dew) -> None:
    await machine(grid)
    here = os.getpid()
    await dew.put(b"5", Attribute(replica=0), name="kept")
    async with dew.executor(inputs=["kept"], modules=[_this()], **LIMITS) as pool:
        both = [pool.submit(scaled, 4), pool.submit(lambda: (os.getpid() == here, int(Path("kept").read_text())))]
        assert await asyncio.gather(*both) == [8, (False, 5)]
        assert [one async for one in pool.map(scaled, range(5), [1, 2, 3, 4, 5], chunksize=2)] == [0, 2, 6, 12, 20]
        failed = pool.submit(json.loads, "{")
        with pytest.raises(BitDewError) as fault:  # JSONDecodeError is none of the builtin exceptions
            await failed
        assert fault.value.key == "job.raised"
        assert "JSONDecodeError" in str(fault.value.__cause__)
    with pytest.raises(RuntimeError):
        pool.submit(scaled, 1)
    await nothing_is_left(dew)
    assert (await dew.find("kept")).view.alive


async def test_a_call_whose_process_breaks_tells_what_it_wrote(grid, dew) -> None:
    await machine(grid)

    def breaks() -> None:
        print("last words", flush=True)
        os._exit(3)

    async with dew.executor(attempts=1, **LIMITS) as pool:
        with pytest.raises(BitDewError) as fault:
            await pool.submit(breaks)
    assert (fault.value.key, fault.value.fields["exit_code"]) == ("job.command", 3)
    assert "last words" in fault.value.__notes__[0]
    await nothing_is_left(dew)


async def test_a_call_that_is_given_up_ends_on_its_host_while_others_go_on(grid, dew) -> None:
    host = await machine(grid)
    async with dew.executor(modules=[_this()], **LIMITS) as pool:
        slow = pool.submit(sleeps)
        await jobs_become(dew, JobState.RUNNING)
        slow.cancel()
        assert await pool.submit(scaled, 3) == 6
    await nothing_is_left(dew)
    async with asyncio.timeout(30):
        while host.worker.jobs.attempts:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("moment", ["sending", "waiting"])
async def test_whoever_is_cancelled_leaves_nothing(dew, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ask = asyncio.Event(), dew.grid.submit

    async def slow(*given, **options):
        asked.set()
        await asyncio.sleep(0.2 if moment == "sending" else 0)
        return await ask(*given, **options)

    monkeypatch.setattr(dew.grid, "submit", slow)

    async def program() -> None:
        async with dew.executor(modules=[_this()], **LIMITS) as pool:
            called.extend(pool.submit(sleeps) for _ in range(3))
            await asyncio.gather(*called)

    called: list[asyncio.Future[None]] = []
    running = asyncio.create_task(program())
    await asked.wait()
    if moment == "waiting":
        await jobs_become(dew, JobState.QUEUED)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert all(one.cancelled() for one in called)
    await nothing_is_left(dew)


async def test_a_pool_that_ends_gives_up_what_no_host_has_begun_with_if_it_is_told_to(grid, dew) -> None:
    pool = dew.executor(modules=[_this()], name="calls-of-mine", **LIMITS)
    await pool.start()
    waits = pool.submit(scaled, 1)
    await jobs_become(dew, JobState.QUEUED)
    assert [job.name async for job in dew.jobs()] == ["calls-of-mine"]
    more = pool.submit(scaled, 2)
    await pool.shutdown(cancel_futures=True)
    assert (waits.cancelled(), more.cancelled()) == (True, True)
    await nothing_is_left(dew)


async def test_the_end_of_the_connection_gives_up_what_was_left(grid) -> None:
    async with bitdew.connect(grid.folder / "operator") as dew:
        pool = dew.executor(**LIMITS)
        await pool.start()
        call = pool.submit(pow, 1, 2)
        await pool.shutdown(wait=False)
        await jobs_become(dew, JobState.QUEUED)
    assert call.cancelled()
    async with bitdew.connect(grid.folder / "operator") as dew:
        await nothing_is_left(dew)


async def test_results_of_a_loop_that_is_left_are_given_up(grid, dew) -> None:
    await machine(grid)
    async with dew.executor(modules=[_this()], **LIMITS) as pool, aclosing(pool.map(scaled, range(3))) as results:
        async for one in results:
            assert one == 0
            break
    await nothing_is_left(dew)


async def test_calls_outlast_a_restart_of_the_service(grid, dew) -> None:
    async with dew.executor(modules=[_this()], **LIMITS) as pool:
        call = pool.submit(scaled, 21)
        await jobs_become(dew, JobState.QUEUED)
        await grid.stop_service()
        await grid.start_service()
        await machine(grid)
        async with asyncio.timeout(60):
            assert await call == 42


async def test_where_the_service_is_away_for_too_long_each_call_says_so(grid, dew) -> None:
    dew.grid.patience = 0.1
    async with dew.executor(modules=[_this()], **LIMITS) as pool:
        calls = [pool.submit(scaled, 1), pool.submit(scaled, 2)]
        await jobs_become(dew, JobState.QUEUED)
        await grid.stop_service()
        for call in calls:
            with pytest.raises(BitDewError) as fault:
                async with asyncio.timeout(60):
                    await call
            assert fault.value.key == "service.unreachable"
        with pytest.raises(BrokenExecutor):
            pool.submit(scaled, 3)
    await grid.start_service()


async def test_calls_that_come_together_are_sent_together_and_what_is_refused_says_so(
    dew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_TOGETHER", 10)
    async with dew.executor(modules=[_this()], **LIMITS) as pool:
        calls = [pool.submit(scaled, n) for n in range(25)]
        await jobs_become(dew, JobState.QUEUED, 25)
        archives = [datum.name async for datum in dew.search("in-")]
        for call in calls:
            call.cancel()
    assert len(archives) == 3
    await nothing_is_left(dew)
    async with dew.executor(provision="no-such-disk", **LIMITS) as pool:
        with pytest.raises(BitDewError) as fault:
            await pool.submit(pow, 1, 2)
    assert fault.value.key == "data.not-found"
    for wrong in ({"outputs": "x"}, {"keep": "x"}, {"needs": "?"}):
        with pytest.raises(BitDewError) as fault:
            dew.executor(**wrong)
        assert fault.value.key == "input.invalid"
    with pytest.raises(BitDewError) as fault:
        async with dew.executor(inputs=[Path("no-such-file")]):
            pass
    await nothing_is_left(dew)


@pytest.fixture
async def anna(grid):
    """Somebody who is neither an operator nor a publisher."""
    async with BitDew(grid.folder / "operator") as operator:
        token = (await operator.create_token("user")).token or ""
    await enrol(grid.service.url, token, "anna", IdentityFolder(grid.folder / "anna"), {Role.USER})
    async with bitdew.connect(grid.folder / "anna") as dew:
        yield dew


async def test_whoever_may_submit_jobs_may_have_functions_called(grid, anna) -> None:
    await machine(grid)
    rooms = grid.service.rooms
    async with anna.executor(modules=[_this()], inputs={"five": b"5"}, **LIMITS) as pool:
        assert await asyncio.gather(*(pool.submit(scaled, n) for n in range(3))) == [0, 2, 4]
        large = b"x" * (limits.SMALL + 1)
        assert await pool.submit(len, large) == len(large)
        both = [pool.submit(scaled, 1), pool.submit(scaled, 1)]  # the same twice, each with an end of its own
        assert await asyncio.gather(*both) == [2, 2]
    assert [job async for job in anna.jobs()] == []
    # What the pool put went with its jobs; and so did what these were given beside the calls.
    assert [datum.data.name for datum in await rooms.contents._store.living()] == []


async def test_what_a_user_put_for_calls_that_are_refused_does_not_stay(grid, anna) -> None:
    async with anna.executor(provision="no-such-disk", **LIMITS) as pool:
        with pytest.raises(BitDewError) as fault:
            await pool.submit(pow, 1, 2)
    assert fault.value.key == "data.not-found"
    await nothing_is_left(anna)


def _this():
    import sys

    return sys.modules[__name__]
