"""Getting what the repository does not have: from the hosts that hold it, and from its publisher."""

from __future__ import annotations

import asyncio
import os
import random

import pytest
from bitdew.worker import parking

from bitdew import Attribute, BitDew, BitDewError
from bitdew.client import from_hosts, getting
from bitdew.client.enrolment import enrol
from bitdew.core.attribute import Protocol
from bitdew.core.data import Kind
from bitdew.core.host import Endpoint
from bitdew.swarm.settings import SwarmLimits
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire.models import DatumRequest, DoubtReply, DoubtRequest

MB = 2**20
HERE = Endpoint("127.0.0.1", 0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "events.root"
    path.write_bytes(random.Random(7).randbytes(9 * MB + 17))
    return path


async def user_of(grid) -> None:
    """A profile that may look and fetch, and no more."""
    token = (await grid.client.create_token("user")).token or ""
    await enrol(grid.service.url, token, "ada", IdentityFolder(grid.folder / "user"), [Role.USER])


async def held_by_a_host_alone(grid, path, name="hep"):
    async with grid.client.seed(path, name, Attribute(replica=1), listen=HERE) as offer:
        await offer.held()
    await grid.until(name, lambda where: where.data.origin is None)


async def test_a_user_gets_what_only_a_host_has_also_where_it_is_parked(file, tmp_path, monkeypatch):
    monkeypatch.setattr(parking, "MOST_IDLE", 0)  # a host that starts parks all that it holds
    async with Grid(1) as grid:
        await held_by_a_host_alone(grid, file)
        await grid.hosts["host1"].restart()
        await grid.until("hep", lambda where: where.data.held == 1)
        await user_of(grid)
        seen = []
        async with BitDew.connect(grid.folder / "user") as user:
            got = await user.get("hep", tmp_path / "copy", fetching=lambda done, size: seen.append((done, size)))
        size = file.stat().st_size
        assert got.path.read_bytes() == file.read_bytes()
        assert got.fetched == size
        assert seen[-1] == (size, size)
        assert seen == sorted(seen)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == ["copy"]
        assert (await grid.client.datum("hep")).egress == 0


async def test_a_folder_comes_from_its_publisher_while_no_host_has_it(tmp_path):
    top = tmp_path / "run"
    (top / "logs").mkdir(parents=True)
    (top / "logs" / "one").write_text("a line\n")
    (top / "data").write_bytes(random.Random(8).randbytes(MB))
    async with Grid(0) as grid, grid.client.seed(top, "run", listen=HERE):
        got = await grid.client.get("run", tmp_path / "back")
        assert got.data.kind is Kind.FOLDER
        assert (tmp_path / "back" / "logs" / "one").read_text() == "a line\n"
        assert (tmp_path / "back" / "data").read_bytes() == (top / "data").read_bytes()


async def test_what_broke_off_goes_on_with_what_came(file, tmp_path):
    async with Grid(1) as grid:
        await held_by_a_host_alone(grid, file)
        worker = grid.hosts["host1"].worker
        assert worker is not None
        worker.swarm.set_limits(SwarmLimits(upload=4 * MB))
        came = asyncio.Event()

        def note(done: int, _size: int) -> None:
            if done > 2 * MB:
                came.set()

        task = asyncio.ensure_future(grid.client.get("hep", tmp_path / "copy", fetching=note))
        async with asyncio.timeout(30):
            await came.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not (tmp_path / "copy").exists()
        worker.swarm.set_limits(SwarmLimits())
        got = await grid.client.get("hep", tmp_path / "copy")
        assert 0 < got.fetched <= file.stat().st_size - 2 * MB
        assert got.path.read_bytes() == file.read_bytes()


async def test_where_nobody_has_it_that_is_said_and_nothing_is_made(file, tmp_path):
    async with Grid(0) as grid:
        root, size = "ab" * 32, 3 * MB
        await grid.client.create([DatumRequest(name="announced", root=root, size=size)])
        async with grid.client.seed(file, "hep", listen=HERE):
            pass  # gone before anybody held it
        for name in ("announced", "hep"):
            with pytest.raises(BitDewError) as fault:
                await grid.client.get(name, tmp_path / "copy")
            assert fault.value.key == "data.nowhere"
        assert [path.name for path in tmp_path.iterdir()] == ["events.root"]


async def test_whoever_has_it_and_says_nothing_is_not_waited_for_for_ever(file, tmp_path, monkeypatch):
    monkeypatch.setattr(from_hosts, "SILENCE_SECONDS", 1.0)
    async with Grid(1) as grid:
        await held_by_a_host_alone(grid, file)
        worker = grid.hosts["host1"].worker
        assert worker is not None
        worker.swarm.rest(True)
        with pytest.raises(BitDewError) as fault:
            await grid.client.get("hep", tmp_path / "copy")
        assert fault.value.key == "swarm.stalled"
        worker.swarm.rest(False)


# Where the repository has it, and can't give it -----------------------------------------------------------------------


async def held_beside_the_repository(grid, path):
    """A datum that a host holds too; the path of the repository's file."""
    datum = await grid.client.put(path, "hep", Attribute(replica=1, protocol=Protocol.BITTORRENT))
    await grid.until("hep", lambda where: where.data.held == 1)
    return grid.service.rooms.contents.repository.path(datum.root)


@pytest.mark.parametrize("harm", ["rotten", "cut", "gone"])
async def test_what_the_repository_has_bad_comes_from_a_host_and_it_is_told_and_mends_itself(file, tmp_path, harm):
    async with Grid(1) as grid:
        path = await held_beside_the_repository(grid, file)
        if harm == "rotten":
            with path.open("r+b") as bad:
                bad.seek(5 * MB)
                bad.write(b"rotten")
        elif harm == "cut":
            os.truncate(path, 5 * MB)
        else:
            path.unlink()
        seen = []
        got = await grid.client.get("hep", tmp_path / "copy", fetching=lambda *told: seen.append(told))
        size = file.stat().st_size
        assert got.path.read_bytes() == file.read_bytes()
        assert got.because is not None
        assert got.because.key == ("swarm.corrupt" if harm == "rotten" else "storage.failed")
        assert 0 < got.from_hosts <= got.fetched == size
        assert (seen[-1], seen) == ((size, size), sorted(seen))
        async with asyncio.timeout(40):
            while (await grid.client.datum("hep")).damaged or not path.exists() or path.stat().st_size != size:
                await asyncio.sleep(0.05)
        assert path.read_bytes() == file.read_bytes()
        told = [event.kind for event in (await grid.client.events(data="hep")).events if event.host is None]
        assert told == ["created", "damaged", "mended"]


async def test_a_line_that_breaks_again_and_again_is_made_up_for_by_hosts_and_what_came_stays(
    file, tmp_path, monkeypatch
):
    monkeypatch.setattr(getting, "ATTEMPTS", 2)
    monkeypatch.setattr(getting, "RUN", MB)
    async with Grid(1) as grid:
        await held_beside_the_repository(grid, file)
        whole, left = grid.client._line.download, 4 * MB

        async def download(path, start, end, **named):
            nonlocal left
            async for chunk in whole(path, start, end, **named):
                left -= len(chunk)
                if left < 0:
                    raise BitDewError("service.unreachable", "it broke off")
                yield chunk

        monkeypatch.setattr(grid.client._line, "download", download)
        got = await grid.client.get("hep", tmp_path / "copy")
        assert got.path.read_bytes() == file.read_bytes()
        assert got.because is not None
        assert got.because.key == "service.unreachable"
        assert 0 < got.from_hosts < file.stat().st_size - 2 * MB
        assert not (await grid.client.datum("hep")).damaged


async def test_a_piece_that_is_doubted_and_good_costs_the_repository_nothing(file):
    async with Grid(0) as grid:
        datum = await grid.client.put(file, "hep", Attribute(replica=0))
        for piece in (0, 7, 10**6):
            reply = await grid.client.call(
                "POST", f"/v1/data/{datum.uid}/doubt", DoubtReply, body=DoubtRequest(piece=piece)
            )
            assert not reply.bad
        assert not (await grid.client.datum("hep")).damaged
