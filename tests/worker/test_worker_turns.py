"""Many data that are wanted at once: so many come at a time as make progress, and the others wait for their turn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from bitdew.worker import turns
from bitdew.worker.turns import LARGE, Lane, Turn, Turns, lane_for
from bitdew.worker.way import Way

SIZE = 200_000


@dataclass
class Time:
    """A clock that a test moves."""

    now_: float = 100.0
    sleepers: list[tuple[float, asyncio.Future[None]]] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now_

    async def sleep(self, seconds: float) -> None:
        waits = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now_ + seconds, waits))
        await waits

    async def pass_(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            await settle()
            self.now_ += 1
            for sleeper in [one for one in self.sleepers if one[0] <= self.now_]:
                self.sleepers.remove(sleeper)
                if not sleeper[1].done():
                    sleeper[1].set_result(None)
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Around:
    """What the turns need of a host."""

    def __init__(self) -> None:
        self.clock = Time()
        self.bandwidth = type("Bandwidth", (), {"stopped": False})()
        self.told: list[set[str]] = []
        self.keeper = type("Keeper", (), {"copies_wait": lambda _, roots: self.told.append(set(roots))})()


class Fetch:
    """Somebody who takes a turn, and has it until told to end."""

    def __init__(self, of: Turns, root: str, lane: Lane = Lane.SMALL, priority: int = 0) -> None:
        self.root, self.turn, self.waited = root, None, -1
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._run(of, lane, priority))
        self.turn: Turn | None

    async def _run(self, of: Turns, lane: Lane, priority: int) -> None:
        async def wait(others: int) -> None:
            self.waited = others

        async with of.take(self.root, lane, priority=priority, wait=wait) as self.turn:
            await self._end.wait()
        self.turn = None

    async def end(self) -> None:
        self._end.set()
        await self.task


@pytest.fixture
def around() -> Around:
    return Around()


@pytest.fixture
async def two(monkeypatch, around):
    """The turns of a host that fetches two at a time in each lane."""
    monkeypatch.setattr(turns, "MOST", dict.fromkeys(Lane, 2))
    made = Turns(around)
    running = asyncio.create_task(made.run())
    made.fetches = []
    yield made
    running.cancel()
    for fetch in made.fetches:
        fetch.task.cancel()
    await asyncio.gather(running, *(fetch.task for fetch in made.fetches), return_exceptions=True)


async def begin(of: Turns, *names: str, lane: Lane = Lane.SMALL, priority: int = 0) -> list[Fetch]:
    """Have these ask for a turn, one after the other."""
    begun = []
    for name in names:
        begun.append(Fetch(of, name, lane, priority))
        await settle()
    of.fetches += begun
    return begun


def having(fetches: list[Fetch]) -> str:
    """The names of those who have their turn."""
    return "".join(fetch.root for fetch in fetches if fetch.turn is not None)


async def test_so_many_come_at_a_time_and_the_others_in_the_order_in_which_they_asked(two):
    all_ = await begin(two, "a", "b", "c", "d")
    assert having(all_) == "ab"
    assert [one.waited for one in all_] == [-1, -1, 2, 2]
    assert two.waiting == {"c", "d"}
    await all_[1].end()
    await settle()
    assert having(all_) == "ac"
    await all_[0].end()
    await settle()
    assert having(all_) == "cd"
    assert two.waiting == set()


async def test_lanes_do_not_wait_for_each_other(two):
    large = await begin(two, "a", "b", "c", lane=Lane.LARGE)
    small = await begin(two, "d", "e", "f", lane=Lane.SMALL)
    assert having(large + small) == "abde"


async def test_the_higher_priority_comes_first_and_what_a_machine_waits_for_before_all(two):
    all_ = await begin(two, "a", "b", "c", "d")
    all_ += await begin(two, "e", priority=5)
    two.hurry(["d"])
    await settle()
    assert [*having(all_)] == ["a", "b", "d"]  # beside the others: it has not to wait for them
    await all_[0].end()
    await settle()
    assert having(all_) == "bde"


async def test_what_a_machine_waits_for_begins_at_once_if_it_is_ordered_later(two):
    two.hurry(["z"])
    all_ = await begin(two, "a", "b", "c", "z")
    assert having(all_) == "abz"
    two.forget("z")
    later = await begin(two, "z")
    assert having(later) == ""


async def test_whoever_waits_is_gone_at_once_when_cancelled(two):
    all_ = await begin(two, "a", "b", "c", "d")
    all_[2].task.cancel()
    await settle()
    assert all_[2].task.cancelled()
    assert two.waiting == {"d"}
    await all_[0].end()
    await settle()
    assert having(all_) == "bd"


async def test_one_that_is_cancelled_as_its_turn_comes_takes_no_place(two):
    all_ = await begin(two, "a", "b", "c", "d")
    all_[0]._end.set()
    all_[2].task.cancel()  # in the same step
    await settle()
    assert having(all_) == "bd"


async def test_who_makes_no_progress_gives_way_and_those_who_do_stay(two, around):
    all_ = await begin(two, "a", "b", "c", "d", "e")
    for _ in range(11):
        all_[0].turn.moved()
        await around.clock.pass_(1)
    assert having(all_) == "abc"  # b is silent, and stays beside the others
    for _ in range(11):
        all_[0].turn.moved()
        await around.clock.pass_(1)
    assert having(all_) == "abcd"
    assert not any(one.turn.over.is_set() for one in all_[:4])
    for _ in range(11):
        all_[0].turn.moved()
        await around.clock.pass_(1)
    assert all_[1].turn.over.is_set()  # three are silent, and it has been for longest
    assert not any(one.turn.over.is_set() for one in (all_[0], all_[2], all_[3]))


async def test_who_is_heard_again_counts_again_and_one_that_has_everything_is_left_alone(two, around):
    all_ = await begin(two, "a", "b", "c", "d", "e", "f", "g")
    all_[0].turn.settle()
    await around.clock.pass_(12)
    assert having(all_) == "abc"
    all_[1].turn.moved()
    await all_[2].end()
    await settle()
    assert having(all_) == "ab"
    await around.clock.pass_(60)
    assert not all_[0].turn.over.is_set()


async def test_nobody_loses_a_turn_where_nobody_waits_or_nothing_may_be_moved(two, around):
    all_ = await begin(two, "a", "b")
    await around.clock.pass_(100)
    assert not any(one.turn.over.is_set() for one in all_)
    assert not around.clock.sleepers  # and nothing looks
    around.bandwidth.stopped = True
    all_ += await begin(two, "c")
    await around.clock.pass_(30)
    assert having(all_) == "ab"


async def test_the_service_is_told_who_still_waits_as_long_as_others_make_progress(two, around):
    all_ = await begin(two, "a", "b", "c")
    for one in all_[:2]:
        one.turn.settle()
    await around.clock.pass_(41)
    assert around.told == [{"c"}]  # that a turn was given is progress
    await around.clock.pass_(100)
    assert len(around.told) == 1
    all_[0].turn.moved()
    await around.clock.pass_(2)
    assert len(around.told) == 2


def test_lanes_go_by_what_a_fetch_costs():
    assert lane_for(Way.HTTP, 10 * LARGE) is Lane.HTTP
    assert lane_for(Way.SWARM, LARGE - 1) is Lane.SMALL
    assert lane_for(Way.SWARM, LARGE) is Lane.LARGE


# Through the worker ---------------------------------------------------------------------------------------------------


@pytest.fixture
def one_at_a_time(monkeypatch):
    monkeypatch.setattr(turns, "MOST", dict.fromkeys(Lane, 1))


def running(started) -> int:
    return sum(started.worker.placements._copies.turns.running(lane) for lane in Lane)


async def test_many_orders_are_carried_out_a_few_at_a_time(service, start_worker, disk_bytes, until, one_at_a_time):
    data = [await service.publish(disk_bytes(SIZE, seed), f"datum{seed}") for seed in range(1, 7)]
    async with start_worker() as started:
        for one in data:
            service.place(one, protocol="bittorrent")
        most = 0

        def all_held() -> bool:
            nonlocal most
            most = max(most, running(started))
            return all(service.state(one.uid) == "held" for one in data)

        await until(all_held, 60)
        assert most == 1
        assert {reason.key for told in service.reasons.values() for reason in told} == {"copy.waiting"}
        assert all(service.placements[one.uid].reason is None for one in data)


async def test_what_does_not_come_does_not_keep_others_waiting_and_can_be_dropped(
    service, start_worker, disk_bytes, until, one_at_a_time, monkeypatch
):
    monkeypatch.setattr(turns, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(turns, "LOOK_SECONDS", 0.1)
    nowhere = [await service.publish(disk_bytes(SIZE, seed), f"lost{seed}") for seed in range(1, 4)]
    there = await service.publish(disk_bytes(SIZE, 9), "there")
    service.busy = 10_000  # no help over HTTPS
    async with start_worker() as started:
        for one in nowhere:
            await service.repository.remove(service.repository.transfers[one.metainfo.info_hash])
            service.place(one, protocol="bittorrent")
        await until(lambda: running(started) == 2, 20)  # one silent, and one that is not yet
        service.place(there, protocol="bittorrent")
        await service.until_state(there.uid, "held", seconds=60)
        assert {service.state(one.uid) for one in nowhere} <= {"assigned", "fetching"}
        waiting = next(one for one in nowhere if one.root in started.worker.placements._copies.turns.waiting)
        service.drop(waiting)
        await service.until_state(waiting.uid, "gone")
