"""A folder through the whole grid: put, placed on workers by their swarm, and back again."""

from __future__ import annotations

import asyncio
import random

from bitdew.client.folder import FolderSource
from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.data import Kind
from bitdew.testing.grid import Grid


def archive_of(folder):
    source = FolderSource(folder)
    return source.read_at(0, source.size)


async def test_workers_hold_a_folder_by_swarm_and_it_comes_back_equal(tmp_path):
    top, chance = tmp_path / "top", random.Random(4)
    for number in range(30):
        place = top / f"part{number % 4}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file{number}").write_bytes(chance.randbytes(chance.choice([0, 5, 16384, 70_000, 400_000])))
    (top / "latest").symlink_to("part0/file0")
    (top / "part1" / "file1").chmod(0o755)
    async with Grid(3) as grid:
        datum = await grid.client.put(top, "run", Attribute(replica=2, protocol=Protocol.BITTORRENT))
        where = await grid.until("run", lambda where: where.data.held == 2)
        assert (where.data.kind, datum.kind) == (Kind.FOLDER, Kind.FOLDER)
        await grid.client.get("run", tmp_path / "back")
        copies = [host.settings.home / "copies" / datum.root for host in grid.hosts.values()]
        held = [await asyncio.to_thread(copy.read_bytes) for copy in copies if copy.exists()]
    raw = await asyncio.to_thread(archive_of, top)
    assert held == [raw, raw]
    assert await asyncio.to_thread(archive_of, tmp_path / "back") == raw
