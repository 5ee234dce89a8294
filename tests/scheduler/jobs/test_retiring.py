"""Machines that are drained: the jobs in them go on to their end, none begins, and then the machine ends for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot, new_uid
from bitdew.core.orders import OrderKind
from bitdew.core.restarting import Restart
from bitdew.core.states import MACHINE, HostState, JobState, MachineState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context
from bitdew.wire import models as m
from bitdew.wire.transport import Transport

from ..conftest import AddDisk, MakeHost, ScriptedHost
from .conftest import SPEC, JobHost

Inside = Callable[[m.Order], Awaitable[JobHost]]


@pytest.fixture
async def outer(make_host: MakeHost, add_disk: AddDisk) -> ScriptedHost:
    """A host that holds the disk."""
    host = await make_host()
    await add_disk()
    await host.take()
    return host


@pytest.fixture
async def inside(grid: Grid, outer: ScriptedHost) -> AsyncIterator[Inside]:
    """Has the worker in a launched machine join; it shares ROOT and takes jobs."""
    async with AsyncExitStack() as exits:

        async def join(order: m.Order, **says: Any) -> JobHost:
            path = f"/v1/machines/{order.subject}/seed"
            told = await outer.line.call("POST", path, m.MachineSeed, body=m.Nothing())
            folder = IdentityFolder(grid.folder / order.subject)
            identity = await enrol(grid.service.url, str(told.token), "vm", folder, {Role.WORKER})
            context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
            line = await exits.enter_async_context(Transport(grid.service.url, context))
            sharings = [{"name": "root", "version": "6.40.00"}]
            lends = {"sharings": sharings, "programs": ["root"], **says}
            host = ScriptedHost(line, grid.clock, identity.subject.subject_id, "vm", **lends)
            await host.hello()
            return JobHost(host)

        yield join


async def stays(grid: Grid, host: ScriptedHost, inner: JobHost) -> None:
    """A while passes, in which nothing is asked of either."""
    for _ in range(5):
        grid.clock.skip(3)
        assert await host.idle()
        assert await inner.host.idle()


async def test_a_drained_machine_ends_when_the_jobs_in_it_are_done_and_none_begins_there(
    grid: Grid, client: BitDew, outer: ScriptedHost, inside: Inside
) -> None:
    made = await client.deploy("disk", network="user", restart=Restart.ALWAYS)
    order = await outer.launched()
    inner = await inside(order)
    (running,) = await client.submit(SPEC)
    run = await inner.run()
    await inner.say(run.subject, "running")

    drained = await client.drain_deployment(made.uid)
    assert (drained.count, [one.draining for one in drained.machines]) == (0, [True])
    (waiting,) = await client.submit(SPEC)
    await stays(grid, outer, inner)
    assert (await client.host(inner.host.uid)).state is HostState.DRAINED
    told = await client.explain_deployment(made.uid)
    assert told.machines == [f"{order.subject[:8]} on pc: running; it is drained, and ends once the job in it is done"]

    await inner.claim(run.subject, {"fit.root": b"fitted"})
    await inner.hand_over(run.subject, "fit.root", b"fitted")
    await inner.say(run.subject, "done")
    halt = await outer.order(OrderKind.HALT)
    assert halt.subject == order.subject
    await outer.machine(halt, MachineState.STOPPED)
    assert await outer.idle()  # restart=always, and still none takes its place
    assert (await client.job(running.uid)).state is JobState.DONE
    assert (await client.job(waiting.uid)).state is JobState.QUEUED
    shown = await client.deployment(made.uid)
    assert (shown.count, [one.state for one in shown.machines]) == (0, [MachineState.STOPPED])


async def test_machines_without_a_worker_inside_or_without_a_host_end_at_once(
    grid: Grid, client: BitDew, outer: ScriptedHost
) -> None:
    runs = await client.deploy("disk", memory=2**30)
    order = await outer.launched()
    waits = await client.deploy("disk", memory=2**39)
    for made in (runs, waits):
        await client.drain_deployment(made.uid)
    halt = await outer.order(OrderKind.HALT)
    assert halt.subject == order.subject
    await outer.machine(halt, MachineState.STOPPED)
    machines = {one.deployment: one for one in await client.machines()}
    assert {one.state for one in machines.values()} == {MachineState.STOPPED}
    assert machines[waits.uid].cause == "it was drained before it had a host"


async def test_one_machine_is_drained_alone_and_stopping_it_meanwhile_counts_once(
    grid: Grid, client: BitDew, outer: ScriptedHost, inside: Inside
) -> None:
    made = await client.deploy("disk", 3, network="user", memory=2**28)
    orders = await outer.orders(OrderKind.LAUNCH, 3)
    for order in orders:
        await outer.machine(order, MachineState.RUNNING, hypervisor="mock")
    inner = await inside(orders[0])
    await client.submit(SPEC)
    await inner.run()
    drained = await client.drain_machine(orders[0].subject)
    assert drained.draining
    assert (await client.deployment(made.uid)).count == 2
    await client.drain_machine(orders[0].subject)
    await client.stop_machine(orders[0].subject)  # its user does not wait for the job any more
    assert (await outer.order(OrderKind.HALT)).subject == orders[0].subject
    assert (await client.deployment(made.uid)).count == 2
    assert await outer.idle()


async def test_a_place_that_waits_for_another_attempt_stays_empty(
    grid: Grid, client: BitDew, outer: ScriptedHost
) -> None:
    made = await client.deploy("disk")
    order = await outer.launched()
    await outer.machine(order, MachineState.FAILED, reason={"key": "hypervisor.failed", "message": "It broke."})
    await client.drain_deployment(made.uid)
    for _ in range(5):
        grid.clock.skip(10)
        assert await outer.idle()
    assert len((await client.deployment(made.uid)).machines) == 1
    scaled = await client.scale(made.uid, 1)  # which is how it is taken back
    assert scaled.count == 1
    await outer.launched()


async def test_what_only_the_machine_holds_keeps_it_until_another_host_does(
    grid: Grid, client: BitDew, outer: ScriptedHost, inside: Inside, make_host: MakeHost, add_disk: AddDisk, until
) -> None:
    made = await client.deploy("disk", network="user")
    order = await outer.launched()
    inner = await inside(order, labels={"inner": "yes"})
    result = await add_disk("result", requires="inner = yes")
    await inner.host.take()
    contents = grid.service.rooms.contents
    contents.repository.path(ContentRoot(result.root)).unlink()
    contents.suspect(ContentRoot(result.root))

    async def only_there() -> bool:
        return (await client.draining(inner.host.uid)).only_here == 1

    await until(only_there)
    await client.drain_deployment(made.uid)
    await stays(grid, outer, inner)
    told = (await client.explain_deployment(made.uid)).machines
    assert "ends once other hosts hold what is only there, 1 of its copies" in told[0]
    other = await make_host("other", labels={"inner": "yes"})
    placed = await other.take()
    assert placed.subject == result.uid
    assert (await outer.order(OrderKind.HALT)).subject == order.subject


async def test_a_host_s_machines_are_drained_by_their_users_each_their_own(
    grid: Grid, client: BitDew, outer: ScriptedHost
) -> None:
    await client.deploy("disk")
    mine = await outer.launched()
    token = str((await client.create_token("user")).token)
    await enrol(grid.service.url, token, "someone", IdentityFolder(grid.folder / "someone"), {Role.USER})
    async with BitDew(grid.folder / "someone") as someone:
        await someone.deploy("disk")
        theirs = await outer.launched()
        with pytest.raises(BitDewError) as refusal:
            await someone.drain_machine(mine.subject)
        assert refusal.value.key == "certificate.role"
        assert [one.uid for one in await someone.drain_machines_on("pc")] == [theirs.subject]
    assert (await outer.order(OrderKind.HALT)).subject == theirs.subject
    assert [one.uid for one in await client.drain_machines_on("pc")] == [mine.subject, theirs.subject]
    assert (await outer.order(OrderKind.HALT)).subject == mine.subject
    for unknown in (client.drain_machines_on("nowhere"), client.drain_machine(new_uid())):
        with pytest.raises(BitDewError) as refusal:
            await unknown
        assert refusal.value.key in {"host.not-found", "machine.not-found"}


async def test_the_wish_outlives_a_restart_of_the_service_and_a_lost_machine_is_not_waited_for(
    grid: Grid, client: BitDew, outer: ScriptedHost, inside: Inside, until
) -> None:
    made = await client.deploy("disk", network="user")
    order = await outer.launched()
    inner = await inside(order)
    await client.submit(SPEC)
    await inner.run()
    await client.drain_deployment(made.uid)
    await grid.stop_service()
    await grid.start_service()
    await outer.hello()
    await inner.host.hello()
    assert (await grid.client.machine(order.subject)).draining
    assert await outer.idle()

    async def lost() -> bool:
        grid.clock.skip(5)
        await outer.sync()
        return (await grid.client.host(inner.host.uid)).state is HostState.LOST

    await until(lost)
    assert (await outer.order(OrderKind.HALT)).subject == order.subject


async def test_a_machine_that_moves_off_a_drained_host_drains_with_the_one_that_takes_its_place(
    grid: Grid, client: BitDew, make_host: MakeHost, add_disk: AddDisk
) -> None:
    hosts = [await make_host("one"), await make_host("two")]
    await add_disk(replica=2)
    for host in hosts:
        await host.take()
    made = await client.deploy("disk", restart=Restart.ALWAYS)
    first, second = hosts
    await asyncio.gather(*(host.sync(wait=0.5) for host in hosts))
    if not any(one.kind is OrderKind.LAUNCH for one in first.inbox.values()):
        first, second = second, first
    order = await first.launched()
    await client.drain_host(first.name)
    heir = await second.order(OrderKind.LAUNCH)
    await second.machine(heir, MachineState.PREPARING)
    await client.drain_deployment(made.uid)
    assert (await first.order(OrderKind.HALT)).subject == order.subject
    assert (await second.order(OrderKind.HALT)).subject == heir.subject
    shown = await client.deployment(made.uid)
    assert (shown.count, all(one.draining for one in shown.machines)) == (0, True)
    assert not {one.state for one in shown.machines} - {MachineState.STOPPING, *MACHINE.ends()}
