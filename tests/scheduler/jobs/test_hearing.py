"""What hosts say of runs at the same time is judged together, each by itself, and stored at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bitdew.scheduler.jobs import hearing
from bitdew.scheduler.jobs.judging import Judgement
from bitdew.scheduler.jobs.records import RunRecord
from bitdew.scheduler.jobs.store import JobStore

from bitdew.client.grid import BitDew
from bitdew.core.errors import BitDewError
from bitdew.core.job import JobSpec
from bitdew.core.states import JobState, RunState
from bitdew.testing.grid import Grid
from bitdew.wire import models as m

from .conftest import SPEC, MakeJobHost


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs changed, for each time that something was stored."""
    counted, record = list[int](), JobStore.record

    async def counting(self: JobStore, **what: Any) -> dict[Any, int]:
        counted.append(len(what.get("runs", ())))
        return await record(self, **what)

    monkeypatch.setattr(JobStore, "record", counting)
    return counted


async def test_reports_that_come_together_are_stored_together_and_answered_each(
    client: BitDew, job_host: MakeJobHost, grid: Grid, writes: list[int]
) -> None:
    hosts = [await job_host(f"pc{n}", cpus=1) for n in range(3)]
    jobs = await client.submit(SPEC, values=["a", "b", "c"])
    runs = [(await host.run()).subject for host in hosts]
    before = len(writes)
    async with asyncio.TaskGroup() as tasks, kept_waiting(grid, 5):
        said = [
            tasks.create_task(host.say(run, "staging", log={"offset": 0, "text": "x" * n}))
            for n, (host, run) in enumerate(zip(hosts, runs, strict=True), 1)
        ]
        stranger = tasks.create_task(refused(hosts[0].say(runs[1], "done")))
        repeated = tasks.create_task(hosts[0].say(runs[0], "staging"))
    assert [task.result().log for task in said] == [1, 2, 3]
    assert stranger.result() == "run.not-found"
    assert repeated.result().wanted
    # What is said of a run that is in the batch already is judged after it: five reports, two or three transactions.
    assert sum(writes[before:]) == 4
    assert max(writes[before:]) >= 2
    assert {(await client.job(job.uid)).state for job in jobs} == {JobState.STAGING}


async def test_a_report_that_cannot_be_judged_fails_alone(
    client: BitDew, job_host: MakeJobHost, grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = [await job_host(f"pc{n}", cpus=1) for n in range(2)]
    await client.submit(SPEC, values=["a", "b"])
    runs = [(await host.run()).subject for host in hosts]
    judge = hearing.judge

    def defective(spec: JobSpec, all_runs: Sequence[RunRecord]) -> Judgement:
        if any(run.uid == runs[0] for run in all_runs):
            raise ValueError("a defect")
        return judge(spec, all_runs)

    monkeypatch.setattr(hearing, "judge", defective)
    async with kept_waiting(grid, 2):
        bad = asyncio.ensure_future(refused(hosts[0].claim(runs[0], {"fit.root": b"x"})))
        good = asyncio.ensure_future(hosts[1].claim(runs[1], {"fit.root": b"y"}))
    assert await bad == "internal"
    assert (await good).verdict == "store"


@asynccontextmanager
async def kept_waiting(grid: Grid, number: int) -> AsyncIterator[None]:
    """Nothing that is said inside of this is judged before so many reports wait for it."""
    assert grid.service is not None
    rooms = grid.service.rooms
    async with rooms._known.database.facts():
        yield
        while len(rooms.jobs.runs._hearing._batcher._queue) < number:
            await asyncio.sleep(0.01)


async def refused(asked: Any) -> str:
    with pytest.raises(BitDewError) as refusal:
        await asked
    return refusal.value.key


async def test_a_caller_who_left_before_his_turn_has_said_nothing(
    client: BitDew, job_host: MakeJobHost, grid: Grid
) -> None:
    host = await job_host()
    (job,) = await client.submit(SPEC)
    run = await host.run()
    assert grid.service is not None
    hearing_of_runs = grid.service.rooms.jobs.runs._hearing
    async with kept_waiting(grid, 1):
        report = m.RunReport(state=RunState.RUNNING)
        gone = asyncio.ensure_future(hearing_of_runs.take_in(run.subject, report, host.host.uid))
        await asyncio.sleep(0)
        gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert (await client.job(job.uid)).state is JobState.ASSIGNED
    assert (await host.say(run.subject, "staging")).wanted
