"""`dew.deploy` on a real grid: awaited until machines run, followed, scaled, looked into, stopped, and never leaked."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

import bitdew
from bitdew import Attribute, BitDewError
from bitdew.bootdisk import write_boot_disk
from bitdew.core.errors import error
from bitdew.core.states import MachineState
from bitdew.testing.grid import Grid
from bitdew.testing.mock_hypervisor import MockHypervisor

MEMORY = 32 * 2**20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_boot_disk(tmp_path / "root.raw", line="hello", size=2**20)
    return tmp_path / "root.raw"


@pytest.fixture
def hosts() -> int:
    return 2


@pytest.fixture
async def dew(grid, image):
    async with bitdew.connect(grid.folder / "operator") as dew:
        await dew.put_disk(image, Attribute(replica=2))
        yield dew


async def test_machines_are_awaited_followed_looked_into_and_stopped(dew) -> None:
    deployment = await dew.deploy("root", 2, memory="32MB")
    assert (deployment.disk, deployment.count, len(deployment.machines)) == ("root", 2, 2)
    async with asyncio.timeout(30):
        machines = await deployment
    assert {one.state for one in machines} == {MachineState.RUNNING}
    assert {one.host_name for one in machines} <= {"host1", "host2"}
    first = machines[0]
    async with asyncio.timeout(30), aclosing(first.console()) as parts:
        async for part in parts:
            assert part
            break
    assert await first.log()
    assert (await first.screenshot()).startswith(b"\x89PNG")
    await deployment.stop()
    await deployment.stopped(timeout=30)
    assert {one.state for one in (await deployment.refresh()).machines} == {MachineState.STOPPED}
    assert [part async for part in first.console()]
    await deployment.remove()
    with pytest.raises(BitDewError) as fault:
        await deployment.refresh()
    assert fault.value.key == "deployment.not-found"


async def test_what_happens_to_machines_is_told_as_it_happens(dew) -> None:
    deployment = await dew.deploy(await dew.find("root"), memory=MEMORY)
    told, running = [], False
    async with asyncio.timeout(30), aclosing(deployment.events()) as events:
        async for event in events:
            told.append(event)
            if event.state is MachineState.RUNNING and not running:
                running = True
                await deployment.scale(0)
            if event.state is MachineState.STOPPED:
                break
    assert {event.machine for event in told} == {deployment.machines[0].uid}
    order = [str(state) for state in MachineState]
    places = [order.index(event.state) for event in told]
    assert places == sorted(places)
    running_event = next(event for event in told if event.state is MachineState.RUNNING)
    assert str(running_event) == f"{running_event.machine[:8]} running on {running_event.host_name}"


async def test_more_machines_are_awaited_after_it_is_scaled(dew) -> None:
    deployment = await dew.deploy("root", memory=MEMORY)
    assert len(await deployment.running(timeout=30)) == 1
    waiting = asyncio.create_task(deployment.running(3))
    await deployment.scale(3)
    async with asyncio.timeout(30):
        assert len(await waiting) == 3
    assert [one.uid for one in await dew.deployments()] == [deployment.uid]
    assert (await dew.deployment(deployment.uid[:8])).count == 3


async def test_all_deployments_come_with_their_machines_in_as_many_requests_as_there_are_pages(
    dew, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [await dew.deploy("root", count, memory=MEMORY) for count in (1, 2, 1)]
    for one in made:
        await one.running(timeout=30)
    asked, ask = [], dew.grid._call

    async def counted(method, path, *given, **more):
        asked.append(path)
        return await ask(method, path, *given, **more)

    monkeypatch.setattr(dew.grid, "_call", counted)
    found = await dew.deployments()
    assert asked == ["/v1/deployments", "/v1/machines"]
    assert [one.uid for one in found] == [one.uid for one in made]
    assert [len(one.machines) for one in found] == [1, 2, 1]
    assert [[machine.uid for machine in one.machines] for one in found] == [
        [machine.uid for machine in (await dew.deployment(one.uid)).machines] for one in made
    ]


async def test_a_wait_wakes_when_a_machine_changes_and_not_by_looking_again(dew) -> None:
    deployment = await dew.deploy("root", memory=MEMORY)
    (machine,) = await deployment.running(timeout=30)
    asked, ask = 0, dew.grid.deployment

    async def counted(*given, **options):
        nonlocal asked
        asked += 1
        return await ask(*given, **options)

    dew.grid.deployment = counted
    waiting = asyncio.create_task(deployment.stopped())
    while not asked:
        await asyncio.sleep(0.01)
    await machine.stop()
    async with asyncio.timeout(30):
        await waiting
    assert asked <= 6  # once at first, and once for each state on the way


async def test_machines_that_nobody_can_run_are_told_by_their_reason(grid, dew) -> None:
    for host in grid.hosts.values():
        host._given.fail = {"start": error("hypervisor.failed", "it does not boot")}
    deployment = await dew.deploy("root", memory=MEMORY, restart="never")
    with pytest.raises(BitDewError) as fault:
        await deployment.running(timeout=30)
    assert fault.value.key == "hypervisor.failed"
    assert fault.value.fields["deployment"] == deployment.uid


async def test_machines_that_were_stopped_are_not_waited_for(dew) -> None:
    deployment = await dew.deploy("root", memory=MEMORY)
    (machine,) = await deployment.running(timeout=30)
    await machine.stop()
    await deployment.stopped(timeout=30)
    assert await deployment.running(timeout=30) == []


async def test_machines_that_ended_by_themselves_are_not_waited_for_for_ever(image: Path) -> None:
    async with (
        Grid(hosts=1, hypervisor=lambda: MockHypervisor(ends=True)) as grid,
        bitdew.connect(grid.folder / "operator") as dew,
    ):
        await dew.put_disk(image, Attribute(replica=1))
        deployment = await dew.deploy("root", memory=MEMORY)
        await deployment.stopped(timeout=30)
        with pytest.raises(BitDewError) as fault:
            await deployment.running(timeout=30)
    assert fault.value.key == "machine.not-running"
    assert fault.value.fields["deployment"] == deployment.uid


async def test_a_wait_that_is_bounded_ends_in_time_and_the_machines_go_on(grid, dew) -> None:
    deployment = await dew.deploy("root", memory=MEMORY, requires="site = nowhere")
    with pytest.raises(TimeoutError):
        await deployment.running(timeout=0.2)
    waiting = asyncio.create_task(deployment.running())
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await deployment.refresh()).machines[0].state in {MachineState.REQUESTED, MachineState.WAITING}
    assert (await deployment.explain()).missing == 1


async def test_a_machine_goes_on_from_its_snapshot(dew) -> None:
    (machine,) = await (await dew.deploy("root", memory=MEMORY)).running(timeout=30)
    await machine.snapshot("clean")
    await machine.pause()
    assert (await machine.refresh()).state in {MachineState.PAUSED, MachineState.RUNNING}
    await machine.resume()
    assert (await machine.restore("clean")).uid == machine.uid
    assert [one.name for one in (await machine.refresh()).snapshots] == ["clean"]
