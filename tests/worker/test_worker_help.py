"""Help over HTTPS for a swarm that can't go on: when, for which pieces, and what becomes of them."""

from __future__ import annotations

import asyncio
import random

import pytest
from bitdew.worker import help as worker_help
from bitdew.worker import patience
from bitdew.worker.help import NOBODY_SECONDS, PART, PARTS, STUCK_SECONDS, part_of, wanted
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.content import Content, piece_length_for
from bitdew.core.errors import error
from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot
from bitdew.swarm.session import Swarm
from bitdew.swarm.settings import SwarmLimits

MIB = 2**20
MISSING = st.dictionaries(st.integers(0, 200), st.integers(0, 5), max_size=50)


@given(MISSING, st.floats(0, NOBODY_SECONDS, exclude_max=True))
def test_nothing_is_asked_for_while_the_swarm_delivers(missing, silent):
    assert wanted(missing, silent, helping=False, seeded=False) == set()


@given(MISSING, st.floats(NOBODY_SECONDS, STUCK_SECONDS, exclude_max=True))
def test_after_some_silence_only_pieces_that_no_peer_has_are_asked_for(missing, silent):
    assert wanted(missing, silent, helping=False, seeded=False) == {
        number for number, peers in missing.items() if peers == 0
    }


@given(MISSING, st.floats(0, STUCK_SECONDS, exclude_max=True))
def test_help_that_began_goes_on_until_peers_have_everything(missing, silent):
    assert wanted(missing, silent, helping=True, seeded=False) == {
        number for number, peers in missing.items() if peers == 0
    }


@given(MISSING, st.floats(0, STUCK_SECONDS, exclude_max=True), st.booleans())
def test_as_long_as_the_repository_is_among_the_peers_it_is_waited_for(missing, silent, helping):
    assert wanted(missing, silent, helping=helping, seeded=True) == set()


@given(MISSING, st.booleans(), st.booleans())
def test_after_a_long_silence_it_counts_no_more_what_peers_say_they_have(missing, helping, seeded):
    assert wanted(missing, STUCK_SECONDS, helping=helping, seeded=seeded) == set(missing)


@given(st.integers(1, 2**36), st.data())
def test_a_part_is_of_what_is_wanted_without_gaps_and_small(size, data):
    content = Content(ContentRoot("0" * 64), size, piece_length_for(size), b"")
    pieces = data.draw(st.sets(st.integers(0, content.pieces - 1), min_size=1, max_size=100))
    part = part_of(pieces, content, random.Random(data.draw(st.integers())))
    assert len(part) >= 1
    assert set(part) <= pieces
    assert len(part) == 1 or len(part) * content.piece_length <= min(PART, size // PARTS)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(worker_help, "NOBODY_SECONDS", 2.0)
    monkeypatch.setattr(worker_help, "REFUSED_SECONDS", 0.5)
    monkeypatch.setattr(worker_help, "LOOK_SECONDS", 0.1)


async def cut_off(service):
    """Nobody reaches the repository's swarm any more."""
    for transfer in list(service.repository.transfers.values()):
        await service.repository.remove(transfer)


@pytest.mark.usefixtures("quick")
async def test_a_copy_whose_only_seeder_is_cut_off_is_held_by_help_alone(service, start_worker, disk_bytes, home):
    data = await service.publish(disk_bytes(3 * MIB + 7))
    await cut_off(service)
    async with start_worker():
        service.place(data, protocol="bittorrent")
        await service.until_state(data.uid, "held", seconds=60)
        report = service.placements[data.uid]
        assert (report.from_repository, report.from_peers, report.corrupt) == (data.size, 0, 0)
        assert report.reason is None
        assert (home / "copies" / data.root).read_bytes() == data.content
    assert sum(last - first + 1 for first, last in service.helped) == data.size


@pytest.mark.usefixtures("quick")
async def test_help_takes_only_what_peers_lack_and_the_swarm_goes_on_with_it(
    service, start_worker, disk_bytes, tmp_path
):
    data = await service.publish(disk_bytes(4 * MIB))
    pieces = data.metainfo.content.pieces
    there = bytes([0xFF] * (pieces // 16) + [0] * (pieces // 8 - pieces // 16))  # the first half
    part = tmp_path / "part"
    part.write_bytes(data.content[: 2 * MIB])
    await cut_off(service)
    async with await Swarm.start(Endpoint("127.0.0.1", 0), service.swarm_credentials()) as other:
        peer = await other.add(data.metainfo, part, have=there)
        async with start_worker():
            service.place(data, [other.endpoint], protocol="bittorrent")
            await service.until_state(data.uid, "held", seconds=60)
            report = service.placements[data.uid]
            assert report.from_repository == 2 * MIB
            assert report.from_peers >= 2 * MIB
            assert all(first >= 2 * MIB for first, _ in service.helped)
            await asyncio.wait_for(peer.wait_held(), 10)
    assert part.read_bytes() == data.content


@pytest.mark.usefixtures("quick")
async def test_a_repository_that_is_connected_and_has_no_turn_to_give_is_waited_for(
    service, start_worker, disk_bytes, until, monkeypatch
):
    monkeypatch.setattr(worker_help, "NOBODY_SECONDS", 0.5)
    data = await service.publish(disk_bytes(MIB))
    service.repository._session.apply_settings({"unchoke_slots_limit": 0})
    async with start_worker() as started:
        service.place(data, protocol="bittorrent")
        await service.until_state(data.uid, "fetching")
        await until(lambda: started.worker.swarm.transfers, 20)
        (transfer,) = started.worker.swarm.transfers.values()
        await until(lambda: transfer.is_connected_to(service.repository.endpoint), 20)
        await asyncio.sleep(2)
        assert service.helped == []
        service.repository._session.apply_settings({"unchoke_slots_limit": -1})
        await service.until_state(data.uid, "held", seconds=60)
        assert service.helped == []


@pytest.mark.usefixtures("quick")
async def test_who_is_refused_asks_again_and_the_copy_does_not_fail(service, start_worker, disk_bytes):
    data = await service.publish(disk_bytes(MIB))
    await cut_off(service)
    service.busy = 3
    async with start_worker():
        service.place(data, protocol="bittorrent")
        await service.until_state(data.uid, "held", seconds=60)
    assert service.busy == 0
    assert "failed" not in [state for _, state in service.history]


@pytest.mark.usefixtures("quick")
async def test_wrong_bytes_of_the_service_are_told_and_never_reach_the_file(service, start_worker, disk_bytes, until):
    data = await service.publish(disk_bytes(MIB))
    await cut_off(service)
    whole = (service.folder / data.root).read_bytes()
    (service.folder / data.root).write_bytes(bytes(MIB))
    async with start_worker():
        service.place(data, protocol="bittorrent")
        await service.until(lambda: (r := service.placements.get(data.uid)) and r.reason)
        assert service.placements[data.uid].reason.key == "swarm.corrupt"
        assert service.placements[data.uid].done == 0
        (service.folder / data.root).write_bytes(whole)
        await service.until_state(data.uid, "held", seconds=60)


@pytest.mark.usefixtures("quick")
async def test_help_is_refused_to_strangers_and_the_swarm_is_waited_for(service, start_worker, disk_bytes, tmp_path):
    data = await service.publish(disk_bytes(MIB))
    await cut_off(service)
    service.refusal = error("data.not-ordered", "It is not for this host")
    async with start_worker():
        service.place(data, protocol="bittorrent")
        await service.until(lambda: service.refused >= 2, seconds=60)
        assert service.state(data.uid) == "fetching"
        await service.repository.add(data.metainfo, service.folder / data.root, complete=True)
        await service.until_state(data.uid, "held", seconds=60)
        assert service.helped == []


# Patience -------------------------------------------------------------------------------------------------------------


class Hand:
    """A clock that a test sets."""

    def __init__(self):
        self.time = 0.0

    def monotonic(self):
        return self.time


@given(st.lists(st.floats(0.01, patience.PATIENCE_SECONDS - 0.01), min_size=1, max_size=30))
def test_a_source_that_sends_anything_within_the_time_is_never_given_up(gaps):
    clock = Hand()
    watch = patience.Patience(clock)
    for number, gap in enumerate(gaps, 1):
        clock.time += gap
        assert not watch.is_over()
        watch.saw(number, working=False)
        watch.asked(answered=True)
    clock.time += patience.PATIENCE_SECONDS + 1
    assert watch.is_over()


def test_nothing_is_given_up_while_the_service_is_away_and_its_return_gives_time():
    clock = Hand()
    watch = patience.Patience(clock)
    watch.saw(1, working=False)
    watch.asked(answered=False)
    clock.time += 10 * patience.PATIENCE_SECONDS
    assert not watch.is_over()
    watch.asked(answered=True)
    clock.time += patience.PATIENCE_SECONDS - 1
    assert not watch.is_over()
    clock.time += 2
    assert watch.is_over()


async def test_a_slow_seeder_is_waited_for_longer_than_patience_lasts(service, start_worker, disk_bytes, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 5.0)
    data = await service.publish(disk_bytes(200_000))
    service.repository.set_limits(SwarmLimits(upload=25_000))
    async with start_worker():
        service.place(data, protocol="bittorrent")
        seconds = await service.until_state(data.uid, "held", seconds=40)
    assert seconds > 5.0
    assert "failed" not in [state for _, state in service.history]
