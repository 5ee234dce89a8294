"""What befalls a fetch on a real host: the disk runs full, connections drop, the process is killed at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import subprocess

import pytest
from bitdew.worker import patience
from bitdew.worker.settings import WorkerSettings
from bitdew.worker.storage import MARGIN
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.blocks import root_of
from bitdew.core.content import root_of_piece
from bitdew.core.host import Endpoint
from bitdew.swarm.bitfield import unpacked
from bitdew.swarm.settings import SwarmLimits
from bitdew.testing.clock import SkippingClock

MIB = 2**20
SIZE = 10 * MIB
PIECE = 65536


@pytest.fixture
def small_disk(home):
    """The home on a file system of its own, with room for the copy, its margin, and little more."""
    if os.geteuid() != 0:
        pytest.skip("NOT RUN: a full disk needs root, to mount a small tmpfs")
    home.mkdir()
    size = SIZE + MARGIN + 8 * MIB
    mount = ["/bin/mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(home)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT RUN: mounting a tmpfs is not allowed here")
    yield home
    subprocess.run(["/bin/umount", "-l", str(home)], check=True)


def fill(path):
    """Take all the room that is left."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as ballast:
        while ballast.write(bytes(PIECE)):
            pass
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as ballast:
        while ballast.write(bytes(512)):
            pass


def claimed(home, data):
    """The pieces that a worker says are there, and whether each of them is."""
    content = data.metainfo.content
    have, path = home / "copies" / f"{data.root}.have", home / "copies" / data.root
    if not have.exists():
        return {}
    field, raw = unpacked(have.read_bytes(), content.pieces), path.read_bytes()
    parts = {n: raw[n * PIECE : (n + 1) * PIECE] for n, there in enumerate(field) if there}
    return {n: bool(part) and root_of_piece(part, content) == root_of(content, n) for n, part in parts.items()}


@pytest.mark.parametrize("way", ["http", "bittorrent"])
async def test_a_disk_that_runs_full_amid_a_fetch_is_named_and_room_lets_it_go_on(
    service, start_worker, disk_bytes, until, small_disk, way
):
    data = await service.publish(disk_bytes(SIZE))
    service.repository.set_limits(SwarmLimits(upload=3 * MIB))
    async with start_worker(download=3 * MIB) as started:
        service.place(data, protocol=way)
        path, ballast = small_disk / "copies" / data.root, small_disk / "ballast"
        await until(lambda: any(e.fields.get("done", 0) > 2 * MIB for e in started.events), 30)
        await asyncio.to_thread(fill, ballast)
        await service.until_state(data.uid, "failed", seconds=60)
        assert service.placements[data.uid].reason.key == "storage.full"
        assert not started.task.done()
        there = await asyncio.to_thread(claimed, small_disk, data)
        assert all(there.values())
        await asyncio.to_thread(ballast.unlink)
        service.place(data, protocol=way)
        await service.until_state(data.uid, "held", seconds=60)
        assert await asyncio.to_thread(path.read_bytes) == data.content


BUFFER = 64 * 1024


class Line:
    """A way to somebody that can be cut: all connections at once, again and again."""

    def __init__(self, to: Endpoint) -> None:
        self.to = to
        self.cuts = 0
        self.carried = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = Endpoint("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """Break every connection off, without a word."""
        self.cuts += 1
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        far = None
        try:
            far_reader, far = await asyncio.open_connection(self.to.host, self.to.port)
            for end in (writer, far):  # what stands in them when the line is cut was sent in vain
                for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, BUFFER)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, far))
                both.create_task(self._carry(far_reader, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()

    async def _carry(self, source, target):
        while raw := await source.read(PIECE):
            self.carried += len(raw)
            target.write(raw)
            await target.drain()
        raise ConnectionResetError


async def test_links_that_drop_again_and_again_cost_time_and_no_byte_that_was_verified(
    service, start_worker, disk_bytes, until
):
    data = await service.publish(disk_bytes(SIZE))
    service.repository.set_limits(SwarmLimits(upload=3 * MIB))
    async with Line(service.repository.endpoint) as line, start_worker() as started:
        there = service.repository.endpoint
        service.repository.endpoint = line.endpoint  # where the orders send hosts
        service.place(data, protocol="bittorrent")
        service.repository.endpoint = there
        for part in (1, 3, 5, 7):
            await until(lambda part=part: any(e.fields.get("done", 0) > part * MIB for e in started.events), 60)
            await line.cut()
        await service.until_state(data.uid, "held", seconds=60)
        assert line.cuts == 4
        report = service.placements[data.uid]
        assert report.corrupt == 0
        # What is on its way when a line is cut comes again: some pieces each time. What came over HTTPS, while no peer
        # was there, is not in it.
        (sent,) = service.repository.transfers.values()
        assert sent.progress.uploaded <= SIZE + 4 * 2 * MIB
        path = started.worker.settings.home / "copies" / data.root
        assert await asyncio.to_thread(path.read_bytes) == data.content


@pytest.mark.parametrize("seed", [1, 2])
async def test_whenever_a_worker_is_killed_it_claims_no_piece_that_is_not_there(
    service, home, disk_bytes, start_process, seed
):
    chance = random.Random(seed)
    rate = 3 * MIB
    await asyncio.to_thread(service.identity, home)
    await asyncio.to_thread(WorkerSettings(home=home, name="pc-7", listen="127.0.0.1:0").save)
    data = await service.publish(disk_bytes(SIZE, seed))
    (sent,) = service.repository.transfers.values()
    service.repository.set_limits(SwarmLimits(upload=rate))
    service.place(data, protocol="bittorrent")
    kept, kills = 0, 0
    while service.placements.get(data.uid) is None or service.placements[data.uid].state != "held":
        async with start_process(home):
            seconds = (1.5 + chance.random() * 1.5) * (1 + kills / 5)  # a slow machine's worker gets somewhere too
            with contextlib.suppress(TimeoutError):
                await service.until_state(data.uid, "held", seconds=seconds)
        kills += 1
        assert kills < 30
        if service.placements.get(data.uid) is not None and service.placements[data.uid].state == "held":
            break
        there = await asyncio.to_thread(claimed, home, data)
        assert all(there.values())
        assert len(there) >= kept  # what was there stays there
        kept = len(there)
    assert (home / "copies" / data.root).read_bytes() == data.content
    # What came since the last checkpoint comes again, and what was in the buffers of both ends.
    assert sent.progress.uploaded <= SIZE + kills * (rate * 2 * patience.CHECKPOINT_SECONDS + 2 * MIB)


@given(took=st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_making_pieces_durable_takes_a_bounded_share_of_the_time(took):
    clock = SkippingClock()
    watch = patience.Patience(clock)
    busy, began, longest = 0.0, clock.monotonic(), 0.0
    for done, seconds in enumerate(took, 1):
        asked = clock.monotonic()
        while not watch.checkpoint_is_due(done):
            clock.skip(0.5)
        assert clock.monotonic() - asked <= patience.CHECKPOINT_LONGEST + 1
        clock.skip(seconds)
        watch.checkpoint_took(seconds)
        busy, longest = busy + seconds, max(longest, seconds)
    clock.skip(patience.CHECKPOINT_LONGEST)
    if longest <= patience.CHECKPOINT_LONGEST * patience.CHECKPOINT_SHARE:
        assert busy <= (clock.monotonic() - began) * 2 * patience.CHECKPOINT_SHARE
