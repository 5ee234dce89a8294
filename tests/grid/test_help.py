"""A swarm whose only seeder can't be reached is helped over HTTPS: by few hosts at a time, hardly more than once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest
from bitdew.catalog import permits
from bitdew.worker import help as worker_help

from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.ids import ContentRoot
from bitdew.testing.grid import Grid

MB = 2**20


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The same in less time."""
    monkeypatch.setattr(worker_help, "NOBODY_SECONDS", 1.0)
    monkeypatch.setattr(permits, "RETRY_SECONDS", 1.0)


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(random.Random(11).randbytes(16 * MB + 5))
    return path


@contextlib.asynccontextmanager
async def most_at_once(grid: Grid, root: str) -> AsyncIterator[list[int]]:
    """How many hosts had a permit for some content, looked at all the time."""
    seen: list[int] = []

    async def look() -> None:
        while True:
            seen.append(len(grid.service.rooms.egress.permits.holders(ContentRoot(root))))
            await asyncio.sleep(0.005)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_hosts_that_can_not_reach_the_repositorys_swarm_get_the_disk_and_take_it_about_once(disk):
    async with Grid(0) as grid:
        attribute = Attribute(replica=4, protocol=Protocol.BITTORRENT)
        added = await grid.client.put(disk, "disk", attribute)
        for transfer in list(grid.service.swarm.offers.values()):
            await grid.service.swarm.remove(transfer)
        async with most_at_once(grid, added.root) as seen:
            for number in range(4):
                await grid.add_host(f"host{number}")
            where = await grid.until("disk", lambda now: now.data.held == 4)
        size = disk.stat().st_size
        assert size <= where.data.egress < 1.5 * size
        assert 1 <= max(seen) <= permits.AT_ONCE
        taken = sum(placement.from_repository for placement in where.placements)
        assert taken == where.data.egress
        for host in grid.hosts.values():
            copy = host.settings.home / "copies" / where.data.root
            assert await asyncio.to_thread(copy.read_bytes) == await asyncio.to_thread(disk.read_bytes)


async def test_a_swarm_that_moves_takes_no_help(disk):
    async with Grid(3) as grid:
        await grid.client.put(disk, "disk", Attribute(replica=3, protocol=Protocol.BITTORRENT))
        where = await grid.until("disk", lambda now: now.data.held == 3)
        assert not grid.service.rooms.contents.repository._sent[ContentRoot(where.data.root)]
