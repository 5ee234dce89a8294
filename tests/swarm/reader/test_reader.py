"""Reading pieces from a swarm: of hosts and of a seeder, in any order, and whatever these do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

from bitdew.core.content import ContentHasher
from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.swarm.metainfo import build_metainfo
from bitdew.swarm.reader import reader as reading
from bitdew.swarm.reader.door import reader_context
from bitdew.swarm.reader.reader import PieceReader
from bitdew.swarm.seeder.seeder import Seeder
from bitdew.swarm.settings import SwarmLimits

from ..conftest import MB, Sample, until_progress


@pytest.fixture
async def seeder(authority) -> AsyncIterator[Seeder]:
    async with await Seeder.start(Endpoint("127.0.3.1", 0), authority.issue()) as seeder:
        yield seeder


@pytest.fixture
async def open_reader(authority) -> AsyncIterator[Callable[..., PieceReader]]:
    """Makes readers of a sample, which know these peers."""
    context: ssl.SSLContext = await asyncio.to_thread(reader_context, authority.issue())
    made: list[PieceReader] = []

    def make(sample, *peers: Endpoint | BitDewError) -> PieceReader:
        async def who() -> list[Endpoint]:
            for peer in peers:
                if isinstance(peer, BitDewError):
                    raise peer
            return [peer for peer in peers if isinstance(peer, Endpoint)]

        made.append(PieceReader(sample.metainfo, context, who))
        return made[-1]

    yield make
    for reader in made:
        await reader.close()


async def read(reader: PieceReader, first: int, stop: int) -> bytes:
    async with asyncio.timeout(30), aclosing(reader.pieces(first, stop)) as pieces:
        return b"".join([raw async for _number, raw in pieces])


def part(sample, first: int, stop: int) -> bytes:
    length = sample.metainfo.content.piece_length
    return sample.path.read_bytes()[first * length : stop * length]


async def test_pieces_come_from_a_host_and_only_those_that_are_read(nodes, sample, open_reader) -> None:
    host = await nodes.start()
    transfer = await host.add(sample.metainfo, sample.path, complete=True)
    reader = open_reader(sample, host.endpoint)
    assert await read(reader, 7, 9) == part(sample, 7, 9)
    assert await read(reader, 3, 4) == part(sample, 3, 4)
    assert await read(reader, 7, 8) == part(sample, 7, 8)
    assert reader.received == 3 * sample.metainfo.content.piece_length
    await until_progress(transfer, lambda: transfer.progress.uploaded > 0)
    await reader.close()
    async with asyncio.timeout(20):
        while transfer.progress.peers:
            await asyncio.sleep(0.02)


async def test_a_seeder_gives_one_who_reads_what_it_asks_for(seeder, sample, open_reader) -> None:
    offer = await seeder.add(sample.metainfo, sample.path)
    reader = open_reader(sample, seeder.endpoint)
    last = sample.metainfo.content.pieces
    assert await read(reader, last - 1, last) == part(sample, last - 1, last)
    assert await read(reader, 0, last) == sample.path.read_bytes()
    assert offer.uploaded == sample.metainfo.content.size
    assert offer.peers == 0


async def test_zeros_are_not_asked_for(seeder, authority, open_reader, tmp_path) -> None:
    path, hasher = tmp_path / "sparse", ContentHasher(MB)
    path.write_bytes(bytes(MB - 5) + b"end\n\n")
    hasher.update(path.read_bytes())
    sample = Sample(path, build_metainfo(hasher.finish()), "")
    offer = await seeder.add(sample.metainfo, path)
    reader = open_reader(sample, seeder.endpoint)
    assert await read(reader, 0, 16) == path.read_bytes()
    assert offer.uploaded == 65536


async def test_who_reads_in_order_finds_what_follows_and_what_is_kept_is_bounded(
    seeder, make_sample, open_reader, monkeypatch
) -> None:
    sample = make_sample(4 * MB)
    monkeypatch.setattr(reading, "KEPT", 16 * 65536)
    monkeypatch.setattr(reading, "AHEAD", 8 * 65536)
    offer = await seeder.add(sample.metainfo, sample.path)
    reader = open_reader(sample, seeder.endpoint)
    assert await read(reader, 0, 4) == part(sample, 0, 4)
    assert offer.uploaded == 4 * 65536
    assert await read(reader, 4, 6) == part(sample, 4, 6)
    async with asyncio.timeout(20):
        while offer.uploaded < 14 * 65536:
            await asyncio.sleep(0.01)
    for first in range(6, 64, 2):
        assert await read(reader, first, first + 2) == part(sample, first, first + 2)
        assert sum(map(len, reader._kept.values())) <= 16 * 65536
    assert offer.uploaded == 4 * MB  # each came once
    assert await read(reader, 20, 64) == part(sample, 20, 64)  # more than is kept


async def test_who_sends_wrong_pieces_is_not_asked_again(nodes, sample, open_reader, tmp_path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(bytes(range(256)) * (2 * MB // 256))
    bad, good = await nodes.start(), await nodes.start()
    transfer = await bad.add(sample.metainfo, wrong, complete=True)
    await good.add(sample.metainfo, sample.path, complete=True)
    reader = open_reader(sample, bad.endpoint, good.endpoint)
    assert await read(reader, 0, 32) == sample.path.read_bytes()
    assert await read(reader, 3, 9) == part(sample, 3, 9)
    alone = open_reader(sample, bad.endpoint)
    with pytest.raises(BitDewError) as caught:
        await read(alone, 0, 2)
    assert caught.value.key == "swarm.corrupt"
    assert str(bad.endpoint) in caught.value.why
    await transfer.next_change(0)


async def test_where_nobody_is_the_reason_is_told_at_once_and_asked_anew_the_next_time(
    seeder, sample, open_reader
) -> None:
    reader = open_reader(sample, error("data.nowhere", "Nobody has it"))
    with pytest.raises(BitDewError) as caught:
        await read(reader, 0, 1)
    assert caught.value.key == "data.nowhere"
    await seeder.add(sample.metainfo, sample.path)

    async def who() -> list[Endpoint]:
        return [seeder.endpoint]

    reader._sources._who = who
    assert await read(reader, 0, 1) == part(sample, 0, 1)


async def test_a_peer_that_is_silent_is_made_up_for_by_another(nodes, sample, open_reader, monkeypatch) -> None:
    monkeypatch.setattr(reading, "SILENT_SECONDS", 0.3)
    silent, other = await nodes.start(), await nodes.start()
    await silent.add(sample.metainfo, sample.path, complete=True)
    await other.add(sample.metainfo, sample.path, complete=True)
    reader = open_reader(sample, silent.endpoint, other.endpoint)
    assert await read(reader, 0, 8) == part(sample, 0, 8)
    silent.set_limits(SwarmLimits(upload=100))
    assert await read(reader, 8, 32) == part(sample, 8, 32)


async def test_who_waits_is_told_when_it_is_closed(nodes, sample, open_reader) -> None:
    host = await nodes.start(limits=SwarmLimits(upload=100))
    await host.add(sample.metainfo, sample.path, complete=True)
    reader = open_reader(sample, host.endpoint)
    waiting = asyncio.ensure_future(read(reader, 0, 32))
    await asyncio.sleep(0.1)
    await reader.close()
    with pytest.raises(BitDewError) as caught:
        await waiting
    assert caught.value.key == "swarm.failed"
