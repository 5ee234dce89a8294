"""Deployments: what people ask of machines, by uids that may be cut short."""

from __future__ import annotations

import asyncio

import pytest
from bitdew.scheduler.records import DeploymentRecord
from bitdew.scheduler.store import SchedulerStore

from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import MachineState
from bitdew.testing.grid import Grid


async def refused(asked) -> str:
    with pytest.raises(BitDewError) as refusal:
        await asked
    return refusal.value.key


async def test_a_deployment_shows_the_machines_that_it_asked_for(grid: Grid, add_disk) -> None:
    await add_disk()
    deployed = await grid.client.deploy("disk", 3, memory=32 * 2**20, cpus=2)
    assert (deployed.disk, deployed.count, len(deployed.machines)) == ("disk", 3, 3)
    assert {m.state for m in deployed.machines} == {MachineState.REQUESTED}
    assert {m.uid for m in await grid.client.machines()} == {m.uid for m in deployed.machines}
    other = await grid.client.deploy("disk")
    assert len(other.machines) == 1
    assert len(await grid.client.machines()) == 4


async def test_a_disk_that_is_not_there_is_not_deployed(grid: Grid, add_disk) -> None:
    assert await refused(grid.client.deploy("disk")) == "data.not-found"
    await add_disk()
    await grid.client.remove_disk("disk")
    assert await refused(grid.client.deploy("disk")) == "data.not-found"


@pytest.mark.parametrize("impossible", [{"count": 0}, {"memory": 1}, {"cpus": 0}])
async def test_an_impossible_machine_is_refused(grid: Grid, add_disk, impossible: dict[str, int]) -> None:
    await add_disk()
    body = {"disk": "disk"} | impossible
    with pytest.raises((BitDewError, ValueError)):
        await grid.client.deploy(**body)
    assert await grid.client.machines() == []


async def test_a_machine_goes_by_the_beginning_of_its_uid(grid: Grid, add_disk) -> None:
    disk = await add_disk()
    store = SchedulerStore(grid.service.database)
    deployment = DeploymentRecord(Uid("0" * 32), Uid(disk.uid), 2, 2**26, 1, grid.clock.now(), "x")
    await store.add_deployment(deployment, [Uid("abcd1" + "0" * 27), Uid("abcd2" + "0" * 27)])
    assert (await grid.client.machine("abcd1")).uid == "abcd1" + "0" * 27
    assert await refused(grid.client.machine("abcd")) == "input.invalid"
    assert await refused(grid.client.machine("abc")) == "machine.not-found"
    assert await refused(grid.client.machine("abcd3")) == "machine.not-found"
    for pattern in ("a%25d1", "abc_1", "____", "%25%25%25%25"):
        assert await refused(grid.client.machine(pattern)) in {"machine.not-found", "input.invalid"}
    assert await refused(grid.client.stop_machine("ffff")) == "machine.not-found"
    assert await refused(grid.client.console("ffff")) == "machine.not-found"


async def test_a_machine_that_waits_for_a_host_stops_at_once(grid: Grid, add_disk, until) -> None:
    await add_disk()
    deployed = await grid.client.deploy("disk")
    uid = deployed.machines[0].uid
    await grid.client.stop_machine(uid)

    async def stopped() -> bool:
        return (await grid.client.machine(uid)).state is MachineState.STOPPED

    await until(stopped)
    reply = await grid.client.console(uid, wait=30)
    assert (reply.text, reply.state) == ("", MachineState.STOPPED)


async def test_machines_of_a_removed_disk_are_still_shown(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.client.deploy("disk")
    launch = await host.launched()
    await grid.client.remove_disk("disk")
    (shown,) = await grid.client.machines()
    assert (shown.uid, shown.disk, shown.state) == (launch.subject, "disk", MachineState.RUNNING)
    assert (await grid.client.machine(shown.uid)) == shown


async def test_whoever_follows_a_console_is_told_when_the_machine_ends(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.client.deploy("disk")
    launch = await host.launched()

    async def follow() -> list[str]:
        return [part.text async for part in grid.client.follow_console(launch.subject)]

    following = asyncio.create_task(follow())
    for offset, text in ((0, "one "), (4, "two")):
        await host.machine(launch, MachineState.RUNNING, console={"offset": offset, "text": text})
    await host.machine(launch, MachineState.FAILED, reason={"key": "hypervisor.failed", "message": "It broke."})
    assert "".join(await asyncio.wait_for(following, 10)) == "one two"
    shown = await grid.client.machine(launch.subject)
    assert shown.reason is not None
    assert shown.reason.message == "It broke."


async def test_machines_are_spread_over_the_holders(grid: Grid, make_host, add_disk) -> None:
    hosts = [await make_host(f"pc{n}") for n in range(2)]
    await add_disk(replica=2)
    for host in hosts:
        await host.take()
    await grid.client.deploy("disk", 4)
    for host in hosts:
        assert len(await host.orders(OrderKind.LAUNCH, 2)) == 2
    assert [view.machines for view in await grid.client.hosts()] == [2, 2]
