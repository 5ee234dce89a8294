"""The next version of a disk through the whole grid: hosts that hold the old one fetch what changed."""

from __future__ import annotations

import asyncio
import random

from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.states import PlacementState
from bitdew.testing.grid import Grid

MIB = 2**20
BLOCK = 16 * 1024


def all_held(count):
    return lambda reply: sum(p.state is PlacementState.HELD for p in reply.placements) >= count


async def test_hosts_that_hold_a_version_fetch_what_changed_in_the_next(tmp_path):
    rng = random.Random(4)
    old = rng.randbytes(8 * MIB)
    new = bytearray(old)
    chosen = rng.sample(range(len(old) // BLOCK), 25)
    for block in chosen:
        new[block * BLOCK : (block + 1) * BLOCK] = rng.randbytes(BLOCK)
    wish = Attribute(replica=2, protocol=Protocol.BITTORRENT)
    async with Grid(hosts=2) as grid:
        for name, content in (("v1", old), ("v2", bytes(new))):
            await asyncio.to_thread((tmp_path / name).write_bytes, content)
            await grid.client.add_disk(tmp_path / name, name, wish)
            reply = await grid.until(name, all_held(2))
        # Peers that end at the same time may be sent a block twice.
        came = [placement.from_repository + placement.from_peers for placement in reply.placements]
        assert all(0 < size <= 2 * len(chosen) * BLOCK for size in came)
        assert [placement.reused for placement in reply.placements] == [len(old) - len(chosen) * BLOCK] * 2
        for host in grid.hosts.values():
            path = host.settings.home / "copies" / reply.data.root
            assert await asyncio.to_thread(path.read_bytes) == new
