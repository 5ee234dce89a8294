"""What a drop gave back is told in bytes of the disk, whatever happens on the way, and the host's figures follow."""

from __future__ import annotations

import asyncio

import pytest

from bitdew.core.errors import error
from bitdew.swarm.settings import SwarmLimits
from bitdew.wire.models import SyncReply

MIB = 2**20


def on_disk(home):
    return sum(path.stat().st_blocks * 512 for path in (home / "copies").iterdir())


async def held(service, data, protocol="auto"):
    service.place(data, protocol=protocol)
    await service.until_state(data.uid, "held")


@pytest.mark.parametrize("protocol", ["auto", "http"])
async def test_a_drop_tells_what_its_files_took_on_the_disk(service, start_worker, disk_bytes, home, protocol):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker():
        await held(service, data, protocol)
        assert service.placements[data.uid].freed == 0
        taken = await asyncio.to_thread(on_disk, home)
        assert taken >= MIB
        service.drop(data)
        await service.until_state(data.uid, "gone")
        assert service.placements[data.uid].freed == taken


async def test_a_copy_on_its_way_frees_what_had_arrived_of_it(service, start_worker, disk_bytes):
    service.repository.set_limits(SwarmLimits(upload=2 * MIB))
    data = await service.publish(disk_bytes(8 * MIB))
    async with start_worker():
        service.place(data)
        await service.until(lambda: data.uid in service.placements and service.placements[data.uid].done > MIB)
        service.drop(data)
        await service.until_state(data.uid, "gone")
        assert MIB <= service.placements[data.uid].freed < 8 * MIB


async def test_bytes_that_another_datum_needs_are_not_freed(service, start_worker, disk_bytes):
    content = disk_bytes(MIB)
    one, two = await service.publish(content, "one"), await service.publish(content, "two")
    async with start_worker():
        await held(service, one)
        await held(service, two)
        service.drop(one)
        await service.until_state(one.uid, "gone")
        assert service.placements[one.uid].freed == 0
        service.drop(two)
        await service.until_state(two.uid, "gone")
        assert service.placements[two.uid].freed >= MIB


async def test_the_report_of_a_drop_says_what_is_used_after_it(service, start_worker, disk_bytes):
    one, two = await service.publish(disk_bytes(MIB), "one"), await service.publish(disk_bytes(2 * MIB, 2), "two")
    async with start_worker():
        await held(service, one)
        await held(service, two)
        await service.until(lambda: service.syncs[-1].host and service.syncs[-1].host.used == 3 * MIB)
        service.drop(one)
        await service.until_state(one.uid, "gone")
        telling = [sync for sync in service.syncs if any(p.state == "gone" for p in sync.placements)]
        assert [sync.host.used for sync in telling] == [2 * MIB]


async def test_what_is_held_is_used_from_the_first_report_of_a_new_start_on(service, start_worker, disk_bytes):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker():
        await held(service, data)
    service.syncs.clear()
    async with start_worker():
        await service.until(lambda: service.syncs)
        assert service.syncs[0].host.used == pytest.approx(MIB, abs=65536)


async def test_a_lost_reply_has_the_freed_bytes_told_again_after_a_restart(
    service, start_worker, disk_bytes, until, home
):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker() as started:
        await held(service, data)
        await service.down()
        order = service.drop(data)
        await started.worker._sync._take(  # it heard the order; then the service went
            SyncReply(period=5.0, orders=[order], generation=order.generation)
        )
        await until(lambda: started.worker.placements.entries[data.uid].state == "gone")
        await started.crash()
    await service.up()
    async with start_worker():
        await service.until_state(data.uid, "gone")
        assert service.placements[data.uid].freed >= MIB


async def test_a_worker_that_is_killed_while_it_removes_files_still_tells_what_they_took(
    service, start_worker, disk_bytes, home, until
):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker() as started:
        await held(service, data)
        storage = started.worker._storage
        remove, removed = storage.remove, []

        def remove_and_hang(root):
            remove(root)
            removed.append(root)
            raise error("storage.failed", "the process ends here")

        storage.remove = remove_and_hang
        journal = started.worker._journal
        save = journal.save_placement

        async def save_nothing_after(entry):
            if not removed:
                await save(entry)

        journal.save_placement = save_nothing_after
        service.drop(data)
        await until(lambda: removed)
        await started.crash()
    service.placements.clear()
    async with start_worker():
        await service.until_state(data.uid, "gone")
        assert service.placements[data.uid].freed >= MIB
        assert list((home / "copies").iterdir()) == []
