"""Leaving, with a real service and a real worker: what is handed over, what ends, and that nothing is left."""

from __future__ import annotations

import asyncio
import json
import random
import sys

import pytest
from bitdew.worker.bridges.desk import BridgesChange, change_bridges
from bitdew.worker.leaving import departure
from bitdew.worker.settings import WorkerSettings

from bitdew.core.attribute import Attribute
from bitdew.core.errors import BitDewError
from bitdew.core.states import HostState
from bitdew.testing.grid import Grid

BYTES = random.Random(3).randbytes(300_000)


@pytest.fixture
async def grid():
    async with Grid(0) as grid:
        yield grid


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(BYTES)
    return path


async def left(host, **how):
    """Leave while its worker, which is a part of this process, works on; what was told meanwhile."""
    told = []
    async with asyncio.timeout(60):
        departed = await departure.leave(host.settings.home, tell=told.append, **{"now": False} | how)
    return departed, told


async def test_whoever_is_told_of_copies_is_told_that_nothing_is_held(grid, file, tmp_path, monkeypatch):
    heard = tmp_path / "heard"
    tell = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    bridges = {
        "mine": {"kind": "command", "words": [sys.executable, "-c", tell, str(heard)]},
        "closed": {"kind": "xwhep", "url": "http://127.0.0.1:9"},
    }
    host = await grid.add_host("first")
    await change_bridges(host.settings.home, BridgesChange.model_validate({"add": bridges}))
    await grid.client.put(file, "events", Attribute(replica=1))
    await grid.until("events", lambda where: where.data.held == 1)
    departed, _ = await left(host, now=True)
    assert departed.unheard == ("bridge/closed",)
    last = json.loads(heard.read_text().splitlines()[-1])
    assert (last["event"], last["copies"]) == ("started", [])


async def test_a_copy_is_made_elsewhere_and_then_nothing_is_left_of_the_worker(grid, file):
    first = await grid.add_host("first")
    await grid.client.put(file, "events", Attribute(replica=1))
    await grid.until("events", lambda where: where.data.held == 1)
    await grid.add_host("second")
    departed, told = await left(first)
    assert (departed.name, departed.revoked, departed.kept) == ("first", True, ())
    assert departed.freed >= len(BYTES)
    assert told[0].host.state is HostState.DRAINED
    assert not first.settings.home.exists()
    where = await grid.until("events", lambda where: where.data.held >= 1)
    assert "second" in {p.host_name for p in where.placements if p.state == "held"}
    assert {host.name: host.state for host in await grid.client.hosts()} == {
        "first": HostState.BANNED,
        "second": HostState.ALIVE,
    }
    with pytest.raises(BitDewError) as caught:
        await departure.leave(first.settings.home, tell=told.append, now=False)
    assert caught.value.key == "profile.missing"


async def test_a_worker_that_does_not_run_works_while_it_hands_over(grid, file):
    host = await grid.add_host("pc")
    await grid.client.put(file, "events", Attribute(replica=1))
    await grid.until("events", lambda where: where.data.held == 1)
    await host.stop()
    departed, _told = await left(host)
    assert (departed.revoked, departed.left.only_here) == (True, 0)
    assert not host.settings.home.exists()


async def test_leaving_now_says_what_is_lost_and_goes_without_any_service(grid, file):
    host = await grid.add_host("pc")
    await grid.client.put(file, "events", Attribute(replica=1))
    await grid.until("events", lambda where: where.data.held == 1)
    await host.stop()
    await grid.stop_service()
    departed, told = await left(host, now=True)
    assert (departed.left, departed.revoked, told) == (None, False, [])
    assert not host.settings.home.exists()
    await grid.start_service()


async def test_without_its_service_nothing_is_removed(grid):
    host = await grid.add_host("pc")
    await host.stop()
    await grid.stop_service()
    with pytest.raises(BitDewError) as caught:
        await left(host)
    assert caught.value.key == "service.unreachable"
    assert (await asyncio.to_thread(WorkerSettings.load, host.settings.home)).name == "pc"
    await grid.start_service()


@pytest.mark.parametrize("cut", ["before the worker ends", "before the identity goes", "before the last file goes"])
async def test_cut_off_anywhere_the_same_command_goes_on(grid, monkeypatch, cut):
    host = await grid.add_host("pc")

    def crash(*_args, **_more):
        raise KeyError("cut off")

    with monkeypatch.context() as patched:
        if cut == "before the worker ends":
            patched.setattr(departure, "_end_worker", crash)
        elif cut == "before the identity goes":
            patched.setattr(departure, "_give_up", crash)
        else:
            patched.setattr(departure.belongings, "LAST", ("nothing",))
            patched.setattr(departure.belongings, "_remove_empty", crash)
        removal = left(host)
        if cut == "before the last file goes":
            assert [path.name for path in (await removal)[0].kept] != []
        else:
            with pytest.raises(KeyError):
                await removal
    departed, _told = await left(host)
    assert departed.revoked
    assert not host.settings.home.exists()


async def test_the_wish_to_leave_can_be_taken_back(grid, monkeypatch):
    host = await grid.add_host("pc")

    def crash(*_args):
        raise KeyError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(departure, "_end_worker", crash)
        with pytest.raises(KeyError):
            await left(host)
    assert (await grid.client.host("pc")).state is HostState.DRAINED
    view = await departure.stay(host.settings.home)
    assert view.host.state is HostState.ALIVE


async def test_time_that_is_over_ends_the_handing_over_and_keeps_everything(grid, file, monkeypatch):
    monkeypatch.setattr("bitdew.worker.leaving.handover._enough", lambda _view, _machines: False)
    host = await grid.add_host("pc")
    with pytest.raises(BitDewError) as caught:
        await left(host, seconds=0.5)
    assert caught.value.key == "host.not-empty"
    assert host.settings.home.exists()
