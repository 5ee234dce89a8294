"""Two services on one database: what one is told, the other knows; one of them plans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.composition import Service, ServiceSettings
from bitdew.core.attribute import Attribute
from bitdew.core.errors import BitDewError
from bitdew.core.orders import OrderKind
from bitdew.core.states import HostState, MachineState, PlacementState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context
from bitdew.wire.transport import Transport

P = PlacementState
MB = 2**20
Until = Callable[..., Awaitable[Any]]


@pytest.fixture
def grid(leading: Grid) -> Grid:
    """The service that leads."""
    return leading


@pytest.fixture
async def client(grid: Grid, second: Service) -> AsyncIterator[BitDew]:
    """An operator's connection to the second service."""
    async with BitDew.connect(grid.folder / "operator", second.url) as client:
        yield client


@pytest.fixture
async def move(grid: Grid, second: Service) -> AsyncIterator[Callable[[Any], Awaitable[None]]]:
    """Lets a host talk to the second service from now on."""
    async with AsyncExitStack() as exits:

        async def move(host: Any) -> None:
            identity = await asyncio.to_thread(IdentityFolder(grid.folder / host.name).load)
            context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
            host.line = await exits.enter_async_context(Transport(second.url, context))
            assert (await host.sync()).full, "who never heard of this start of a worker asks for everything"
            await host.hello()

        yield move


async def test_a_host_of_the_follower_carries_out_what_the_leader_decides(
    grid: Grid, client: BitDew, move, make_host, add_disk
) -> None:
    host = await make_host("far")
    await move(host)
    await add_disk(replica=1)
    await host.take()
    machine = (await client.deploy("disk")).machines[0]
    await host.launched()
    await client.stop_machine(machine.uid)
    assert (await host.order(OrderKind.HALT)).subject == machine.uid
    assert [host.state for host in await client.hosts()] == [HostState.ALIVE]
    told = [(one.held, one.missing, [h.verdict for h in one.hosts]) for one in await both_explain(grid, client)]
    assert told == [(1, 0, ["holds"])] * 2


async def both_explain(grid: Grid, client: BitDew) -> list[Any]:
    return [await grid.client.explain("disk"), await client.explain("disk")]


async def test_a_copy_that_moves_is_not_planned_again_though_its_host_talks_to_the_follower(
    grid: Grid, client: BitDew, move, make_host, add_disk, until: Until
) -> None:
    host = await make_host("slow")
    await move(host)
    await add_disk(replica=1, size=MB)
    order = await host.order(OrderKind.PLACE)
    spare = await make_host("spare")
    for done in range(1, 9):
        await host.tell(host.copy(order, P.FETCHING, done=done * 1000))

        async def is_known(done: int = done) -> bool:
            return [p.done for p in (await grid.client.where("disk")).placements] == [done * 1000]

        grid.clock.skip(30)  # a quarter of the lease
        await until(is_known)  # the leader shows it too
        await host.sync()
        assert await spare.idle(), "it moves"
    for _ in range(8):
        grid.clock.skip(20)
        await asyncio.sleep(0.1)
        await host.sync()
        await spare.sync()
    assert (await spare.order(OrderKind.PLACE)).subject == order.subject, "it stopped moving"


async def test_wishes_that_are_changed_through_the_follower_are_planned_for(
    grid: Grid, client: BitDew, make_host, add_disk
) -> None:
    one = await make_host("one")
    await client.define("wish", Attribute(replica=1))
    disk = await add_disk(replica=1)
    await one.take()
    two = await make_host("two")
    await client.choose("disk", "wish")
    await client.define("wish", Attribute(replica=2))
    assert (await two.take()).subject == disk.uid
    await client.remove("disk")
    assert {(await host.order(OrderKind.DROP)).subject for host in (one, two)} == {disk.uid}


async def test_a_host_that_is_revoked_at_the_follower_is_shut_out_of_both(
    grid: Grid, client: BitDew, make_host, until: Until
) -> None:
    host = await make_host("bad")
    held = asyncio.create_task(host.sync(wait=20.0))
    await asyncio.sleep(0.1)
    await client.revoke_host("bad")
    async with asyncio.timeout(5):
        await held  # its poll ends at once

    async def is_banned() -> bool:
        told = [*await grid.client.hosts(), *await client.hosts()]
        return [one.state for one in told] == [HostState.BANNED] * 2

    await until(is_banned)
    with pytest.raises(BitDewError) as refused:
        await host.sync()
    assert refused.value.key == "certificate.revoked"


async def test_a_service_that_lacks_what_the_others_share_is_refused_and_harms_nothing(
    grid: Grid, postgres_url: str, tmp_path: Path, add_disk
) -> None:
    disk = await add_disk(replica=0)
    settings = ServiceSettings(home=tmp_path / "stray", port=0, database=postgres_url)
    for given, key in (
        (settings, "input.invalid"),
        (replace(settings, authority=grid.folder / "service" / "authority"), "storage.failed"),
    ):
        with pytest.raises(BitDewError) as refused:
            async with Service(given):
                pass
        assert refused.value.key == key
    assert not (await grid.client.datum(disk.name)).damaged


async def test_a_token_for_one_can_not_be_used_at_both_at_once(grid: Grid, client: BitDew, second: Service) -> None:
    token = (await client.create_token("worker", uses=1)).token or ""
    folders = [IdentityFolder(grid.folder / name) for name in ("a", "b", "c", "d")]
    urls = [grid.service.url, second.url] * 2
    joining = [enrol(url, token, f.folder.name, f, {Role.WORKER}) for url, f in zip(urls, folders, strict=True)]
    ended = await asyncio.gather(*joining, return_exceptions=True)
    refused = [one.key for one in ended if isinstance(one, BitDewError)]
    assert refused == ["token.used"] * 3


async def test_bytes_that_were_freed_by_one_service_are_awaited_by_the_other_at_once(
    grid: Grid, client: BitDew, second: Service, tmp_path: Path, make_host, until: Until
) -> None:
    path = tmp_path / "data"
    await asyncio.to_thread(path.write_bytes, b"x" * MB)
    await grid.client.put(path, "first", Attribute(replica=0))
    root = (await client.datum("first")).root

    async def follows() -> bool:
        return second.rooms.contents.repository.holds(root, MB)

    await until(follows)
    second.rooms.feed._listeners.clear()  # type: ignore[attr-defined]  # it hears of nothing more
    await grid.client.remove("first")
    await client.put(path, "second", Attribute(replica=1))
    host = await make_host("pc")
    assert (await host.order(OrderKind.PLACE)).place.root == root
    assert (await grid.client.datum("second")).damaged is False
    assert await asyncio.to_thread((grid.folder / "service" / "repository" / "files" / root).exists)


async def test_another_leads_when_the_leader_ends_and_gives_its_hosts_a_whole_period(
    grid: Grid, client: BitDew, second: Service, move, make_host, add_disk, until: Until
) -> None:
    here, away = await make_host("here"), await make_host("away")
    await move(here)
    await add_disk(replica=2, fault_tolerance=True)
    await here.take()
    await away.take()
    await grid.stop_service()
    await second.rooms.leadership.gained()
    grid.clock.skip(15)  # a silence of less than a period before the lead, and one after it
    await here.sync()
    await second.rooms.engine.judge_hosts()
    assert {host.name: host.state for host in await client.hosts()} == dict.fromkeys(("here", "away"), HostState.ALIVE)
    for _ in range(4):
        grid.clock.skip(19)
        await here.sync()
        await second.rooms.engine.judge_hosts()
    assert {host.name: host.state for host in await client.hosts()} == {
        "here": HostState.ALIVE,
        "away": HostState.LOST,
    }, "its service is gone, and nobody else hears it"
    machine = (await client.deploy("disk")).machines[0]
    assert (await here.launched(MachineState.RUNNING)).subject == machine.uid
