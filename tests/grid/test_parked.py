"""A copy that its host has parked is fetched by another host, whoever asks for it, through the whole grid."""

from __future__ import annotations

import asyncio
import random

from bitdew.worker import parking

from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.ids import ContentRoot, HostId
from bitdew.testing.grid import Grid, eventually

MB = 2**20


async def test_another_host_gets_a_parked_copy_and_so_does_the_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(parking, "MOST_IDLE", 1)
    monkeypatch.setattr(parking, "TOGETHER", 0)
    alone = Attribute(replica=1, protocol=Protocol.HTTP)  # nobody stays connected
    names = ["one", "two", "three"]
    async with Grid(0) as grid:
        holder = await grid.add_host("holder", listen="127.0.4.1:0")
        roots = {}
        for number, name in enumerate(names):
            path = tmp_path / name
            path.write_bytes(random.Random(number).randbytes(MB + number))
            roots[name] = ContentRoot((await grid.client.put(path, name, alone)).root)
            await grid.until(name, lambda where: where.data.held == 1)
        assert holder.worker is not None
        copies = holder.worker.placements._copies

        async def two_are_parked() -> bool:
            return len(copies.parking.parked) == 2

        await eventually(two_are_parked, grid.clock)
        rooms = grid.service.rooms
        host = HostId((await grid.client.hosts())[0].host)
        assert (await rooms.sought.at(host)).roots == []
        name = next(name for name in names if roots[name] in copies.parking.parked)
        repository = rooms.contents.repository
        await repository.withdraw(roots[name])  # so that everything comes from the parked copy
        await grid.add_host("fresh", listen="127.0.4.2:0")
        await grid.client.choose(name, Attribute(replica=2, protocol=Protocol.BITTORRENT))
        where = await grid.until(name, lambda where: where.data.held == 2)
        fetched = next(p for p in where.placements if p.host_name == "fresh")
        assert fetched.from_peers == where.data.size
        copy = grid.hosts["fresh"].settings.home / "copies" / roots[name]
        assert await asyncio.to_thread(copy.read_bytes) == (tmp_path / name).read_bytes()
        assert (await rooms.sought.at(host)).roots == []
        # Whoever has no placement is remembered for a while.
        await rooms.sought.seek(roots["two"])
        await rooms.sought.seek(ContentRoot("0" * 64))
        assert (await rooms.sought.at(host)).roots == [roots["two"]]
        assert (await grid.client.where(name)).data.held == 2
