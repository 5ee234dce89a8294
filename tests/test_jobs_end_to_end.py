"""Jobs from their submission to their results: a real service, real workers, real processes, real swarms."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bitdew.core.attribute import Attribute
from bitdew.core.job import Caps, JobSpec
from bitdew.core.states import JobState, RunState
from bitdew.testing.grid import Grid, GridHost

CAPS = Caps(runtime=60, memory=256 * 2**20, output=2**20, log=64 * 1024)
SUM = "import sys; print('adding'); open('sum.txt', 'w').write(str(sum(map(int, open('in/numbers').read().split()))))"


def python(code: str, **says: object) -> JobSpec:
    """A job that runs some Python."""
    return replace(JobSpec(("python3", "-c", code), caps=CAPS), **says)  # type: ignore[arg-type]


async def machine(grid: Grid, name: str = "vm", **lent: object) -> GridHost:
    """A host that runs any command, as a machine of the grid does."""
    return await grid.add_host(name, jobs="anything", memory=2**30, cpus=2, **lent)


async def ended(grid: Grid, uid: str) -> JobState:
    async with asyncio.timeout(60):
        async for job in grid.client.watch_job(uid):
            state = job.state
        return state


@pytest.fixture
async def grid():
    async with Grid(0) as grid:
        yield grid


async def test_a_job_reads_its_input_leaves_its_output_and_its_log_is_there(grid: Grid, tmp_path: Path) -> None:
    await machine(grid)
    (tmp_path / "numbers").write_text("1 2 3 4")
    await grid.client.put(tmp_path / "numbers", "numbers", Attribute(replica=0))
    spec = python(SUM, outputs=("*.txt",))
    (job,) = await grid.client.submit(spec, inputs=[("numbers", "in/numbers")])
    assert await ended(grid, job.uid) is JobState.DONE
    fetched = [one async for one in grid.client.results(job.uid, tmp_path / "results")]
    assert [one.path.read_text() for one in fetched] == ["10"]
    assert (await grid.client.job_log(job.uid)).text == "adding\n"
    done = await grid.client.job(job.uid)
    assert done.runs[0].exit_code == 0
    assert done.runs[0].wall is not None


async def test_nothing_of_a_run_is_left_on_its_host(grid: Grid) -> None:
    host = await machine(grid)
    (job,) = await grid.client.submit(python("open('x', 'w').write('x')", outputs=("x",)))
    assert await ended(grid, job.uid) is JobState.DONE
    folder = host.worker.settings.home / "jobs"
    async with asyncio.timeout(20):
        while list(folder.iterdir()):
            await asyncio.sleep(0.05)
    assert not host.worker.jobs.attempts


@pytest.mark.parametrize(
    ("code", "key"),
    [
        ("raise SystemExit(3)", "job.command"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "job.command"),
        (
            "import time; [open(str(n), 'wb').write(bytes(900000)) for n in range(4)]; time.sleep(9)",
            "job.over-limit",
        ),
        ("import time; time.sleep(60)", "job.over-limit"),
        ("pass", "job.outputs"),
    ],
)
async def test_what_goes_wrong_is_told_by_its_key(grid: Grid, code: str, key: str) -> None:
    await machine(grid)
    spec = python(code, attempts=1, outputs=("result",), caps=replace(CAPS, runtime=3))
    (job,) = await grid.client.submit(spec)
    assert await ended(grid, job.uid) is JobState.FAILED
    reason = (await grid.client.job(job.uid)).reason
    assert reason is not None
    assert reason.key == key


async def test_a_job_that_is_cancelled_while_it_runs_is_ended_on_its_host(grid: Grid) -> None:
    host = await machine(grid)
    code = "import time; print('up', flush=True); time.sleep(600)"
    (job,) = await grid.client.submit(python(code))
    async with asyncio.timeout(30):
        async for part in grid.client.follow_job_log(job.uid):
            if "up" in part.text:
                break
    (cancelled,) = await grid.client.cancel_job(job.uid)
    assert cancelled.state is JobState.CANCELLED
    async with asyncio.timeout(30):
        while host.worker.jobs.attempts:
            await asyncio.sleep(0.05)
    assert list((host.worker.settings.home / "jobs").iterdir()) == []


async def test_a_native_host_runs_what_its_volunteer_shares_and_nothing_else(grid: Grid, tmp_path: Path) -> None:
    declared = {"python3": {"command": [sys.executable, "--version"], "programs": [sys.executable]}}
    host = await grid.add_host("native", memory=2**30, cpus=1, sharings=declared)
    async with asyncio.timeout(30):
        while not (native := [one for one in await grid.client.hosts() if one.name == "native"]):
            await asyncio.sleep(0.02)
    (record,) = native
    if host.worker.sharings._unfit:
        pytest.skip(f"this system can't confine jobs: {host.worker.sharings._unfit}")
    assert "python3" in [one.name for one in record.sharings]
    name = Path(sys.executable).name
    secret = tmp_path / "secret"
    secret.write_text("the volunteer's own")
    secret.chmod(0o644)
    code = f"print(open({str(secret)!r}).read())"
    spec = JobSpec((name, "-c", code), needs=("python3>=3.9",), caps=CAPS, attempts=1)
    (job,) = await grid.client.submit(spec)
    assert await ended(grid, job.uid) is JobState.FAILED
    log = (await grid.client.job_log(job.uid)).text
    assert "the volunteer's own" not in log
    assert "Error" in log
    (shell,) = await grid.client.submit(JobSpec(("sh", "-c", "true"), caps=CAPS))
    told = await grid.client.explain_job(shell.uid)
    assert told.hosts == ["native: it does not share the program sh"]


async def test_a_worker_that_starts_again_finds_its_run_and_reports_it(grid: Grid) -> None:
    host = await machine(grid)
    code = "import time; print('up', flush=True); time.sleep(4); open('out', 'w').write('done')"
    (job,) = await grid.client.submit(python(code, outputs=("out",)))
    async with asyncio.timeout(30):
        async for part in grid.client.follow_job_log(job.uid):
            if "up" in part.text:
                break
    await host.stop()
    await host.start()
    assert await ended(grid, job.uid) is JobState.DONE
    done = await grid.client.job(job.uid)
    assert [run.state for run in done.runs] == [RunState.DONE]
    assert [one.path for one in done.results] == ["out"]


async def test_an_array_over_two_hosts_uses_both_and_every_job_has_its_own_result(grid: Grid, tmp_path: Path) -> None:
    for name in ("a", "b"):
        await machine(grid, name)
    spec = python("import time; time.sleep(0.3); open('r', 'w').write('{}')", outputs=("r",))
    jobs = await grid.client.submit(spec, values=[str(n) for n in range(8)])
    async with asyncio.timeout(120):
        assert await grid.client.finished(jobs[0].array) == {JobState.DONE: 8}
    fetched = [one async for one in grid.client.results(jobs[0].array, tmp_path)]
    assert [one.path.read_text() for one in fetched] == [str(n) for n in range(8)]
    done = [job async for job in grid.client.jobs(prefix=jobs[0].array)]
    assert {job.runs[-1].host_name for job in done} == {"a", "b"}


async def test_replicas_that_agree_make_one_result(grid: Grid) -> None:
    for name in ("a", "b", "c"):
        await machine(grid, name)
    (job,) = await grid.client.submit(python("open('r', 'w').write('same')", outputs=("r",), replicas=3))
    assert await ended(grid, job.uid) is JobState.DONE
    done = await grid.client.job(job.uid)
    assert [one.size for one in done.results] == [4]
    assert sum(run.state is RunState.DONE for run in done.runs) >= 2
