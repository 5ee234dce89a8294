"""Publishing without a central copy: hosts have the file from its publisher, where it is, and from each other."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta

import pytest

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.errors import BitDewError
from bitdew.core.host import Endpoint
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire import models as m

MB = 2**20
HERE = Endpoint("127.0.0.1", 0)
pytestmark = pytest.mark.usefixtures("_quick")


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr("bitdew.client.seeding.BEAT", 0.1)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(range(256)) * (3 * MB // 256 - 7))
    return path


def held(count):
    return lambda where: where.data.held == count and where.data.intended == 0


async def hashes(grid, root):
    paths = [host.settings.home / "copies" / root for host in grid.hosts.values()]

    def read():
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()]

    return await asyncio.to_thread(read)


async def in_repository(grid, root):
    return await asyncio.to_thread((grid.folder / "service" / "repository" / "files" / root).exists)


async def test_a_file_is_offered_until_it_is_held_and_the_repository_never_has_it(file):
    async with Grid(3) as grid:
        async with grid.client.seed(file, "hep", Attribute(replica=2), listen=HERE) as offer:
            assert str(offer.swarm) == (await grid.client.datum("hep")).origin
            where = await offer.held()
        assert where.data.held == 2
        assert await hashes(grid, where.data.root) == [hashlib.sha256(file.read_bytes()).hexdigest()] * 2
        assert not await in_repository(grid, where.data.root)
        assert where.data.egress == 0
        assert sum(p.from_repository for p in where.placements) == 0
        # Its publisher is gone: another host has it from those who hold it.
        assert (await grid.client.datum("hep")).origin is None
        await grid.client.choose("hep", Attribute(replica=3))
        where = await grid.until("hep", held(3))
        assert len(await hashes(grid, where.data.root)) == 3
        assert where.data.egress == 0


async def test_a_disk_that_is_offered_is_signed_and_small_single_copies_go_by_swarm_too(tmp_path):
    small = tmp_path / "small.raw"
    small.write_bytes(b"small")
    async with Grid(1) as grid:
        async with grid.client.seed(small, "tiny", disk={"os": "toy", "version": "3"}, listen=HERE) as offer:
            await offer.held()
        disk = await grid.client.disk("tiny")
        assert (disk.os, disk.version, disk.held, disk.egress) == ("toy", "3", 1, 0)


async def test_a_datum_whose_publisher_left_waits_says_so_and_is_gone_on_with(file):
    async with Grid(0) as grid:
        async with grid.client.seed(file, "hep", listen=HERE):
            pass
        await grid.add_host("late")
        explained = await grid.client.explain("hep")
        assert "waits for its publisher" in " ".join(explained.next)
        assert explained.data.seeded
        async with grid.client.seed(file, "hep", listen=HERE) as offer:
            assert (await offer.held()).data.held == 1


async def test_a_publisher_that_fell_silent_is_noticed(file, monkeypatch):
    async with Grid(0) as grid, grid.client.seed(file, "hep", listen=HERE):
        monkeypatch.setattr("bitdew.client.seeding.BEAT", 3600.0)
        await asyncio.sleep(0.2)
        later = grid.clock.now() + timedelta(seconds=13)
        await grid.service.rooms.origins.notice_silence(later)
        assert (await grid.client.datum("hep")).origin is None


async def test_a_service_that_restarts_is_waited_for(file):
    async with (
        Grid(0) as grid,
        BitDew.connect(grid.folder / "operator") as publisher,
        publisher.seed(file, "hep", listen=HERE) as offer,
    ):
        waiting = asyncio.ensure_future(offer.held())
        await grid.stop_service()
        await asyncio.sleep(0.3)
        await grid.start_service()
        await grid.add_host("late")
        async with asyncio.timeout(30):
            assert (await waiting).data.held == 1


@pytest.mark.parametrize("deed", ["changed", "vanished"])
async def test_a_file_that_changes_or_vanishes_ends_the_offer_with_its_cause(file, deed):
    async with Grid(0) as grid:
        async with grid.client.seed(file, "hep", listen=HERE) as offer:
            await asyncio.to_thread(file.unlink if deed == "vanished" else lambda: file.write_bytes(b"other"))
            with pytest.raises(BitDewError) as caught:
                await asyncio.wait_for(offer.held(), 20)
        assert caught.value.key == "disk.changed"
        assert caught.value.why
        assert (await grid.client.datum("hep")).origin is None


async def test_what_moves_by_http_alone_can_not_be_offered(file):
    async with Grid(0) as grid:
        with pytest.raises(BitDewError) as caught:
            async with grid.client.seed(file, "hep", Attribute(protocol=Protocol.HTTP), listen=HERE):
                pass
        assert (caught.value.key, "repository" in caught.value.why) == ("input.invalid", True)


async def test_other_bytes_under_the_name_are_refused(file, tmp_path):
    other = tmp_path / "other.bin"
    other.write_bytes(b"other")
    async with Grid(0) as grid:
        async with grid.client.seed(file, "hep", listen=HERE):
            pass
        with pytest.raises(BitDewError) as caught:
            async with grid.client.seed(other, "hep", listen=HERE):
                pass
        assert caught.value.key == "disk.changed"


async def test_a_revoked_publisher_offers_nothing_any_more(file):
    async with Grid(0) as grid:
        token = (await grid.client.create_token("publisher")).token

        home = grid.folder / "publisher"
        identity = await enrol(grid.service.url, token, "pub", IdentityFolder(home), {Role.PUBLISHER})
        async with BitDew.connect(home) as publisher, publisher.seed(file, "hep", listen=HERE) as offer:
            await grid.client._call("DELETE", f"/v1/identities/{identity.subject.subject_id}", m.Nothing)
            assert (await grid.client.datum("hep")).origin is None
            with pytest.raises(BitDewError) as caught:
                await asyncio.wait_for(offer.held(), 20)
        assert caught.value.key == "certificate.revoked"
