"""A worker's process is killed without warning, again and again, and loses nothing."""

from __future__ import annotations

import asyncio

from bitdew.worker.settings import WorkerSettings

from bitdew.swarm.settings import SwarmLimits

MIB = 2**20


async def test_a_killed_worker_goes_on_where_it_was(service, home, disk_bytes, start_process):
    await asyncio.to_thread(service.identity, home)
    await asyncio.to_thread(WorkerSettings(home=home, name="pc-7", listen="127.0.0.1:0").save)
    service.repository.set_limits(SwarmLimits(upload=4 * MIB))
    data = await service.publish(disk_bytes(10 * MIB))
    have = home / "copies" / f"{data.root}.have"

    def kept():
        return sum(byte.bit_count() for byte in have.read_bytes()) * 65536 if have.exists() else 0

    async with start_process(home):
        service.place(data)
        await service.until(lambda: kept() > 2 * MIB, seconds=30)
    before = kept()
    service.orders.clear()  # it is not told again
    service.repository.set_limits(SwarmLimits())
    async with start_process(home):
        await service.until_state(data.uid, "held", seconds=30)
        assert service.placements[data.uid].from_repository <= 2 * data.size - before
    async with start_process(home):  # killed while it held: it is held at once, without the repository
        service.placements.clear()
        await service.repository.close()
        await service.until_state(data.uid, "held", seconds=30)
    assert (home / "copies" / data.root).read_bytes() == data.content
