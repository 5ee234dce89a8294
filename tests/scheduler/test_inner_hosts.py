"""What is made for a machine, so that it can be a host itself, is worth nothing when the machine has ended."""

from __future__ import annotations

import asyncio

import pytest

from bitdew.client.enrolment import enrol
from bitdew.core.errors import BitDewError
from bitdew.core.orders import OrderKind
from bitdew.core.states import HostState, MachineState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context
from bitdew.wire import models as m
from bitdew.wire.transport import Transport

from .conftest import ScriptedHost
from .test_errands import kept, saved
from .test_errands import refused as errand_refused

KEYS = ("certificate.revoked", "host.banned")


async def seed(host: ScriptedHost, uid: str) -> m.MachineSeed:
    return await host.line.call("POST", f"/v1/machines/{uid}/seed", m.MachineSeed, body=m.Nothing())


@pytest.fixture
async def outer(grid: Grid, make_host, add_disk) -> ScriptedHost:
    host = await make_host()
    await add_disk()
    await host.take()
    return host


@pytest.fixture
async def inside(grid: Grid, outer: ScriptedHost):
    """A machine's order, and the host that it is itself."""
    await grid.client.deploy("disk", network="user")
    order = await outer.launched()
    told = await seed(outer, order.subject)
    identity = await enrol(grid.service.url, str(told.token), "vm", IdentityFolder(grid.folder / "vm"), {Role.WORKER})
    context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
    async with Transport(grid.service.url, context) as line:
        made = ScriptedHost(line, grid.clock, identity.subject.subject_id, "vm")
        await made.hello()
        yield order, made


async def shut_out(inner: ScriptedHost) -> bool:
    try:
        await inner.sync()
    except BitDewError as fault:
        return fault.key in KEYS
    return False


async def test_a_machine_shows_the_host_that_it_is_and_takes_it_along_when_it_ends(
    grid: Grid, outer: ScriptedHost, inside, until
) -> None:
    order, inner = inside
    shown = await grid.client.machine(order.subject)
    assert (shown.inner, shown.inner_state) == (inner.uid, HostState.ALIVE)
    assert {host.name for host in await grid.client.hosts()} == {"pc", "vm"}
    await outer.machine(order, MachineState.STOPPED)
    await until(lambda: shut_out(inner))

    async def alone() -> bool:
        return {host.name for host in await grid.client.hosts()} == {"pc"}

    await until(alone)
    assert (await grid.client.machine(order.subject)).inner is None


async def test_a_token_that_a_machine_did_not_use_is_worth_nothing_after_its_end(
    grid: Grid, outer: ScriptedHost, until
) -> None:
    await grid.client.deploy("disk", network="user")
    order = await outer.order(OrderKind.LAUNCH)
    token = str((await seed(outer, order.subject)).token)
    await outer.machine(order, MachineState.STOPPED)

    async def gone() -> bool:
        return not any(one.note for one in await grid.client.tokens())

    await until(gone)
    late = enrol(grid.service.url, token, "vm", IdentityFolder(grid.folder / "vm"), {Role.WORKER})
    assert await errand_refused(late) == "token.invalid"


async def test_the_host_inside_a_saved_machine_goes_on_with_whatever_goes_on_from_it(
    grid: Grid, outer: ScriptedHost, inside, until
) -> None:
    order, inner = inside
    await saved(grid, outer, order)
    await outer.machine(order, MachineState.STOPPED, **kept(outer, "a"))
    await asyncio.sleep(0.2)
    assert not await shut_out(inner)
    heir = (await grid.client.restore(order.subject, "a")).machine
    launch = await outer.order(OrderKind.LAUNCH)
    await outer.machine(launch, MachineState.RUNNING, **kept(outer, "a"))
    assert (await grid.client.machine(heir)).inner == inner.uid
    await outer.machine(launch, MachineState.STOPPED)
    await until(lambda: shut_out(inner))


async def test_a_machine_that_was_given_up_with_its_host_is_shut_out(
    grid: Grid, outer: ScriptedHost, inside, until
) -> None:
    _, inner = inside

    async def lost() -> bool:
        grid.clock.skip(5)
        return await shut_out(inner)

    await until(lost)


# Going back to a snapshot ---------------------------------------------------------------------------------------------


async def joined_as(grid: Grid, token: str | None, folder: str):
    """Who joins with this token, by keys of its own."""
    return await enrol(grid.service.url, str(token), "vm", IdentityFolder(grid.folder / folder), {Role.WORKER})


async def test_a_token_that_a_machine_had_not_used_when_it_was_saved_is_good_for_what_goes_on_from_it(
    grid: Grid, outer: ScriptedHost, until
) -> None:
    await grid.client.deploy("disk", network="user")
    order = await outer.launched()
    token = (await seed(outer, order.subject)).token
    await saved(grid, outer, order)
    await outer.machine(order, MachineState.STOPPED, **kept(outer, "a"))
    heir = (await grid.client.restore(order.subject, "a")).machine
    launch = await outer.order(OrderKind.LAUNCH)
    await outer.machine(launch, MachineState.RUNNING, **kept(outer, "a"))
    identity = await joined_as(grid, token, "inside")
    assert (await grid.client.machine(heir)).inner == identity.subject.subject_id


async def test_a_machine_that_went_back_to_before_it_had_joined_joins_as_another_with_a_fresh_token(
    grid: Grid, outer: ScriptedHost, inside
) -> None:
    order, before = inside
    grid.clock.skip(1)
    identity = await joined_as(grid, (await seed(outer, order.subject)).token, "again")
    context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
    async with Transport(grid.service.url, context) as line:
        after = ScriptedHost(line, grid.clock, identity.subject.subject_id, "vm")
        await after.hello()
        assert after.uid != before.uid
        assert (await grid.client.machine(order.subject)).inner == after.uid


async def test_the_host_that_a_machine_was_before_it_went_back_is_listed_no_more_once_it_is_lost(
    grid: Grid, outer: ScriptedHost, inside, until
) -> None:
    order, before = inside
    token = (await seed(outer, order.subject)).token
    other = await enrol(grid.service.url, str(token), "vm", IdentityFolder(grid.folder / "again"), {Role.WORKER})
    context = await asyncio.to_thread(client_context, other.ca, other.identity)
    async with Transport(grid.service.url, context) as line:
        now = ScriptedHost(line, grid.clock, other.subject.subject_id, "vm")
        await now.hello()
        assert len([host for host in await grid.client.hosts() if host.name == "vm"]) == 2, "it may still be there"

        async def alone() -> bool:
            grid.clock.skip(20)
            await now.sync()
            await outer.sync()
            return [host.host for host in await grid.client.hosts() if host.name == "vm"] == [now.uid]

        await until(alone)
        assert (await grid.client.machine(order.subject)).inner == now.uid
        await before.hello()  # a later snapshot brought it back
        assert len([host for host in await grid.client.hosts() if host.name == "vm"]) == 2


async def test_a_machine_whose_host_was_shut_out_gets_no_token_and_what_it_had_is_worth_nothing(
    grid: Grid, outer: ScriptedHost, inside, until
) -> None:
    order, inner = inside
    spare = (await seed(outer, order.subject)).token
    assert spare is not None
    await grid.client.revoke_host(inner.uid)
    assert await shut_out(inner)
    assert (await seed(outer, order.subject)).token is None
    assert await errand_refused(joined_as(grid, spare, "again")) == "token.invalid"
    await saved(grid, outer, order)
    await outer.machine(order, MachineState.STOPPED, **kept(outer, "a"))
    await grid.client.restore(order.subject, "a")
    launch = await outer.order(OrderKind.LAUNCH)
    await outer.machine(launch, MachineState.RUNNING, **kept(outer, "a"))
    assert (await seed(outer, launch.subject)).token is None
    assert await shut_out(inner)
