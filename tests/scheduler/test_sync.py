"""Sync over HTTPS, scripted hosts against a real service: what they say is stored, what they should do reaches them."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bitdew.catalog.data_store import DataStore
from bitdew.catalog.database import Database
from bitdew.scheduler.records import OrderRecord
from bitdew.scheduler.store import SchedulerStore
from pydantic import ValidationError

from bitdew.client.enrolment import enrol
from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid, new_uid
from bitdew.core.orders import OrderKind
from bitdew.core.requirement import Requirement
from bitdew.core.states import HostState, MachineState, PlacementState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context
from bitdew.wire import limits
from bitdew.wire import models as m
from bitdew.wire.models import HostReport
from bitdew.wire.transport import Transport

P = PlacementState
Until = Callable[..., Awaitable[Any]]
GRACE, SETTLE, LEASE = 100.0, 40.0, 120.0


async def states(grid: Grid, disk: str = "disk") -> dict[str, PlacementState]:
    """The copies of a disk by their hosts' names."""
    return {p.host_name: p.state for p in (await grid.client.where(disk)).placements}


async def became(grid: Grid, until: Until, wanted: dict[str, PlacementState], disk: str = "disk") -> None:
    async def same() -> bool:
        return await states(grid, disk) == wanted

    try:
        await until(same)
    except TimeoutError:
        assert await states(grid, disk) == wanted


async def host_state(grid: Grid, name: str) -> HostState:
    return {host.name: host.state for host in await grid.client.hosts()}[name]


async def lose(grid: Grid, until: Until, *names: str, alive: Any = ()) -> None:
    """Let hosts be silent until they are lost, while those in `alive` speak."""

    async def gone() -> bool:
        grid.clock.skip(5)
        for host in alive:
            await host.sync()
        return {await host_state(grid, name) for name in names} == {HostState.LOST}

    await until(gone)


async def pass_time(grid: Grid, seconds: float, *alive: Any) -> None:
    """Let time pass in which hosts keep talking."""
    while seconds > 0:
        grid.clock.skip(min(seconds, 15))
        seconds -= 15
        for host in alive:
            await host.sync()


# Who may sync ---------------------------------------------------------------------------------------------------------


async def test_the_first_sync_of_a_host_says_what_it_is(grid: Grid, make_host) -> None:
    host = await make_host(hello=False)
    for says in ({}, {"full": True}):
        with pytest.raises(BitDewError) as refusal:
            await host.sync(**says)
        assert refusal.value.key == "input.invalid"
    assert await grid.client.hosts() == []
    await host.hello()
    assert await host_state(grid, "pc") is HostState.ALIVE


async def test_only_workers_sync(grid: Grid) -> None:
    token = (await grid.client.create_token("user")).token or ""
    user = await enrol(grid.service.url, token, "alan", IdentityFolder(grid.folder / "alan"), {Role.USER})
    body = m.SyncRequest(boot=new_uid(), generation=0)
    for pair, key in ((user.identity, "certificate.role"), (None, "certificate.missing")):
        context = await asyncio.to_thread(client_context, user.ca, pair)
        async with Transport(grid.service.url, context) as line:
            with pytest.raises(BitDewError) as refusal:
                await line.call("POST", "/v1/sync", m.SyncReply, body=body)
            assert refusal.value.key == key


async def test_a_revoked_host_is_shut_out_on_the_connection_that_it_has(grid: Grid, make_host) -> None:
    host = await make_host()
    await grid.client._call("DELETE", f"/v1/identities/{host.uid}", m.Nothing)
    with pytest.raises(BitDewError) as refusal:
        await host.sync()
    assert refusal.value.key == "certificate.revoked"


@pytest.mark.parametrize("says", [{"generation": -1}, {"boot": "x"}, {"wait": 1e9}, {"boot": ""}])
async def test_a_malformed_sync_is_refused_and_changes_nothing(grid: Grid, make_host, says: dict[str, Any]) -> None:
    host = await make_host()
    before = await grid.client.hosts()
    sane: dict[str, Any] = {"boot": host.boot, "generation": 0}
    body = m.SyncRequest.model_construct(**(sane | says))
    with pytest.raises(BitDewError) as refusal:
        await host.line.call("POST", "/v1/sync", m.SyncReply, body=body)
    assert refusal.value.key == "input.invalid"
    assert await grid.client.hosts() == before


# Orders ---------------------------------------------------------------------------------------------------------------


async def test_an_order_reaches_a_host_that_holds_a_poll_open_at_once(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    poll = asyncio.create_task(host.sync(wait=20))
    await asyncio.sleep(0.1)
    assert not poll.done()
    disk = await add_disk()
    added = time.monotonic()
    (order,) = (await poll).orders
    assert time.monotonic() - added < 10, "long before the poll would have ended by itself"
    assert (order.kind, order.subject, order.generation) == (OrderKind.PLACE, disk.uid, 1)
    assert order.place is not None
    assert (order.place.name, order.place.root, order.place.info_hash) == ("disk", disk.root, disk.info_hash)
    assert order.place.repository == str(grid.service.swarm.endpoint)
    assert "1 missing" in order.cause


async def test_an_order_names_the_attribute_of_its_datum(grid: Grid, make_host, tmp_path) -> None:
    host = await make_host()
    await grid.client.define("hep", {"replica": 1})
    for name, wishes in (("one", "hep"), ("two", None)):
        file = tmp_path / name
        file.write_bytes(name.encode() * 30_000)
        await grid.client.put(file, name, wishes)
    named: dict[str, str] = {}
    while len(named) < 2:
        orders = (await host.sync(wait=5)).orders
        named |= {order.place.name: order.place.attribute for order in orders if order.place}
    assert named == {"one": "hep", "two": ""}


async def test_a_poll_ends_after_its_time_and_not_before(grid: Grid, make_host) -> None:
    host = await make_host()
    began = time.monotonic()
    reply = await host.sync(wait=0.4)
    assert 0.4 <= time.monotonic() - began < 2
    assert (reply.orders, reply.full, reply.period) == ([], False, 20.0)


async def test_no_poll_is_held_longer_than_a_period(grid: Grid, make_host) -> None:
    host = await make_host()
    poll = asyncio.create_task(host.sync(wait=60))
    await asyncio.sleep(0.1)
    grid.clock.skip(20)
    assert (await asyncio.wait_for(poll, 5)).orders == []


async def test_orders_are_repeated_until_the_host_has_them_and_then_no_more(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    host = await make_host()
    await add_disk()
    await became(grid, until, {"pc": P.ASSIGNED})
    lost_replies = [await host.sync(generation=0, wait=1) for _ in range(3)]
    assert len({reply.model_dump_json() for reply in lost_replies}) == 1
    assert len(lost_replies[0].orders) == 1
    assert (await host.sync()).orders == []
    await host.hello()
    await host.tell(host.copy(lost_replies[0].orders[0], P.HELD))
    assert (await host.sync(generation=0)).orders == []


async def test_orders_are_told_again_with_a_full_inventory_until_they_are_done(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    order = await host.order(OrderKind.PLACE)
    assert [o.uid for o in (await host.hello()).orders] == [order.uid]
    host.copy(order, P.FETCHING)
    assert [o.uid for o in (await host.hello()).orders] == [order.uid]
    host.copy(order, P.HELD)
    assert (await host.hello()).orders == []


async def test_a_host_that_lost_its_memory_gets_its_open_orders_again(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk("one")
    await host.take()
    await add_disk("two")
    order = await host.order(OrderKind.PLACE)
    host.forget_everything()
    first = await host.sync()
    assert first.full
    assert order.uid in [o.uid for o in first.orders]
    assert order.uid in [o.uid for o in (await host.hello()).orders]


async def test_a_host_that_lost_its_memory_with_nothing_to_do_is_not_kept_busy(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk(replica=0)
    await add_disk("two")
    await host.take()
    await grid.client.remove_disk("two")
    order = await host.order(OrderKind.DROP)
    await host.tell(host.copy(order, P.GONE))
    host.forget_everything()
    assert (await host.hello()).orders == []
    began = time.monotonic()
    assert (await host.sync(wait=0.3)).orders == []
    assert time.monotonic() - began >= 0.3


async def test_more_orders_than_fit_one_reply_all_come(grid: Grid, make_host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ORDERS", 20)
    host = await make_host()
    count = limits.ORDERS + 5
    orders = [OrderRecord(new_uid(), host.uid, n + 1, OrderKind.HALT, new_uid(), "") for n in range(count)]
    await SchedulerStore(grid.service.database).record(now=grid.clock.now(), orders=orders)
    grid.service.rooms.hosts.order_waits(host.uid, count)
    first = await host.sync()
    second = await host.sync()
    assert (len(first.orders), first.generation) == (limits.ORDERS, limits.ORDERS)
    assert {o.uid for o in [*first.orders, *second.orders]} == {o.uid for o in orders}
    assert second.generation == count


async def test_peers_in_an_order_are_those_who_have_it(grid: Grid, make_host, add_disk) -> None:
    one = await make_host("one", swarm="127.0.0.1:1111")
    await add_disk(replica=2)
    await one.take()
    two = await make_host("two", swarm="127.0.0.1:2222")
    order = await two.order(OrderKind.PLACE)
    assert order.place is not None
    assert order.place.peers == ["127.0.0.1:1111"]
    request = m.AnnounceRequest(root=order.place.root)
    for asking, other in ((one, "127.0.0.1:2222"), (two, "127.0.0.1:1111")):
        told = await asking.line.call("POST", "/v1/announce", m.AnnounceReply, body=request)
        assert told.peers == [other, str(grid.service.swarm.endpoint)]


async def test_hosts_of_the_same_site_are_named_first_in_orders_and_announces(grid: Grid, make_host, add_disk) -> None:
    far = [await make_host(f"far{n}", swarm=f"127.0.0.1:1{n}", labels={"site": "lyon"}) for n in range(3)]
    near = await make_host("near", swarm="127.0.0.1:20", labels={"site": "orsay"})
    await add_disk(replica=5)
    for host in far:
        await host.take()
    await near.order(OrderKind.PLACE)  # it fetches still, and is named before those who hold it
    asking = await make_host("asking", labels={"site": "orsay"})
    order = await asking.order(OrderKind.PLACE)
    assert order.place is not None
    request = m.AnnounceRequest(root=order.place.root)
    told = await asking.line.call("POST", "/v1/announce", m.AnnounceReply, body=request)
    for peers in (order.place.peers, told.peers[:-1]):
        assert peers[0] == "127.0.0.1:20"
        assert sorted(peers[1:]) == [f"127.0.0.1:1{n}" for n in range(3)]
    assert told.peers[-1] == str(grid.service.swarm.endpoint)


async def _as_many(ask: Callable[[], Awaitable[list[Any]]], count: int) -> bool:
    return len(await ask()) == count


async def test_an_order_says_how_many_hosts_hold_it_or_are_to(grid: Grid, make_host, add_disk, until: Until) -> None:
    hosts = [await make_host(f"pc{n}", swarm=f"127.0.0.1:1{n}") for n in range(3)]
    await add_disk("one", replica=1)
    await add_disk("everywhere", replica=-1)

    async def told() -> list[tuple[str, int]]:
        for host in hosts:
            await host.sync()
        return sorted((o.place.name, o.place.copies) for host in hosts for o in host.inbox.values() if o.place)

    await until(lambda: _as_many(told, 4))
    assert await told() == [("everywhere", 3)] * 3 + [("one", 1)]


async def test_who_has_nothing_to_do_with_some_content_learns_of_no_peer(grid: Grid, make_host, add_disk) -> None:
    one, stranger = await make_host("one", labels={"rack": "a"}), await make_host("stranger")
    await add_disk(requires=Requirement("rack = a"))
    order = await one.take()
    assert order.place is not None
    request = m.AnnounceRequest(root=order.place.root)
    with pytest.raises(BitDewError) as refused:
        await stranger.line.call("POST", "/v1/announce", m.AnnounceReply, body=request)
    assert refused.value.key == "data.not-ordered"


# Restarts and restored databases --------------------------------------------------------------------------------------


async def test_a_service_that_restarted_asks_for_everything_and_drops_nothing(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.stop_service()
    await grid.start_service()
    assert await states(grid) == {"pc": P.HELD}
    reply = await host.sync()
    assert (reply.full, reply.orders) == (True, [])
    assert (await host.hello()).orders == []
    assert not (await host.sync()).full
    await pass_time(grid, 600, host)
    assert await host.idle()
    assert await states(grid) == {"pc": P.HELD}


async def test_an_order_that_was_not_delivered_is_delivered_after_a_restart(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    host = await make_host()
    await add_disk()
    await became(grid, until, {"pc": P.ASSIGNED})
    await grid.stop_service()
    await grid.start_service()
    order = await host.order(OrderKind.PLACE)
    await host.tell(host.copy(order, P.HELD))
    await became(grid, until, {"pc": P.HELD})


async def test_a_removal_that_was_not_planned_before_the_service_ended_is_planned_when_it_is_back(
    grid: Grid, make_host, add_disk
) -> None:
    host = await make_host()
    disk = await add_disk()
    await host.take()
    await grid.stop_service()
    database = Database.in_file(grid.folder / "service" / "catalog.sqlite3")
    await DataStore(database).end(Uid(disk.uid), grid.clock.now(), "its owner removed it")
    await database.close()
    await grid.start_service()
    assert (await host.order(OrderKind.DROP)).subject == disk.uid


async def test_copies_that_the_catalog_does_not_know_are_kept_and_listed(grid: Grid, make_host, add_disk) -> None:
    host = await make_host(hello=False)
    strangers = sorted(new_uid() for _ in range(2))
    for uid in strangers:
        said = {"uid": uid, "root": "0" * 64, "state": "held", "generation": 3}
        host.reports[uid] = m.PlacementReport.model_validate(said)
    await host.hello()
    (view,) = await grid.client.hosts()
    assert view.unknown == strangers
    await add_disk(replica=-1)
    await host.take()
    await pass_time(grid, 600, host)
    assert (await host.hello()).orders == []
    assert (await grid.client.hosts())[0].unknown == strangers


async def test_a_copy_that_is_known_but_not_recorded_is_adopted(grid: Grid, make_host, add_disk, until: Until) -> None:
    disk = await add_disk(replica=1)
    host = await make_host(hello=False)
    said = {"uid": disk.uid, "root": disk.root, "size": disk.size, "state": "held", "generation": 9}
    host.reports[disk.uid] = m.PlacementReport.model_validate(said)
    assert (await host.hello()).orders == []
    await became(grid, until, {"pc": P.HELD})
    assert "adopted" in (await grid.client.where("disk")).placements[0].cause


async def test_a_copy_reported_twice_in_one_sync_is_one_copy(grid: Grid, make_host, add_disk, until: Until) -> None:
    disk = await add_disk(replica=0)
    host = await make_host()
    said = {"uid": disk.uid, "root": disk.root, "size": disk.size, "generation": 1}
    both = [m.PlacementReport.model_validate(said | {"state": state}) for state in (P.FETCHING, P.HELD)]
    await host.tell(*both)
    await became(grid, until, {"pc": P.HELD})


async def test_a_catalog_restored_from_an_older_copy_goes_on_above_its_hosts_and_loses_no_copy(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    host = await make_host()
    old = await add_disk("old")
    await host.take()
    await grid.stop_service()
    path = grid.folder / "service" / "catalog.sqlite3"
    backup = grid.folder / "backup.sqlite3"
    await asyncio.to_thread(shutil.copy, path, backup)
    await grid.start_service()
    for name in ("a", "b", "c"):
        await add_disk(name, size=1000)
        await host.take()
    applied = host.generation
    assert applied == 4
    newer = {uid for uid in host.reports if uid != old.uid}
    await grid.stop_service()
    await asyncio.to_thread(shutil.copy, backup, path)
    await grid.start_service()

    assert (await host.sync()).full
    assert (await host.hello()).orders == []
    assert await states(grid, "old") == {"pc": P.HELD}
    assert set((await grid.client.hosts())[0].unknown) == newer
    await add_disk("new")
    order = await host.order(OrderKind.PLACE)
    assert order.generation > applied
    await pass_time(grid, 300, host)
    assert {o.kind for o in (await host.hello()).orders} <= {OrderKind.PLACE}
    await grid.client.remove_disk("old")
    assert (await host.order(OrderKind.DROP)).generation > applied


# What hosts say -------------------------------------------------------------------------------------------------------


async def test_a_held_copy_that_an_inventory_does_not_show_is_made_again(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    host = await make_host()
    await add_disk()
    first = await host.take()
    host.reports.clear()
    await host.hello()
    second = await host.order(OrderKind.PLACE)
    assert second.generation > first.generation
    (placement,) = (await grid.client.where("disk")).placements
    assert placement.state is P.ASSIGNED
    assert "failed" in placement.history


async def test_a_stale_report_is_passed_over(grid: Grid, make_host, add_disk, until: Until) -> None:
    host = await make_host()
    await add_disk()
    first = await host.take()
    await grid.client.remove_disk("disk")
    await host.order(OrderKind.DROP)
    await host.tell(host.copy(first, P.HELD))  # said before it heard of the drop
    store = SchedulerStore(grid.service.database)
    (record,) = (await store.placements_on(host.uid)).values()
    assert record.state is P.DROPPING
    assert len(await store.open_orders(host.uid)) == 1


async def test_progress_is_shown_and_a_failure_is_told_with_its_reason_and_its_next_try(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    host = await make_host()
    await add_disk(size=100_000)
    order = await host.order(OrderKind.PLACE)
    await host.tell(host.copy(order, P.FETCHING, done=40_000, from_repository=30_000, from_peers=10_000))
    (shown,) = (await grid.client.where("disk")).placements
    assert (shown.state, shown.done, shown.from_repository, shown.from_peers) == (P.FETCHING, 40_000, 30_000, 10_000)
    fault = m.ErrorView(key="storage.full", message="There is no room.")
    await host.tell(host.copy(order, P.FAILED, reason=fault))
    (shown,) = (await grid.client.where("disk")).placements
    assert shown.state is P.FAILED
    assert shown.reason == fault
    assert shown.retry_at is not None
    grid.clock.skip(11)
    again = await host.order(OrderKind.PLACE)
    assert again.generation > order.generation


async def test_a_corrupt_piece_makes_the_repository_look_at_its_own_copy(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    host = await make_host()
    disk = await add_disk()
    order = await host.order(OrderKind.PLACE)
    corrupt = m.ErrorView(key="swarm.corrupt", message="A piece was bad.")
    await host.tell(host.copy(order, P.FETCHING, corrupt=1, reason=corrupt))

    async def checked() -> bool:
        return not grid.service.rooms.contents._suspected

    await until(checked)
    assert not (await grid.client.disk("disk")).damaged
    path = grid.folder / "service" / "repository" / "files" / disk.root
    with path.open("r+b") as file:
        file.write(b"rotten")
        os.fsync(file.fileno())
    await host.tell(host.copy(order, P.FETCHING, corrupt=2, reason=corrupt))
    await until(checked)
    assert (await grid.client.disk("disk")).damaged
    assert disk.info_hash not in grid.service.swarm.offers


async def test_a_removed_disk_is_dropped_by_order_and_the_order_is_closed_when_it_is_gone(
    grid: Grid, make_host, add_disk
) -> None:
    hosts = [await make_host("one"), await make_host("two")]
    await add_disk(replica=2)
    for host in hosts:
        await host.take()
    await grid.client.remove_disk("disk")
    store = SchedulerStore(grid.service.database)
    for host in hosts:
        order = await host.order(OrderKind.DROP)
        assert "removed" in order.cause
        await host.tell(host.copy(order, P.DROPPING))
        assert len(await store.open_orders(host.uid)) == 1
        await host.tell(host.copy(order, P.GONE))
        assert await store.open_orders(host.uid) == []
        assert (await host.hello()).orders == []
    assert [view.held for view in await grid.client.hosts()] == [0, 0]


# Losing hosts ---------------------------------------------------------------------------------------------------------


async def test_a_silent_host_is_suspect_then_lost_and_back_when_it_speaks(grid: Grid, make_host, until: Until) -> None:
    host = await make_host()

    async def is_suspect() -> bool:
        grid.clock.skip(5)
        return await host_state(grid, "pc") is HostState.SUSPECT

    await until(is_suspect)
    await lose(grid, until, "pc")
    await host.sync()
    assert await host_state(grid, "pc") is HostState.ALIVE


async def test_a_lost_hosts_copies_are_made_again_after_the_grace_and_the_surplus_is_trimmed_when_it_is_back(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    one = await make_host("one")
    await add_disk(fault_tolerance=True)
    await one.take()
    two = await make_host("two")
    await lose(grid, until, "one", alive=[two])
    assert await two.idle()  # the grace: a blip moves nothing
    await pass_time(grid, GRACE, two)
    order = await two.order(OrderKind.PLACE)
    assert "1 lost" in order.cause
    await two.tell(two.copy(order, P.HELD))
    await became(grid, until, {"one": P.HELD, "two": P.HELD})
    await one.sync()
    await pass_time(grid, SETTLE / 2, one, two)
    assert await states(grid) == {"one": P.HELD, "two": P.HELD}  # it has to settle
    await pass_time(grid, SETTLE, one, two)

    async def trimmed() -> bool:
        grid.clock.skip(1)
        return sorted((await states(grid)).values()) == [P.DROPPING, P.HELD]

    await until(trimmed)


async def test_without_fault_tolerance_a_lost_hosts_copy_goes_on_counting(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    one = await make_host("one")
    await add_disk()
    await one.take()
    two = await make_host("two")
    await lose(grid, until, "one", alive=[two])
    await pass_time(grid, GRACE * 3, two)
    assert await two.idle()
    assert await states(grid) == {"one": P.HELD}


async def test_a_copy_without_progress_is_planned_on_another_host(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    one = await make_host("one")
    await add_disk()
    order = await one.order(OrderKind.PLACE)
    await one.tell(one.copy(order, P.FETCHING, done=10))
    two = await make_host("two")
    await pass_time(grid, LEASE / 2, one, two)
    assert await two.idle()
    await pass_time(grid, LEASE, one, two)
    assert "stalled" in (await two.order(OrderKind.PLACE)).cause


async def test_progress_prolongs_the_lease(grid: Grid, make_host, add_disk, until: Until) -> None:
    one = await make_host("one")
    await add_disk()
    order = await one.order(OrderKind.PLACE)
    two = await make_host("two")
    for done in range(1, 11):
        await pass_time(grid, LEASE / 2, one, two)
        await one.tell(one.copy(order, P.FETCHING, done=done * 1000))
    assert await two.idle()
    assert await states(grid) == {"one": P.FETCHING}


async def test_a_restart_of_the_service_is_not_taken_for_silence_of_its_hosts(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    one = await make_host("one")
    await add_disk(fault_tolerance=True)
    await one.take()
    two = await make_host("two")
    await grid.stop_service()
    grid.clock.skip(7 * 86400)
    await grid.start_service()
    assert {host.state for host in await grid.client.hosts()} == {HostState.ALIVE}
    await two.sync()
    await one.sync()
    assert await states(grid) == {"one": P.HELD}
    assert await grid.service.rooms.hosts.judge() == []


# Machines -------------------------------------------------------------------------------------------------------------


async def test_a_machine_is_launched_on_a_holder_only(grid: Grid, make_host, add_disk) -> None:
    holder = await make_host("holder")
    await add_disk()
    await holder.take()
    other = await make_host("other")
    deployed = await grid.client.deploy("disk", 2, memory=64 * 2**20)
    orders = await holder.orders(OrderKind.LAUNCH, 2)
    assert {o.subject for o in orders} == {machine.uid for machine in deployed.machines}
    launch = orders[0].launch
    assert launch is not None
    assert (launch.memory, launch.cpus, launch.root) == (64 * 2**20, 1, (await grid.client.disk("disk")).root)
    assert (await other.sync()).orders == []


async def test_a_machine_waits_for_a_holder(grid: Grid, make_host, add_disk) -> None:
    await add_disk()
    deployed = await grid.client.deploy("disk")
    assert deployed.machines[0].host is None
    host = await make_host()
    await host.take()
    order = await host.launched()
    shown = await grid.client.machine(order.subject)
    assert (shown.state, shown.host_name, shown.hypervisor) == (MachineState.RUNNING, "pc", "mock")


async def test_a_console_is_appended_once_though_it_is_repeated(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.client.deploy("disk")
    order = await host.launched()
    for offset, text in ((0, "boot"), (0, "boot"), (0, "booting"), (7, "…"), (4, "ing… done")):
        await host.machine(order, MachineState.RUNNING, console={"offset": offset, "text": text})
    reply = await grid.client.console(order.subject)
    assert (reply.text, reply.end) == ("booting… done", 13)
    assert (await grid.client.console(order.subject, 9)).text == "done"
    assert (await grid.client.console(order.subject, 100)).text == ""


@pytest.mark.parametrize("gap", [1, 40, 10_000])
async def test_what_is_missing_of_a_console_is_said_and_offsets_stay_right(
    grid: Grid, make_host, add_disk, gap: int
) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.client.deploy("disk")
    order = await host.launched()
    chunks = ((0, "begin"), (5 + gap, ""), (5 + gap, "end"))
    for offset, text in chunks:
        await host.machine(order, MachineState.RUNNING, console={"offset": offset, "text": text})
    reply = await grid.client.console(order.subject)
    assert reply.end == len(reply.text) == 5 + gap + 3
    assert reply.text.startswith("begin")
    assert reply.text.endswith("end")
    assert gap < 40 or f"{gap} characters are missing" in reply.text
    assert (await grid.client.console(order.subject, 5 + gap)).text == "end"


async def test_only_the_end_of_a_long_console_is_kept(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.client.deploy("disk")
    order = await host.launched()
    part = "x" * limits.CONSOLE_CHUNK
    turns = limits.CONSOLE // limits.CONSOLE_CHUNK + 2
    for turn in range(turns):
        await host.machine(order, MachineState.RUNNING, console={"offset": turn * len(part), "text": part})
    reply = await grid.client.console(order.subject)
    assert reply.end == turns * len(part)
    assert reply.offset == reply.end - limits.CONSOLE
    assert len(reply.text) == limits.CONSOLE


async def test_a_console_that_is_followed_answers_when_something_is_written(grid: Grid, make_host, add_disk) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.client.deploy("disk")
    order = await host.launched()
    following = asyncio.create_task(grid.client.console(order.subject, wait=20))
    await asyncio.sleep(0.05)
    assert not following.done()
    await host.machine(order, MachineState.RUNNING, console={"offset": 0, "text": "hello"})
    assert (await asyncio.wait_for(following, 2)).text == "hello"


async def test_a_machine_that_is_stopped_gets_a_halt_order_until_it_has_stopped(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.client.deploy("disk")
    launch = await host.launched()
    await grid.client.stop_machine(launch.subject)
    halt = await host.order(OrderKind.HALT)
    assert halt.subject == launch.subject
    assert (await grid.client.machine(launch.subject)).state is MachineState.STOPPING
    assert [o.uid for o in (await host.sync(generation=0)).orders] == [halt.uid]
    await host.machine(halt, MachineState.STOPPED)
    assert (await host.sync(generation=0)).orders == []
    assert (await grid.client.machine(launch.subject)).state is MachineState.STOPPED
    assert (await grid.client.stop_machine(launch.subject)).state is MachineState.STOPPED


async def test_a_machine_that_vanished_while_it_was_to_stop_has_and_its_host_is_not_kept_busy(
    grid: Grid, make_host, add_disk, until: Until
) -> None:
    host = await make_host()
    await add_disk()
    await host.take()
    await grid.client.deploy("disk")
    launch = await host.launched()
    await grid.client.stop_machine(launch.subject)

    async def halting() -> bool:
        return (await grid.client.machine(launch.subject)).state is MachineState.STOPPING

    await until(halting)
    host.machines.clear()  # the host restarted before it heard of the halt
    host.boot = new_uid()
    assert (await host.hello()).orders == []
    shown = await grid.client.machine(launch.subject)
    assert (shown.state, shown.reason) == (MachineState.STOPPED, None)
    began = time.monotonic()
    assert (await host.sync(wait=0.3)).orders == []
    assert time.monotonic() - began >= 0.3


async def test_a_disk_that_a_machine_runs_from_is_dropped_when_the_machine_has_ended(
    grid: Grid, make_host, add_disk
) -> None:
    host = await make_host()
    disk = await add_disk()
    await host.take()
    await grid.client.deploy("disk")
    launch = await host.launched()
    await grid.client.remove_disk("disk")
    assert (await host.sync(wait=0.3)).orders == []
    await host.machine(launch, MachineState.STOPPED)
    assert (await host.order(OrderKind.DROP)).subject == disk.uid


async def test_reports_about_a_machine_of_another_host_are_passed_over(grid: Grid, make_host, add_disk) -> None:
    holder = await make_host("holder")
    await add_disk()
    await holder.take()
    await grid.client.deploy("disk")
    launch = await holder.launched()
    liar = await make_host("liar")
    await liar.machine(launch, MachineState.FAILED, console={"offset": 0, "text": "ha"})
    shown = await grid.client.machine(launch.subject)
    assert (shown.state, shown.console, shown.host_name) == (MachineState.RUNNING, 0, "holder")


# What one host may do to others --------------------------------------------------------------------------------------


async def test_a_host_is_called_what_its_certificate_says_and_no_address_that_can_not_be_dialled_is_taken(
    grid: Grid, make_host, add_disk
) -> None:
    host = await make_host("pc")
    for swarm in ("garbage", "0.0.0.0:7000", "127.0.0.1:0", "[ff02::1]:7000"):
        with pytest.raises(ValidationError):
            HostReport.model_validate({**host.about, "swarm": swarm})
    await host.sync(host=HostReport.model_validate({**host.about, "name": "trusted"}))
    assert [one.name for one in await grid.client.hosts()] == ["pc"]
