"""The bridge to XtremWeb-HEP: what its door is sent, and a worker that tells it the truth whatever the door does."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from bitdew.worker.bridges.desk import BridgesChange, change_bridges
from bitdew.worker.bridges.settings import XwhepBridge
from bitdew.worker.bridges.xwhep import LONGEST_REQUEST, XwhepDoor, request_for
from bitdew.worker.plugins import teller as teller_module
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from bitdew.core.errors import BitDewError
from bitdew.wire.models import PlaceOrder

URL_OF_DOOR = URL("http://127.0.0.1:4327/shareddata")


def lists(url):
    asked = parse_qs(url.raw_query_string, keep_blank_values=True)
    return asked["datapackagename"], asked["datapackagepath"]


# What is asked for ----------------------------------------------------------------------------------------------------


def test_several_data_go_as_two_lists_in_one_order_the_one_held_longest_first(replica):
    url, left_out = request_for(URL_OF_DOOR, [replica(2), replica(1)])
    assert lists(url) == (["disk-1,disk-2"], ["/srv/copies/1,/srv/copies/2"])
    assert left_out == {}


def test_nothing_held_is_an_empty_list(replica):
    url, _ = request_for(URL_OF_DOOR, [])
    assert str(url) == "http://127.0.0.1:4327/shareddata?datapackagename=&datapackagepath="


@pytest.mark.parametrize("name", ["a,b", "a b", " a", "a\n", "é", "", "a&datapackagepath=/etc", "-a", "a."])
def test_a_name_that_could_stand_for_something_else_is_left_out_and_said(replica, name):
    url, left_out = request_for(
        URL_OF_DOOR, [replica(1), replica(2, **({"name": name} if name else {}), path=Path("/x"))]
    )
    if name:
        assert lists(url) == (["disk-1"], ["/srv/copies/1"])
        assert list(left_out) == [name]


@pytest.mark.parametrize("path", ["/srv/a,b/1", " /srv/1", "/srv/1 ", "/srv/\n1"])
def test_a_path_that_would_spoil_the_list_is_left_out_and_said(replica, path):
    url, left_out = request_for(URL_OF_DOOR, [replica(1), replica(2, path=Path(path))])
    assert lists(url) == (["disk-1"], ["/srv/copies/1"])
    assert list(left_out) == ["disk-2"]


@pytest.mark.parametrize("path", ["/srv/my copies/1", "/srv/ö/1", "/srv/a&b=c#d/1", "/srv/100%/+1"])
def test_a_path_with_other_characters_arrives_as_it_is(replica, path):
    url, _ = request_for(URL_OF_DOOR, [replica(1, path=Path(path))])
    assert lists(url)[1] == [path]


def test_of_two_data_with_one_name_the_older_is_told(replica):
    url, left_out = request_for(URL_OF_DOOR, [replica(2, "same"), replica(1, "same")])
    assert lists(url) == (["same"], ["/srv/copies/1"])
    assert list(left_out) == ["same"]


@given(st.lists(st.tuples(st.integers(0, 400), st.text(max_size=40), st.text(max_size=60)), max_size=150))
def test_whatever_is_held_the_request_is_short_and_its_lists_have_one_length(pairs):
    from datetime import UTC, datetime

    from bitdew.worker.plugins.contract import Replica

    since = datetime(2026, 1, 1, tzinfo=UTC)
    held = [
        Replica(f"{n:032x}", name or f"disk-{n}", "0" * 64, 1, Path("/srv") / path.replace("\0", ""), "", since)
        for n, name, path in pairs
    ]
    url, left_out = request_for(URL_OF_DOOR, held)
    (names,), (paths,) = lists(url)
    told = names.split(",") if names else []
    assert len(str(url)) <= LONGEST_REQUEST
    assert len(told) == len(paths.split(",") if paths else []) == len(set(told))
    assert set(told) <= {one.name for one in held}
    assert {one.name for one in held} == {*told, *left_out}


async def test_the_door_is_told_and_a_refusal_is_an_error(door, replica):
    plugin = XwhepDoor(XwhepBridge(url=door.url))
    await plugin.started([replica(1), replica(2, "a,b")])
    assert (door.names, door.paths) == (["disk-1"], ["/srv/copies/1"])
    assert "'a,b' is not told" in plugin.remark
    for status in (302, 404, 500):
        door.status = status
        with pytest.raises(BitDewError, match=f"it answered {status}"):
            await plugin.started([])
    await door.close()
    with pytest.raises(BitDewError) as caught:
        await plugin.started([])
    assert caught.value.key == "bridge.unreachable"
    assert door.names == ["disk-1"]


# A worker and its door ------------------------------------------------------------------------------------------------


@pytest.fixture
def told_fast(monkeypatch):
    monkeypatch.setattr(teller_module, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(teller_module, "LONGEST_PAUSE_SECONDS", 0.1)


def bridge(door, **changes):
    return {"xwhep": {"kind": "xwhep", "url": door.url, "again": 1, **changes}}


async def test_the_door_hears_of_a_verified_copy_and_again_before_it_goes(
    service, start_worker, disk_bytes, home, door, until
):
    data = await service.publish(disk_bytes(300_000), "root")
    seen = []
    door.looks = lambda names, paths: seen.append((names, [Path(p).read_bytes() == data.content for p in paths]))
    async with start_worker(bridges=bridge(door)):
        service.place(data)
        await until(lambda: door.names == ["root"])
        assert seen[-1] == (["root"], [True])
        copy = home / "copies" / data.root
        there = []
        door.looks = lambda names, paths: there.append((names, copy.exists()))
        service.drop(data)
        await service.until_state(data.uid, "gone")
        assert ([], True) in there
        assert not copy.exists()


async def test_a_door_that_restarts_and_a_worker_that_restarts_are_told_again(
    service, start_worker, disk_bytes, door, until
):
    first, second = await service.publish(disk_bytes(9000), "one"), await service.publish(disk_bytes(9000, 2), "two")
    async with start_worker(bridges=bridge(door)):
        service.place(first)
        await until(lambda: door.names == ["one"])
        service.place(second)
        await until(lambda: door.names == ["one", "two"])
        await door.close()
        await door.open()
        await until(lambda: door.names == ["one", "two"])
    door.names = []
    async with start_worker(bridges=bridge(door)):
        await until(lambda: door.names == ["one", "two"])


async def test_a_door_that_is_closed_or_hangs_keeps_nothing_waiting_and_is_told_when_it_is_back(
    service, start_worker, disk_bytes, door, until, told_fast
):
    data = [await service.publish(disk_bytes(9000, number), f"d{number}") for number in range(4)]
    await door.close()
    async with start_worker(bridges=bridge(door)) as started:
        service.place(data[0])
        assert await service.until_state(data[0].uid, "held") < 5
        service.drop(data[0])
        assert await service.until_state(data[0].uid, "gone") < 5
        door.hanging = True
        await door.open()
        for one in data[1:]:
            service.place(one)
        began = time.monotonic()
        for one in data[1:]:
            await service.until_state(one.uid, "held")
        assert time.monotonic() - began < 8
        service.drop(data[1])
        assert await service.until_state(data[1].uid, "gone", seconds=30) < 22
        door.hanging = False
        await until(lambda: sorted(door.names) == ["d2", "d3"], 15)
        troubles = [event for event in started.events if event.kind == "trouble"]
        assert [event.fields.get("key") for event in troubles][:1] == ["bridge.unreachable"]


async def test_a_copy_that_rots_is_withdrawn_and_told_again_when_it_is_mended(
    service, start_worker, disk_bytes, home, door, until
):
    data = await service.publish(disk_bytes(300_000), "root")
    async with start_worker(bridges=bridge(door)) as started:
        service.place(data)
        await until(lambda: door.names == ["root"])
        door.looks = lambda names, paths: names or told.append(names)
        told: list[list[str]] = []
        path = home / "copies" / data.root
        rotten = bytearray(data.content)
        rotten[5] ^= 1
        await asyncio.to_thread(path.write_bytes, bytes(rotten))
        (copy,) = started.worker.placements._copies.held().values()
        await copy.is_as_it_was()
        await until(lambda: told)
        await until(lambda: door.names == ["root"])
        assert await asyncio.to_thread(path.read_bytes) == data.content


async def test_bridges_come_and_go_while_the_worker_runs(service, start_worker, disk_bytes, home, door, until):
    data = await service.publish(disk_bytes(9000), "root")
    async with start_worker(bridges={}):
        service.place(data)
        await service.until_state(data.uid, "held")
        add = BridgesChange.model_validate({"add": bridge(door)})
        view = await change_bridges(home, add)
        assert [(line.name, line.kind, line.target) for line in view.bridges] == [("xwhep", "xwhep", door.url)]
        await until(lambda: door.names == ["root"])
        (line,) = (await change_bridges(home, BridgesChange())).bridges
        assert (line.state, line.known, line.waiting, line.reason) == ("told", 1, 0, None)
        view = await change_bridges(home, BridgesChange(remove=["xwhep"]))
        assert view.bridges == []
        await until(lambda: door.names == [])


async def test_only_data_of_the_chosen_attribute_are_told(service, start_worker, disk_bytes, door, until):
    hep, other = await service.publish(disk_bytes(9000), "hep"), await service.publish(disk_bytes(9000, 2), "other")
    async with start_worker(bridges=bridge(door, only={"attributes": ["root-*"]})):
        service.place(other)
        await service.until_state(other.uid, "held")
        order = service.place(hep)
        service.orders.remove(order)
        wish = PlaceOrder.model_validate({**order.place.model_dump(), "attribute": "root-6"})
        service.order("place", hep.uid, place=wish)
        await until(lambda: door.names == ["hep"])
        assert all("other" not in names for names, _ in door.calls)
