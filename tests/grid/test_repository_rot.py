"""The repository's own files rot, are cut or go: they are served no more, and mended from the hosts that have them."""

from __future__ import annotations

import asyncio
import os
import random
import shutil

import pytest
from bitdew.catalog import contents, mending, scrubbing

from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot
from bitdew.testing.grid import Grid, eventually

from .test_rot import rot

MB = 2**20
SIZE = 3 * MB + 12_345
BYTES = random.Random(6).randbytes(SIZE)
ONE = Attribute(replica=1, protocol=Protocol.BITTORRENT)
TWO = Attribute(replica=2, protocol=Protocol.BITTORRENT)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(BYTES)
    return path


async def placed(grid, file, wish=TWO):
    """The repository's file of a datum that is held as it wishes."""
    root = ContentRoot((await grid.client.put(file, "events", wish)).root)
    if wish.replica:
        await grid.until("events", lambda where: where.data.held == wish.replica)
    return root, grid.service.rooms.contents.repository.path(root)


async def seen(grid, condition):
    async with asyncio.timeout(40):
        while not condition(view := await grid.client.datum("events")):
            await asyncio.sleep(0.05)
    return view


async def until(condition, grid):
    await asyncio.wait_for(eventually(lambda: _true(condition), grid.clock), 40)


async def _true(condition):
    return bool(condition())


def whole(path):
    return path.exists() and path.read_bytes() == BYTES


async def test_pieces_that_rotted_are_found_by_reading_and_fetched_from_hosts_alone(file, monkeypatch):
    monkeypatch.setattr(scrubbing, "LOOK_SECONDS", 0.5)
    fetched = []

    async def follow(self, transfer, held, follow=mending.Mender._follow):
        await follow(self, transfer, held)
        fetched.append(transfer.progress.downloaded)

    monkeypatch.setattr(mending.Mender, "_follow", follow)
    async with Grid(1, scrub_days=4 / scrubbing.DAY) as grid:
        root, path = await placed(grid, file, ONE)
        changes = asyncio.create_task(seen(grid, lambda view: view.damaged))
        await asyncio.to_thread(rot, path, 1_000_000, 2_000_000)
        view = await changes
        assert view.damage.key == "storage.rotten"
        assert "piece" in view.damage.why
        assert root not in grid.service.rooms.contents.repository.seeded()
        assert view.held == 1
        await seen(grid, lambda view: not view.damaged)
        assert await asyncio.to_thread(whole, path)
        assert root in grid.service.rooms.contents.repository.seeded()
        assert fetched == [2 * 65536]
        assert await grid.client.read("events", 999_990, 1_000_010) == BYTES[999_990:1_000_010]


@pytest.mark.parametrize("harm", ["cut", "gone"])
async def test_a_file_that_was_cut_or_is_gone_is_found_without_being_read(file, harm, monkeypatch):
    monkeypatch.setattr(scrubbing, "LOOK_SECONDS", 0.5)
    causes = []

    async def condemn(self, root, stamp, fault, condemn=contents.Contents.condemn):
        await condemn(self, root, stamp, fault)
        causes.append(fault.why)

    monkeypatch.setattr(contents.Contents, "condemn", condemn)
    async with Grid(2, scrub_days=0) as grid:
        root, path = await placed(grid, file)
        await asyncio.to_thread(path.unlink if harm == "gone" else lambda: os.truncate(path, MB))
        await until(lambda: causes, grid)
        assert causes[0] == ("its file is gone" if harm == "gone" else f"its file has {MB} bytes, not {SIZE}")
        await seen(grid, lambda view: not view.damaged)
        assert await asyncio.to_thread(whole, path)
        assert root in grid.service.rooms.contents.repository.seeded()


async def test_what_a_service_lost_while_it_was_stopped_comes_back_from_the_hosts(file):
    async with Grid(1, scrub_days=0) as grid:
        _root, path = await placed(grid, file, ONE)
        await grid.stop_service()
        await asyncio.to_thread(path.unlink)
        await grid.start_service()
        await seen(grid, lambda view: not view.damaged and view.held == 1)
        assert await asyncio.to_thread(whole, path)


async def test_what_no_host_holds_stays_bad_and_says_so_until_it_is_published_again(file):
    async with Grid(0, scrub_days=0) as grid:
        root, path = await placed(grid, file, Attribute(replica=0))
        await asyncio.to_thread(path.unlink)
        changes = asyncio.create_task(seen(grid, lambda view: view.damaged))
        grid.clock.skip(scrubbing.LOOK_SECONDS + 1)
        assert (await changes).damage.why == "its file is gone"
        await asyncio.sleep(0.5)
        assert not path.exists()
        with pytest.raises(BitDewError) as caught:
            await grid.client.read("events", 0, 1)
        assert caught.value.key == "data.nowhere"
        assert "its file is gone" in caught.value.why
        await grid.client.put(file, "events", Attribute(replica=0))
        await seen(grid, lambda view: not view.damaged and view.damage is None)
        assert await asyncio.to_thread(whole, path)
        assert root in grid.service.rooms.contents.repository.seeded()


async def test_a_folder_that_is_out_of_reach_condemns_nothing(file):
    async with Grid(0, scrub_days=0) as grid:
        root, path = await placed(grid, file, Attribute(replica=0))
        away = path.parent.with_name("away")
        await asyncio.to_thread(shutil.move, path.parent, away)
        scrubber = grid.service.rooms.scrubber
        await scrubber._look()
        await asyncio.to_thread(shutil.move, away, path.parent)
        assert not (await grid.client.datum("events")).damaged
        assert root in grid.service.rooms.contents.repository.seeded()


async def test_what_is_removed_while_it_is_mended_leaves_no_file(file, monkeypatch):
    monkeypatch.setattr(mending, "SILENCE_SECONDS", 1.0)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(self, metainfo, good, peers, fetch=mending.Mender._fetch):
        begun.set()
        await go_on.wait()
        await fetch(self, metainfo, good, peers)

    monkeypatch.setattr(mending.Mender, "_fetch", wait)
    async with Grid(1, scrub_days=0) as grid:
        root, path = await placed(grid, file, ONE)
        await asyncio.to_thread(path.unlink)
        await grid.service.rooms.scrubber._look()
        await asyncio.wait_for(begun.wait(), 20)
        await grid.client.remove("events")
        go_on.set()
        mender = grid.service.rooms.mender
        async with asyncio.timeout(40):
            while root in await grid.service.rooms.contents.damaged() or mender.working:
                await asyncio.sleep(0.05)
        assert not path.exists()
