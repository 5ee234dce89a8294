"""Hosts that are to be emptied, as operators and hosts ask for it: what is stored, told, and left."""

from __future__ import annotations

import pytest

from bitdew.core.draining import Drain
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot
from bitdew.core.orders import OrderKind
from bitdew.core.restarting import Restart
from bitdew.core.states import HostState, MachineState, PlacementState
from bitdew.testing.grid import Grid
from bitdew.wire import models as m

P = PlacementState


async def refused(asked) -> str:
    with pytest.raises(BitDewError) as refusal:
        await asked
    return refusal.value.key


async def test_a_drained_host_hands_its_copy_over_and_then_is_empty(grid: Grid, make_host, add_disk, until) -> None:
    first = await make_host("first")
    await add_disk()
    placed = await first.take()
    view = await grid.client.drain_host("first")
    assert (view.host.state, view.host.drain, view.copies, view.empty) == (HostState.DRAINED, Drain.KEEP, 1, False)
    assert "1 missing, no eligible host" in view.left[0].reason
    assert (view.left[0].moving, view.left[0].only_here) == (False, False)

    second = await make_host("second")
    order = await second.order(OrderKind.PLACE)
    assert (await grid.client.draining("first")).left[0].moving
    await second.tell(second.copy(order, P.HELD, done=70_000))
    assert await first.idle()  # not before the other copy is settled
    grid.clock.skip(60)
    drop = await first.order(OrderKind.DROP)
    assert drop.subject == placed.subject
    await first.tell(first.copy(drop, P.GONE))
    view = await grid.client.draining("first")
    assert (view.empty, view.left) == (True, [])


async def test_a_drained_host_gets_nothing_until_it_is_drained_no_more(grid: Grid, make_host, add_disk) -> None:
    host = await make_host("pc")
    await grid.client.drain_host("pc")
    await add_disk()
    assert await host.idle()
    assert "it is drained since" in (await grid.client.explain("disk")).hosts[0].reason
    view = await grid.client.undrain_host("pc")
    assert (view.host.state, view.host.drain) == (HostState.ALIVE, None)
    await host.take()


async def test_a_host_stays_drained_over_a_restart_of_the_service_and_its_own_absence(
    grid: Grid, make_host, until
) -> None:
    host = await make_host("pc")
    await grid.client.drain_host("pc", Drain.STOP)
    await grid.stop_service()
    await grid.start_service()
    assert [(one.state, one.drain) for one in await grid.client.hosts()] == [(HostState.DRAINED, Drain.STOP)]
    await host.hello()
    assert (await grid.client.host("pc")).state is HostState.DRAINED

    async def is_lost() -> bool:
        grid.clock.skip(20)
        return (await grid.client.host("pc")).state is HostState.LOST

    await until(is_lost)
    await host.hello()
    assert (await grid.client.host("pc")).state is HostState.DRAINED
    assert (await grid.client.undrain_host("pc")).host.state is HostState.ALIVE


async def test_a_machine_that_restarts_is_moved_and_ends_when_the_other_runs(grid: Grid, make_host, add_disk) -> None:
    hosts = [await make_host("one"), await make_host("two")]
    await add_disk(replica=2)
    for host in hosts:
        await host.take()
    made = await grid.client.deploy("disk", restart=Restart.ALWAYS)
    await hosts[0].sync(wait=0.3)
    first, second = hosts if hosts[0].inbox else reversed(hosts)
    launch = await first.launched()
    view = await grid.client.drain_host(first.name)
    assert view.machines == 1
    moved = await second.order(OrderKind.LAUNCH)
    told = (await grid.client.draining(first.name)).left_machines[0]
    assert f"it runs until machine {moved.subject[:8]}, which takes its place, does" in told.reason
    assert await first.idle()
    await second.machine(moved, MachineState.RUNNING, hypervisor="mock")
    halt = await first.order(OrderKind.HALT)
    assert halt.subject == launch.subject
    await first.machine(halt, MachineState.STOPPED)
    machines = {one.uid: one for one in (await grid.client.deployment(made.uid)).machines}
    assert machines[launch.subject].successor == moved.subject
    assert (await grid.client.explain_deployment(made.uid)).running == 1
    assert (await grid.client.draining(first.name)).machines == 0


async def test_stopping_a_machine_that_is_being_moved_ends_it_and_its_successor(
    grid: Grid, make_host, add_disk
) -> None:
    hosts = [await make_host("one"), await make_host("two")]
    await add_disk(replica=2)
    for host in hosts:
        await host.take()
    made = await grid.client.deploy("disk")
    await hosts[0].sync(wait=0.3)
    first, second = hosts if hosts[0].inbox else reversed(hosts)
    launch = await first.launched()
    await grid.client.drain_host(first.name)
    moved = await second.order(OrderKind.LAUNCH)
    await grid.client.stop_machine(launch.subject)
    assert (await first.order(OrderKind.HALT)).subject == launch.subject
    assert (await second.order(OrderKind.HALT)).subject == moved.subject
    assert (await grid.client.deployment(made.uid)).count == 0


async def test_where_machines_are_to_stop_one_that_never_restarts_does(grid: Grid, make_host, add_disk) -> None:
    host = await make_host("pc")
    await add_disk()
    await host.take()
    await grid.client.deploy("disk", restart=Restart.NEVER)
    launch = await host.launched()
    assert "to its end on a drained host" in (await grid.client.drain_host("pc")).left_machines[0].reason
    assert await host.idle()
    await grid.client.drain_host("pc", Drain.STOP)
    assert (await host.order(OrderKind.HALT)).subject == launch.subject


async def test_a_copy_whose_bytes_are_nowhere_else_is_told_as_such(grid: Grid, make_host, add_disk, until) -> None:
    host = await make_host("pc")
    disk = await add_disk()
    await host.take()
    assert (await grid.client.drain_host("pc")).only_here == 0
    contents = grid.service.rooms.contents
    contents.repository.path(ContentRoot(disk.root)).unlink()
    contents.suspect(ContentRoot(disk.root))

    async def is_only_there() -> bool:
        view = await grid.client.draining("pc")
        return view.only_here == 1 and view.left[0].only_here

    await until(is_only_there)
    other = await make_host("other")
    order = await other.order(OrderKind.PLACE)
    await other.tell(other.copy(order, P.HELD))
    assert (await grid.client.draining("pc")).only_here == 0


async def test_a_worker_leaves_by_its_own_word_and_no_other_one_can_make_it(grid: Grid, make_host) -> None:
    host, other = await make_host("pc"), await make_host("other")
    view = await host.line.call("POST", "/v1/leave", m.DrainView, body=m.DrainRequest(machines=Drain.STOP))
    assert (view.host.name, view.host.drain, view.empty) == ("pc", Drain.STOP, True)
    assert (await other.line.call("GET", "/v1/leave", m.DrainView)).host.drain is None
    path = f"/v1/hosts/{other.uid}/drain"
    assert await refused(host.line.call("POST", path, m.DrainView, body=m.DrainRequest())) == "certificate.role"
    await host.line.call("DELETE", "/v1/leave", m.DrainView)
    assert (await grid.client.host("pc")).state is HostState.ALIVE


async def test_a_worker_gives_its_identity_up_and_is_refused_from_then_on(grid: Grid, make_host) -> None:
    host = await make_host("pc")
    await host.line.call("DELETE", "/v1/identity", m.Nothing)
    assert await refused(host.sync()) == "certificate.revoked"
    assert (await grid.client.host("pc")).state is HostState.BANNED
    assert await refused(grid.client.drain_host("pc")) == "host.banned"
    assert await refused(grid.client.drain_host("nobody")) == "host.not-found"
