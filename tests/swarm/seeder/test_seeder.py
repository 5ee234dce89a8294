"""The seeder among libtorrent's peers, and what it answers those who are none."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bitdew.core.errors import HostError, UserError
from bitdew.core.host import Endpoint
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.seeder import wire
from bitdew.swarm.seeder.offer import LEAST_AHEAD, TICK_SECONDS
from bitdew.swarm.seeder.seeder import Seeder
from bitdew.swarm.settings import SwarmLimits
from bitdew.trust.authority import Authority
from bitdew.trust.keys import KeyPair, certificate_request, new_key
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context

from ..conftest import MB, sha256, until_progress, within


@pytest.fixture
async def seeder(authority) -> AsyncIterator[Seeder]:
    async with await Seeder.start(Endpoint("127.0.3.1", 0), authority.issue()) as seeder:
        yield seeder


async def fetched(nodes, seeder: Seeder, sample, folder: Path, count: int, limits: SwarmLimits) -> list:
    """The transfers of so many hosts that know the seeder and each other, all held."""
    hosts = [await nodes.start(limits=limits) for _ in range(count)]
    everybody = [seeder.endpoint, *(host.endpoint for host in hosts)]
    transfers = [
        await host.add(sample.metainfo, folder / f"copy{number}", peers=everybody) for number, host in enumerate(hosts)
    ]
    await within(60, asyncio.gather(*(transfer.wait_held() for transfer in transfers)))
    return transfers


async def test_a_single_host_gets_everything(nodes, seeder, sample, tmp_path) -> None:
    offer = await seeder.add(sample.metainfo, sample.path)
    (transfer,) = await fetched(nodes, seeder, sample, tmp_path, 1, SwarmLimits())
    assert sha256(transfer.path) == sample.sha256
    assert offer.uploaded == sample.metainfo.content.size


async def test_four_hosts_on_slow_links_take_little_more_than_one_copy_from_it(
    nodes, seeder, make_sample, tmp_path
) -> None:
    sample = make_sample(16 * MB)
    seeder.set_limits(SwarmLimits(upload=4 * MB))
    offer = await seeder.add(sample.metainfo, sample.path)
    transfers = await fetched(nodes, seeder, sample, tmp_path, 4, SwarmLimits(upload=8 * MB, download=8 * MB))
    assert {sha256(transfer.path) for transfer in transfers} == {sample.sha256}
    assert offer.uploaded <= 1.5 * sample.metainfo.content.size


async def test_a_cap_holds_and_may_be_changed_while_it_sends(nodes, seeder, make_sample, tmp_path) -> None:
    sample, loop = make_sample(8 * MB), asyncio.get_running_loop()
    seeder.set_limits(SwarmLimits(upload=MB))
    offer = await seeder.add(sample.metainfo, sample.path)
    host = await nodes.start()
    transfer = await host.add(sample.metainfo, tmp_path / "copy", peers=[seeder.endpoint])
    await until_progress(transfer, lambda: transfer.progress.done > 0)
    before, began = offer.uploaded, loop.time()
    await asyncio.sleep(1.5)
    assert offer.uploaded - before <= 1.15 * MB * (loop.time() - began) + 64 * 1024
    seeder.set_limits(SwarmLimits())
    await within(30, transfer.wait_held())


async def test_a_host_that_has_a_part_is_sent_the_rest_only(nodes, seeder, sample, tmp_path) -> None:
    content = sample.metainfo.content
    offer = await seeder.add(sample.metainfo, sample.path)
    half = content.pieces // 2
    copy = tmp_path / "copy"
    copy.write_bytes(sample.path.read_bytes()[: half * content.piece_length])
    host = await nodes.start()
    have = ((1 << half) - 1 << (content.pieces - half)) << (-content.pieces % 8)
    transfer = await host.add(
        sample.metainfo, copy, peers=[seeder.endpoint], have=have.to_bytes(-(-content.pieces // 8), "big")
    )
    await within(30, transfer.wait_held())
    assert sha256(copy) == sample.sha256
    assert offer.uploaded == content.size - half * content.piece_length


async def test_a_host_that_vanishes_with_what_it_was_shown_keeps_nothing_from_the_others(
    nodes, seeder, make_sample, tmp_path
) -> None:
    sample = make_sample(8 * MB)
    seeder.set_limits(SwarmLimits(upload=4 * MB))
    await seeder.add(sample.metainfo, sample.path)
    gone, stays = await nodes.start(), await nodes.start()
    first = await gone.add(sample.metainfo, tmp_path / "gone", peers=[seeder.endpoint])
    second = await stays.add(sample.metainfo, tmp_path / "stays", peers=[seeder.endpoint])
    await until_progress(first, lambda: first.progress.done > 0)
    await gone.close()
    await within(30, second.wait_held())
    assert sha256(second.path) == sample.sha256


async def test_two_that_are_whole_part(nodes, seeder, sample, tmp_path) -> None:
    offer = await seeder.add(sample.metainfo, sample.path)
    await fetched(nodes, seeder, sample, tmp_path, 2, SwarmLimits())
    async with asyncio.timeout(20):
        while offer.peers:
            await asyncio.sleep(0.05)
    await asyncio.sleep(2.5)  # a peer that did not understand would be back after a second
    assert offer.peers == 0


@pytest.mark.parametrize("harm", ["cut", "removed"])
async def test_a_file_that_can_not_be_read_is_told_and_offered_no_more(nodes, seeder, sample, tmp_path, harm) -> None:
    told = []
    seeder.on_fault = told.append
    offer = await seeder.add(sample.metainfo, sample.path)
    if harm == "cut":
        os.truncate(sample.path, 1000)
    else:
        sample.path.unlink()
    host = await nodes.start()
    await host.add(sample.metainfo, tmp_path / "copy", peers=[seeder.endpoint])
    async with asyncio.timeout(20):
        while not told:
            await asyncio.sleep(0.05)
    assert told == [offer]
    assert offer.fault is not None
    assert offer.fault.key == "storage.failed"
    assert offer.uploaded == 0


async def test_a_content_is_offered_once_and_not_after_it_was_removed(nodes, seeder, sample, tmp_path) -> None:
    offer = await seeder.add(sample.metainfo, sample.path)
    with pytest.raises(HostError, match="offered already"):
        await seeder.add(sample.metainfo, sample.path)
    await seeder.remove(offer)
    await seeder.remove(offer)
    host = await nodes.start()
    await host.add(sample.metainfo, tmp_path / "copy", peers=[seeder.endpoint])
    await asyncio.sleep(0.5)
    assert offer.uploaded == 0
    again = await seeder.add(sample.metainfo, sample.path)
    async with asyncio.timeout(20):
        while again.uploaded < sample.metainfo.content.size:
            await asyncio.sleep(0.05)


async def test_a_port_that_is_taken_is_told(seeder, authority) -> None:
    with pytest.raises(UserError) as caught:
        await Seeder.start(seeder.endpoint, authority.issue())
    assert caught.value.key == "port.in-use"


async def test_an_address_of_another_machine_is_told(authority) -> None:
    with pytest.raises(HostError) as caught:
        await Seeder.start(Endpoint("192.0.2.1", 0), authority.issue())
    assert caught.value.key == "swarm.failed"


# Who is let in --------------------------------------------------------------------------------------------------------


async def dial(seeder: Seeder, credentials: SwarmCredentials | None, trusted: str) -> tuple:
    pair = None if credentials is None else KeyPair(credentials.certificate, credentials.private_key)
    context = await asyncio.to_thread(client_context, trusted, pair)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await asyncio.open_connection(seeder.endpoint.host, seeder.endpoint.port, ssl=context)


async def is_let_in(seeder: Seeder, credentials: SwarmCredentials | None, trusted: str, metainfo) -> bool:
    """Whether a handshake is answered."""
    with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
        reader, writer = await dial(seeder, credentials, trusted)
        try:
            writer.write(wire.handshake(bytes.fromhex(metainfo.info_hash)[:20], b"x" * 20))
            return bool(await within(5, reader.readexactly(wire.HANDSHAKE_BYTES)))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
    return False


async def test_only_members_of_the_swarm_are_let_in(seeder, authority, other_authority, sample) -> None:
    await seeder.add(sample.metainfo, sample.path)
    trusted = authority.certificate
    assert await is_let_in(seeder, authority.issue(), trusted, sample.metainfo)
    for stranger in (None, other_authority.issue(), authority.issue(days=-1)):
        assert not await is_let_in(seeder, stranger, trusted, sample.metainfo)


async def test_a_certificate_for_another_purpose_does_not_let_in(sample, tmp_path) -> None:
    now = dt.datetime.now(dt.UTC)
    ca = await asyncio.to_thread(Authority.open, tmp_path / "ca", now=now, name="test")
    key = new_key()
    request = certificate_request(key, "host")
    member = ca.sign_swarm(request, subject_id="a" * 32, name="host", now=now)
    user = ca.sign_identity(request, role=Role.USER, subject_id="a" * 32, name="host", now=now)
    async with await Seeder.start(
        Endpoint("127.0.3.1", 0), SwarmCredentials(ca.certificate, member.pem, key)
    ) as seeder:
        await seeder.add(sample.metainfo, sample.path)
        shown = SwarmCredentials(ca.certificate, member.pem, key)
        assert await is_let_in(seeder, shown, ca.certificate, sample.metainfo)
        shown = SwarmCredentials(ca.certificate, user.pem, key)
        assert not await is_let_in(seeder, shown, ca.certificate, sample.metainfo)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n".ljust(68),
        wire.handshake(bytes(20), b"x" * 20),
        None,  # the right handshake, and then a request for a piece that does not exist
    ],
)
async def test_nonsense_ends_the_connection(seeder, authority, sample, said) -> None:
    await seeder.add(sample.metainfo, sample.path)
    reader, writer = await dial(seeder, authority.issue(), authority.certificate)
    writer.write(said or wire.handshake(bytes.fromhex(sample.metainfo.info_hash)[:20], b"x" * 20))
    if said is None:
        writer.write(b"\0\0\0\x0d\6" + b"\xff" * 8 + b"\0\0\x40\0")
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while await within(5, reader.read(4096)):
            pass
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


async def test_a_piece_that_was_not_shown_is_not_sent(seeder, authority, sample) -> None:
    offer = await seeder.add(sample.metainfo, sample.path)
    reader, writer = await dial(seeder, authority.issue(), authority.certificate)
    writer.write(wire.handshake(bytes.fromhex(sample.metainfo.info_hash)[:20], b"x" * 20))
    last = sample.metainfo.content.pieces - 1
    block = wire.Request(last, 0, 16384)
    writer.write(b"\0\0\0\x0d\6" + last.to_bytes(4, "big") + b"\0\0\0\0\0\0\x40\0")
    said = b""
    async with asyncio.timeout(5):
        while wire.reject(block) not in said:
            said += await reader.read(4096)
    assert offer.uploaded == 0
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


# Those who are left behind --------------------------------------------------------------------------------------------


class Peer:
    """One that speaks the protocol byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def say(self, *messages: bytes) -> None:
        self._writer.write(b"".join(len(said).to_bytes(4, "big") + said for said in messages))

    def ask(self, piece: int) -> None:
        self.say(b"\6" + piece.to_bytes(4, "big") + b"\0\0\0\0\0\0\x40\0")

    async def hear(self, kind: int, count: int = 1) -> list[bytes]:
        """The bodies of the next messages of a kind."""
        heard: list[bytes] = []
        async with asyncio.timeout(10):
            while len(heard) < count:
                body = await self._reader.readexactly(int.from_bytes(await self._reader.readexactly(4), "big"))
                if body and body[0] == kind:
                    heard.append(body[1:])
        return heard


@pytest.fixture
async def join(seeder, authority) -> AsyncIterator:
    """Connects a peer that has the pieces named."""
    writers = []

    async def join(metainfo, has: set[int]) -> Peer:
        reader, writer = await dial(seeder, authority.issue(), authority.certificate)
        writers.append(writer)
        writer.write(wire.handshake(bytes.fromhex(metainfo.info_hash)[:20], b"x" * 20))
        await within(5, reader.readexactly(wire.HANDSHAKE_BYTES))
        pieces = metainfo.content.pieces
        field = sum(1 << (pieces - 1 - piece) for piece in has) << (-pieces % 8)
        peer = Peer(reader, writer)
        peer.say(b"\5" + field.to_bytes(-(-pieces // 8), "big"))
        return peer

    yield join
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def test_when_all_pieces_are_out_one_who_is_behind_may_ask_for_any(seeder, sample, join) -> None:
    offer = await seeder.add(sample.metainfo, sample.path)
    content = sample.metainfo.content
    everything = set(range(content.pieces))
    for lacks in (0, 1):
        await join(sample.metainfo, everything - {lacks})
    behind = await join(sample.metainfo, set())
    told = await behind.hear(4, content.pieces)
    assert {int.from_bytes(body, "big") for body in told} == everything
    last = content.pieces - 1
    behind.ask(last)
    (block,) = await behind.hear(7)
    start = last * content.piece_length
    assert block[8:] == sample.path.read_bytes()[start : start + 16384]
    assert offer.uploaded == 16384


async def test_one_who_is_behind_and_asks_for_nothing_keeps_few_pieces_from_the_others(seeder, sample, join) -> None:
    await seeder.add(sample.metainfo, sample.path)
    content = sample.metainfo.content
    await join(sample.metainfo, set(range(content.pieces // 2)))
    behind = await join(sample.metainfo, set())
    await behind.hear(4, -(-LEAST_AHEAD // content.piece_length))
    with pytest.raises(TimeoutError):  # though it is favoured from the first measurement on
        await asyncio.wait_for(behind.hear(4), 4 * TICK_SECONDS)


async def test_when_all_pieces_are_out_those_who_will_soon_be_whole_may_ask_for_any(seeder, sample, join) -> None:
    await seeder.add(sample.metainfo, sample.path)
    pieces = sample.metainfo.content.pieces
    everything, quarter = set(range(pieces)), pieces // 4
    first, second = set(range(quarter)), set(range(quarter, 2 * quarter))
    one, other = await join(sample.metainfo, everything - first), await join(sample.metainfo, everything - second)
    for peer, lacks in ((one, first), (other, second)):
        # Neither is behind, and neither asks: shown piece by piece, they would be told of a part only.
        told = await peer.hear(4, quarter)
        assert {int.from_bytes(body, "big") for body in told} == lacks


async def test_one_who_may_ask_for_any_piece_can_not_have_more_of_them_read_than_memory_is_for(
    seeder, sample, join, monkeypatch
) -> None:
    monkeypatch.setattr("bitdew.swarm.seeder.peer.MOST_ON_SHOW", 2 * sample.metainfo.content.piece_length)
    await seeder.add(sample.metainfo, sample.path)
    content = sample.metainfo.content
    seeder.set_limits(SwarmLimits(upload=1))  # the first block pays for hours
    for lacks in (0, 1):
        await join(sample.metainfo, set(range(content.pieces)) - {lacks})
    behind = await join(sample.metainfo, set())
    await behind.hear(4, content.pieces)
    for piece in range(5):
        behind.ask(piece)
    refused = {int.from_bytes(body[:4], "big") for body in await behind.hear(16, 2)}
    assert len(refused) == 2
    assert refused <= {2, 3, 4}


async def test_no_more_are_let_in_than_may_be(seeder, authority, sample) -> None:
    await seeder.add(sample.metainfo, sample.path)
    seeder.set_limits(SwarmLimits(connections=1))
    _, writer = await dial(seeder, authority.issue(), authority.certificate)
    assert not await is_let_in(seeder, authority.issue(), authority.certificate, sample.metainfo)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
