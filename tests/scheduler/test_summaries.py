"""The grid at a glance: it shows what is so, costs the same however many watch, and stays small."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bitdew.scheduler.summary_store import SummaryStore

from bitdew.core.errors import BitDewError
from bitdew.core.job import Caps, JobSpec
from bitdew.core.orders import OrderKind
from bitdew.core.states import HostState, JobState, MachineState, PlacementState
from bitdew.testing.grid import Grid
from bitdew.wire import limits
from bitdew.wire import models as m

Until = Callable[..., Awaitable[Any]]


async def look(grid: Grid) -> m.SummaryReply:
    """A reading that is not an old one."""
    grid.clock.skip(10)
    return await grid.client.summary()


async def test_an_empty_grid_has_nothing_to_show(grid: Grid) -> None:
    seen = await look(grid)
    assert (seen.leads, seen.data, seen.swarms, seen.busy_hosts, seen.troubles) == (True, 0, [], [], [])
    assert set(seen.hosts) == set(HostState)
    assert set(seen.hosts.values()) == {0}


async def test_a_swarm_that_fills_is_shown_with_what_is_there_of_it(grid: Grid, make_host, add_disk) -> None:
    await add_disk(size=100_000, replica=2)
    one, two = await make_host("one"), await make_host("two")
    await one.take()
    order = await two.order(OrderKind.PLACE)
    await two.tell(two.copy(order, PlacementState.FETCHING, done=40_000))
    seen = await look(grid)
    (swarm,) = seen.swarms
    assert (swarm.name, swarm.size, swarm.held, swarm.intended, swarm.wanted, swarm.done) == (
        "disk",
        100_000,
        1,
        1,
        2,
        40_000,
    )
    assert (seen.swarms_filling, seen.copies[PlacementState.HELD]) == (1, 1)
    assert [(host.name, host.transfers, host.state) for host in seen.busy_hosts] == [("two", 1, HostState.ALIVE)]


async def test_machines_jobs_and_who_wants_them_are_shown(grid: Grid, make_host, add_disk, until: Until) -> None:
    await add_disk(replica=1)
    host = await make_host()
    await host.take()
    await grid.client.deploy("disk", memory=2**28)
    await host.launched()
    await grid.client.submit(JobSpec(("root", "-b"), needs=("root>=6.30",)), values=["a", "b"])
    seen = await look(grid)
    assert [(one.disk, one.host_name, one.state) for one in seen.live_machines] == [("disk", "pc", "running")]
    assert (seen.machines[MachineState.RUNNING], seen.jobs[JobState.QUEUED]) == (1, 2)
    assert [(one.owner_name, one.jobs) for one in seen.owners] == [("operator", {JobState.QUEUED: 2})]
    assert [(one.name, one.machines) for one in seen.busy_hosts] == [("pc", 1)]


async def test_jobs_that_run_are_shown_with_their_hosts_and_users(grid: Grid, until: Until) -> None:
    host = await grid.add_host("vm", jobs="anything", memory=2**31, cpus=2)
    spec = JobSpec(("python3", "-c", "import time; time.sleep(600)"), caps=Caps(memory=2**28))
    (job,) = await grid.client.submit(spec, name="fit")

    async def runs() -> m.SummaryReply | None:
        grid.clock.skip(1)
        seen = await grid.client.summary()
        return seen if seen.live_jobs else None

    seen = await until(runs, 60)
    shown = [(one.uid, one.name, one.owner_name, one.host_name) for one in seen.live_jobs]
    assert shown == [(job.uid, "fit", "operator", "vm")]
    assert [(one.name, one.jobs) for one in seen.busy_hosts] == [("vm", 1)]
    await grid.client.cancel_job(job.uid)

    async def ended() -> bool:
        return not host.worker.jobs.attempts

    await until(ended, 60)


async def test_troubles_are_told_with_their_reasons(grid: Grid, make_host, add_disk, until: Until) -> None:
    await add_disk(replica=1)
    host = await make_host()
    order = await host.order(OrderKind.PLACE)
    reason = m.ErrorView(key="storage.full", message="There is no room", why="5 bytes are left", do="")
    await host.tell(host.copy(order, PlacementState.FAILED, reason=reason))
    (failed,) = (await grid.client.summary()).troubles
    assert (failed.kind, failed.what) == (
        "copy",
        "the copy disk on pc failed: There is no room: 5 bytes are left",
    )

    async def silent() -> bool:
        grid.clock.skip(30)
        return any(one.what == "the host pc is lost" for one in (await grid.client.summary()).troubles)

    await until(silent)


async def test_however_many_watch_the_service_reads_once(
    grid: Grid, make_host, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings, read = [], SummaryStore.busiest

    async def counted(store: SummaryStore, *given: Any) -> Any:
        readings.append(given)
        return await read(store, *given)

    monkeypatch.setattr(SummaryStore, "busiest", counted)
    await make_host()
    grid.clock.skip(60)
    seen = await asyncio.gather(*(grid.client.summary() for _ in range(10)))
    assert len(readings) == 1
    assert len({one.at for one in seen}) == 1
    assert all(one.again > 0 for one in seen)
    grid.clock.skip(60)
    assert (await grid.client.summary()).at > seen[0].at
    assert len(readings) == 2


async def test_a_summary_is_bounded_whatever_there_is(grid: Grid, make_host) -> None:
    host = await make_host()
    more = limits.SUMMARY + 5
    await grid.client.submit(JobSpec(("x",)), values=[str(n) for n in range(more)])
    seen = await look(grid)
    assert seen.jobs[JobState.QUEUED] == more
    assert (len(seen.live_jobs), len(seen.owners)) == (0, 1)
    with pytest.raises(BitDewError) as fault:
        await host.line.call("GET", "/v1/summary", m.SummaryReply)
    assert fault.value.key == "certificate.role"
