"""Room for what is ordered: which leftovers go, and what never does."""

from __future__ import annotations

import asyncio

from bitdew.worker.events import EventKind
from bitdew.worker.eviction import Leftover, choose
from hypothesis import given
from hypothesis import strategies as st

MB = 2**20
LEFTOVERS = st.lists(
    st.builds(Leftover, since=st.integers(0, 50), root=st.text("abc", min_size=1), size=st.integers(1, 100)),
    unique_by=lambda leftover: leftover.root,
    max_size=12,
)


@given(LEFTOVERS, st.integers(-10, 1500), st.booleans())
def test_the_oldest_go_no_more_than_needed_and_none_in_vain(leftovers, short, partly) -> None:
    chosen = choose(leftovers, short, partly=partly)
    ages = sorted(leftovers)
    assert chosen == ages[: len(chosen)], "the oldest, and each of them before any younger one"
    freed = sum(leftover.size for leftover in chosen)
    if chosen:
        assert freed - chosen[-1].size < short, "without the last one it was not enough"
    possible = sum(leftover.size for leftover in leftovers)
    if short <= 0:
        assert not chosen
    elif possible >= short:
        assert freed >= short
    else:
        assert chosen == (ages if partly else [])


async def failed_attempt(service, started, data) -> None:
    """Leave a part of `data` here that failed, and that no order goes on with."""
    service.place(data, protocol="http")
    await service.until_state(data.uid, "failed", seconds=30)


def rot_from(service, data, offset: int) -> None:
    path = service.folder / data.root
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"rot" * 1000)


async def test_a_failed_attempt_makes_room_for_an_order_and_held_and_foreign_files_stay(
    service, start_worker, disk_bytes, home
) -> None:
    kept, wrong, wanted = [
        await service.publish(disk_bytes(size, seed), name)
        for seed, (size, name) in enumerate([(3 * MB, "kept"), (4 * MB, "wrong"), (5 * MB, "wanted")])
    ]
    await asyncio.to_thread(rot_from, service, wrong, 3 * MB)
    copies = home / "copies"
    async with start_worker(quota=9 * MB) as started:
        foreign = copies / "holiday.jpg"
        await asyncio.to_thread(foreign.write_bytes, bytes(20 * MB))
        service.place(kept)
        await service.until_state(kept.uid, "held")
        await failed_attempt(service, started, wrong)
        part = await asyncio.to_thread(lambda: (copies / wrong.root).stat().st_blocks * 512)
        assert MB < part < 5 * MB
        service.place(wanted)
        await service.until_state(wanted.uid, "held", seconds=30)
        assert [event.subject for event in started.events if event.kind is EventKind.EVICTED] == [wrong.root]
        left = await asyncio.to_thread(lambda: {path.name for path in copies.iterdir()})
        assert not {name for name in left if name.startswith(wrong.root)}
        assert {kept.root, wanted.root, foreign.name} <= left
        # What went is asked for anew, and does not fit: nobody's copy goes for it.
        service.place(wrong)
        await service.until(lambda: service.history[-1] == (wrong.uid, "failed"))
        assert service.placements[wrong.uid].reason.key == "storage.full"
        assert (await asyncio.to_thread((copies / kept.root).read_bytes)) == kept.content


async def test_nothing_goes_in_vain(service, start_worker, disk_bytes, home) -> None:
    wrong, large = await service.publish(disk_bytes(4 * MB, 1), "wrong"), await service.publish(disk_bytes(12 * MB, 2))
    await asyncio.to_thread(rot_from, service, wrong, 3 * MB)
    async with start_worker(quota=9 * MB) as started:
        await failed_attempt(service, started, wrong)
        service.place(large)
        await service.until_state(large.uid, "failed")
        assert await asyncio.to_thread((home / "copies" / wrong.root).exists)
        assert not [event for event in started.events if event.kind is EventKind.EVICTED]


async def test_a_lowered_quota_takes_leftovers_alone_and_says_what_is_over(
    service, start_worker, disk_bytes, home, until
) -> None:
    kept, wrong = await service.publish(disk_bytes(3 * MB, 1), "kept"), await service.publish(disk_bytes(4 * MB, 2))
    await asyncio.to_thread(rot_from, service, wrong, 3 * MB)
    async with start_worker(quota=9 * MB) as started:
        service.place(kept)
        await service.until_state(kept.uid, "held")
        await failed_attempt(service, started, wrong)
    async with start_worker(quota=2 * MB) as again:
        await until(lambda: any(event.kind is EventKind.TROUBLE for event in again.events))
        told = {event.kind: event for event in again.events}
        assert told[EventKind.EVICTED].subject == wrong.root
        assert MB <= told[EventKind.TROUBLE].fields["over"] < 1.1 * MB
        assert await asyncio.to_thread((home / "copies" / kept.root).read_bytes) == kept.content
        await service.until(lambda: service.state(wrong.uid) == "failed" and service.placements[wrong.uid].done == 0)
