"""Deployments: what people ask of machines, by uids that may be cut short."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from bitdew.scheduler.records import DeploymentRecord
from bitdew.scheduler.store import SchedulerStore

from bitdew.client.enrolment import enrol
from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid
from bitdew.core.orders import OrderKind
from bitdew.core.restarting import Restart
from bitdew.core.states import HostState, MachineState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire import models as m

from .conftest import ScriptedHost


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


# Kept running ---------------------------------------------------------------------------------------------------------


async def lost(grid: Grid, until, name: str, alive: ScriptedHost) -> None:
    """Let a host be silent until it is lost, while another speaks."""

    async def gone() -> bool:
        grid.clock.skip(5)
        await alive.sync()
        return {host.name: host.state for host in await grid.client.hosts()}[name] is HostState.LOST

    await until(gone)


async def test_a_machine_of_a_lost_host_runs_elsewhere_and_the_old_one_is_halted_when_its_host_is_back(
    grid: Grid, make_host, add_disk, until
) -> None:
    hosts = [await make_host(f"pc{n}") for n in range(2)]
    await add_disk(replica=2)
    for host in hosts:
        await host.take()
    made = await grid.client.deploy("disk")
    first, second = hosts if await started(hosts[0]) else reversed(hosts)
    launch = await first.launched()
    await lost(grid, until, first.name, second)
    other = await second.launched()
    assert other.subject != launch.subject

    shown = {machine.uid: machine for machine in (await grid.client.deployment(made.uid)).machines}
    assert set(shown) == {launch.subject, other.subject}
    old, new = shown[launch.subject], shown[other.subject]
    assert (old.state, old.successor, old.reason.key) == (MachineState.FAILED, new.uid, "machine.host-lost")
    assert (new.state, new.attempt) == (MachineState.RUNNING, 1)

    halt = await first.order(OrderKind.HALT)
    assert halt.subject == launch.subject
    await first.machine(halt, MachineState.STOPPED)
    assert await first.idle()
    assert (await grid.client.machine(old.uid)).state is MachineState.FAILED


async def started(host: ScriptedHost) -> bool:
    """Whether it was told to launch something."""
    await host.sync(wait=0.5)
    return any(order.kind is OrderKind.LAUNCH for order in host.inbox.values())


async def test_a_machine_that_failed_is_followed_by_another_after_a_pause(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    made = await grid.client.deploy("disk")
    launch = await host.launched()
    await host.machine(launch, MachineState.FAILED, reason={"key": "hypervisor.failed", "message": "It broke."})
    told = await grid.client.explain_deployment(made.uid)
    assert (told.running, told.missing) == (0, 1)
    assert told.machines == [f"{launch.subject[:8]} on pc: failed: It broke.; another takes its place soon"]
    again = await host.launched()
    machines = {m.uid: m for m in (await grid.client.deployment(made.uid)).machines}
    assert (machines[launch.subject].successor, machines[again.subject].attempt) == (again.subject, 2)
    assert (await grid.client.explain_deployment(made.uid)).missing == 0


@pytest.mark.parametrize("restart", list(Restart))
async def test_a_machine_that_ended_by_itself_is_replaced_only_if_that_is_always_wanted(
    grid: Grid, make_host, add_disk, restart: Restart
) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    made = await grid.client.deploy("disk", restart=restart)
    await host.machine(await host.launched(), MachineState.STOPPED)
    grid.clock.skip(30)
    if restart is Restart.ALWAYS:
        await host.launched()
    else:
        assert not await started(host)
    assert len((await grid.client.deployment(made.uid)).machines) == 1 + (restart is Restart.ALWAYS)


async def test_a_deployment_grows_and_shrinks_and_ends(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    made = await grid.client.deploy("disk", 2, memory=2**26)
    launches = [await host.launched() for _ in range(2)]
    grown = await grid.client.scale(made.uid[:8], 4)
    assert (grown.count, len(grown.machines)) == (4, 4)
    young = await host.orders(OrderKind.LAUNCH, 2)

    await grid.client.scale(made.uid, 1)
    halts = {order.subject for order in await host.orders(OrderKind.HALT, 3)}
    assert {order.subject for order in young} < halts  # those that don't run yet go first
    (kept,) = {launch.subject for launch in launches} - halts
    for order in [*young, *(one for one in launches if one.subject in halts)]:
        halt = order.model_copy(update={"generation": host.generation})
        await host.machine(halt, MachineState.STOPPED)
    machines = (await grid.client.deployment(made.uid)).machines
    assert [machine.uid for machine in machines if machine.state is not MachineState.STOPPED] == [kept]
    assert (await grid.client.explain_deployment(made.uid)).missing == 0

    assert (await grid.client.scale(made.uid, 0)).count == 0
    assert (await host.order(OrderKind.HALT)).subject == kept
    assert await refused(grid.client.scale("ffff", 1)) == "deployment.not-found"
    assert [one.uid for one in await grid.client.deployments()] == [made.uid]


async def test_stopping_a_machine_makes_its_deployment_one_less_and_only_once(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    made = await grid.client.deploy("disk", 2, memory=2**26, restart=Restart.ALWAYS)
    launch, _ = [await host.launched() for _ in range(2)]
    for _ in range(2):
        await grid.client.stop_machine(launch.subject)
    halt = await host.order(OrderKind.HALT)
    await host.machine(halt, MachineState.STOPPED)
    grid.clock.skip(600)
    assert not await started(host)
    assert (await grid.client.deployment(made.uid)).count == 1


# What machines are told -----------------------------------------------------------------------------------------------


async def asked(host: ScriptedHost, uid: str) -> m.MachineSeed:
    return await host.line.call("POST", f"/v1/machines/{uid}/seed", m.MachineSeed, body=m.Nothing())


async def test_the_host_of_a_machine_and_nobody_else_hears_what_it_is_told(grid: Grid, make_host, add_disk) -> None:
    host, other = await make_host("pc"), await make_host("other", quota=0)
    await add_disk()
    await host.take()
    await grid.client.deploy("disk", network="user", user_data="#!/bin/sh\n")
    order = await host.order(OrderKind.LAUNCH)
    assert order.launch is not None
    assert (order.launch.network, order.launch.seeded) == ("user", True)

    first, second = await asked(host, order.subject), await asked(host, order.subject)
    assert first.user_data == second.user_data == "#!/bin/sh\n"
    assert first.token != second.token
    token = next(one for one in await grid.client.tokens() if one.note)  # the other is the test's own
    assert (token.role, token.uses_left, token.note) == ("worker", 1, f"machine {order.subject}")
    assert token.expires - token.created == timedelta(hours=1)
    inside = await enrol(grid.service.url, str(first.token), "vm", IdentityFolder(grid.folder / "vm"), {Role.WORKER})
    assert inside.subject.role is Role.WORKER

    assert await refused(asked(other, order.subject)) == "machine.not-found"
    await host.machine(order, MachineState.STOPPED)
    assert await refused(asked(host, order.subject)) == "machine.not-found"
    assert await refused(asked(host, "f" * 32)) == "machine.not-found"


async def test_a_machine_without_a_network_gets_no_token_and_one_that_is_told_nothing_no_seed(
    grid: Grid, make_host, add_disk
) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.client.deploy("disk", user_data="x", memory=2**26)
    told = await host.order(OrderKind.LAUNCH)
    assert told.launch is not None
    assert (told.launch.network, told.launch.seeded) == ("none", True)
    assert await asked(host, told.subject) == m.MachineSeed(token=None, user_data="x")
    await grid.client.deploy("disk", memory=2**26)
    plain = await host.order(OrderKind.LAUNCH)
    assert plain.launch is not None
    assert not plain.launch.seeded
    assert not any(token.note for token in await grid.client.tokens())


async def test_machines_can_not_be_told_too_much(grid: Grid, add_disk) -> None:
    await add_disk()
    for words in ("x" * (2**16 + 1), "a\0b"):
        assert await refused(grid.client.deploy("disk", user_data=words)) == "input.too-large"
    assert await grid.client.deployments() == []


# What a deployment wants ----------------------------------------------------------------------------------------------


async def test_hosts_that_will_not_do_or_lend_too_little_get_no_machine_and_it_is_said_why(
    grid: Grid, make_host, add_disk
) -> None:
    hosts = [
        await make_host("lyon", labels={"site": "lyon"}),
        await make_host("full", labels={"site": "orsay"}, machines=1, all_cpus=2),
        await make_host("plain", labels={"site": "orsay"}, abilities={"mock": ["seed"]}),
    ]
    await add_disk(replica=3)
    for host in hosts:
        await host.take()
    made = await grid.client.deploy("disk", 2, cpus=2, network="user", requires="site = orsay")
    assert (made.requires, made.network) == ("site = orsay", "user")
    assert await started(hosts[1])
    told = await grid.client.explain_deployment(made.uid)
    waiting = next(sentence for sentence in told.machines if "lyon" in sentence)
    assert "lyon: " in waiting
    assert "full: it runs 1 machine(s), as many as it lends room for" in waiting
    assert "plain: mock there can't give machines a network and a seed" in waiting
    await hosts[1].sync(host=m.HostReport.model_validate(hosts[1].about | {"machines": 2, "all_cpus": 4}))
    assert len(await hosts[1].orders(OrderKind.LAUNCH, 2)) == 2


async def test_a_machine_has_the_ports_that_its_host_gave_it(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    made = await grid.client.deploy("disk", network="user", ports=[(0, 22), (8080, 80)])
    order = await host.order(OrderKind.LAUNCH)
    assert order.launch is not None
    assert order.launch.ports == [m.PortModel(host=0, guest=22), m.PortModel(host=8080, guest=80)]
    given = [{"host": port, "guest": inside, "address": "127.0.0.1"} for port, inside in ((40022, 22), (8080, 80))]
    await host.machine(order, MachineState.RUNNING, ports=given)
    (shown,) = (await grid.client.deployment(made.uid)).machines
    assert [port.model_dump() for port in shown.ports] == given


@pytest.mark.parametrize(
    ("wish", "key"),
    [
        ({"ports": [(0, 22)]}, "input.invalid"),
        ({"ports": [(80, 80)], "network": "user"}, "input.invalid"),
        ({"ports": [(8080, 80), (8080, 81)], "network": "user"}, "input.invalid"),
        ({"requires": "site ="}, "attribute.requires"),
        ({"lifetime": "7 moons"}, "attribute.invalid"),
        ({"lifetime": "disk"}, "attribute.invalid"),
        ({"lifetime": "2001-01-01"}, "attribute.invalid"),
    ],
)
async def test_impossible_wishes_are_refused(grid: Grid, add_disk, wish, key: str) -> None:
    await add_disk()
    assert await refused(grid.client.deploy("disk", **wish)) == key
    assert await grid.client.deployments() == []


async def test_a_deployment_ends_with_its_life_and_then_no_machine_comes_to_it(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    made = await grid.client.deploy("disk", lifetime="1h", restart=Restart.ALWAYS)
    launch = await host.launched()
    assert launch.launch is not None
    assert launch.launch.ends == made.ends == made.created + timedelta(hours=1)
    grid.clock.skip(3600)
    halt = await host.order(OrderKind.HALT)
    assert (halt.subject, halt.cause) == (launch.subject, "the life of its deployment has ended")
    await host.machine(halt, MachineState.STOPPED)
    assert not await started(host)
    assert await refused(grid.client.scale(made.uid, 2)) == "input.invalid"
