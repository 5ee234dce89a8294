"""Copies that rot on a host, and what the grid makes of it."""

from __future__ import annotations

import asyncio
import os
import random

from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.ids import ContentRoot
from bitdew.core.states import PlacementState
from bitdew.testing.grid import Grid

MB = 2**20


def rot(path, *offsets: int) -> None:
    """Change bytes as a disk does that fails: the file looks as before."""
    status = path.stat()
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0xFF]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


async def test_a_host_that_gave_wrong_pieces_is_told_so_looks_and_mends_its_copy(tmp_path):
    file = tmp_path / "data"
    file.write_bytes(random.Random(5).randbytes(3 * MB))
    swarm = Attribute(replica=1, protocol=Protocol.BITTORRENT)
    async with Grid(0) as grid:
        rotten = await grid.add_host("rotten", listen="127.0.4.1:0", scrub_days=0)
        root = ContentRoot((await grid.client.put(file, "events", swarm)).root)
        await grid.until("events", lambda where: where.data.held == 1)
        path = rotten.settings.home / "copies" / root
        await asyncio.to_thread(rot, path, 1_000_000, 2_000_000)
        repository = grid.service.rooms.contents.repository
        await repository.withdraw(root)  # so that everything comes from the copy that rotted
        await grid.add_host("fresh", listen="127.0.4.2:0", scrub_days=0)
        await grid.client.choose("events", Attribute(replica=2, protocol=Protocol.BITTORRENT))

        def withdrawn(where) -> bool:
            reasons = {p.host_name: p.reason for p in where.placements if p.reason is not None}
            found = reasons.get("rotten")
            return found is not None and found.key == "storage.rotten" and found.fields.get("bad") == 2

        where = await grid.until("events", withdrawn)
        assert {p.state for p in where.placements if p.host_name == "rotten"} == {PlacementState.FETCHING}
        await repository.seed_stored(root, file.stat().st_size)
        where = await grid.until("events", lambda where: where.data.held == 2)
        assert await asyncio.to_thread(path.read_bytes) == file.read_bytes()
