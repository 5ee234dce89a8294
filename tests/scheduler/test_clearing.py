"""What is over is forgotten, after its host has removed what it kept of it; what is not over stays."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from bitdew.core.errors import BitDewError
from bitdew.core.orders import ErrandKind, OrderKind
from bitdew.core.restarting import Restart
from bitdew.core.states import MachineState
from bitdew.testing.grid import Grid
from bitdew.wire import models as m

from .conftest import ScriptedHost
from .test_errands import answer, kept, saved

WEEK = timedelta(days=7)


async def refused(asked) -> str:
    with pytest.raises(BitDewError) as refusal:
        await asked
    return refusal.value.key


@pytest.fixture
async def host(grid: Grid, make_host, add_disk) -> ScriptedHost:
    made = await make_host()
    await add_disk()
    await made.take()
    return made


async def purged(grid: Grid) -> int:
    return await grid.service.rooms._clearing.purge(grid.clock.now() - WEEK)


async def test_a_machine_that_has_ended_is_forgotten_and_its_deployment_is_of_one_less(
    grid: Grid, host: ScriptedHost
) -> None:
    made = await grid.client.deploy("disk", 2, memory=2**26)
    first, second = [await host.launched() for _ in range(2)]
    assert await refused(grid.client.remove_machine(first.subject)) == "machine.not-ended"
    assert await refused(grid.client.remove_deployment(made.uid)) == "machine.not-ended"
    await host.machine(first, MachineState.STOPPED)
    await grid.client.remove_machine(first.subject[:8])
    assert await refused(grid.client.machine(first.subject)) == "machine.not-found"
    shown = await grid.client.deployment(made.uid)
    assert (shown.count, [one.uid for one in shown.machines]) == (1, [second.subject])
    assert (await grid.client.explain_deployment(made.uid)).missing == 0
    await host.machine(second, MachineState.STOPPED)
    await grid.client.remove_deployment(made.uid)
    assert await grid.client.deployments() == []
    assert not (await host.hello()).orders


async def test_what_the_host_keeps_goes_first(grid: Grid, host: ScriptedHost) -> None:
    await grid.client.deploy("disk")
    launch = await host.launched()
    await saved(grid, host, launch)
    await host.machine(launch, MachineState.STOPPED, **kept(host, "a"))
    removing = asyncio.create_task(grid.client.remove_machine(launch.subject))
    order = await host.order(OrderKind.ERRAND)
    assert order.errand == m.ErrandOrder(machine=launch.subject, kind=ErrandKind.CLEAR)
    assert (await grid.client.machine(launch.subject)).snapshots
    await answer(host, order)
    await asyncio.wait_for(removing, 10)
    assert await grid.client.machines() == []


async def test_a_machine_of_which_its_host_has_still_to_hear_is_not_forgotten(
    grid: Grid, make_host, add_disk, until
) -> None:
    hosts = [await make_host(f"pc{n}") for n in range(2)]
    await add_disk(replica=2)
    for one in hosts:
        await one.take()
    await grid.client.deploy("disk")
    await hosts[0].sync(wait=0.5)
    first, second = hosts if any(o.kind is OrderKind.LAUNCH for o in hosts[0].inbox.values()) else reversed(hosts)
    launch = await first.launched()

    async def given_up() -> bool:
        grid.clock.skip(5)
        await second.sync()
        return (await grid.client.machine(launch.subject)).state is MachineState.FAILED

    await until(given_up)
    assert await refused(grid.client.remove_machine(launch.subject)) == "machine.unreachable"
    grid.clock.skip(WEEK.total_seconds() + 1)
    assert await purged(grid) == 0
    await first.machine(await first.order(OrderKind.HALT), MachineState.STOPPED)
    await grid.client.remove_machine(launch.subject)


async def test_after_a_week_what_is_over_is_forgotten_and_what_runs_or_is_to_be_replaced_stays(
    grid: Grid, host: ScriptedHost
) -> None:
    over = await grid.client.deploy("disk", memory=2**26)
    await host.machine(await host.launched(), MachineState.STOPPED)
    runs = await grid.client.deploy("disk", memory=2**26)
    running = await host.launched()
    assert await purged(grid) == 0
    grid.clock.skip(WEEK.total_seconds() + 1)
    await host.sync()
    assert await purged(grid) == 1
    assert [one.uid for one in await grid.client.deployments()] == [runs.uid]
    assert [one.uid for one in await grid.client.machines()] == [running.subject]
    assert await refused(grid.client.deployment(over.uid)) == "deployment.not-found"


async def test_after_a_week_a_host_is_asked_to_remove_what_it_keeps_and_then_that_is_forgotten_too(
    grid: Grid, host: ScriptedHost
) -> None:
    await grid.client.deploy("disk", restart=Restart.NEVER)
    launch = await host.launched()
    await saved(grid, host, launch)
    await host.machine(launch, MachineState.STOPPED, **kept(host, "a"))
    grid.clock.skip(WEEK.total_seconds() + 1)
    assert await purged(grid) == 0  # its host is away
    await host.sync()
    assert await purged(grid) == 0
    await answer(host, await host.order(OrderKind.ERRAND))
    assert await purged(grid) == 1
    assert await grid.client.machines() == []
