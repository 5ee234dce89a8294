"""What machines' users ask of their hosts goes there once, and what came of it comes back; or it is told why not."""

from __future__ import annotations

import asyncio

import pytest
from bitdew.scheduler.errands import KEPT

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.core.errors import BitDewError
from bitdew.core.ids import new_uid
from bitdew.core.orders import ErrandKind, OrderKind
from bitdew.core.restarting import Restart
from bitdew.core.states import HostState, MachineState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire import models as m

from .conftest import ScriptedHost

PNG = b"\x89PNG and so on"


async def refused(asked) -> str:
    with pytest.raises(BitDewError) as refusal:
        await asked
    return refusal.value.key


async def answer(host: ScriptedHost, order: m.Order, **says) -> None:
    report = m.ErrandReport.model_validate(says)
    await host.line.call("POST", f"/v1/errands/{order.subject}/result", m.Nothing, body=report)


@pytest.fixture
async def host(grid: Grid, make_host, add_disk) -> ScriptedHost:
    made = await make_host()
    await add_disk()
    await made.take()
    return made


async def running(grid: Grid, host: ScriptedHost, **wishes) -> m.Order:
    await grid.client.deploy("disk", **wishes)
    return await host.launched()


async def test_a_host_is_asked_once_and_what_came_of_it_is_told(grid: Grid, host: ScriptedHost) -> None:
    launch = await running(grid, host)
    asking = asyncio.create_task(grid.client.screenshot(launch.subject[:8]))
    order = await host.order(OrderKind.ERRAND)
    assert order.errand == m.ErrandOrder(machine=launch.subject, kind=ErrandKind.SCREENSHOT)
    assert not (await host.sync()).orders
    for _ in range(2):
        await answer(host, order, picture=PNG)
    assert await asyncio.wait_for(asking, 10) == PNG
    assert not (await host.hello()).orders


async def test_the_hosts_refusal_reaches_whoever_asked(grid: Grid, host: ScriptedHost) -> None:
    launch = await running(grid, host)
    asking = asyncio.create_task(refused(grid.client.resume_machine(launch.subject)))
    order = await host.order(OrderKind.ERRAND)
    await answer(host, order, reason={"key": "host.in-use", "message": "Its owner is there"})
    assert await asyncio.wait_for(asking, 10) == "host.in-use"


async def test_an_errand_is_no_order_about_the_machine_so_that_its_halt_goes_out_all_the_same(
    grid: Grid, host: ScriptedHost
) -> None:
    launch = await running(grid, host)
    asking = asyncio.create_task(grid.client.pause_machine(launch.subject))
    order = await host.order(OrderKind.ERRAND)
    await grid.client.stop_machine(launch.subject)
    assert (await host.order(OrderKind.HALT)).subject == launch.subject
    await answer(host, order)
    await asyncio.wait_for(asking, 10)


async def test_a_host_that_does_not_answer_is_not_waited_for_and_the_order_is_taken_back(
    grid: Grid, host: ScriptedHost, until
) -> None:
    launch = await running(grid, host)
    asking = asyncio.create_task(refused(grid.client.pause_machine(launch.subject)))
    await host.order(OrderKind.ERRAND)

    async def ended() -> bool:
        grid.clock.skip(10)
        await host.sync()
        return asking.done()

    await until(ended)
    assert asking.result() == "machine.unreachable"
    assert not (await host.hello()).orders


async def test_machines_that_do_not_run_and_hosts_that_are_lost_are_not_asked(
    grid: Grid, host: ScriptedHost, make_host, until
) -> None:
    made = await grid.client.deploy("disk", memory=2**40)
    assert await refused(grid.client.pause_machine(made.machines[0].uid)) == "machine.not-running"
    launch = await running(grid, host, restart=Restart.NEVER)
    assert await refused(grid.client.restore(launch.subject, "a")) == "snapshot.not-found"
    assert await refused(grid.client.pause_machine("ffff")) == "machine.not-found"
    other = await make_host("other", quota=0)

    async def lost() -> bool:
        grid.clock.skip(5)
        await other.sync()
        return {h.name: h.state for h in await grid.client.hosts()}["pc"] is HostState.LOST

    await until(lost)
    assert await refused(grid.client.pause_machine(launch.subject)) == "machine.unreachable"


async def test_only_a_machines_user_and_operators_ask_and_only_its_host_answers(
    grid: Grid, host: ScriptedHost, make_host
) -> None:
    launch = await running(grid, host)
    token = (await grid.client.create_token("user")).token
    await enrol(grid.service.url, str(token), "eve", IdentityFolder(grid.folder / "eve"), {Role.USER})
    async with BitDew(grid.folder / "eve") as eve:
        assert await refused(eve.pause_machine(launch.subject)) == "certificate.role"
        asking = asyncio.create_task(grid.client.screenshot(launch.subject))
        order = await host.order(OrderKind.ERRAND)
        other = await make_host("other", quota=0)
        assert await refused(answer(other, order)) == "errand.not-found"
        await answer(host, order, picture=PNG)
        await asyncio.wait_for(asking, 10)
        looked = eve._call("GET", f"/v1/errands/{order.subject}", m.ErrandView)
        assert await refused(looked) == "certificate.role"


async def test_a_picture_is_kept_for_minutes_only(grid: Grid, host: ScriptedHost, until) -> None:
    launch = await running(grid, host)
    asking = asyncio.create_task(grid.client.screenshot(launch.subject))
    order = await host.order(OrderKind.ERRAND)
    await answer(host, order, picture=PNG)
    await asyncio.wait_for(asking, 10)
    path = f"/v1/errands/{order.subject}"
    assert (await grid.client._call("GET", path, m.ErrandView)).picture == PNG
    grid.clock.skip(KEPT.total_seconds() + 1)

    async def forgotten() -> bool:
        try:
            await grid.client._call("GET", path, m.ErrandView)
        except BitDewError as fault:
            return fault.key == "errand.not-found"
        return False

    await until(forgotten)
    assert await refused(answer(host, order)) == "errand.not-found"


# Snapshots ------------------------------------------------------------------------------------------------------------


async def saved(grid: Grid, host: ScriptedHost, launch: m.Order, name: str | None = "a") -> str:
    asking = asyncio.create_task(grid.client.snapshot(launch.subject, name))
    order = await host.order(OrderKind.ERRAND)
    assert order.errand is not None
    await answer(host, order)
    return str((await asyncio.wait_for(asking, 10)).name)


def kept(host: ScriptedHost, *names: str) -> dict[str, object]:
    return {"snapshots": [{"name": name, "at": "2026-01-01T00:00:00Z"} for name in names]}


async def test_a_snapshot_is_listed_as_soon_as_it_is_made_and_as_long_as_its_host_has_it(
    grid: Grid, host: ScriptedHost
) -> None:
    launch = await running(grid, host)
    name = await saved(grid, host, launch, None)
    assert [s.name for s in (await grid.client.machine(launch.subject)).snapshots] == [name]
    await host.machine(launch, MachineState.RUNNING, **kept(host, name))
    await host.machine(launch, MachineState.STOPPED, **kept(host, name))
    assert [s.name for s in (await grid.client.machine(launch.subject)).snapshots] == [name]
    await host.machine(launch, MachineState.STOPPED)
    shown = await grid.client.machine(launch.subject)
    assert (shown.state, shown.snapshots) == (MachineState.STOPPED, [])


async def test_another_machine_goes_on_from_a_snapshot_of_one_that_ended_on_that_host_alone(
    grid: Grid, host: ScriptedHost, make_host
) -> None:
    launch = await running(grid, host)
    await saved(grid, host, launch)
    await host.machine(launch, MachineState.STOPPED, **kept(host, "a"))
    assert await refused(grid.client.restore(launch.subject, "b")) == "snapshot.not-found"
    done = await grid.client.restore(launch.subject, "a")
    order = await host.order(OrderKind.LAUNCH)
    assert order.subject == done.machine != launch.subject
    assert order.launch is not None
    assert (order.launch.continues, order.launch.snapshot) == (launch.subject, "a")
    again = await refused(grid.client.restore(launch.subject, "a"))
    assert again == "input.invalid"
    await host.machine(order, MachineState.RUNNING, **kept(host, "a"))
    shown = await grid.client.machine(done.machine)
    assert (shown.continues, shown.cause) == (launch.subject, "it has the snapshot that the machine goes on from")
    made = await grid.client.deployment((await grid.client.deployments())[0].uid)
    assert (made.count, len(made.machines)) == (1, 2)
    assert (await grid.client.explain_deployment(made.uid)).missing == 0


async def test_a_machine_whose_place_is_taken_goes_on_as_one_more(grid: Grid, host: ScriptedHost) -> None:
    launch = await running(grid, host)
    await saved(grid, host, launch)
    await grid.client.stop_machine(launch.subject)
    halt = await host.order(OrderKind.HALT)
    await host.machine(halt, MachineState.STOPPED, **kept(host, "a"))
    assert (await grid.client.deployments())[0].count == 0
    await grid.client.restore(launch.subject, "a")
    await host.launched()
    assert (await grid.client.deployments())[0].count == 1


async def test_a_machine_that_can_only_go_on_elsewhere_waits_and_says_so(
    grid: Grid, make_host, add_disk, until
) -> None:
    hosts = [await make_host(f"pc{n}") for n in range(2)]
    await add_disk(replica=2)
    for one in hosts:
        await one.take()
    made = await grid.client.deploy("disk")
    await hosts[0].sync(wait=0.5)
    first, second = hosts if any(o.kind is OrderKind.LAUNCH for o in hosts[0].inbox.values()) else reversed(hosts)
    launch = await first.launched()
    await saved(grid, first, launch)
    await first.machine(launch, MachineState.STOPPED, **kept(first, "a"))
    await first.sync(host=m.HostReport.model_validate(first.about | {"memory": 2**20}))
    await grid.client.restore(launch.subject, "a")
    told = await grid.client.explain_deployment(made.uid)
    assert f"{second.name}: the snapshot that it goes on from is on another host" in told.machines[0]
    assert f"{first.name}: its memory has 1.0 MB left" in told.machines[0]
    await second.sync(wait=0.3)
    assert await second.idle()


async def test_nobody_hears_of_errands_that_never_were(grid: Grid) -> None:
    looked = grid.client._call("GET", f"/v1/errands/{new_uid()}", m.ErrandView)
    assert await refused(looked) == "errand.not-found"
