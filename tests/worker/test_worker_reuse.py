"""A new version of what is here: only what this host lacks crosses the wire, and nothing wrong is taken for good.

Real swarms and files; what is counted is the payload that peers sent.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager

import pytest
from bitdew.worker.reuse import Reuse
from bitdew.worker.settings import WorkerSettings

from bitdew.core.content import ContentHasher
from bitdew.swarm.settings import SwarmLimits

BLOCK = 16 * 1024
MIB = 2**20


def changed(content, share, seed=3):
    """`content` with a part of its blocks changed, here and there; and how many bytes that is."""
    rng = random.Random(seed)
    new, blocks = bytearray(content), len(content) // BLOCK
    chosen = rng.sample(range(blocks), max(1, round(blocks * share)))
    for block in chosen:
        new[block * BLOCK : (block + 1) * BLOCK] = rng.randbytes(BLOCK)
    return bytes(new), len(chosen) * BLOCK


def metainfo_root(content):
    hasher = ContentHasher(len(content))
    hasher.update(content)
    return hasher.finish().root


def leaves_in(content):
    hasher = ContentHasher(len(content), keep_leaves=True)
    hasher.update(content)
    hasher.finish()
    return hasher.leaves


@pytest.fixture
def second_version(service, start_worker, disk_bytes, home):
    """Starts a worker that holds `old`, and gets `new` from a swarm; what came then, in bytes."""

    @asynccontextmanager
    async def holding(old, **settings):
        first = await service.publish(old, "old")
        async with start_worker(**settings) as started:
            service.place(first, protocol="bittorrent")
            await service.until_state(first.uid, "held")
            yield started, first

    async def run(old, new, meanwhile=None, protocol="bittorrent"):
        async with holding(old) as (_started, first):
            if meanwhile is not None:
                await asyncio.to_thread(meanwhile, home / "copies" / first.root)
            second = await service.publish(new, "new")
            service.place(second, protocol=protocol)
            await service.until_state(second.uid, "held", seconds=30)
            report = service.placements[second.uid]
            assert (home / "copies" / second.root).read_bytes() == new
            assert report.done == report.size == len(new)
            run.reused = report.reused
            return report.from_repository + report.from_peers

    run.holding = holding
    return run


async def test_of_a_version_with_scattered_changes_only_these_cross_the_wire(second_version, disk_bytes):
    old = disk_bytes(32 * MIB)
    new, different = changed(old, 0.05)
    assert different <= await second_version(old, new) <= 1.1 * different
    assert second_version.reused == len(new) - different  # and is told


async def test_what_a_version_adds_at_its_end_is_all_that_comes(second_version, disk_bytes):
    old = disk_bytes(8 * MIB + 5000)
    more = random.Random(5).randbytes(MIB)
    assert await second_version(old, old + more) <= 1.1 * (MIB + BLOCK)


async def test_a_shorter_version_is_cut_from_the_old_one(second_version, disk_bytes):
    old = disk_bytes(8 * MIB)
    assert await second_version(old, old[: 5 * MIB + 777]) <= BLOCK


async def test_blocks_that_moved_are_found_where_they_are_now(second_version, disk_bytes):
    old = disk_bytes(8 * MIB)
    new = random.Random(5).randbytes(3 * BLOCK) + old
    assert await second_version(old, new) <= 1.1 * 3 * BLOCK


async def test_a_rotten_block_of_the_old_version_is_fetched(second_version, disk_bytes):
    old = disk_bytes(8 * MIB)
    new, different = changed(old, 0.05)

    def rot(path):
        with path.open("r+b") as file:
            file.seek(100 * BLOCK + 3)
            file.write(b"rot")

    assert await second_version(old, new, meanwhile=rot) <= 1.1 * (different + BLOCK)


async def test_other_data_on_the_host_cost_nothing_but_a_look(second_version, service, disk_bytes):
    old, new = disk_bytes(4 * MIB, seed=1), disk_bytes(4 * MIB, seed=2)
    assert await second_version(old, new) >= len(new)
    assert service.asked_blocks == []


async def test_zeros_are_not_sent_and_stay_holes(service, start_worker, disk_bytes, home):
    full = disk_bytes(MIB)
    content = full + bytes(8 * MIB) + full[: MIB // 2] + bytes(3 * MIB + 100)
    data = await service.publish(content)
    async with start_worker():
        service.place(data, protocol="bittorrent")
        await service.until_state(data.uid, "held")
        report = service.placements[data.uid]
    path = home / "copies" / data.root
    assert path.read_bytes() == content
    assert report.from_repository + report.from_peers <= 1.1 * 2 * MIB
    assert path.stat().st_blocks * 512 <= 3 * MIB
    assert service.asked_blocks == []  # the hashes of the pieces say it


@pytest.mark.parametrize("protocol", ["http", "bittorrent"])
async def test_nothing_but_zeros_is_held_without_a_byte_sent(service, start_worker, home, protocol):
    data = await service.publish(bytes(3 * MIB + 5))
    async with start_worker():
        service.place(data, protocol=protocol)
        await service.until_state(data.uid, "held")
        report = service.placements[data.uid]
    assert report.from_repository + report.from_peers == 0
    assert (home / "copies" / data.root).read_bytes() == bytes(data.size)


async def test_what_stands_where_zeros_should_is_cleared(service, start_worker, disk_bytes, home):
    content = disk_bytes(MIB) + bytes(2 * MIB) + disk_bytes(MIB, seed=2)
    data = await service.publish(content)
    copies = home / "copies"
    copies.mkdir(parents=True)
    (copies / data.root).write_bytes(content[:MIB] + b"x" * (2 * MIB + 500))
    async with start_worker():
        service.place(data, protocol="bittorrent")
        await service.until_state(data.uid, "held")
        report = service.placements[data.uid]
    assert (copies / data.root).read_bytes() == content
    assert report.from_repository + report.from_peers <= 1.1 * MIB


async def test_blocks_of_zeros_within_pieces_are_cleared_where_the_hashes_are_known(second_version, disk_bytes):
    old = disk_bytes(8 * MIB)
    new = bytearray(old)
    for block in range(7, 500, 9):
        new[block * BLOCK : (block + 1) * BLOCK] = bytes(BLOCK)
    assert await second_version(old, bytes(new)) == 0


async def test_the_old_version_may_be_dropped_while_the_new_one_comes(
    second_version, service, disk_bytes, home, monkeypatch
):
    monkeypatch.setattr("bitdew.worker.reuse.STEP", 256 * 1024)  # several steps, and it goes between two of them
    taken, go_on = asyncio.Event(), asyncio.Event()
    original = Reuse._take_from

    async def between(self, base, map_):
        at = 0

        def seen(done):
            nonlocal at
            at += 1
            if at == 4:
                taken.set()

        self._progressed = seen
        work = asyncio.ensure_future(original(self, base, map_))
        await taken.wait()
        await go_on.wait()
        await work

    old = disk_bytes(16 * MIB)
    new, _ = changed(old, 0.05)
    monkeypatch.setattr(Reuse, "_take_from", between)
    async with second_version.holding(old) as (_started, first):
        second = await service.publish(new, "new")
        service.place(second, protocol="bittorrent")
        await taken.wait()
        service.drop(first)
        await service.until_state(first.uid, "gone")
        go_on.set()
        await service.until_state(second.uid, "held", seconds=30)
        assert (home / "copies" / second.root).read_bytes() == new
        assert not (home / "copies" / f"{first.root}.sketch").exists()


async def test_a_worker_killed_on_the_way_has_all_blocks_that_it_had(service, home, disk_bytes, start_process):
    await asyncio.to_thread(service.identity, home)
    await asyncio.to_thread(WorkerSettings(home=home, name="pc-7", listen="127.0.0.1:0").save)
    old = disk_bytes(16 * MIB)
    new, different = changed(old, 0.2)
    first, second = await service.publish(old, "old"), await service.publish(new, "new")
    copies = home / "copies"
    async with start_process(home):
        service.place(first, protocol="bittorrent")
        await service.until_state(first.uid, "held", seconds=30)
        service.repository.set_limits(SwarmLimits(upload=MIB))
        service.place(second, protocol="bittorrent")
        await service.until(
            lambda: service.state(second.uid) == "fetching" and (copies / f"{second.root}.have").exists()
        )
    service.repository.set_limits(SwarmLimits())
    await asyncio.to_thread((copies / first.root).unlink)  # what it had taken is its own by now
    async with start_process(home):
        await service.until_state(second.uid, "held", seconds=30)
        report = service.placements[second.uid]
    assert (copies / second.root).read_bytes() == new
    assert report.from_repository + report.from_peers <= 1.1 * different + 2 * MIB


async def test_hashes_that_the_root_does_not_prove_are_not_used(second_version, service, disk_bytes):
    old = disk_bytes(4 * MIB)
    new, _ = changed(old, 0.05)
    planted = service.folder / f"{metainfo_root(new)}.blocks"
    await asyncio.to_thread(planted.write_bytes, bytes(len(new) // BLOCK * 32))
    assert await second_version(old, new) >= len(new)


async def test_a_service_that_tells_no_hashes_sends_everything(second_version, service, disk_bytes):
    old = disk_bytes(4 * MIB)
    new, _ = changed(old, 0.05)
    planted = service.folder / f"{metainfo_root(new)}.blocks"
    await asyncio.to_thread(planted.mkdir)  # no file
    assert await second_version(old, new) >= len(new)


async def test_by_http_too_only_the_blocks_that_changed_come(second_version, disk_bytes):
    old = disk_bytes(32 * MIB)  # pieces of 8 blocks
    new, different = changed(old, 0.02)
    assert await second_version(old, new, protocol="http") <= 1.2 * different


async def test_a_block_that_comes_wrong_by_http_is_thrown_away_and_comes_again(
    second_version, service, disk_bytes, home
):
    old = disk_bytes(4 * MIB)
    new, _ = changed(old, 0.02)
    async with second_version.holding(old):
        second = await service.publish(new, "new")
        path = service.folder / second.root
        await asyncio.to_thread((service.folder / f"{second.root}.blocks").write_bytes, leaves_in(new))
        await asyncio.to_thread(path.write_bytes, old)  # as it was published, but for all that changed
        service.place(second, protocol="http")
        await service.until_state(second.uid, "failed")
        assert service.placements[second.uid].reason.key == "swarm.corrupt"
        await asyncio.to_thread(path.write_bytes, new)
        service.place(second, protocol="http")
        await service.until_state(second.uid, "held", seconds=30)
        assert (home / "copies" / second.root).read_bytes() == new


async def test_an_old_version_that_the_service_forgot_is_read_for_what_it_is(second_version, service, disk_bytes):
    old = disk_bytes(4 * MIB)
    new, different = changed(old, 0.05)
    service.forgotten.add(metainfo_root(old))
    assert await second_version(old, new) <= 1.1 * different


async def test_a_service_that_still_reads_the_new_version_is_waited_for(second_version, service, disk_bytes):
    old = disk_bytes(4 * MIB)
    new, different = changed(old, 0.05)
    service.reading = 1
    assert await second_version(old, new) <= 1.1 * different
