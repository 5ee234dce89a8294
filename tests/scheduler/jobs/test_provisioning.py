"""Machines for jobs that wait: deployed when nothing else can run them, as many as are wanted, ended with the queue."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from bitdew.scheduler.jobs.provisioning import IDLE, PATIENCE

from bitdew.client.grid import BitDew
from bitdew.core.states import JobState
from bitdew.testing.grid import Grid

from ..conftest import AddDisk, MakeHost
from .conftest import SPEC, MakeJobHost


async def test_a_machine_is_deployed_for_jobs_that_wait_and_ends_when_the_queue_is_empty(
    client: BitDew, job_host: MakeJobHost, make_host: MakeHost, add_disk: AddDisk, grid: Grid, until
) -> None:
    owner = await make_host("volunteer")
    await add_disk("root")
    await owner.take()
    jobs = await client.submit(SPEC, values=["1", "2", "3"], provision="root", machines=2)
    assert await client.deployments() == []  # a host that can run them may be there in a moment
    told = await client.explain_job(jobs[0].uid)
    assert told.why[-1] == "machines are deployed for it from the disk root, 2 at most"
    grid.clock.skip(PATIENCE.total_seconds() + 1)

    async def deployed() -> int:
        grid.clock.skip(0.1)
        return sum(one.count for one in await client.deployments())

    assert await until(deployed) == 2
    (made,) = await client.deployments()
    assert (made.disk, made.network) == ("root", "user")
    assert made.memory > SPEC.caps.memory
    inner = await job_host("inner", cpus=8)
    for _ in jobs:
        await inner.do()
    assert {job.state async for job in client.jobs(prefix=jobs[0].array)} == {JobState.DONE}
    assert (await client.deployment(made.uid)).count == 2  # the next job may come

    async def ended() -> bool:
        grid.clock.skip(IDLE / 4)
        await inner.host.hello()
        return (await client.deployment(made.uid)).count == 0

    await until(ended)
    (more,) = await client.submit(replace(SPEC, outputs=()), provision="root")
    await inner.do({})
    assert (await client.job(more.uid)).state is JobState.DONE
    assert len(await client.deployments()) == 1  # a host that was there already ran it


async def test_jobs_of_which_the_disk_is_gone_do_not_hold_up_others(
    client: BitDew, make_host: MakeHost, add_disk: AddDisk, grid: Grid, until
) -> None:
    await make_host("volunteer")
    for name in ("gone", "there"):
        await add_disk(name)
    await client.submit(SPEC, provision="gone")
    await client.remove_disk("gone")
    await client.submit(replace(SPEC, priority=1), provision="there")
    grid.clock.skip((PATIENCE + timedelta(seconds=1)).total_seconds())

    async def deployed() -> list[str]:
        grid.clock.skip(0.1)
        return [one.disk for one in await client.deployments()]

    assert await until(deployed) == ["there"]
