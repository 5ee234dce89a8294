"""Reading parts of what the repository does not have, or not as it should be: from the hosts, on demand."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

import pytest
from bitdew.worker import parking

from bitdew import Attribute, BitDewError
from bitdew.client import at_hosts
from bitdew.client.dew import Dew
from bitdew.core.attribute import Protocol
from bitdew.core.host import Endpoint
from bitdew.swarm.reader import reader as reading
from bitdew.swarm.settings import SwarmLimits
from bitdew.testing.grid import Grid
from bitdew.wire.models import DatumRequest

MB = 2**20
SIZE = 9 * MB + 17
HERE = Endpoint("127.0.0.1", 0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "events.root"
    path.write_bytes(random.Random(7).randbytes(SIZE))
    return path


async def held_by_a_host_alone(grid, path, name="hep"):
    async with grid.client.seed(path, name, Attribute(replica=1), listen=HERE) as offer:
        await offer.held()
    await grid.until(name, lambda where: where.data.origin is None)


def tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()} & {"piece reader", "verifies a piece", "asks who has it"}


async def test_a_range_comes_from_a_host_and_no_more_than_it_touches_also_where_it_is_parked(file, monkeypatch):
    monkeypatch.setattr(parking, "MOST_IDLE", 0)  # a host that starts parks all that it holds
    raw = file.read_bytes()
    async with Grid(1) as grid:
        await held_by_a_host_alone(grid, file)
        await grid.hosts["host1"].restart()
        await grid.until("hep", lambda where: where.data.held == 1)
        assert await grid.client.read("hep", 5 * MB + 3, 5 * MB + 9) == raw[5 * MB + 3 : 5 * MB + 9]
        (opened,) = grid.client._readers.values()
        assert opened.reader.received == 65536
        assert await grid.client.read("hep", SIZE - 20) == raw[-20:]
        assert await grid.client.read("hep", 4 * MB, 4 * MB) == b""
        assert opened.reader.received <= 3 * 65536
        assert (await grid.client.datum("hep")).egress == 0


async def test_all_of_it_streams_from_its_publisher_and_nothing_is_left_when_the_stream_ends(file):
    async with Grid(0) as grid, grid.client.seed(file, "hep", listen=HERE) as offer:
        parts = []
        async with aclosing(Dew(grid.client).stream("hep", 5)) as chunks:
            async for chunk in chunks:
                parts.append(chunk)
                if len(parts) == 2:
                    assert offer.sent < SIZE // 2  # it does not wait for all
        assert b"".join(parts) == file.read_bytes()[5:]
        assert (grid.client._readers, tasks()) == ({}, set())
        assert offer.sent < 1.02 * SIZE
        async with aclosing(Dew(grid.client).stream("hep")) as chunks:
            assert await anext(chunks) == file.read_bytes()[: 512 * 1024]
        assert (grid.client._readers, tasks()) == ({}, set())


async def test_a_reader_that_nobody_uses_ends_by_itself(file, monkeypatch):
    monkeypatch.setattr(at_hosts, "LINGER_SECONDS", 0.05)
    async with Grid(0) as grid, grid.client.seed(file, "hep", listen=HERE):
        assert await grid.client.read("hep", 0, 5) == file.read_bytes()[:5]
        async with asyncio.timeout(20):
            while grid.client._readers or tasks():
                await asyncio.sleep(0.01)
        assert await grid.client.read("hep", 3, 5) == file.read_bytes()[3:5]


async def test_several_read_at_a_time_and_one_that_is_cancelled_disturbs_nobody(file):
    raw = file.read_bytes()
    async with Grid(0) as grid, grid.client.seed(file, "hep", listen=HERE):
        begun = asyncio.ensure_future(grid.client.read("hep", 0, 6 * MB))
        others = [asyncio.ensure_future(grid.client.read("hep", at, at + MB)) for at in range(0, 6 * MB, MB)]
        await asyncio.sleep(0)
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)
        async with asyncio.timeout(30):
            assert b"".join(await asyncio.gather(*others)) == raw[: 6 * MB]


async def test_where_nobody_has_it_that_is_said(file):
    async with Grid(0) as grid:
        await grid.client.create([DatumRequest(name="announced", root="ab" * 32, size=40_000)])
        async with grid.client.seed(file, "hep", listen=HERE):
            pass  # gone before anybody held it
        for name in ("announced", "hep"):
            with pytest.raises(BitDewError) as fault:
                await grid.client.read(name, 0, 9)
            assert fault.value.key == "data.nowhere"
            assert name in fault.value.message
            assert "repository does not have" in fault.value.why


async def test_a_host_that_says_nothing_is_not_waited_for_for_ever(file, monkeypatch):
    monkeypatch.setattr(reading, "SILENCE_SECONDS", 1.0)
    async with Grid(1) as grid:
        await held_by_a_host_alone(grid, file)
        worker = grid.hosts["host1"].worker
        assert worker is not None
        worker.swarm.rest(True)
        with pytest.raises(BitDewError) as fault:
            await grid.client.read("hep", 0, 9)
        assert fault.value.key == "swarm.stalled"
        worker.swarm.rest(False)
        monkeypatch.setattr(reading, "SILENCE_SECONDS", 30.0)
        assert await grid.client.read("hep", 0, 9) == file.read_bytes()[:9]


async def test_a_host_that_goes_while_it_is_read_is_made_up_for_by_another(file):
    async with Grid(2) as grid:
        async with grid.client.seed(file, "hep", Attribute(replica=2), listen=HERE) as offer:
            await offer.held()
        await grid.until("hep", lambda where: where.data.origin is None)
        for host in grid.hosts.values():
            assert host.worker is not None
            host.worker.swarm.set_limits(SwarmLimits(upload=6 * MB))
        raw, parts = file.read_bytes(), []
        async with asyncio.timeout(60), aclosing(Dew(grid.client).stream("hep")) as chunks:
            async for chunk in chunks:
                if not parts:
                    await grid.hosts["host1"].stop()
                parts.append(chunk)
        assert b"".join(parts) == raw


async def test_what_the_repository_has_wrong_is_read_from_a_host(file):
    raw = file.read_bytes()
    async with Grid(1) as grid:
        datum = await grid.client.put(file, "hep", Attribute(replica=1, protocol=Protocol.BITTORRENT))
        await grid.until("hep", lambda where: where.data.held == 1)
        path = grid.service.rooms.contents.repository.path(datum.root)
        with path.open("r+b") as bad:
            bad.seek(3 * MB)
            bad.write(b"rotten")
        assert await grid.client.read("hep", 2 * MB, 4 * MB) == raw[2 * MB : 4 * MB]
        assert b"".join([chunk async for chunk in Dew(grid.client).stream("hep")]) == raw
