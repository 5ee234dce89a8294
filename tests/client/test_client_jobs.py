"""`dew.submit` and `dew.submit_each` on a real grid: awaited, followed, read, given up, and never leaked."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest

import bitdew
from bitdew import Attribute, BitDewError, Caps
from bitdew.blocking.portal import Portal
from bitdew.client import submitting
from bitdew.client.job import Job
from bitdew.core.states import JOB, JobState
from bitdew.testing.grid import Grid

from .conftest import machine

LIMITS = {"runtime": "1m", "memory": 256 * 2**20, "output": "1MB"}
SLEEP = ("python3", "-c", "import time; print('up', flush=True); time.sleep(600)")


async def up(job: Job) -> None:
    """Return once the job's command runs and has said so."""
    async with asyncio.timeout(60), aclosing(job.logs()) as parts:
        async for part in parts:
            if "up" in part:
                return


async def test_a_job_reads_what_it_was_given_in_every_shape_and_its_results_come_back(
    grid, dew, tmp_path: Path
) -> None:
    await machine(grid)
    (tmp_path / "sum.py").write_text(
        "import sys\n"
        "numbers = [int(open(name).read()) for name in ('one', 'deep/two', 'three', 'four')]\n"
        "print('adding')\n"
        "open('sum.txt', 'w').write(str(sum(numbers)))\n"
    )
    (tmp_path / "two").write_text("20")
    one = await dew.put(b"1", Attribute(replica=0), name="one")
    await dew.put(b"300", Attribute(replica=0), name="three")
    job = await dew.submit(
        "python3",
        "sum.py",
        inputs={
            "sum.py": tmp_path / "sum.py",
            "one": one,
            "deep/two": str(tmp_path / "two"),
            "three": "three",
            "four": b"4000",
        },
        outputs="*.txt",
        **LIMITS,
    )
    outcome = await job.done(timeout=60)
    assert (outcome.state, outcome.exit_code, outcome.host, outcome.fault) == (JobState.DONE, 0, "h1", None)
    assert [(one.path, one.size) for one in outcome.results] == [("sum.txt", 4)]
    assert outcome.wall is not None
    assert await job.read("sum.txt") == b"4321"
    assert await job.log() == "adding\n"
    (fetched,) = await job.results(tmp_path / "back")
    assert fetched == tmp_path / "back/sum.txt"
    assert fetched.read_bytes() == b"4321"
    with pytest.raises(BitDewError) as fault:
        await job.read("sums.txt")
    assert fault.value.key == "data.not-found"
    assert "sum.txt" in fault.value.why


async def test_the_same_bytes_are_put_once_however_often_they_are_given(grid, dew, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("the same")
    for given in (b"the same", tmp_path / "words", b"the same"):
        await dew.submit("cat", "words", inputs={"words": given})
    assert len([one async for one in dew.search("in-")]) == 1


async def test_what_happens_to_a_job_is_told_in_order_with_its_host(grid, dew) -> None:
    job = await dew.submit("python3", "-c", "open('r', 'w').write('x')", outputs=["r"], **LIMITS)
    told = []
    async with asyncio.timeout(60), aclosing(job.events()) as events:
        async for event in events:
            told.append(str(event))
            if event.state is JobState.QUEUED:
                await machine(grid)
    assert told[0] == "queued"
    assert told[-1] == "done on h1"
    order = [str(state) for state in JobState]
    places = [order.index(one.split()[0]) for one in told]
    assert places == sorted(places)
    assert all(one.endswith(" on h1") for one in told[1:])


async def test_a_failure_raises_with_its_key_or_is_told_if_asked_so(grid, dew) -> None:
    await machine(grid)
    job = await dew.submit("python3", "-c", "raise SystemExit(3)", attempts=1, **LIMITS)
    with pytest.raises(BitDewError) as fault:
        await job
    assert (fault.value.key, fault.value.fields["exit_code"]) == ("job.command", 3)
    outcome = await job.done(check=False)
    assert (outcome.state, outcome.exit_code) == (JobState.FAILED, 3)
    assert outcome.fault is not None
    assert outcome.fault.key == "job.command"


async def test_a_job_that_is_tried_again_tells_why(grid, dew) -> None:
    await machine(grid)
    job = await dew.submit("python3", "-c", "raise SystemExit(5)", attempts=2, **LIMITS)
    with pytest.raises(BitDewError):
        await job.done(timeout=100)
    await job.refresh()
    assert [run.exit_code for run in job.view.runs] == [5, 5]
    last = [event async for event in job.events()]
    assert [(event.state, event.attempt) for event in last] == [(JobState.FAILED, 2)]
    assert last[0].why


async def test_a_job_is_given_up_and_its_waiters_are_told(grid, dew) -> None:
    host = await machine(grid)
    job = await dew.submit(*SLEEP, **LIMITS | {"runtime": timedelta(minutes=11)})
    waiting = asyncio.create_task(job.done())
    await up(job)
    await job.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(BitDewError) as fault:
            await waiting
        assert fault.value.key == "job.cancelled"
        while host.worker.jobs.attempts:
            await asyncio.sleep(0.02)
    assert job.is_over


async def test_a_wait_that_is_bounded_or_cancelled_leaves_the_job_going(grid, dew) -> None:
    job = await dew.submit("python3", "-c", "pass", **LIMITS)
    with pytest.raises(TimeoutError):
        await job.done(timeout=0.1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await job
    waiting = asyncio.create_task(job.done())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await job.refresh()).state is JobState.QUEUED
    await machine(grid)
    assert (await job.done(timeout=60)).state is JobState.DONE


def test_a_program_that_leaves_what_it_follows_and_what_it_waits_for_leaves_no_task_behind() -> None:
    async def program(folder: Path) -> None:
        async with bitdew.connect(folder) as dew:
            job = await dew.submit(*SLEEP, **LIMITS)
            array = await dew.submit_each("ab", *SLEEP, **LIMITS)
            await up(job)
            for stream in (job.events(), job.logs(), array.progress()):
                async with asyncio.timeout(30), aclosing(stream):
                    await anext(stream)
            for wait in (job.done, array.done):
                with pytest.raises(TimeoutError):
                    await wait(timeout=0.1)
            waiting = [asyncio.create_task(wait()) for wait in (job.done, array.done, array.as_completed().__anext__)]
            await asyncio.sleep(0.1)  # so that each holds a request open
            for task in waiting:
                task.cancel()
            assert {type(ended) for ended in await asyncio.gather(*waiting, return_exceptions=True)} == {
                asyncio.CancelledError
            }
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert (await job.refresh()).state is JobState.RUNNING
            await array.cancel()
            await job.cancel()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with Portal() as portal:  # the service and the worker turn in another loop than the program does
        grid = Grid(hosts=0)
        portal.call(grid.__aenter__())
        try:
            portal.call(machine(grid))
            asyncio.run(program(grid.folder / "operator"))
        finally:
            portal.call(grid.__aexit__())


async def test_whoever_is_cancelled_while_he_submits_has_no_job(grid, dew, monkeypatch: pytest.MonkeyPatch) -> None:
    made, ask = asyncio.Event(), dew.grid.submit

    async def slow(*given, **options):
        jobs = await ask(*given, **options)
        made.set()
        await asyncio.sleep(0.2)  # the reply is on its way: whoever asked does not know yet that there is a job
        return jobs

    monkeypatch.setattr(dew.grid, "submit", slow)
    asking = asyncio.create_task(dew.submit(*SLEEP, **LIMITS))
    await made.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [job.state async for job in dew.jobs()] == [JobState.CANCELLED]


async def test_whoever_waits_outlasts_a_restart_of_the_service(grid, dew) -> None:
    dew.grid.patience = 30.0
    job = await dew.submit("python3", "-c", "print('there')", **LIMITS)
    waiting = asyncio.create_task(job.done())
    await grid.stop_service()
    await grid.start_service()
    await machine(grid)
    async with asyncio.timeout(60):
        assert (await waiting).state is JobState.DONE


async def test_an_array_is_awaited_as_a_whole_and_as_its_jobs_end(grid, dew, tmp_path: Path) -> None:
    await machine(grid)
    code = "import sys; open('r', 'w').write(sys.argv[1] * 2)"
    array = await dew.submit_each("abcd", "python3", "-c", code, "{}", outputs="r", **LIMITS)
    assert len(array) == 4
    ended = []
    async with asyncio.timeout(100), aclosing(array.as_completed()) as jobs:
        async for job in jobs:
            assert job.state is JobState.DONE
            ended.append((job.index, await job.read("r")))
    assert sorted(ended) == [(0, b"aa"), (1, b"bb"), (2, b"cc"), (3, b"dd")]
    assert [(one.index, one.state) for one in await array] == [(n, JobState.DONE) for n in range(4)]
    fetched = await array.results(tmp_path)
    assert [path.read_text() for path in fetched] == ["aa", "bb", "cc", "dd"]


async def test_of_an_array_one_failure_raises_once_all_have_ended(grid, dew) -> None:
    await machine(grid)
    code = "import sys; sys.exit(int(sys.argv[1]))"
    array = await dew.submit_each([0, 7, 0], "python3", "-c", code, "{}", attempts=1, **LIMITS)
    with pytest.raises(BitDewError) as fault:
        await array.done(timeout=100)
    assert fault.value.fields["exit_code"] == 7
    outcomes = await array.done(check=False)
    assert [one.exit_code for one in outcomes] == [0, 7, 0]
    assert {one.state async for one in array.jobs()} <= JOB.ends()


async def test_an_array_is_given_up_as_a_whole(dew) -> None:
    array = await dew.submit_each(range(3), *SLEEP, **LIMITS)
    with pytest.raises(TimeoutError):
        await array.done(timeout=0.1)
    await array.cancel()
    outcomes = await array.done(timeout=30, check=False)
    assert {one.state for one in outcomes} == {JobState.CANCELLED}
    with pytest.raises(BitDewError) as fault:
        await dew.submit_each([], "true")
    assert fault.value.key == "input.invalid"


async def test_jobs_are_found_again(dew) -> None:
    job = await dew.submit("true", name="mine")
    assert (await dew.job(job.uid[:8])).name == "mine"
    assert [one.uid async for one in dew.jobs("queued")] == [job.uid]
    assert [one async for one in dew.jobs("done")] == []
    assert any("none can run it" in line for line in (await job.explain()).why)


def test_options_become_what_is_asked_for() -> None:
    options = {"needs": "root>=6", "outputs": ["a", "b"], "runtime": "2m", "memory": "2GB", "output": 5, "cpus": 3}
    spec = submitting.spec_of(["fit", Path("x")], options)
    assert (spec.command, spec.needs, spec.outputs) == (("fit", "x"), ("root>=6",), ("a", "b"))
    assert spec.caps == Caps(runtime=120, memory=2 * 2**30, output=5, cpus=3)
    assert submitting.spec_of(["a"], {"caps": Caps(files=7), "runtime": 3.2}).caps == Caps(files=7, runtime=3)
    with pytest.raises(BitDewError) as fault:
        submitting.spec_of([], {})
    assert fault.value.key == "input.invalid"
