"""Data that come over the service's HTTPS: verified piece by piece, resumed, paced, and held like any other."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import aclosing

import pytest
from bitdew.worker import download
from bitdew.worker.link import ServiceLink
from bitdew.worker.settings import WorkerSettings

from bitdew.core.host import Endpoint
from bitdew.swarm.session import Swarm
from bitdew.swarm.settings import SwarmLimits
from bitdew.trust.tls import client_context
from bitdew.wire.models import ServiceReply

MIB = 2**20
PIECE = 65536


def asked(service):
    """The first byte and the number of bytes of each request for content."""
    spans = [text.removeprefix("bytes=").split("-") for _, text in service.ranges]
    return [(int(first), int(last) + 1 - int(first)) for first, last in spans]


def pieces_in(have):
    return sum(byte.bit_count() for byte in have.read_bytes()) if have.exists() else 0


def spoil(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


async def test_an_order_by_http_is_fetched_from_the_service_alone_and_then_seeded(
    service, start_worker, disk_bytes, home, tmp_path
):
    data = await service.publish(disk_bytes(3 * MIB + 5))
    seeder = next(iter(service.repository.transfers.values()))
    async with start_worker() as started:
        service.place(data, protocol="http")
        await service.until_state(data.uid, "held")
        report = service.placements[data.uid]
        assert (report.from_repository, report.from_peers, report.corrupt) == (data.size, 0, 0)
        assert report.done == data.size
        assert report.reason is None
        assert seeder.progress.uploaded == 0
        assert asked(service) == [(0, data.size)]
        assert hashlib.sha256((home / "copies" / data.root).read_bytes()).digest() == (
            hashlib.sha256(data.content).digest()
        )
        assert {path.name for path in (home / "copies").iterdir()} == {data.root, f"{data.root}.torrent"}
        async with await Swarm.start(Endpoint("127.0.0.1", 0), service.swarm_credentials("other")) as other:
            transfer = await other.add(data.metainfo, tmp_path / "fetched", peers=[started.worker.swarm.endpoint])
            await asyncio.wait_for(transfer.wait_held(), 10)
    assert (tmp_path / "fetched").read_bytes() == data.content


async def test_a_held_copy_asks_the_service_for_nothing_after_a_restart(service, start_worker, disk_bytes):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker():
        service.place(data, protocol="http")
        await service.until_state(data.uid, "held")
    service.ranges.clear()
    service.placements.clear()
    async with start_worker():
        await service.until_state(data.uid, "held")
        assert service.placements[data.uid].from_repository == data.size  # it is remembered
    assert service.ranges == []


@pytest.mark.parametrize("protocol", ["auto", "bittorrent"])
async def test_only_an_order_by_http_uses_http(service, start_worker, disk_bytes, protocol):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker():
        service.place(data, protocol=protocol)
        await service.until_state(data.uid, "held")
    assert service.ranges == []


async def test_small_data_come_over_https_where_the_way_is_left_open(service, start_worker, disk_bytes):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker():
        service.place(data, copies=4)
        await service.until_state(data.uid, "held")
        assert asked(service) == [(0, data.size)]
        assert service.placements[data.uid].from_peers == 0


@pytest.mark.parametrize("broken", ["missing", "wrong"])
async def test_where_the_way_is_left_open_the_swarm_has_what_the_service_has_not(
    service, start_worker, disk_bytes, home, tmp_path, broken
):
    data = await service.publish(disk_bytes(MIB))
    (tmp_path / "good").write_bytes(data.content)
    if broken == "missing":
        (service.folder / data.root).unlink()
    else:
        spoil(service.folder / data.root, MIB - 1)
    for transfer in list(service.repository.transfers.values()):
        await service.repository.remove(transfer)
    async with await Swarm.start(Endpoint("127.0.0.1", 0), service.swarm_credentials("other")) as other:
        await other.add(data.metainfo, tmp_path / "good", complete=True)
        async with start_worker():
            service.place(data, [other.endpoint], copies=2)
            await service.until_state(data.uid, "held")
            report = service.placements[data.uid]
            assert report.reason is None
            assert report.from_peers > 0
            assert (home / "copies" / data.root).read_bytes() == data.content


async def test_where_the_way_is_left_open_a_service_that_goes_away_is_not_waited_for(
    service, start_worker, disk_bytes, home, tmp_path, monkeypatch
):
    monkeypatch.setattr(download, "TURN_SECONDS", 0.5)
    data = await service.publish(disk_bytes(16 * MIB))
    (tmp_path / "good").write_bytes(data.content)
    async with await Swarm.start(Endpoint("127.0.0.1", 0), service.swarm_credentials("other")) as other:
        await other.add(data.metainfo, tmp_path / "good", complete=True)
        async with start_worker(download=6 * MIB):
            service.place(data, [other.endpoint], copies=1)
            await service.until(lambda: data.uid in service.placements and service.placements[data.uid].done > 0)
            await service.down()
            await service.repository.close()
            async with asyncio.timeout(20):
                while (home / "copies" / f"{data.root}.have").exists() or not whole(home / "copies" / data.root, data):
                    await asyncio.sleep(0.05)
            await service.up()
            await service.until_state(data.uid, "held")
            report = service.placements[data.uid]
            assert 0 < report.from_repository < data.size
            assert 0 < report.from_peers < data.size


def whole(path, data):
    return path.exists() and path.read_bytes() == data.content


@pytest.mark.parametrize("protocol", ["auto", "http"])
@pytest.mark.parametrize("size", [1, 16384, PIECE, PIECE + 1, 3 * PIECE - 1])
async def test_any_bytes_are_held_without_a_record(service, start_worker, home, protocol, size):
    text = ("no disk, and nobody signed it. " * (size // 30 + 1)).encode()[:size]
    data = await service.publish(text, "notes.txt")
    async with start_worker(hypervisors=()):
        service.place(data, protocol=protocol)
        await service.until_state(data.uid, "held")
        assert (home / "copies" / data.root).read_bytes() == text
        service.drop(data)
        await service.until_state(data.uid, "gone")


async def test_more_data_than_run_at_once_all_come(service, start_worker, disk_bytes):
    many = [await service.publish(disk_bytes(2 * PIECE, seed), f"n{seed}") for seed in range(20)]
    async with start_worker():
        for data in many:
            service.place(data, protocol="http")
        await service.until(lambda: all(service.state(data.uid) == "held" for data in many))


async def test_a_large_file_is_asked_for_in_parts(service, start_worker, disk_bytes, home, monkeypatch):
    monkeypatch.setattr(download, "PART", MIB)
    data = await service.publish(disk_bytes(2 * MIB + MIB // 2))
    async with start_worker():
        service.place(data, protocol="http")
        await service.until_state(data.uid, "held")
    assert asked(service) == [(0, MIB), (MIB, MIB), (2 * MIB, MIB // 2)]
    assert (home / "copies" / data.root).read_bytes() == data.content


async def test_two_data_with_the_same_bytes_are_fetched_once(service, start_worker, disk_bytes):
    content = disk_bytes(MIB)
    one, two = await service.publish(content, "one"), await service.publish(content, "two")
    async with start_worker():
        service.place(one, protocol="http")
        service.place(two, protocol="http")
        await service.until(lambda: service.state(one.uid) == service.state(two.uid) == "held")
        assert sorted(service.placements[d.uid].from_repository for d in (one, two)) == [0, MIB]
    assert len(service.ranges) == 1


async def test_a_download_under_way_can_be_dropped(service, start_worker, disk_bytes, home):
    data = await service.publish(disk_bytes(4 * MIB))
    async with start_worker(download=MIB):
        service.place(data, protocol="http")
        await service.until(lambda: service.state(data.uid) == "fetching" and service.placements[data.uid].done > 0)
        service.drop(data)
        await service.until_state(data.uid, "gone")
        assert list((home / "copies").iterdir()) == []
        service.place(data, protocol="http")
        await service.until(lambda: service.state(data.uid) == "fetching" and service.placements[data.uid].done > 0)


# Wrong, missing, away -------------------------------------------------------------------------------------------------


async def test_wrong_bytes_fail_the_copy_and_never_reach_the_file(service, start_worker, disk_bytes, home):
    data = await service.publish(disk_bytes(MIB))
    await asyncio.to_thread(spoil, service.folder / data.root, 7 * PIECE + 11)
    async with start_worker():
        service.place(data, protocol="http")
        await service.until_state(data.uid, "failed")
        report = service.placements[data.uid]
        assert report.reason.key == "swarm.corrupt"
        assert report.reason.fields["piece"] == 7
        assert report.corrupt == 1
        partial = (home / "copies" / data.root).read_bytes()
        pieces = [(partial[at : at + PIECE], data.content[at : at + PIECE]) for at in range(0, data.size, PIECE)]
        assert all(found == right for found, right in pieces[:7])
        assert pieces[7][0] == bytes(PIECE)
        assert all(found in {right, bytes(PIECE)} for found, right in pieces[8:])  # those under way with it came too
        missing = sum(found != right for found, right in pieces)
        await asyncio.to_thread((service.folder / data.root).write_bytes, data.content)  # it was mended
        service.ranges.clear()
        service.place(data, protocol="http")
        await service.until_state(data.uid, "held")
        assert asked(service)[0][0] == 7 * PIECE
        assert sum(size for _, size in asked(service)) == missing * PIECE
    assert (home / "copies" / data.root).read_bytes() == data.content


async def test_a_longer_file_at_the_service_gives_no_byte_too_many(service, start_worker, disk_bytes, home):
    data = await service.publish(disk_bytes(MIB + 3))
    await asyncio.to_thread((service.folder / data.root).write_bytes, data.content + bytes(MIB))
    async with start_worker():
        service.place(data, protocol="http")
        await service.until_state(data.uid, "held")
        assert service.placements[data.uid].from_repository == data.size
    assert (home / "copies" / data.root).read_bytes() == data.content


async def test_what_the_service_does_not_have_fails_with_its_reason(service, start_worker, disk_bytes):
    data = await service.publish(disk_bytes(MIB))
    await asyncio.to_thread((service.folder / data.root).unlink)
    async with start_worker():
        service.place(data, protocol="http")
        await service.until_state(data.uid, "failed")
        reason = service.placements[data.uid].reason
        assert (reason.key, reason.why) == ("data.not-found", "the test says so")


async def test_a_service_that_goes_away_is_waited_for_and_asked_for_the_rest(
    service, start_worker, disk_bytes, until, home
):
    data = await service.publish(disk_bytes(32 * MIB))  # more than buffers on the way hold
    async with start_worker(download=8 * MIB) as started:
        entry = started.worker.placements.entries
        service.place(data, protocol="http")
        await service.until_state(data.uid, "fetching")
        await until(lambda: entry[data.uid].done > MIB)
        await service.down()
        await until(lambda: entry[data.uid].reason is not None)
        assert entry[data.uid].reason.key == "service.unreachable"
        assert entry[data.uid].state == "fetching"
        there = entry[data.uid].done
        service.ranges.clear()
        await service.up()
        await service.until_state(data.uid, "held", seconds=30)
        assert service.placements[data.uid].reason is None
    assert asked(service)[0][0] == there
    assert (home / "copies" / data.root).read_bytes() == data.content


# Going on -------------------------------------------------------------------------------------------------------------


async def test_a_killed_worker_asks_for_what_is_not_durable_alone(
    service, home, disk_bytes, start_process, start_worker
):
    await asyncio.to_thread(service.identity, home)
    settings = WorkerSettings(home=home, name="pc-7", listen="127.0.0.1:0", download=3 * MIB)
    await asyncio.to_thread(settings.save)
    data = await service.publish(disk_bytes(10 * MIB))
    have = home / "copies" / f"{data.root}.have"
    async with start_process(home):
        service.place(data, protocol="http")
        await service.until(lambda: pieces_in(have) * PIECE > 2 * MIB, seconds=30)
    durable = pieces_in(have) * PIECE
    service.orders.clear()  # it is not told again
    service.ranges.clear()
    async with start_worker():
        await service.until_state(data.uid, "held", seconds=30)
        assert service.placements[data.uid].from_repository <= data.size + 6 * MIB
    assert asked(service) == [(durable, data.size - durable)]
    assert (home / "copies" / data.root).read_bytes() == data.content


async def test_pieces_that_changed_between_two_starts_are_fetched_again_and_no_others(
    service, start_worker, disk_bytes, home
):
    data = await service.publish(disk_bytes(8 * MIB))
    have = home / "copies" / f"{data.root}.have"
    async with start_worker(download=4 * MIB) as started:
        service.place(data, protocol="http")
        await service.until(lambda: have.exists() and service.placements[data.uid].done > 2 * MIB)
        await started.crash()
    durable = pieces_in(have) * PIECE
    await asyncio.to_thread(spoil, home / "copies" / data.root, 3 * PIECE + 1)
    service.ranges.clear()
    async with start_worker():
        await service.until_state(data.uid, "held")
    assert asked(service) == [(3 * PIECE, PIECE), (durable, data.size - durable)]
    assert (home / "copies" / data.root).read_bytes() == data.content


async def test_a_worker_that_stops_in_good_order_asks_for_the_rest_at_its_next_start(
    service, start_worker, disk_bytes, home
):
    data = await service.publish(disk_bytes(8 * MIB))
    async with start_worker(download=4 * MIB):
        service.place(data, protocol="http")
        await service.until(lambda: data.uid in service.placements and service.placements[data.uid].done > 2 * MIB)
        done = service.placements[data.uid].done
    service.ranges.clear()
    async with start_worker():
        await service.until_state(data.uid, "held")
    assert asked(service)[0][0] >= done
    assert (home / "copies" / data.root).read_bytes() == data.content


@pytest.mark.parametrize(("first", "then"), [("auto", "http"), ("http", "auto")])
async def test_what_came_one_way_is_not_fetched_again_the_other_way(
    service, start_worker, disk_bytes, home, first, then
):
    service.repository.set_limits(SwarmLimits(upload=4 * MIB))
    data = await service.publish(disk_bytes(10 * MIB))
    have = home / "copies" / f"{data.root}.have"
    async with start_worker(download=4 * MIB) as started:
        service.place(data, protocol=first)
        await service.until(lambda: have.exists() and service.placements[data.uid].done > 2 * MIB)
        await started.crash()
    durable = pieces_in(have) * PIECE
    before = service.placements[data.uid].from_repository
    service.repository.set_limits(SwarmLimits())
    service.place(data, protocol=then)
    async with start_worker():
        await service.until_state(data.uid, "held")
        report = service.placements[data.uid]
    fetched = report.from_repository - before
    assert fetched <= data.size - durable + 5 * MIB  # what came after the last report before the crash is counted twice
    if then == "http":
        assert sum(size for _, size in asked(service)) <= data.size - durable
    assert (home / "copies" / data.root).read_bytes() == data.content


async def test_a_held_copy_that_rots_is_fetched_again_by_http(service, start_worker, disk_bytes, home):
    data = await service.publish(disk_bytes(MIB))
    path = home / "copies" / data.root
    async with start_worker():
        service.place(data, protocol="http")
        await service.until_state(data.uid, "held")
        service.ranges.clear()
        with path.open("r+b") as file:
            file.truncate(5 * PIECE)
        async with await Swarm.start(Endpoint("127.0.0.1", 0), service.swarm_credentials("other")) as other:
            worker = Endpoint.parse(service.syncs[0].host.swarm)
            transfer = await other.add(data.metainfo, home / "fetched", peers=[worker])
            await asyncio.wait_for(transfer.wait_held(), 20)  # what it asks for is missed at once
        await service.until(lambda: service.placements[data.uid].from_repository > data.size)
        await service.until_state(data.uid, "held")
        assert asked(service) == [(5 * PIECE, data.size - 5 * PIECE)]
    assert path.read_bytes() == data.content


async def test_a_part_under_way_outlives_a_renewed_certificate(service, home, disk_bytes):
    data = await service.publish(disk_bytes(16 * MIB))
    identity = await asyncio.to_thread(service.identity, home)
    context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
    async with ServiceLink(service.url, context) as link:
        old = link.transport
        async with aclosing(link.download(f"/v1/content/{data.root}", 0, data.size)) as chunks:
            got = [await anext(chunks)]
            await link.replace(context)
            got += [chunk async for chunk in chunks]
        assert b"".join(got) == data.content
        assert link.transport is not old
        with pytest.raises(RuntimeError):  # nobody uses it any more
            await old.call("GET", "/v1/service", ServiceReply)


# Caps -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocols", [("http",), ("http", "http"), ("http", "auto")])
async def test_the_cap_on_downloads_holds_over_all_of_them(service, start_worker, disk_bytes, protocols):
    size = 4 * MIB // len(protocols)
    many = [await service.publish(disk_bytes(size, seed), f"n{seed}") for seed in range(len(protocols))]
    async with start_worker(download=2 * MIB) as started:
        await service.until(lambda: any(sync.wait > 0 for sync in service.syncs))
        began = time.monotonic()
        for data, protocol in zip(many, protocols, strict=True):
            service.place(data, protocol=protocol)
        await service.until(lambda: all(service.state(data.uid) == "held" for data in many))
        assert time.monotonic() - began > 1.6  # 2 s, less what is sent in the first moment
        session = started.worker.swarm._session
        assert session.get_settings()["download_rate_limit"] == 2 * MIB  # swarms have all of it again
