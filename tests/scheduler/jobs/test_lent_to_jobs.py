"""What a host has for jobs: what its volunteer lends, less what is taken, and nothing while it is emptied or paused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bitdew.scheduler.jobs.matching import HostOffer, Picture, Waiting, match, objection
from hypothesis import given
from hypothesis import strategies as st

from bitdew.client.grid import BitDew
from bitdew.core.host import HostFacts, Resources
from bitdew.core.ids import HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import JobState, MachineState
from bitdew.testing.grid import Grid

from ..conftest import AddDisk, MakeHost
from .conftest import SPEC, MakeJobHost

GB = 2**30
MACHINES_TOO = [{"name": "root", "version": "6.40.00"}, {"name": "mock", "version": "1"}]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def whys(client: BitDew, uid: str) -> list[str]:
    return (await client.explain_job(uid)).hosts


async def waits_since(client: BitDew, deployment: str, why: str) -> bool:
    return any(why in line for line in (await client.explain_deployment(deployment)).machines)


async def test_a_host_is_given_as_many_jobs_as_its_volunteer_allows_at_once(
    client: BitDew, job_host: MakeJobHost
) -> None:
    host = await job_host(jobs_at_once=1)
    jobs = await client.submit(SPEC, values=["1", "2"])
    first = await host.run()
    assert await host.host.idle()
    assert await whys(client, jobs[1].uid) == ["pc: it has as many jobs as its volunteer allows at once"]
    await host.say(first.subject, "failed", reason={"key": "job.command", "message": "no"})
    assert (await host.run()).run is not None


async def test_a_paused_host_is_given_no_job_until_it_goes_on(client: BitDew, job_host: MakeJobHost) -> None:
    host = await job_host(paused=True)
    (job,) = await client.submit(SPEC)
    assert await host.host.idle()
    assert await whys(client, job.uid) == ["pc: its volunteer lets nothing run there now"]
    host.host.about["paused"] = False
    await host.host.hello()
    await host.do()
    assert (await client.job(job.uid)).state is JobState.DONE


async def test_a_host_that_is_being_emptied_is_given_no_job(
    client: BitDew, job_host: MakeJobHost, add_disk: AddDisk
) -> None:
    host = await job_host(sharings=MACHINES_TOO)
    await add_disk("disk")
    await host.host.take()
    await client.deploy("disk", memory=GB)
    await host.host.launched()  # while it runs the host is not empty
    await client.drain_host("pc")
    (job,) = await client.submit(SPEC)
    assert await host.host.idle()
    assert await whys(client, job.uid) == ["pc: it is being emptied"]
    await client.undrain_host("pc")
    async with asyncio.timeout(10):
        assert (await host.run()).run is not None


async def test_processors_and_memory_of_its_machines_are_not_lent_to_jobs_again(
    client: BitDew, job_host: MakeJobHost, make_host: MakeHost, add_disk: AddDisk
) -> None:
    host = await job_host(sharings=MACHINES_TOO, cpus=4, memory=8 * GB)
    await add_disk("disk")
    await host.host.take()
    machine = (await client.deploy("disk", memory=GB, cpus=3)).machines[0]
    await host.host.launched()
    (job,) = await client.submit(replace(SPEC, caps=replace(SPEC.caps, cpus=2)))
    assert await host.host.idle()
    assert await whys(client, job.uid) == ["pc: 1 of its processors are free now"]
    (other,) = await client.submit(replace(SPEC, caps=replace(SPEC.caps, memory=8 * GB)))
    assert await whys(client, other.uid) == ["pc: 7.0 GB of its memory are free now"]
    await client.cancel_job(other.uid)
    await client.stop_machine(machine.uid)
    await host.host.machine(await host.host.order(OrderKind.HALT), MachineState.STOPPED)
    async with asyncio.timeout(10):
        assert (await host.run()).run is not None


async def test_what_jobs_have_is_not_lent_to_machines_until_they_end(
    client: BitDew, job_host: MakeJobHost, add_disk: AddDisk
) -> None:
    host = await job_host(sharings=MACHINES_TOO, cpus=4, memory=8 * GB)
    await add_disk("disk")
    await host.host.take()
    (job,) = await client.submit(replace(SPEC, caps=replace(SPEC.caps, cpus=3, memory=6 * GB)))
    await host.run()
    many = await client.deploy("disk", memory=GB, cpus=2)
    assert await host.host.idle()
    assert await waits_since(client, many.uid, "jobs leave 1 of its 4 processors, 2 needed")
    large = await client.deploy("disk", memory=4 * GB, cpus=1)
    assert await waits_since(client, large.uid, "its memory has 2.0 GB left beside 6.0 GB for jobs, 4.0 GB needed")
    small = await client.deploy("disk", memory=GB, cpus=1)
    assert (await host.host.launched()).subject == small.machines[0].uid
    await client.cancel_job(job.uid)
    launched = {(await host.host.launched()).subject for _ in range(2)}
    assert launched == {many.machines[0].uid, large.machines[0].uid}


async def test_small_jobs_do_not_keep_a_machine_from_starting_for_ever(
    grid: Grid, client: BitDew, job_host: MakeJobHost, add_disk: AddDisk
) -> None:
    host = await job_host(sharings=MACHINES_TOO, cpus=2, memory=8 * GB)
    await add_disk("disk")
    await host.host.take()
    await client.submit(SPEC, values=["1", "2"])
    runs = [(await host.run()).subject for _ in range(2)]
    large = await client.deploy("disk", memory=GB, cpus=2)
    (job,) = await client.submit(SPEC)
    await host.say(runs[0], "failed", reason={"key": "job.command", "message": "no"})
    runs.append((await host.run()).subject)  # as long as the machine has not waited for long, jobs fill the gap
    (job,) = await client.submit(SPEC)
    for _ in range(11):
        grid.clock.skip(30)
        for run in runs[1:]:
            await host.say(run, "running")
        await host.host.sync()
    await host.say(runs[1], "failed", reason={"key": "job.command", "message": "no"})
    assert await host.host.idle(), "a processor is free, and kept"
    kept = f"pc: it is kept free for machine {large.machines[0].uid[:8]}, which has waited for long"
    assert await whys(client, job.uid) == [kept]
    await host.say(runs[2], "failed", reason={"key": "job.command", "message": "no"})
    assert (await host.host.launched()).subject == large.machines[0].uid


def offer(name: str, slots: int | None, refuses: str, cpus: int) -> HostOffer:
    facts = HostFacts(HostId(name), name, Resources(cpus=8, memory=64 * GB))
    return HostOffer(facts, frozenset({"root"}), cpus, 64 * GB, slots, refuses)


@given(
    lent=st.lists(
        st.tuples(st.none() | st.integers(0, 4), st.sampled_from(["", "it rests"]), st.integers(0, 8)), max_size=5
    ),
    asked=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.sampled_from(["ada", "bert"])), max_size=20),
    minutes=st.integers(0, 20),
)
def test_no_host_is_given_more_than_it_takes_and_none_that_takes_more_is_passed_over(
    lent: list[tuple[int | None, str, int]], asked: list[tuple[int, int, str]], minutes: int
) -> None:
    hosts = {HostId(f"h{n}"): offer(f"h{n}", *one) for n, one in enumerate(lent)}
    since = NOW - timedelta(minutes=minutes)
    waiting = [
        Waiting(Uid(f"j{n}"), owner, 0, since, "root", (), cpus, GB, missing, since)
        for n, (cpus, missing, owner) in enumerate(asked)
    ]
    by_uid = {one.uid: one for one in waiting}
    found = match(Picture(waiting, hosts), NOW)
    for host, one in hosts.items():
        given = [by_uid[a.job] for a in found if a.host == host]
        assert not given or not one.refuses
        assert one.slots is None or len(given) <= one.slots
        assert sum(job.cpus for job in given) <= one.cpus
        if given or any(not objection(job, one) for job in waiting):
            assert not one.refuses
    if minutes <= 5:  # nobody reserves a host yet: then whoever got nothing fits nowhere
        for job in waiting:
            if any(a.job == job.uid for a in found):
                continue
            for host, one in hosts.items():
                here = [by_uid[a.job] for a in found if a.host == host]
                left = one.cpus - sum(other.cpus for other in here)
                full = one.slots is not None and len(here) >= one.slots
                assert one.refuses or full or left < job.cpus
