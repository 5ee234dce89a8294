"""How many jobs run on a host: the service gives no more than are lent, and the worker refuses what comes beyond."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from bitdew.worker.limits import LimitsChange

from bitdew.core.job import Caps, JobsAllowed, JobSpec
from bitdew.core.states import JobState, RunState
from bitdew.testing.grid import Grid, GridHost

SPEC = JobSpec(("sh", "-c", "while [ ! -e go ]; do sleep 0.1; done"), caps=Caps(memory=2**26, cpus=1), attempts=1)
SHORT = JobSpec(("true",), caps=Caps(memory=2**26), attempts=1)


@pytest.fixture
async def grid():
    async with Grid(0) as grid:
        yield grid


async def machine(grid: Grid, **lent: object) -> GridHost:
    return await grid.add_host("vm", jobs="anything", memory=2**30, cpus=4, **lent)


async def running(grid: Grid, uid: str) -> None:
    async with asyncio.timeout(60):
        async for job in grid.client.watch_job(uid):
            if job.state is JobState.RUNNING:
                return


async def ended(grid: Grid, uid: str) -> JobState:
    async with asyncio.timeout(60):
        async for job in grid.client.watch_job(uid):
            state = job.state
    return state


async def over(grid: Grid, host: GridHost, uid: str) -> None:
    """Nothing of it runs any more."""
    await grid.client.cancel_job(uid)
    async with asyncio.timeout(60):
        while host.worker.jobs.attempts:
            await asyncio.sleep(0.05)


async def test_one_after_the_other_where_one_at_a_time_is_lent(grid: Grid) -> None:
    host = await machine(grid, jobs_at_once=1)
    jobs = await grid.client.submit(SHORT, values=["1", "2", "3"])
    async with asyncio.timeout(60):
        assert await grid.client.finished(jobs[0].array) == {JobState.DONE: 3}
    done = [job async for job in grid.client.jobs(prefix=jobs[0].array)]
    assert [len(job.runs) for job in done] == [1, 1, 1]  # none was refused
    spans = sorted((job.runs[0].started, job.runs[0].since) for job in done)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    assert (await host.worker.limits.view()).jobs_at_once.cap == 1


async def test_a_worker_refuses_more_than_it_lends_whatever_the_service_believes(grid: Grid) -> None:
    host = await machine(grid)
    (first,) = await grid.client.submit(SPEC)
    await running(grid, first.uid)
    host.worker.jobs.lend(
        host.worker.settings.model_copy(update={"jobs_at_once": 1})
    )  # the service hears nothing of it
    (second,) = await grid.client.submit(SHORT)
    assert await ended(grid, second.uid) is JobState.FAILED
    told = await grid.client.job(second.uid)
    assert told.runs[0].state is RunState.FAILED
    assert told.reason is not None
    assert (told.reason.key, told.reason.why) == ("job.refused", "1 jobs run here at once at most")
    assert (await grid.client.job(first.uid)).state is JobState.RUNNING
    await over(grid, host, first.uid)


async def test_a_cap_that_changes_holds_at_once_and_ends_nothing(grid: Grid) -> None:
    host = await machine(grid)
    (first,) = await grid.client.submit(SPEC)
    await running(grid, first.uid)
    view = await host.worker.limits.change(LimitsChange(jobs_at_once=1))
    assert (view.jobs_at_once.cap, view.jobs_at_once.now) == (1, 1)

    async def waits(uid: str) -> str:
        async with asyncio.timeout(30):
            while not (told := " ".join((await grid.client.explain_job(uid)).hosts)):
                await asyncio.sleep(0.05)
        return told

    async with asyncio.timeout(30):
        while [one.report.jobs_at_once for one in grid.service.rooms.hosts.records().values()] != [1]:
            await asyncio.sleep(0.02)
    (second,) = await grid.client.submit(SHORT)
    assert "as many jobs as its volunteer allows" in await waits(second.uid)
    await host.worker.limits.change(LimitsChange(jobs_at_once=0))
    assert await ended(grid, second.uid) is JobState.DONE
    await host.worker.limits.change(LimitsChange(jobs=JobsAllowed.NONE))
    async with asyncio.timeout(30):
        while any(one.report.programs for one in grid.service.rooms.hosts.records().values()):
            await asyncio.sleep(0.02)
    (third,) = await grid.client.submit(SHORT)
    assert await waits(third.uid) == "vm: it takes no jobs"
    assert (await grid.client.job(first.uid)).state is JobState.RUNNING
    await over(grid, host, first.uid)


async def test_a_worker_gives_no_job_what_its_machines_have(grid: Grid) -> None:
    host = await machine(grid)
    room = host.worker.machines._premises.room
    room.settings = room.settings.model_copy(update={"memory": 2**25})  # the service hears nothing of it
    (job,) = await grid.client.submit(SHORT)
    assert await ended(grid, job.uid) is JobState.FAILED
    reason = (await grid.client.job(job.uid)).reason
    assert reason is not None
    assert reason.key == "job.refused"
    assert "memory are left" in str(reason.why)
