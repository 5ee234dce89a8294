"""Views: what people see of disks and hosts, and that whoever waits for a change is told at once."""

from __future__ import annotations

import asyncio
import time

import pytest

from bitdew.core.errors import BitDewError
from bitdew.core.orders import OrderKind
from bitdew.core.requirement import Requirement
from bitdew.core.states import HostState, PlacementState
from bitdew.testing.grid import Grid
from bitdew.wire import models as m

P = PlacementState


async def test_where_answers_at_once_and_then_with_each_change(grid: Grid, make_host, add_disk) -> None:
    await add_disk()
    first = await grid.client.where("disk")
    assert first.placements == []
    waiting = asyncio.create_task(grid.client.where("disk", first.version, 20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    host = await make_host()
    order = await host.order(OrderKind.PLACE)
    second = await asyncio.wait_for(waiting, 10)
    assert second.version > first.version
    assert [p.state for p in second.placements] == [P.ASSIGNED]
    waiting = asyncio.create_task(grid.client.where("disk", second.version, 20))
    await host.tell(host.copy(order, P.FETCHING, done=1000))
    third = await asyncio.wait_for(waiting, 10)
    assert [(p.state, p.done) for p in third.placements] == [(P.FETCHING, 1000)]


async def test_where_ends_after_its_time_with_the_same_version(grid: Grid, add_disk) -> None:
    await add_disk()
    first = await grid.client.where("disk")
    began = time.monotonic()
    second = await grid.client.where("disk", first.version, 0.3)
    assert time.monotonic() - began >= 0.3
    assert second == first


async def test_a_change_of_another_disk_wakes_nobody(grid: Grid, add_disk) -> None:
    await add_disk("one")
    first = await grid.client.where("one")
    waiting = asyncio.create_task(grid.client.where("one", first.version, 0.5))
    await add_disk("two")
    assert (await waiting).version == first.version


async def test_whoever_watched_a_disk_that_is_removed_is_told_at_once(grid: Grid, add_disk) -> None:
    await add_disk()
    version = (await grid.client.where("disk")).version
    waiting = asyncio.create_task(grid.client.where("disk", version, 20))
    await asyncio.sleep(0.05)
    await grid.client.remove_disk("disk")
    told = (await asyncio.wait_for(waiting, 10)).data
    assert (told.alive, told.died_because) == (False, "operator removed it")


async def test_a_datum_that_ended_shows_its_end_and_the_bytes_that_hosts_freed(grid: Grid, make_host, add_disk) -> None:
    host = await make_host("pc")
    await add_disk(size=90_000)
    await host.take()
    await grid.client.remove_disk("disk")
    assert [p.state for p in (await grid.client.where("disk")).placements if p.state is not P.GONE] != []
    order = await host.order(OrderKind.DROP)
    await host.tell(host.copy(order, P.GONE, freed=98_304))
    where = await grid.client.where("disk")
    assert [(p.host_name, p.state, p.freed) for p in where.placements] == [("pc", P.GONE, 98_304)]
    told = await grid.client.explain("disk")
    assert (told.data.alive, told.held, told.missing, told.next) == (False, 0, 0, [])
    assert (await grid.client.datum("disk")).died is not None
    assert (await grid.client.page()).data == []
    again = await add_disk()
    assert (await grid.client.where("disk")).data.uid == again.uid


async def test_a_watch_from_before_a_restart_of_the_service_is_answered_at_once(grid: Grid, add_disk) -> None:
    await add_disk()
    version = (await grid.client.where("disk")).version
    await grid.stop_service()
    await grid.start_service()
    again = await asyncio.wait_for(grid.client.where("disk", version, 20), 5)
    assert again.version > version


@pytest.mark.parametrize("query", [{"wait": "61"}, {"wait": "-1"}, {"wait": "x"}, {"since": "nan"}, {"since": "-5"}])
async def test_an_impossible_wait_is_refused(grid: Grid, add_disk, query: dict[str, str]) -> None:
    await add_disk()
    with pytest.raises(BitDewError) as refusal:
        await grid.client._call("GET", "/v1/disks/disk/where", m.WhereReply, query=query)
    assert refusal.value.key == "input.invalid"


async def test_a_held_copy_is_shown_whole_with_where_its_bytes_came_from(grid: Grid, make_host, add_disk) -> None:
    host = await make_host("pc")
    disk = await add_disk(size=90_000)
    order = await host.order(OrderKind.PLACE)
    await host.tell(host.copy(order, P.FETCHING, done=10, from_peers=10))
    await host.tell(host.copy(order, P.HELD, seconds=4.5, from_repository=30_000, from_peers=60_000))
    reply = await grid.client.where("disk")
    (shown,) = reply.placements
    assert (shown.host_name, shown.state, shown.done, shown.size) == ("pc", P.HELD, 90_000, 90_000)
    assert (shown.seconds, shown.from_repository, shown.from_peers) == (4.5, 30_000, 60_000)
    assert shown.history == ["assigned", "fetching", "held"]
    assert (reply.data.held, reply.data.intended, reply.data.uid) == (1, 0, disk.uid)


async def test_a_copy_that_is_gone_is_no_longer_shown(grid: Grid, make_host, add_disk, until) -> None:
    hosts = [await make_host("one"), await make_host("two")]
    await add_disk(replica=2)
    taken = [await host.take() for host in hosts]
    assert len((await grid.client.where("disk")).placements) == 2
    assert (await grid.client.disks())[0].held == 2
    await hosts[0].tell(hosts[0].copy(taken[0], P.GONE))
    shown = {p.host_name for p in (await grid.client.where("disk")).placements if p.state is P.HELD}
    assert shown == {"two"}


async def test_explain_tells_of_every_host_why_and_what_comes_next(grid: Grid, make_host, add_disk) -> None:
    holder = await make_host("holder")
    await add_disk(replica=3)
    await holder.take()
    await make_host("small", quota=10)
    await make_host("big")
    told = await grid.client.explain("disk")
    assert (told.wanted, told.held) == (3, 1)
    verdicts = {host.host_name: host.verdict for host in told.hosts}
    assert verdicts["holder"] == "holds"
    assert verdicts["small"] == "refused"
    assert verdicts["big"] in {"intended", "chosen"}
    assert "quota" in {host.host_name: host.reason for host in told.hosts}["small"]
    assert told.next
    assert told.missing == 1


async def test_explaining_changes_nothing(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    before = await grid.client.where("disk")
    for _ in range(3):
        await grid.client.explain("disk")
    assert await grid.client.where("disk") == before
    assert await host.idle()


async def test_hosts_come_in_pages_by_name_and_each_once(grid: Grid, make_host) -> None:
    for name in ("b", "a", "d", "c"):
        await make_host(name)
    everyone = [(one.name, one.host) for one in await grid.client.hosts()]
    assert everyone == sorted(everyone)
    assert [name for name, _ in everyone] == ["a", "b", "c", "d"]
    for limit in (1, 2, 3, 4, 9):
        page, seen = await grid.client.host_page(limit=limit), []
        while page.next is not None:
            assert len(page.hosts) == limit
            seen += page.hosts
            page = await grid.client.host_page(page.next, limit)
        assert [(one.name, one.host) for one in (*seen, *page.hosts)] == everyone
    assert [one.name for one in (await grid.client.host_page("b")).hosts] == ["c", "d"]
    assert [one.name for one in (await grid.client.host_page("aa")).hosts] == ["b", "c", "d"]


async def test_hosts_are_shown_by_name_with_what_they_lend_and_hold(grid: Grid, make_host, add_disk) -> None:
    beta = await make_host("beta", labels={"site": "orsay"}, cpus=2)
    await make_host("alpha")
    await add_disk(replica=1, requires=Requirement("site = orsay"))
    await beta.take()
    alpha_view, beta_view = await grid.client.hosts()
    assert (alpha_view.name, alpha_view.held, alpha_view.state) == ("alpha", 0, HostState.ALIVE)
    assert (beta_view.name, beta_view.held, beta_view.cpus) == ("beta", 1, 2)
    assert beta_view.labels == {"site": "orsay"}
    for text in (beta.uid, "beta"):
        assert await grid.client._call("GET", f"/v1/hosts/{text}", m.HostView) == beta_view
    with pytest.raises(BitDewError) as refusal:
        await grid.client._call("GET", "/v1/hosts/gamma", m.HostView)
    assert (refusal.value.key, refusal.value.do) == ("host.not-found", "List the hosts: bitdew host ls")
    with pytest.raises(BitDewError) as refusal:
        await grid.client.host("betta")
    assert refusal.value.do == "Did you mean 'beta'?"
