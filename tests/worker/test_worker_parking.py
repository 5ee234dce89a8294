"""Held copies that nobody asks for: they leave the session, and are there again for whoever comes."""

from __future__ import annotations

import asyncio

import pytest
from bitdew.worker import holding, parking
from bitdew.worker.limits import LimitsChange
from bitdew.worker.parking import Parking

from bitdew.core.host import Endpoint
from bitdew.swarm.session import Swarm

from .conftest import flip

ELSEWHERE = Endpoint("127.0.0.9", 0)
SIZE = 200_000
QUICK = 2 / 86400
"""Days: all is read back in two seconds."""


@pytest.fixture(autouse=True)
def few_members(monkeypatch) -> None:
    monkeypatch.setattr(parking, "MOST_IDLE", 1)
    monkeypatch.setattr(parking, "TOGETHER", 0)
    monkeypatch.setattr(parking, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(parking, "ASK_SECONDS", 0.05)


async def publish(service, disk_bytes, number=3):
    return [await service.publish(disk_bytes(SIZE, seed), f"datum{seed}") for seed in range(1, number + 1)]


async def hold(service, data) -> None:
    """Have all of `data` held, one after the other."""
    for one in data:
        service.place(one, protocol="http")
        await service.until_state(one.uid, "held")


def parked_at(started) -> frozenset[str]:
    return started.worker.placements._copies.parking.parked


def told(started, words: str) -> bool:
    """Whether the worker said so."""
    return any(words in event.text for event in started.events)


async def until_parked(until, started, number) -> None:
    """Return when so many are parked, and their swarms are left."""

    def met() -> bool:
        members = {one.metainfo.content.root for one in started.worker.swarm.transfers.values()}
        return len(parked_at(started)) == number and not members & parked_at(started)

    await until(met, 20)


@pytest.fixture
async def peer(service):
    """Another host, which dials again at once."""
    swarm = await Swarm.start(ELSEWHERE, service.swarm_credentials("peer"))
    swarm._opened().apply_settings({"min_reconnect_time": 0})
    yield swarm
    await swarm.close()


async def fetch(peer, started, data, folder) -> bytes:
    transfer = await peer.add(data.metainfo, folder / "fetched", peers=[started.worker.swarm.endpoint])
    async with asyncio.timeout(30):
        await transfer.wait_held()
    await peer.remove(transfer)
    return (folder / "fetched").read_bytes()


async def test_idle_copies_leave_the_session_and_are_held_all_the_same(
    service, start_worker, disk_bytes, until
) -> None:
    data = await publish(service, disk_bytes)
    async with start_worker() as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        assert {one.state for one in started.worker.placements.entries.values()} == {"held"}
        assert parked_at(started) == {data[0].root, data[1].root}  # the last that came stays
        assert set(started.worker.placements._copies.held()) == {one.root for one in data}


async def test_a_parked_copy_makes_no_room_for_others(service, start_worker, disk_bytes, until, home) -> None:
    data, large = await publish(service, disk_bytes), await service.publish(disk_bytes(3 * SIZE, 9), "large")
    async with start_worker(quota=5 * SIZE) as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        service.place(large)
        await service.until_state(large.uid, "failed")
        assert service.placements[large.uid].reason.key == "storage.full"
        assert all((home / "copies" / one.root).read_bytes() == one.content for one in data)
        assert {service.state(one.uid) for one in data} == {"held"}


async def test_a_peer_gets_a_parked_copy_which_the_service_says_is_sought(
    service, start_worker, disk_bytes, until, peer, tmp_path
) -> None:
    data = await publish(service, disk_bytes)
    async with start_worker() as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        service.sought = [data[0].root]
        assert await fetch(peer, started, data[0], tmp_path) == data[0].content
        assert data[0].root not in parked_at(started)
        assert data[1].root in parked_at(started)
        service.sought = []
        await until_parked(until, started, 2)


async def test_a_worker_that_was_killed_reads_nothing_of_what_is_parked(
    service, start_worker, disk_bytes, until, home, peer, tmp_path
) -> None:
    data = await publish(service, disk_bytes)
    async with start_worker() as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        await started.crash()
    for one in data:
        flip(home / "copies" / one.root, SIZE - 5)  # whoever reads the file again sees it
    reports = len(service.history)
    async with start_worker() as started:
        await until(lambda: len(parked_at(started)) == 2, 20)
        await until(lambda: len(started.worker.swarm.transfers) == 1, 20)
        assert {state for _uid, state in service.history[reports:]} <= {"held"}
        wanted = next(one for one in data if one.root in parked_at(started))
        flip(home / "copies" / wanted.root, SIZE - 5)
        service.sought = [wanted.root]
        assert await fetch(peer, started, wanted, tmp_path) == wanted.content


async def test_rot_in_a_parked_copy_is_found_and_mended(service, start_worker, disk_bytes, until, home) -> None:
    data = await publish(service, disk_bytes)
    async with start_worker(scrub_days=QUICK) as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        path = home / "copies" / data[0].root
        flip(path, SIZE - 5)
        await until(lambda: told(started, "changed on the disk"), 30)
        await until(lambda: path.read_bytes() == data[0].content, 30)
        await until_parked(until, started, 2)


async def test_a_parked_file_that_was_cut_is_not_offered_but_mended(
    service, start_worker, disk_bytes, until, home, peer, tmp_path
) -> None:
    data = await publish(service, disk_bytes)
    async with start_worker() as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        path = home / "copies" / data[0].root
        with path.open("r+b") as file:
            file.truncate(1000)
        service.sought = [data[0].root]
        assert await fetch(peer, started, data[0], tmp_path) == data[0].content
        assert told(started, "changed on the disk")
        await until(lambda: path.read_bytes() == data[0].content)


async def test_a_parked_copy_is_lent_to_a_machine_and_dropped_like_any(
    service, start_worker, disk_bytes, until, home
) -> None:
    data = await publish(service, disk_bytes)
    async with start_worker() as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        copies = started.worker.placements._copies
        assert await copies.borrow(data[0].root, "a machine") == home / "copies" / data[0].root
        copies.give_back(data[0].root, "a machine")
        assert data[0].root not in copies.unneeded()
        service.drop(data[0])
        await service.until_state(data[0].uid, "gone")
        assert not (home / "copies" / data[0].root).exists()
        assert parked_at(started) == {data[1].root}


async def test_nothing_is_parked_without_the_services_word_and_nothing_that_is_sought(
    service, start_worker, disk_bytes, until
) -> None:
    data = await publish(service, disk_bytes)
    service.sought = [one.root for one in data]
    async with start_worker() as started:
        await hold(service, data)
        await until(lambda: service.asked_sought > 2)
        assert not parked_at(started)
        await service.down()
        service.sought = []
        await asyncio.sleep(0.3)  # several attempts
        assert not parked_at(started)
        assert len(started.worker.swarm.transfers) == 3
        await service.up()
        await until_parked(until, started, 2)


async def test_a_host_that_is_called_joins_and_dials_whoever_fetches(
    service, start_worker, disk_bytes, until, peer, tmp_path
) -> None:
    data = await publish(service, disk_bytes)
    async with start_worker() as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        asked = service.asked_sought
        transfer = await peer.add(data[0].metainfo, tmp_path / "fetched")  # it knows nobody
        service.sought = [data[0].root]
        service.call(data[0], peer.endpoint)
        async with asyncio.timeout(30):
            await transfer.wait_held()
        assert (tmp_path / "fetched").read_bytes() == data[0].content
        assert service.asked_sought <= asked + 1  # to park another one in its stead, not to find out what to wake
        service.call(data[0])  # a member already
        service.call(data[2], peer.endpoint)
        await until(lambda: not service.calls)
        service.sought = []
        await until_parked(until, started, 2)


async def test_copies_that_are_connected_and_give_nothing_are_parked_too(
    service, start_worker, disk_bytes, until, peer, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(holding, "GIVING_SECONDS", 0.5)
    data = await publish(service, disk_bytes, 4)
    async with start_worker() as started:
        service.sought = [one.root for one in data]
        for number, one in enumerate(data):  # the peer has all of it, and stays connected
            service.place(one, protocol="bittorrent")
            await service.until_state(one.uid, "held")
            transfer = await peer.add(one.metainfo, tmp_path / str(number), peers=[started.worker.swarm.endpoint])
            async with asyncio.timeout(30):
                await transfer.wait_held()
        copies = started.worker.placements._copies
        assert all(copy.visited for copy in copies.held().values())
        service.sought = []
        await until_parked(until, started, 3)
        assert {one.state for one in started.worker.placements.entries.values()} == {"held"}


async def test_a_drop_while_a_copy_leaves_or_joins_leaves_nothing_behind(
    service, start_worker, disk_bytes, until, home
) -> None:
    data = await publish(service, disk_bytes)
    async with start_worker() as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        held = started.worker.placements._copies
        copy = held.held()[data[0].root]
        for one in (copy, copy, copy):  # woken, parked and woken within a moment
            held.parking.call(one.root, None)
            await asyncio.sleep(0)
            if one.root not in held.parking.parked:
                held.parking._park(one)
        service.drop(data[0])
        await service.until_state(data[0].uid, "gone")
        assert not (home / "copies" / data[0].root).exists()
        service.place(data[0], protocol="http")
        await service.until_state(data[0].uid, "held")
        await until_parked(until, started, 2)


async def test_a_worker_that_is_killed_while_it_wakes_a_copy_holds_it_afterwards(
    service, start_worker, disk_bytes, until, peer, tmp_path
) -> None:
    data = await publish(service, disk_bytes)
    async with start_worker() as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        service.sought = [data[0].root]
        service.call(data[0], peer.endpoint)
        await until(lambda: data[0].root not in parked_at(started))
        await started.crash()
    reports = len(service.history)
    async with start_worker() as started:
        await until(lambda: len(started.worker.placements._copies.held()) == 3, 20)
        assert {state for _uid, state in service.history[reports:]} <= {"held"}
        service.sought = [data[0].root]
        assert await fetch(peer, started, data[0], tmp_path) == data[0].content


async def test_a_cap_that_is_set_while_a_copy_is_parked_holds_when_it_is_woken(
    service, start_worker, disk_bytes, until
) -> None:
    data = await publish(service, disk_bytes)
    async with start_worker() as started:
        await hold(service, data)
        await until_parked(until, started, 2)
        await started.worker.limits.change(LimitsChange(upload=50_000, data=[data[0].name]))
        service.sought = [data[0].root]
        service.call(data[0])
        await until(lambda: data[0].root not in parked_at(started))

        def transfer():
            return started.worker.swarm.transfers.get(data[0].metainfo.info_hash)

        await until(lambda: transfer() is not None and transfer().entered)
        assert transfer().handle.upload_limit() == 50_000


async def test_where_no_service_answers_a_peer_that_knocks_gets_what_it_came_for(
    service, start_worker, disk_bytes, until, peer, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(parking, "TURN", 1)
    monkeypatch.setattr(parking, "SETTLING_SECONDS", 0.5)
    monkeypatch.setattr(parking, "TURN_SECONDS", 2.0)
    data = await publish(service, disk_bytes, 4)
    async with start_worker() as started:
        await hold(service, data)
        await until_parked(until, started, 3)
        await service.down()
        assert await fetch(peer, started, data[0], tmp_path) == data[0].content  # the last of three turns
        await until(lambda: len(started.worker.swarm.transfers) <= 2, 20)
        await service.up()


class Idle:
    """A copy that nobody visits."""

    def __init__(self, number: int) -> None:
        self.root, self.parked, self.visited, self.gives = f"{number:064x}", False, False, False

    def park(self, parked: bool, caller: Endpoint | None = None) -> None:
        self.parked = parked


async def test_whoever_is_visited_stays_and_whoever_was_not_for_longest_goes_first(monkeypatch) -> None:
    monkeypatch.setattr(parking, "MOST_IDLE", 2)

    class Around:
        swarm = type("Swarm", (), {})()
        moved = False

    held = Parking(Around())  # type: ignore[arg-type]
    copies = [Idle(number) for number in range(5)]
    copies[0].visited = True
    for copy in copies:
        held.take(copy)

    async def ask() -> set[str]:
        return {copies[1].root}

    held._ask = ask  # type: ignore[method-assign]
    await held._park_surplus()
    assert [copy.parked for copy in copies] == [False, False, True, True, True]
    assert held.parked == {copy.root for copy in copies[2:]}
    held.release(copies[0].root)
    held._wake_those({copies[3].root})
    assert not copies[3].parked
    assert held.parked == {copies[2].root, copies[4].root}
