"""Faults between storing and counting, and what happens meanwhile: nothing is lost, counted twice or kept for ever.

On the simulated grid one call of the store fails, or something else happens during it; what follows has to be what
would have followed without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bitdew.catalog.data_store import Datum
from bitdew.catalog.feed import Told
from bitdew.scheduler import engine as engine_module
from bitdew.scheduler.engine import DEFECT_PAUSE
from bitdew.scheduler.planner import Plan, PlannerSettings, Snapshot, plan
from bitdew.scheduler.simulation import Lent, People, SimulatedGrid, SimulatedHost
from bitdew.scheduler.simulation.people import OPERATOR
from bitdew.scheduler.simulation.possessions import GB, Said
from bitdew.scheduler.simulation.service import REPOSITORY
from bitdew.scheduler.store import SchedulerStore

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import HostState, PlacementState
from bitdew.testing.grid import Grid
from bitdew.wire.models import SyncReply, SyncRequest

MB = 2**20
SIZE = 10 * MB
HOUR = 3600.0
FEW_REPAIRS = PlannerSettings(repairs_per_round=4)


class EnduringGrid(SimulatedGrid):
    """A grid whose parts endure a database that fails for a moment, as the loops of a service and a worker do."""

    async def _ask(self, host: SimulatedHost, said: Said) -> SyncReply | None:
        try:
            return await super()._ask(host, said)
        except BitDewError as fault:
            if fault.key != "storage.failed":
                raise
            self.later(5, lambda: self.talk(host))
            return None

    async def _turn(self) -> bool:
        try:
            return await super()._turn()
        except BitDewError as fault:
            if fault.key != "storage.failed":
                raise
            await self.service.engine._recover()
            self._call()
            return True


class FailsOnce:
    """In place of a method: its next call fails, before or after it did its work; those that follow do not."""

    def __init__(self, does: Callable[..., Awaitable[Any]], *, after: bool) -> None:
        self._does = does
        self._after = after
        self.failed = False

    async def __call__(self, *args: Any, **named: Any) -> Any:
        if self.failed:
            return await self._does(*args, **named)
        self.failed = True
        if self._after:
            await self._does(*args, **named)
        raise error("storage.failed", "The database can't do this")


@pytest.fixture
def fails_once(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FailsOnce]:
    def arm(of: object, name: str, *, after: bool = False) -> FailsOnce:
        fault = FailsOnce(getattr(of, name), after=after)
        monkeypatch.setattr(of, name, fault)
        return fault

    return arm


@pytest.fixture
async def simulated(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[EnduringGrid]:
    async with EnduringGrid(tmp_path, seed=1, planner=getattr(request, "param", None)) as grid:
        yield grid
        assert grid.audit.violations == []


@pytest.fixture
def people(simulated: EnduringGrid) -> People:
    return People(simulated)


async def joined(grid: SimulatedGrid, *names: str, **lent: Any) -> list[SimulatedHost]:
    hosts = [grid.join(name, Lent(**lent)) for name in names]
    await grid.advance(5)
    return hosts


async def holders(grid: SimulatedGrid, uid: Uid) -> list[str]:
    rows = (await grid.service.known.store.placements_of([uid]))[uid]
    return sorted(grid.hosts[row.host].name for row in rows if row.state is PlacementState.HELD)


async def held_at(grid: SimulatedGrid, data: list[Uid], name: str) -> int:
    return len([uid for uid in data if name in await holders(grid, uid)])


async def miscounted(grid: SimulatedGrid) -> list[object]:
    """Where the engine's books say other than the store."""
    books, store = grid.service.engine.books, grid.service.known.store
    totals = await store.host_totals()
    wrong: list[object] = []
    for host in grid.hosts.values():
        row, stored = books.index.get(host.host), totals.get(host.host)
        counted = (row.committed, row.transfers) if row else (0, 0)
        if counted != ((stored.committed, stored.transfers) if stored else (0, 0)):
            wrong.append((host.name, counted, stored))
    census = {(attribute, host): (taken, held) for attribute, host, taken, held in await store.census()}
    counted_of = {(attribute, host): (taken, held) for attribute, host, taken, held in books.census.counts()}
    pairs = sorted(census.keys() | counted_of.keys())
    differing = [pair for pair in pairs if census.get(pair, (0, 0)) != counted_of.get(pair, (0, 0))]
    return wrong + [(pair, counted_of.get(pair), census.get(pair)) for pair in differing]


def word_of(host: SimulatedHost) -> SyncRequest:
    """A sync that says nothing, as a host sends when its poll ended."""
    return SyncRequest(boot=host.boot, generation=host.generation, wait=0)


# Reports --------------------------------------------------------------------------------------------------------------


async def test_a_host_whose_return_could_not_be_stored_is_alive_as_soon_as_it_is_heard_again(
    simulated: EnduringGrid, people: People, fails_once
) -> None:
    [host] = await joined(simulated, "a")
    simulated.fall_silent(host)
    await simulated.advance(45)
    service = simulated.service
    assert service.hosts.get(host.host).state is HostState.SUSPECT
    fails_once(service.known.store, "record")
    with pytest.raises(BitDewError, match=r"storage\.failed"):
        await service.sync.sync(host.host, word_of(host), REPOSITORY)
    await service.sync.sync(host.host, word_of(host), REPOSITORY)
    [stored] = await service.known.store.hosts([host.host])
    known, planned = service.hosts.get(host.host), service.engine.books.index[host.host]
    assert {stored.state, known.state, planned.state} == {HostState.ALIVE}
    host.online = True
    [datum] = await people.add([("datum", SIZE, {})])
    await simulated.advance(60)
    assert await holders(simulated, datum) == ["a"]


async def test_what_follows_from_a_report_is_done_though_reading_for_that_failed_when_it_was_stored(
    simulated: EnduringGrid, people: People, fails_once
) -> None:
    await joined(simulated, "a", "b")
    await people.define("Targets", {"replica": 1})
    [target] = await people.add([("target", SIZE, "Targets")])
    [follower] = await people.add([("follower", SIZE, {"affinity": "attr:Targets"})])
    fault = fails_once(simulated.service.known.data, "with_attribute")
    await simulated.advance(HOUR)
    assert fault.failed
    held = await holders(simulated, target)
    assert len(held) == 1
    assert await holders(simulated, follower) == held
    assert await miscounted(simulated) == []


async def test_a_host_that_changed_is_offered_what_waits_though_learning_of_the_change_failed(
    simulated: EnduringGrid, people: People, fails_once
) -> None:
    [host] = await joined(simulated, "a")
    [waits] = await people.add([("waits", MB, {"requires": "site=x"})])
    await simulated.advance(50)
    fault = fails_once(simulated.service.known.store, "data_on")
    host.lent.labels = {"site": "x"}
    host.change()
    simulated.talk(host)
    await simulated.advance(HOUR)
    assert fault.failed
    assert await holders(simulated, waits) == ["a"]
    assert simulated.service.engine.books.index[host.host].facts.labels == {"site": "x"}
    assert await miscounted(simulated) == []


async def test_the_report_of_one_host_that_can_not_be_stored_harms_no_other(
    simulated: EnduringGrid, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await joined(simulated, "a", "b")
    store = simulated.service.known.store
    record = store.record

    async def refusing(**what: Any) -> None:
        if any(one.host == bad.host for one in what.get("hosts", ())):
            raise ValueError("a figure that no database takes")
        await record(**what)

    bad.lent.labels = good.lent.labels = {"site": "x"}
    for host in (bad, good):
        host.change()
    words = [host.say().request for host in (bad, good)]
    asked = [(bad.host, words[0]), (good.host, words[1])]
    with monkeypatch.context() as patch:
        patch.setattr(store, "record", refusing)
        answers = await asyncio.gather(
            *(simulated.service.sync.sync(host, word, REPOSITORY) for host, word in asked), return_exceptions=True
        )
    assert isinstance(answers[0], Exception)
    assert isinstance(answers[1], SyncReply)
    stored = {record.host: record.report.labels for record in await store.hosts()}
    assert stored == {bad.host: {}, good.host: {"site": "x"}}
    simulated.talk(bad)  # its word can be stored now
    [datum] = await people.add([("datum", MB, {"replica": 2, "requires": "site=x"})])
    await simulated.advance(60)
    assert await holders(simulated, datum) == ["a", "b"]


# Counting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", ["host_totals", "machines_on", "census"])
async def test_hosts_that_could_not_be_counted_anew_are_counted_the_next_time(
    simulated: EnduringGrid, people: People, fails_once, read: str
) -> None:
    [host] = await joined(simulated, "a", quota=GB)
    data = await people.add([(f"datum{number}", 200 * MB, {}) for number in range(4)])
    await simulated.advance(600)
    store = simulated.service.known.store
    [copy] = (await store.placements_of([data[0]]))[data[0]]
    lost = replace(copy, state=PlacementState.LOST)  # as another process stored it
    await store.record(now=simulated.clock.now(), placements=[lost], told=Told(data=(data[0],)))
    fault = fails_once(store, read)
    simulated.service.engine.books.mark_stale([host.host])
    simulated.service.engine.look_at(data[1])
    await simulated.settle()
    assert fault.failed
    assert simulated.service.engine.books.index[host.host].committed == 800 * MB
    assert await miscounted(simulated) == []
    [large] = await people.add([("large", 900 * MB, {})])
    await simulated.advance(60)
    assert await holders(simulated, large) == []


async def test_an_attribute_whose_copies_could_not_be_counted_anew_is_counted_the_next_time(
    simulated: EnduringGrid, people: People, fails_once
) -> None:
    await joined(simulated, "a")
    few = await people.define("Few", {"distrib": 1})
    [first] = await people.add([("first", SIZE, {})])
    await simulated.advance(60)
    fault = fails_once(simulated.service.known.store, "census")
    await people.choose(first, "Few")
    [second] = await people.add([("second", SIZE, "Few")])
    await simulated.advance(600)
    assert fault.failed
    assert simulated.service.engine.books.census.taken(few, next(iter(simulated.hosts))) == 1
    assert await miscounted(simulated) == []
    assert (await holders(simulated, first), await holders(simulated, second)) == (["a"], [])


async def test_a_host_that_another_process_changed_while_a_plan_was_stored_is_counted_anew_after_that(
    simulated: EnduringGrid, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    [host] = await joined(simulated, "a")
    [held] = await people.add([("held", SIZE, {})])
    await simulated.advance(60)
    store, books = simulated.service.known.store, simulated.service.engine.books
    record, changed = store.record, list[Uid]()

    async def meanwhile(**what: Any) -> None:
        await record(**what)
        if what.get("orders") and not changed:
            changed.append(held)
            [copy] = (await store.placements_of([held]))[held]
            await record(
                now=simulated.clock.now(),
                placements=[replace(copy, state=PlacementState.LOST)],
                told=Told(data=(held,)),
            )
            books.mark_stale([host.host])

    monkeypatch.setattr(store, "record", meanwhile)
    await people.add([("other", SIZE, {})])
    assert changed
    assert books.index[host.host].committed == SIZE
    assert await miscounted(simulated) == []
    simulated.unlucky(host)


# Orders ---------------------------------------------------------------------------------------------------------------


async def test_orders_are_carried_out_though_what_follows_from_them_could_not_be_read(
    simulated: EnduringGrid, people: People, fails_once
) -> None:
    await joined(simulated, "a", "b")
    await people.define("Kept", {"replica": 2})
    [datum] = await people.add([("datum", SIZE, "Kept")])
    await simulated.advance(300)
    fault = fails_once(simulated.service.engine.lookout, "copies_changed")
    await people.define("Kept", {"replica": 1})
    await simulated.advance(HOUR)
    assert fault.failed
    assert len(await holders(simulated, datum)) == 1
    assert len(simulated.holders[datum]) == 1
    assert await miscounted(simulated) == []


async def test_orders_that_were_stored_though_storing_them_failed_are_delivered(
    grid: Grid, make_host, add_disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await make_host()
    record, lied = SchedulerStore.record, asyncio.Event()

    async def lying(store: SchedulerStore, **what: Any) -> None:
        await record(store, **what)
        if what.get("orders") and not lied.is_set():
            lied.set()
            raise error("storage.failed", "The connection broke before the answer came")

    monkeypatch.setattr(SchedulerStore, "record", lying)
    disk = await add_disk()
    async with asyncio.timeout(10):
        await lied.wait()
    grid.clock.skip(DEFECT_PAUSE + 1)
    order = await host.order(OrderKind.PLACE)
    assert order.subject == disk.uid
    assert await host.idle()  # and it was not planned a second time


# Hosts ----------------------------------------------------------------------------------------------------------------


async def test_a_ban_that_could_not_be_stored_can_be_asked_for_again_and_is_done_then(
    simulated: EnduringGrid, people: People, fails_once
) -> None:
    await joined(simulated, "a", "b")
    [datum] = await people.add([("datum", SIZE, {"ft": True})])
    await simulated.advance(100)
    [name] = await holders(simulated, datum)
    host = next(host for host in simulated.hosts.values() if host.name == name)
    service = simulated.service
    fails_once(service.known.store, "save_hosts")
    with pytest.raises(BitDewError, match=r"storage\.failed"):
        await people.ban(host.host)
    assert service.hosts.get(host.host).state is HostState.ALIVE
    await people.ban(host.host)
    simulated.talk(host)
    await simulated.advance(2 * HOUR)
    [stored] = await service.known.store.hosts([host.host])
    known, planned = service.hosts.get(host.host), service.engine.books.index[host.host]
    assert {stored.state, known.state, planned.state} == {HostState.BANNED}
    assert host.shut_out
    assert len(await holders(simulated, datum)) == 2


async def test_a_host_that_is_heard_while_it_is_stored_that_it_is_silent_is_alive_again_with_its_next_word(
    simulated: EnduringGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    [host] = await joined(simulated, "a")
    service = simulated.service
    store, heard = service.known.store, list[bool]()
    save_states = store.save_states

    async def slow(*what: Any) -> None:
        heard.append(service.hosts.hear(host.host, host.generation))
        await save_states(*what)

    host.online = False
    simulated.clock.move_to(simulated.clock.micros + 40_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(store, "save_states", slow)
        await service.engine.judge_hosts()
    assert heard == [True]
    await service.sync.sync(host.host, word_of(host), REPOSITORY)
    [stored] = await store.hosts([host.host])
    known, planned = service.hosts.get(host.host), service.engine.books.index[host.host]
    assert {stored.state, known.state, planned.state} == {HostState.ALIVE}


# Lives ----------------------------------------------------------------------------------------------------------------


async def test_a_life_that_is_prolonged_after_its_end_was_planned_goes_on(
    simulated: EnduringGrid, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    await joined(simulated, "a")
    [datum] = await people.add([("datum", SIZE, {"lifetime": "1h"})])
    service = simulated.service
    planned = list[str]()

    async def late(ending: Datum, why: str) -> bool:
        planned.append(why)
        await service.data.choose(ending.data.uid, {"lifetime": "30d"}, OPERATOR)
        return await service.data.end(ending, why)

    monkeypatch.setattr(service.engine, "end", late)
    await simulated.advance(2 * HOUR)
    assert len(planned) == 1
    found = (await service.known.data.get([datum]))[datum]
    assert found.alive
    assert found.ends == found.data.created + timedelta(days=30)
    assert await holders(simulated, datum) == ["a"]


async def test_a_machine_on_a_banned_host_does_not_keep_a_life_from_ending(
    simulated: EnduringGrid, people: People
) -> None:
    [host] = await joined(simulated, "a")
    disk = await people.add_disk("disk", SIZE, {"lifetime": "1h"})
    await simulated.advance(60)
    await people.deploy(disk, 1, GB)
    await simulated.advance(60)
    assert simulated.running(disk)
    await people.ban(host.host)
    await simulated.advance(2 * HOUR)
    assert not (await simulated.service.known.data.get([disk]))[disk].alive


# Repairs and priority -------------------------------------------------------------------------------------------------


class RecordingPlanner:
    """The planner; it counts the data that it is asked about."""

    def __init__(self) -> None:
        self.data = 0

    def __call__(self, snapshot: Snapshot, now: Any) -> Plan:
        self.data += len(snapshot.data)
        return plan(snapshot, now)


@pytest.mark.parametrize("simulated", [FEW_REPAIRS], indirect=True)
async def test_repairs_that_are_begun_a_few_at_a_time_serve_the_higher_priority_first(
    simulated: EnduringGrid, people: People
) -> None:
    [lost] = await joined(simulated, "a", quota=10 * GB)
    low = await people.add([(f"low{number}", SIZE, {"ft": True}) for number in range(60)])
    high = await people.add([(f"high{number}", SIZE, {"ft": True, "priority": 100}) for number in range(10)])
    await simulated.advance(600)
    await joined(simulated, "b", quota=6 * SIZE)
    simulated.fall_silent(lost, for_good=True)
    await simulated.advance(HOUR)
    assert (await held_at(simulated, low, "b"), await held_at(simulated, high, "b")) == (0, 6)


@pytest.mark.parametrize("simulated", [FEW_REPAIRS], indirect=True)
async def test_repairs_that_wait_for_their_turn_are_not_all_planned_again_each_time(
    simulated: EnduringGrid, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = await joined(simulated, "a", "b")
    data = await people.add([(f"datum{number}", MB, {"ft": True}) for number in range(400)])
    await simulated.advance(1000)
    lost = max(hosts, key=lambda host: len(host.copies))
    missing = len(lost.copies)
    assert missing >= 150
    simulated.fall_silent(lost, for_good=True)
    await simulated.advance(500)
    assert simulated.service.engine.agenda.held_back > 50
    planner = RecordingPlanner()
    monkeypatch.setattr(engine_module, "plan", planner)
    await simulated.advance(60)
    assert 24 <= planner.data <= 4 * 24  # as many as are begun, and each once more when it has arrived
    await simulated.advance(HOUR)
    left = next(host for host in hosts if host is not lost)
    assert await held_at(simulated, data, left.name) == len(data)


async def test_after_a_restart_the_higher_priority_is_served_first(simulated: EnduringGrid, people: People) -> None:
    [host] = await joined(simulated, "a", quota=MB)
    low = await people.add([(f"low{number}", SIZE, {}) for number in range(400)])
    high = await people.add([(f"high{number}", SIZE, {"priority": 100}) for number in range(20)])
    store, record = simulated.service.known.store, simulated.service.hosts.get(host.host)
    host.lent.quota = 18 * SIZE  # known when the service starts: nobody offers it anything for a change
    await store.save_hosts([replace(record, report=record.report.model_copy(update={"quota": 18 * SIZE}))])
    await simulated.restart_service()
    await simulated.advance(1000)
    assert (await held_at(simulated, low, "a"), await held_at(simulated, high, "a")) == (0, 18)


# Progress -------------------------------------------------------------------------------------------------------------


async def test_nothing_is_remembered_of_the_progress_of_copies_that_arrived(
    simulated: EnduringGrid, people: People
) -> None:
    await joined(simulated, "a")
    data = await people.add([(f"datum{number}", 20 * MB, {}) for number in range(40)])
    progress = simulated.service.known.progress
    seen = 0

    def look(_seconds: float) -> None:
        nonlocal seen
        seen = max(seen, len(progress._fresh))

    await simulated.advance(1000, look)
    assert seen > 0  # they were on their way long enough to tell how far they were
    assert await held_at(simulated, data, "a") == len(data)
    assert (len(progress._fresh), len(progress._steps)) == (0, 0)
