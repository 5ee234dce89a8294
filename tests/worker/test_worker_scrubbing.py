"""Reading back what is held: the pace, and what becomes of bytes that rotted."""

from __future__ import annotations

import asyncio
import os

import pytest
from bitdew.worker import scrubbing
from bitdew.worker.entries import Scrub
from bitdew.worker.scrubbing import DAY, MOST_RATE, next_turn
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.content import Content, piece_length_for
from bitdew.core.errors import PeerError
from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot
from bitdew.swarm.session import Swarm

from .conftest import flip

MB = 2**20
ELSEWHERE = Endpoint("127.0.0.9", 0)
SIZE = 2 * MB
QUICK = 5 / DAY
"""Days: all is read back in five seconds."""


def content(number: int, size: int) -> Content:
    return Content(ContentRoot(f"{number:064x}"), size, piece_length_for(size), b"")


# The pace ------------------------------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 40 * MB), min_size=1, max_size=5),
    period=st.floats(1.0, 30 * DAY),
    done=st.lists(st.tuples(st.integers(0, 700), st.floats(0, 10)), max_size=5),
)
def test_every_byte_is_read_once_in_a_period_and_never_faster_than_the_bound(sizes, period, done) -> None:
    held = {one.root: one for one in (content(number, size) for number, size in enumerate(sizes))}
    known = {root: Scrub(piece, whole, whole) for root, (piece, whole) in zip(held, done, strict=False)}
    unread = {(root, piece) for root, one in held.items() for piece in range(one.pieces)}
    now, total = 10.0, sum(sizes)
    began, turns = now, 2 * len(unread)  # copies that were begun are finished first: their start comes after that
    for _ in range(turns):
        turn = next_turn(held, known, period)
        assert turn is not None
        one = held[turn.root]
        length = min(one.piece_length, one.size - turn.piece * one.piece_length)
        assert length > 0
        assert turn.pause >= length / MOST_RATE
        now += turn.pause
        unread.discard((turn.root, turn.piece))
        scrub, following = known.get(turn.root, Scrub()), turn.piece + 1
        known[turn.root] = Scrub(following, scrub.whole, now) if following < one.pieces else Scrub(0, now, now)
    assert not unread
    # A piece that is read is paid for by its bytes: `turns` pieces cost at most two rounds, and the largest of them.
    assert now - began <= 2 * len(sizes) * max(period, total / MOST_RATE) + 1


def test_what_was_begun_is_finished_and_then_comes_what_nobody_read_for_longest() -> None:
    held = {one.root: one for one in (content(1, MB), content(2, MB), content(3, MB))}
    first, second, third = held
    known = {first: Scrub(0, 50.0, 50.0), second: Scrub(4, 90.0, 95.0), third: Scrub(0, 20.0, 20.0)}
    turn = next_turn(held, known, DAY)
    assert turn is not None
    assert (turn.root, turn.piece) == (second, 4)
    known[second] = Scrub(0, 100.0, 100.0)
    turn = next_turn(held, known, DAY)
    assert turn is not None
    assert (turn.root, turn.piece) == (third, 0)
    assert next_turn({}, known, DAY) is None


# Rot -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["bittorrent", "http"])
async def test_rot_in_idle_time_is_found_told_withdrawn_and_mended_alone(
    service, start_worker, disk_bytes, home, protocol
) -> None:
    data = await service.publish(disk_bytes(SIZE))
    piece = data.metainfo.content.piece_length
    async with start_worker(scrub_days=QUICK):
        service.place(data, protocol=protocol)
        await service.until_state(data.uid, "held")
        before = service.placements[data.uid].from_repository
        path = home / "copies" / data.root
        flip(path, 5 * piece + 100)
        flip(path, 9 * piece + 7)
        await service.until(lambda: service.reasons.get(data.uid), seconds=20)
        reason = service.reasons[data.uid][0]
        assert reason.key == "storage.rotten"
        assert reason.fields["pieces"] in ([5], [9], [5, 9])
        await service.until_state(data.uid, "held")
        assert path.read_bytes() == data.content
        # Two pieces came again, and nothing else.
        assert service.placements[data.uid].from_repository - before <= 2 * piece


async def test_all_pieces_that_rotted_are_named(service, start_worker, disk_bytes, home) -> None:
    data = await service.publish(disk_bytes(SIZE))
    piece = data.metainfo.content.piece_length
    async with start_worker(scrub_days=QUICK) as started:
        service.place(data)
        await service.until_state(data.uid, "held")
        for number in (3, 5, 9):
            flip(home / "copies" / data.root, number * piece)
        await service.until(lambda: any("3 of" in event.text for event in started.events), seconds=20)
        await service.until_state(data.uid, "held")


async def test_a_copy_that_rotted_is_served_to_nobody(service, start_worker, disk_bytes, home, tmp_path) -> None:
    data = await service.publish(disk_bytes(SIZE))
    async with start_worker(scrub_days=QUICK) as started:
        service.place(data)
        await service.until_state(data.uid, "held")
        await service.repository.remove(service.repository.transfers[data.metainfo.info_hash])  # nobody can mend it
        flip(home / "copies" / data.root, 70_000)
        await service.until(lambda: service.state(data.uid) == "fetching", seconds=20)
        async with await Swarm.start(ELSEWHERE, service.swarm_credentials("other")) as other:
            fetched = await other.add(data.metainfo, tmp_path / "fetched", peers=[started.worker.swarm.endpoint])
            good = data.metainfo.content.pieces - 1
            seen = 0
            while fetched.progress.done < good * data.metainfo.content.piece_length - 65536:
                seen = await fetched.next_change(seen)
            assert fetched.progress.corrupt == 0


async def test_reading_goes_on_where_the_last_start_was(service, start_worker, disk_bytes, monkeypatch) -> None:
    monkeypatch.setattr(scrubbing, "SAVE_SECONDS", 0.0)
    data = await service.publish(disk_bytes(SIZE))
    async with start_worker(scrub_days=QUICK) as started:
        service.place(data)
        await service.until_state(data.uid, "held")
        known = started.worker.scrubber._known
        await until_read(known, data.root, 3)
    async with start_worker(scrub_days=0) as again:
        assert again.worker.scrubber._known[data.root].piece >= 3


async def until_read(known, root: str, pieces: int) -> None:
    async with asyncio.timeout(20):
        while known.get(root, Scrub()).piece < pieces:
            await asyncio.sleep(0.02)


async def test_nothing_is_read_back_while_something_is_fetched(service, start_worker, disk_bytes, until) -> None:
    held, coming = await service.publish(disk_bytes(SIZE)), await service.publish(disk_bytes(4 * MB, 2), "slow")
    async with start_worker(scrub_days=QUICK, download=512 * 1024) as started:
        service.place(held)
        await service.until_state(held.uid, "held", seconds=30)
        service.place(coming)
        await service.until_state(coming.uid, "fetching")
        known = started.worker.scrubber._known
        before = known.get(held.root)
        await service.until(lambda: service.placements[coming.uid].done > MB, seconds=30)
        after = known.get(held.root)
        assert service.state(coming.uid) == "fetching"
        assert before is None or after is None or after.read - before.read < 1.0


async def test_a_suspected_copy_is_read_at_once_and_not_again_soon(
    service, start_worker, disk_bytes, home, until, monkeypatch
) -> None:
    data = await service.publish(disk_bytes(SIZE))
    async with start_worker(scrub_days=0) as started:
        service.place(data)
        await service.until_state(data.uid, "held")
        scrubber, path, history = started.worker.scrubber, home / "copies" / data.root, len(service.history)
        flip(path, 70_000)
        scrubber.suspect(data.root)
        await service.until(lambda: (data.uid, "fetching") in service.history[history:])
        await service.until_state(data.uid, "held")
        assert path.read_bytes() == data.content
        reads = []
        monkeypatch.setattr(type(started.worker._storage), "reads_well", lambda *_: reads.append(1) or True)
        scrubber.suspect(data.root)
        await until(lambda: not scrubber._suspected)
        assert not reads


# What is seen without reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["cut", "gone", "replaced"])
async def test_a_machine_is_not_lent_a_file_that_changed_and_gets_it_mended(
    service, start_worker, disk_bytes, home, change
) -> None:
    data = await service.publish(disk_bytes(SIZE))
    async with start_worker(scrub_days=0):
        service.place(data)
        await service.until_state(data.uid, "held")
        spoil(home / "copies" / data.root, change)
        machine = service.launch(data)
        await service.until_state(machine, "running", seconds=20)
        assert (home / "copies" / data.root).read_bytes() == data.content
        assert (data.uid, "fetching") in service.history
        assert service.state(data.uid) == "held"


@pytest.mark.parametrize("change", ["cut", "gone", "replaced"])
async def test_a_peer_that_comes_for_a_file_that_changed_has_it_withdrawn_and_mended(
    service, start_worker, disk_bytes, home, tmp_path, change
) -> None:
    data = await service.publish(disk_bytes(SIZE))
    async with start_worker(scrub_days=0) as started:
        service.place(data)
        await service.until_state(data.uid, "held")
        history = len(service.history)
        spoil(home / "copies" / data.root, change)
        async with await Swarm.start(ELSEWHERE, service.swarm_credentials("other")) as other:
            fetched = await other.add(
                data.metainfo,
                tmp_path / "fetched",
                peers=[started.worker.swarm.endpoint, service.repository.endpoint],
            )
            for _ in range(5):
                try:
                    await fetched.wait_held()
                    break
                except (
                    PeerError
                ):  # what came before the withdrawal was wrong: joining anew lifts the bans, as a worker does
                    await other.remove(fetched)
                    fetched = await other.add(data.metainfo, tmp_path / "fetched", peers=[service.repository.endpoint])
            assert (tmp_path / "fetched").read_bytes() == data.content
        await service.until(lambda: (data.uid, "fetching") in service.history[history:])
        await service.until_state(data.uid, "held")
        assert (home / "copies" / data.root).read_bytes() == data.content


def spoil(path, change: str) -> None:
    if change == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif change == "gone":
        path.unlink()
    else:
        other = path.with_suffix(".other")
        other.write_bytes(bytes(path.stat().st_size))
        other.replace(path)
