"""Whole swarms of real libtorrent nodes on loopback: they close, and they stay closed to strangers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path

import libtorrent as lt
import pytest

from bitdew.core.errors import BitDewError, HostError, UserError
from bitdew.core.host import Endpoint
from bitdew.swarm import alerts, session, warmth
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.disk_file import DiskFile
from bitdew.swarm.session import Swarm
from bitdew.swarm.settings import SwarmLimits
from bitdew.swarm.transfer import Transfer

from .conftest import MB, sha256, until_progress, within


async def test_a_seed_and_two_leeches_end_with_identical_files(nodes, sample, tmp_path) -> None:
    seed, first, second = [await nodes.start() for _ in range(3)]
    await seed.add(sample.metainfo, sample.path, complete=True)
    one = await first.add(sample.metainfo, tmp_path / "one.raw", peers=[seed.endpoint, second.endpoint])
    two = await second.add(sample.metainfo, tmp_path / "another name", peers=[seed.endpoint, first.endpoint])
    await within(20, asyncio.gather(one.wait_held(), two.wait_held()))
    for transfer in (one, two):
        assert sha256(transfer.path) == sample.sha256
        assert transfer.progress.state == "seeding"
        assert transfer.progress.done == transfer.progress.size == sample.metainfo.content.size
        assert transfer.error is None


@pytest.mark.parametrize("size", [1, 16_384, 65_536, 65_537, 700_001])
async def test_any_size_is_delivered_held_and_taken_up_again(nodes, make_sample, tmp_path, size) -> None:
    sample = make_sample(size)
    seed, leech, again = await nodes.start(), await nodes.start(), await nodes.start()
    offered = await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    await within(20, transfer.wait_held())
    assert sha256(transfer.path) == sample.sha256
    assert transfer.path.stat().st_size == size
    assert transfer.progress.downloaded == size
    assert transfer.progress.received_from == {seed.endpoint: size}
    await until_progress(offered, lambda: offered.progress.uploaded == size)
    known = await again.add(sample.metainfo, transfer.path, have=await transfer.checkpoint())
    await within(20, known.wait_held())
    assert known.error is None


async def test_what_came_from_the_repository_is_told_from_what_came_from_peers(nodes, make_sample, tmp_path) -> None:
    sample = make_sample(4 * MB)
    size = sample.metainfo.content.size
    # The repository's uplink is narrow, so that the peers have reason to exchange.
    repository = await nodes.start(limits=SwarmLimits(upload=4 * MB))
    first, second = await nodes.start(), await nodes.start()
    await repository.add(sample.metainfo, sample.path, complete=True)
    one = await first.add(sample.metainfo, tmp_path / "1", peers=[repository.endpoint, second.endpoint])
    two = await second.add(sample.metainfo, tmp_path / "2", peers=[repository.endpoint, first.endpoint])
    await within(30, asyncio.gather(one.wait_held(), two.wait_held()))
    for transfer, other in ((one, second), (two, first)):
        got = transfer.progress.received_by_address
        assert set(got) <= {repository.endpoint.host, other.endpoint.host}
        assert got[repository.endpoint.host] > 0
        assert size <= sum(got.values()) <= 1.5 * size
        assert transfer.progress.received_from[repository.endpoint] == got[repository.endpoint.host]
    exchanged = one.progress.received_from.get(second.endpoint, 0) + two.progress.received_from.get(first.endpoint, 0)
    assert exchanged > 0


async def test_received_bytes_survive_the_sender(nodes, make_sample, tmp_path) -> None:
    sample = make_sample(2 * MB)
    first, second, leech = [await nodes.start(limits=SwarmLimits(upload=2 * MB)) for _ in range(3)]
    await first.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[first.endpoint])
    await until_progress(transfer, lambda: transfer.progress.received_from.get(first.endpoint, 0) > MB // 2)
    await first.close()
    await second.add(sample.metainfo, sample.path, complete=True)
    transfer.add_peers([second.endpoint])
    await within(20, transfer.wait_held())
    assert transfer.progress.received_from[first.endpoint] > MB // 2
    assert transfer.progress.received_from[second.endpoint] > 0


async def test_a_peer_that_comes_to_us_later_is_served(nodes, sample, tmp_path) -> None:
    seed, leech = await nodes.start(), await nodes.start()
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    await asyncio.sleep(0.3)  # refused meanwhile: the seed does not know the torrent yet
    await seed.add(sample.metainfo, sample.path, complete=True)
    await within(20, transfer.wait_held())
    assert sha256(transfer.path) == sample.sha256


async def test_a_transfer_resumes_when_its_file_was_looked_at_so_that_it_dials_at_once(
    nodes, make_sample, tmp_path
) -> None:
    seed, leech = await nodes.start(), await nodes.start()
    looking = lt.torrent_status.states.checking_resume_data
    for number in range(20):
        sample = make_sample(65_536 + number, f"{number}.raw")
        transfer = await leech.add(sample.metainfo, tmp_path / f"copy {number}", peers=[seed.endpoint])
        assert transfer.handle.status(0).state != looking


async def serve_only_members(nodes, sample, tmp_path, stranger: SwarmCredentials) -> None:
    """A stranger gets nothing from a seed that serves a member meanwhile, whoever of the two dials."""
    seed, outsider, member = await nodes.start(), await nodes.start(stranger), await nodes.start()
    refused = await outsider.add(sample.metainfo, tmp_path / "refused", peers=[seed.endpoint])
    offered = await seed.add(sample.metainfo, sample.path, complete=True, peers=[outsider.endpoint])
    served = await member.add(sample.metainfo, tmp_path / "served", peers=[seed.endpoint, outsider.endpoint])
    await within(20, served.wait_held())
    with pytest.raises(TimeoutError):
        await within(2, refused.wait_held())
    assert refused.progress.done == refused.progress.downloaded == 0
    assert refused.progress.received_from == {}
    assert sum(offered.progress.received_from.values()) == 0


async def test_a_peer_with_another_ca_gets_nothing(nodes, sample, tmp_path, other_authority) -> None:
    await serve_only_members(nodes, sample, tmp_path, other_authority.issue())


async def test_a_peer_that_trusts_our_ca_but_has_anothers_leaf_gets_nothing(
    nodes, sample, tmp_path, authority, other_authority
) -> None:
    foreign = other_authority.issue()
    mixed = SwarmCredentials(authority.certificate, foreign.certificate, foreign.private_key)
    await serve_only_members(nodes, sample, tmp_path, mixed)


async def test_a_peer_with_an_expired_certificate_gets_nothing(nodes, sample, tmp_path, authority) -> None:
    await serve_only_members(nodes, sample, tmp_path, authority.issue(days=-1))


async def test_a_peer_without_a_certificate_gets_nothing(nodes, sample, tmp_path, authority) -> None:
    seed = await nodes.start()
    outsider = await nodes.start(SwarmCredentials(authority.certificate, "", ""))
    await seed.add(sample.metainfo, sample.path, complete=True)
    refused = await outsider.add(sample.metainfo, tmp_path / "refused", peers=[seed.endpoint])
    for _ in range(2):  # told what is wrong at once; trying all the same brings nothing
        with pytest.raises((HostError, TimeoutError)):
            await within(2, refused.wait_held())
    assert refused.progress.downloaded == 0


async def test_plain_bittorrent_is_not_spoken(nodes, sample) -> None:
    seed = await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    reader, writer = await asyncio.open_connection(seed.endpoint.host, seed.endpoint.port)
    name = bytes.fromhex(sample.metainfo.info_hash)[:20]
    writer.write(b"\x13BitTorrent protocol" + bytes(8) + name + b"-XX0000-123456789012")
    async with asyncio.timeout(10):
        try:
            answer = await reader.read(1000)
        except ConnectionResetError:
            answer = b""
    writer.close()
    assert b"BitTorrent" not in answer


async def test_a_renewed_certificate_is_shown_on_a_live_transfer(nodes, sample, tmp_path, authority) -> None:
    seed = await nodes.start(authority.issue(days=-1))
    leech = await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    with pytest.raises(TimeoutError):
        await within(1, transfer.wait_held())
    seed.set_credentials(authority.issue())
    await within(20, transfer.wait_held())
    assert sha256(transfer.path) == sample.sha256


async def test_a_download_cap_holds_on_loopback(nodes, sample, tmp_path) -> None:
    seed, leech = await nodes.start(), await nodes.start(limits=SwarmLimits(download=MB))
    await seed.add(sample.metainfo, sample.path, complete=True)
    started = time.monotonic()
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    await within(20, transfer.wait_held())
    assert time.monotonic() - started > 1.2  # 2 MB at 1 MB/s


async def test_an_upload_cap_set_later_holds_until_it_is_lifted(nodes, make_sample, tmp_path) -> None:
    sample = make_sample(4 * MB)
    seed, leech = await nodes.start(), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    seed.set_limits(SwarmLimits(upload=MB // 4))
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    with pytest.raises(TimeoutError):
        await within(2, transfer.wait_held())
    seed.set_limits(SwarmLimits())
    started = time.monotonic()
    await within(20, transfer.wait_held())
    assert time.monotonic() - started < 8  # at 256 KB/s the rest would take 14 s


async def test_a_port_in_use_is_refused_by_name(nodes, authority) -> None:
    first = await nodes.start()
    with pytest.raises(UserError) as caught:
        await Swarm.start(first.endpoint, authority.issue())
    assert caught.value.key == "port.in-use"
    assert caught.value.fields["endpoint"] == str(first.endpoint)


async def test_an_address_of_another_machine_is_refused(authority) -> None:
    with pytest.raises(HostError) as caught:
        await Swarm.start(Endpoint("192.0.2.77", 0), authority.issue())
    assert caught.value.key == "swarm.failed"


async def test_every_address_listens_at_one_port(nodes) -> None:
    swarm = await nodes.start(host="0.0.0.0")  # noqa: S104 (what is tested)
    assert swarm.endpoint.host == "0.0.0.0"  # noqa: S104
    with socket.socket() as probe:
        probe.settimeout(5)
        await asyncio.to_thread(probe.connect, ("127.0.0.1", swarm.endpoint.port))


async def test_closing_twice_frees_the_port_and_every_descriptor(authority, sample) -> None:
    before = descriptors()
    swarm = await Swarm.start(Endpoint("127.0.3.200", 0), authority.issue())
    transfer = await swarm.add(sample.metainfo, sample.path, complete=True)
    waiting = asyncio.create_task(transfer.next_change(10_000))
    await asyncio.sleep(0)
    started = time.monotonic()
    await asyncio.gather(swarm.close(), swarm.close())
    await swarm.close()
    assert time.monotonic() - started < 2
    with pytest.raises(HostError) as caught:
        await within(1, waiting)
    assert caught.value.key == "swarm.failed"
    again = await Swarm.start(swarm.endpoint, authority.issue())
    await again.close()
    assert descriptors() <= before


async def test_a_closed_swarm_refuses_by_name(nodes, sample) -> None:
    swarm = await nodes.start()
    await swarm.close()
    with pytest.raises(BitDewError) as caught:
        await swarm.add(sample.metainfo, sample.path)
    assert caught.value.key == "swarm.failed"
    with pytest.raises(BitDewError):
        swarm.set_limits(SwarmLimits())


async def test_closing_amid_a_transfer_is_quick(nodes, make_sample, tmp_path) -> None:
    sample = make_sample(4 * MB)
    seed, leech = await nodes.start(limits=SwarmLimits(upload=MB)), await nodes.start()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    waiting = asyncio.create_task(transfer.wait_held())
    await until_progress(transfer, lambda: transfer.progress.done > 0)
    started = time.monotonic()
    await leech.close()
    await seed.close()
    assert time.monotonic() - started < 3
    with pytest.raises(HostError):
        await waiting


async def test_closing_while_contents_are_removed_fails_neither(nodes, make_sample) -> None:
    swarm = await nodes.start()
    samples = [make_sample(MB + number, f"{number}.raw") for number in range(20)]
    transfers = [await swarm.add(sample.metainfo, sample.path, complete=True) for sample in samples]
    leaving = [asyncio.create_task(swarm.remove(transfer)) for transfer in transfers]
    while not any(task.done() for task in leaving):  # some are on their way out of the session, some have left it
        await asyncio.sleep(0)
    await swarm.close()
    assert await asyncio.gather(*leaving) == [None] * len(leaving)
    assert not swarm.transfers


async def test_a_content_enters_a_swarm_once_and_again_after_removal(nodes, sample, tmp_path) -> None:
    seed, leech = await nodes.start(), await nodes.start()
    first = await seed.add(sample.metainfo, sample.path, complete=True)
    with pytest.raises(HostError) as caught:
        await seed.add(sample.metainfo, tmp_path / "elsewhere")
    assert caught.value.key == "swarm.failed"
    await seed.remove(first)
    await seed.remove(first)
    assert sha256(sample.path) == sample.sha256
    assert not seed.transfers
    with pytest.raises(HostError):
        await first.wait_held()
    await seed.add(sample.metainfo, sample.path, complete=True)
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    await within(20, transfer.wait_held())


async def test_adding_under_a_missing_folder_is_refused_and_leaves_nothing(nodes, sample, tmp_path) -> None:
    swarm = await nodes.start()
    with pytest.raises(HostError) as caught:
        await swarm.add(sample.metainfo, tmp_path / "nowhere" / "file")
    assert caught.value.key == "storage.failed"
    assert not swarm.transfers


async def test_an_add_that_is_cancelled_leaves_nothing(nodes, sample) -> None:
    swarm = await nodes.start()
    adding = asyncio.create_task(swarm.add(sample.metainfo, sample.path, complete=True))
    for _ in range(3):
        await asyncio.sleep(0)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert not swarm.transfers
    async with asyncio.timeout(10):
        while True:  # libtorrent may need a moment to forget it
            try:
                await swarm.add(sample.metainfo, sample.path, complete=True)
                break
            except HostError:
                await asyncio.sleep(0.05)


async def test_the_event_loop_is_never_held_up(nodes, make_sample, tmp_path) -> None:
    sample = make_sample(8 * MB)
    longest = []
    for attempt in range(3):  # a busy machine may pause us; our own code would hold the loop up every time
        gaps: list[float] = []
        watching = asyncio.create_task(watch(gaps))
        seed, leech = await nodes.start(), await nodes.start()
        await seed.add(sample.metainfo, sample.path, complete=True)
        transfer = await leech.add(sample.metainfo, tmp_path / f"copy{attempt}", peers=[seed.endpoint])
        await transfer.checkpoint()
        await within(30, transfer.wait_held())
        await transfer.recheck()
        await leech.close()
        await seed.close()
        watching.cancel()
        longest.append(max(gaps))
        if longest[-1] < 0.1:
            break
    assert min(longest) < 0.1


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def watch(gaps: list[float]) -> None:
    last = time.monotonic()
    while True:
        await asyncio.sleep(0.005)
        now = time.monotonic()
        gaps.append(now - last)
        last = now


async def test_an_idle_seed_asks_for_nothing(nodes, sample, monkeypatch) -> None:
    swarm = await nodes.start()
    transfer = await swarm.add(sample.metainfo, sample.path, complete=True)
    await until_progress(transfer, lambda: transfer.progress.state == "seeding")
    await asyncio.sleep(1.2)
    assert swarm._next_beat is None


async def test_a_beat_looks_at_nothing_but_what_may_have_changed(nodes, make_sample) -> None:
    seed, leech = await nodes.start(), await nodes.start()
    samples = [make_sample(100_000 + n, f"held{n}.raw") for n in range(20)]
    held = [await seed.add(sample.metainfo, sample.path, complete=True) for sample in samples]
    for transfer in held:
        await until_progress(transfer, lambda transfer=transfer: transfer.progress.state == "seeding")
    await asyncio.sleep(1.2)
    assert not seed._lively
    fetched = await leech.add(samples[7].metainfo, samples[7].path.with_suffix(".copy"), peers=[seed.endpoint])
    await within(20, fetched.wait_held())
    assert set(seed._lively) == {held[7]}


async def test_whole_files_dial_as_long_as_something_moves_and_not_for_ever(nodes, make_sample, monkeypatch) -> None:
    monkeypatch.setattr(warmth, "WARM_SECONDS", 1.0)
    dialled: list[float] = []

    async def count(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.append(time.monotonic())
        writer.close()
        await writer.wait_closed()

    away = await asyncio.start_server(count, "127.0.3.190", 0)
    there = Endpoint(*away.sockets[0].getsockname())
    async with away:
        swarm = await nodes.start()
        samples = [make_sample(100_000 + n, f"held{n}.raw") for n in range(5)]
        for sample in samples:
            await swarm.add(sample.metainfo, sample.path, complete=True, peers=[there])
        await asyncio.sleep(2)
        assert len(dialled) >= 5
        ended = dialled[-1]
        await asyncio.sleep(6)
        assert dialled[-1] <= ended + 3  # each may have been on its way once more


def test_credentials_do_not_print_their_key(authority) -> None:
    assert "PRIVATE" not in repr(authority.issue())


async def test_a_certificate_that_is_renewed_while_a_transfer_enters_is_the_one_it_shows(
    nodes, sample, tmp_path, authority, monkeypatch
) -> None:
    entering, go_on = asyncio.Event(), threading.Event()
    loop, enter = asyncio.get_running_loop(), session.enter

    def slowly(*given):
        loop.call_soon_threadsafe(entering.set)
        assert go_on.wait(10)
        return enter(*given)

    seed, leech = await nodes.start(authority.issue(days=-1)), await nodes.start()
    monkeypatch.setattr(session, "enter", slowly)
    adding = asyncio.ensure_future(seed.add(sample.metainfo, sample.path, complete=True))
    await within(10, entering.wait())
    try:
        seed.set_credentials(authority.issue())
    finally:
        go_on.set()
        await adding
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[seed.endpoint])
    await within(20, transfer.wait_held())


async def test_a_transfer_that_is_about_to_enter_is_sampled_when_it_is_in(nodes, sample, tmp_path) -> None:
    swarm = await nodes.start()
    file = DiskFile(tmp_path / "copy", sample.metainfo.content, read_only=False)
    early = Transfer(sample.metainfo, file, (), complete=False, stir=swarm._stir)
    wish = early.want_sample()
    swarm._transfers[sample.metainfo.info_hash] = early
    swarm._stir(early)
    await within(5, swarm._sample())
    assert early.unsampled == wish
    del swarm._transfers[sample.metainfo.info_hash]


@pytest.mark.parametrize("told_later", [False, True])
async def test_a_peer_that_is_away_is_dialled_until_it_is_there(nodes, make_sample, tmp_path, told_later) -> None:
    sample = make_sample(100_000)
    away, leech = await nodes.start(), await nodes.start()
    leech._opened().apply_settings({"min_reconnect_time": 0})  # each tick, not after 1, 2, 3, … seconds
    transfer = await leech.add(sample.metainfo, tmp_path / "copy", peers=[] if told_later else [away.endpoint])
    transfer.add_peers([away.endpoint])
    failed: list[alerts.PeerWent] = []
    take = transfer.take

    def note(event) -> None:  # type: ignore[no-untyped-def]
        take(event)
        failed.extend([event] if isinstance(event, alerts.PeerWent) else [])

    transfer.take = note
    async with asyncio.timeout(30):
        while len(failed) < 5:  # libtorrent gives a peer up after three
            await transfer._changed.wait()
    await away.add(sample.metainfo, sample.path, complete=True)
    await within(20, transfer.wait_held())


async def test_a_peer_that_comes_for_what_is_not_there_is_heard(nodes, sample, tmp_path) -> None:
    node, leech, knocks = await nodes.start(), await nodes.start(), []
    heard = asyncio.Event()

    def note() -> None:
        knocks.append(1)
        heard.set()

    node.on_knock = note
    await leech.add(sample.metainfo, tmp_path / "copy", peers=[node.endpoint])
    await within(20, heard.wait())


async def test_the_sockets_stay_open_until_the_last_who_holds_the_session_lets_go(authority, sample, caplog) -> None:
    swarm = await Swarm.start(Endpoint("127.0.3.201", 0), authority.issue())
    await swarm.add(sample.metainfo, sample.path, complete=True)
    held, clapper = [swarm._session], swarm._bell._clapper
    await swarm.close()
    assert "still holds a session" in caplog.text
    assert clapper.fileno() >= 0
    await asyncio.to_thread(held.clear)  # as a thread that was given it: libtorrent's threads end here
    assert clapper.fileno() == -1
    assert await swarm._bell.ended(5)
