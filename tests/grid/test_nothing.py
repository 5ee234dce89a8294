"""A file of no bytes is a datum like others, from its publisher over the hosts and back."""

import asyncio
import hashlib

import pytest

from bitdew import Attribute, BitDewError
from bitdew.core.states import PlacementState
from bitdew.testing.grid import Grid
from bitdew.wire.models import DatumRequest

NOTHING = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def empty(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    return path


def copies(grid):
    """The hosts that have the file of no bytes, each with its size."""
    paths = {name: host.settings.home / "copies" / NOTHING for name, host in grid.hosts.items()}
    return {name: path.stat().st_size for name, path in paths.items() if path.exists()}


def held(count):
    return lambda where: where.data.held == count


@pytest.mark.parametrize("protocol", ["auto", "http", "bittorrent"])
async def test_nothing_is_put_placed_held_over_a_restart_brought_back_and_dropped(empty, tmp_path, protocol):
    async with Grid(2) as grid:
        await grid.client.put(empty, "one", Attribute(replica=2, protocol=protocol))
        where = await grid.until("one", held(2))
        assert {placement.state for placement in where.placements} == {PlacementState.HELD}
        assert copies(grid) == {"host1": 0, "host2": 0}
        await grid.client.put(empty, "two", Attribute(replica=2))
        await grid.until("two", held(2))
        await grid.hosts["host1"].restart()
        await grid.stop_service()
        await grid.start_service()
        await grid.until("one", held(2))
        got = await grid.client.get("one", tmp_path / "back")
        assert (got.path.read_bytes(), await grid.client.read("one", 0, 0)) == (b"", b"")
        await grid.client.remove("one")
        await grid.until("one", lambda where: not any(p.state is PlacementState.HELD for p in where.placements))
        assert copies(grid) == {"host1": 0, "host2": 0}  # for the other datum's sake
        await grid.client.remove("two")
        async with asyncio.timeout(30):
            while copies(grid):
                await asyncio.sleep(0.02)


async def test_no_other_root_is_that_of_nothing(empty):
    async with Grid(0) as grid:
        with pytest.raises(BitDewError) as caught:
            await grid.client.create([DatumRequest(name="one", root="0" * 64, size=0)])
        assert caught.value.key == "input.invalid"
