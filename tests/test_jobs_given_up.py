"""Jobs that are given up at each step of their way, and runs that store for long: real workers, real processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bitdew.scheduler.jobs.matchmaker import LEASE
from bitdew.worker.limits import LimitsChange

from bitdew.client.flow import LOWEST
from bitdew.core.attribute import Attribute
from bitdew.core.job import Caps, JobSpec
from bitdew.core.states import JobState, RunState
from bitdew.testing.grid import Grid, GridHost

CAPS = Caps(runtime=60, memory=256 * 2**20, output=2**20, log=64 * 1024)
LARGE = "import os; open('small', 'wb').write(b'small'); open('zlarge', 'wb').write(os.urandom(400_000))"
"""What it leaves takes six minutes and more over a line of 1 KB/s."""


def python(code: str, **says: object) -> JobSpec:
    return replace(JobSpec(("python3", "-c", code), caps=CAPS), **says)  # type: ignore[arg-type]


async def machine(grid: Grid, **lent: object) -> GridHost:
    return await grid.add_host("vm", jobs="anything", memory=2**30, cpus=2, **lent)


async def until(asked: Callable[[], Awaitable[object]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await asked():
            await asyncio.sleep(0.02)


async def reached(grid: Grid, uid: str, state: JobState) -> None:
    async with asyncio.timeout(60):
        async for job in grid.client.watch_job(uid):
            if job.state is state:
                return


async def nothing_left(grid: Grid, host: GridHost) -> bool:
    assert host.worker is not None
    jobs, copies = (host.worker.settings.home / name for name in ("jobs", "copies"))
    left = [*jobs.iterdir(), *(path for path in copies.iterdir() if path.is_file() and path.stat().st_size)]
    return not left and not host.worker.jobs.attempts


def uploads(grid: Grid) -> tuple[str, ...]:
    return grid.service.rooms.contents.repository.uploads.under_way


@pytest.fixture
async def grid():
    async with Grid(0) as grid:
        yield grid


async def test_a_job_that_is_cancelled_while_its_input_comes_leaves_nothing(grid: Grid, tmp_path: Path) -> None:
    host = await machine(grid, download=2000)
    (tmp_path / "events").write_bytes(bytes(range(256)) * 1000)
    await grid.client.put(tmp_path / "events", "events", Attribute(replica=0))
    (job,) = await grid.client.submit(python("pass"), inputs=[("events", "")])
    await reached(grid, job.uid, JobState.STAGING)
    (cancelled,) = await grid.client.cancel_job(job.uid)
    assert cancelled.state is JobState.CANCELLED
    (another,) = await grid.client.submit(python("pass"))
    await reached(grid, another.uid, JobState.DONE)
    grid.clock.skip(20)  # the part of the copy goes once it is settled that nobody wants it
    await grid.client.health()
    grid.clock.skip(20)
    await grid.client.health()
    grid.clock.skip(30)
    await until(lambda: nothing_left(grid, host))


async def test_a_job_that_is_cancelled_while_it_stores_leaves_nothing_here_or_there(grid: Grid) -> None:
    host = await machine(grid, upload=LOWEST)
    (job,) = await grid.client.submit(python(LARGE, outputs=("small", "zlarge")))

    async def handing_over() -> bool:
        return bool(uploads(grid)) and any([datum.size == 5 async for datum in grid.client.data()])

    await until(handing_over)
    assert (await grid.client.job(job.uid)).state is JobState.STORING
    (cancelled,) = await grid.client.cancel_job(job.uid)
    assert (cancelled.state, [run.state for run in cancelled.runs]) == (JobState.CANCELLED, [RunState.CANCELLED])

    async def gone() -> bool:
        data = [datum async for datum in grid.client.data()]
        return not data and not uploads(grid) and await nothing_left(grid, host)

    await until(gone)
    (another,) = await grid.client.submit(python("pass"))
    await reached(grid, another.uid, JobState.DONE)


async def test_a_run_that_stores_for_longer_than_its_lease_is_not_lost(grid: Grid) -> None:
    host = await machine(grid, upload=LOWEST)
    (job,) = await grid.client.submit(python(LARGE, outputs=("small", "zlarge"), attempts=1))
    await reached(grid, job.uid, JobState.STORING)
    assert host.worker is not None
    store, (run,) = grid.service.rooms.jobs.store, (await grid.client.job(job.uid)).runs
    begun = await store.run(run.uid)  # type: ignore[arg-type]
    assert begun is not None
    (attempt,) = host.worker.jobs.attempts.values()

    async def silent() -> bool:
        return not attempt._saying.locked()

    passed = 0.0
    while passed < 3 * LEASE.total_seconds():
        await until(silent)  # what is skipped while it speaks passes at its own pace
        before = grid.clock.now()
        grid.clock.skip(LEASE.total_seconds() / 3)
        passed += LEASE.total_seconds() / 3

        async def heard(before=before) -> bool:
            now = await store.run(run.uid)  # type: ignore[arg-type]
            assert now is not None
            assert now.state is RunState.STORING
            return now.heard > before

        await until(heard)
    assert uploads(grid)
    await host.worker.limits.change(LimitsChange(upload=0))  # the rest at once
    await reached(grid, job.uid, JobState.DONE)
    done = await grid.client.job(job.uid)
    assert [one.state for one in done.runs] == [RunState.DONE]
    assert [one.path for one in done.results] == ["small", "zlarge"]


async def test_limits_that_are_passed_are_told_by_name(grid: Grid) -> None:
    await machine(grid)
    sparse = "open('out', 'wb').truncate(2**20 + 1)"  # it takes no room, and would fill the repository
    (job,) = await grid.client.submit(python(sparse, outputs=("out",), attempts=1))
    await reached(grid, job.uid, JobState.FAILED)
    failed = await grid.client.job(job.uid)
    assert (failed.limit, failed.reason and failed.reason.key) == ("disk", "job.over-limit")
