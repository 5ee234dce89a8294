"""Data that are wished for over HTTP, and what dropping them gives back, through the whole grid."""

from __future__ import annotations

import asyncio
import random
import ssl
from datetime import timedelta

import pytest
from bitdew.scheduler.planner import PlannerSettings

from bitdew.client.enrolment import enrol
from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.errors import BitDewError
from bitdew.core.states import PlacementState
from bitdew.testing.grid import Grid, eventually
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context
from bitdew.wire.transport import Transport

MB = 2**20


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "events.root"
    path.write_bytes(random.Random(7).randbytes(3 * MB + 17))
    return path


def by_http(replica=1):
    return Attribute(replica=replica, protocol=Protocol.HTTP)


def held(count):
    return lambda where: where.data.held == count and where.data.intended == 0


async def test_a_wish_for_http_is_carried_out_by_http_and_counted_as_the_repositorys(file):
    async with Grid(2) as grid:
        await grid.client.put(file, "events", by_http(2))
        where = await grid.until("events", held(2))
        size = file.stat().st_size
        assert [(p.from_repository, p.from_peers) for p in where.placements] == [(size, 0)] * 2
        assert (await grid.client.datum("events")).egress == 2 * size
        for host in grid.hosts.values():
            copy = host.settings.home / "copies" / where.data.root
            assert await asyncio.to_thread(copy.read_bytes) == file.read_bytes()


async def test_left_to_itself_a_single_copy_comes_by_http_and_a_larger_one_for_several_hosts_by_swarm(tmp_path, file):
    large = tmp_path / "large"
    large.write_bytes(random.Random(9).randbytes(12 * MB))
    async with Grid(2) as grid:
        await grid.client.put(file, "single", Attribute(replica=1))
        await grid.client.put(large, "large", Attribute(replica=2))
        single, both = await grid.until("single", held(1)), await grid.until("large", held(2))
        sent = grid.service.rooms.contents.repository._sent
        assert sent[single.data.root] == single.data.size
        assert sent[both.data.root] == 0
        assert sum(p.from_repository + p.from_peers for p in both.placements) >= 2 * both.data.size


async def test_a_service_that_restarts_under_a_download_is_asked_for_the_rest(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(random.Random(8).randbytes(48 * MB))
    async with Grid(0) as grid:
        host = await grid.add_host("slow", download=12 * MB)
        await grid.client.put(path, "large", by_http())
        await grid.until("large", lambda where: any(p.done > 6 * MB for p in where.placements))
        await grid.stop_service()
        await grid.start_service()
        where = await grid.until("large", held(1))
        assert where.placements[0].from_repository < 60 * MB
        copy = host.settings.home / "copies" / where.data.root
        assert await asyncio.to_thread(copy.read_bytes) == path.read_bytes()


async def test_people_may_read_content_and_strangers_may_not(file):
    async with Grid(0) as grid:
        root = (await grid.client.put(file, "events")).root
        token = (await grid.client.create_token("user")).token or ""
        folder = IdentityFolder(grid.folder / "user")
        user = await enrol(grid.service.url, token, "ada", folder, [Role.USER])
        context = await asyncio.to_thread(client_context, user.ca, user.identity)
        async with Transport(grid.service.url, context) as line:
            got = b"".join([chunk async for chunk in line.download(f"/v1/content/{root}", 5, 2 * MB)])
            assert got == file.read_bytes()[5 : 2 * MB]
            with pytest.raises(BitDewError) as fault:
                await anext(line.download(f"/v1/content/{'0' * 64}", 0, 1))
            assert fault.value.key == "data.not-found"
        nobody: ssl.SSLContext = await asyncio.to_thread(client_context, user.ca, None)
        async with Transport(grid.service.url, nobody) as line:
            with pytest.raises(BitDewError) as fault:
                await anext(line.download(f"/v1/content/{root}", 0, 1))
            assert fault.value.key == "certificate.missing"


async def test_a_file_that_rots_in_the_repository_is_found_by_whoever_downloads_it(file):
    async with Grid(1) as grid:
        root = (await grid.client.put(file, "events", Attribute(replica=0))).root
        kept = grid.folder / "service" / "repository" / "files" / root

        def rot():
            with kept.open("r+b") as bytes_:
                bytes_.seek(MB)
                bytes_.write(b"rot")

        await asyncio.to_thread(rot)
        await grid.client.choose("events", by_http())
        where = await grid.until("events", lambda where: where.data.damaged)
        reason = where.placements[0].reason
        assert reason is not None
        assert reason.key == "swarm.corrupt"
        with pytest.raises(BitDewError) as fault:
            await anext(grid.client._line.download(f"/v1/content/{root}", 0, 1))
        assert (fault.value.key, fault.value.why) == ("storage.failed", "it is not what was published")


async def test_what_a_drop_gave_back_is_shown_and_the_host_uses_it_no_more(file):
    async with Grid(2, planner=PlannerSettings(settle=timedelta(seconds=0.1))) as grid:
        await grid.client.put(file, "events", by_http(2))
        before = await grid.until("events", held(2))
        await grid.client.choose("events", by_http(1))
        where = await grid.until("events", lambda where: any(p.freed for p in where.placements))
        (gone,) = [p for p in where.placements if p.state is PlacementState.GONE]
        assert gone.freed >= before.data.size

        async def unused() -> bool:
            hosts = {host.name: host for host in await grid.client.hosts()}
            return hosts[gone.host_name].used == 0 and sum(host.used for host in hosts.values()) == before.data.size

        await eventually(unused, grid.clock)
