"""No wake-up is lost: whatever changes, the data that may be decided otherwise by it are looked at.

On the simulated grid, nobody asks the engine to look: after each change time passes, and the copies have to be where
they belong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from bitdew.scheduler import engine as engine_module
from bitdew.scheduler.planner import Plan, Snapshot, plan
from bitdew.scheduler.simulation import Lent, People, SimulatedGrid, SimulatedHost
from bitdew.scheduler.simulation.possessions import GB
from bitdew.scheduler.simulation.service import REPOSITORY

from bitdew.core.ids import Uid
from bitdew.core.states import HostState, PlacementState
from bitdew.wire.models import PlacementReport, SyncRequest

MB = 2**20
SIZE = 10 * MB
HOUR = 3600.0


@pytest.fixture
async def simulated(tmp_path: Path) -> AsyncIterator[SimulatedGrid]:
    async with SimulatedGrid(tmp_path, seed=1) as grid:
        yield grid
        assert grid.audit.violations == []


@pytest.fixture
def people(simulated: SimulatedGrid) -> People:
    return People(simulated)


async def joined(grid: SimulatedGrid, *names: str, **lent: Any) -> list[SimulatedHost]:
    hosts = [grid.join(name, Lent(**lent)) for name in names]
    await grid.advance(5)
    return hosts


async def holders(grid: SimulatedGrid, uid: Uid) -> list[str]:
    """The names of the hosts whose copy is held, by the service's own record and on their disks alike."""
    rows = (await grid.service.known.store.placements_of([uid]))[uid]
    held = sorted(grid.hosts[row.host].name for row in rows if row.state is PlacementState.HELD)
    assert held == sorted(grid.hosts[host].name for host in grid.holders.get(uid, ()))
    return held


async def until_suspect(grid: SimulatedGrid, *hosts: SimulatedHost) -> None:
    for host in hosts:
        grid.fall_silent(host)
    await grid.advance(45)
    assert {grid.service.hosts.get(host.host).state for host in hosts} == {HostState.SUSPECT}


async def say(grid: SimulatedGrid, host: SimulatedHost) -> None:
    """The host tells what it lends now; all that follows is given an hour."""
    host.change()
    grid.talk(host)
    await grid.advance(HOUR)


# Followers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["data:target", "attr:Targets"])
async def test_a_follower_goes_to_a_holder_of_its_target_that_was_silent_when_the_follower_came(
    simulated: SimulatedGrid, people: People, target: str
) -> None:
    _, back = await joined(simulated, "a", "b")
    await people.define("Targets", {"replica": 2})
    await people.add([("target", SIZE, "Targets")])
    await simulated.advance(60)
    await until_suspect(simulated, back)
    [follower] = await people.add([("follower", SIZE, {"affinity": target})])
    await simulated.advance(20)
    assert await holders(simulated, follower) == ["a"]
    simulated.return_(back)
    await simulated.advance(HOUR)
    assert await holders(simulated, follower) == ["a", "b"]


@pytest.mark.parametrize("target", ["data:target", "attr:Targets"])
async def test_a_follower_goes_to_a_holder_of_its_target_whose_label_comes_to_match(
    simulated: SimulatedGrid, people: People, target: str
) -> None:
    await joined(simulated, "a", labels={"site": "x"})
    [other] = await joined(simulated, "b", labels={"site": "y"})
    await people.define("Targets", {"replica": 2})
    await people.add([("target", SIZE, "Targets")])
    [follower] = await people.add([("follower", SIZE, {"affinity": target, "requires": "site=x"})])
    await simulated.advance(60)
    assert await holders(simulated, follower) == ["a"]
    other.lent.labels = {"site": "x"}
    await say(simulated, other)
    assert await holders(simulated, follower) == ["a", "b"]


async def test_a_follower_goes_to_a_holder_of_its_target_whose_free_space_comes_to_match(
    simulated: SimulatedGrid, people: People
) -> None:
    await joined(simulated, "a")
    [crammed] = await joined(simulated, "b", disk=20 * GB, others=12 * GB)
    await people.add([("target", SIZE, {"replica": 2})])
    [follower] = await people.add([("follower", SIZE, {"affinity": "data:target", "requires": "free >= 10GB"})])
    await simulated.advance(60)
    assert await holders(simulated, follower) == ["a"]
    crammed.lent.others = 0
    await say(simulated, crammed)
    assert await holders(simulated, follower) == ["a", "b"]


# Data are given another attribute -------------------------------------------------------------------------------------


async def test_those_who_follow_an_attribute_follow_the_data_that_are_given_it(
    simulated: SimulatedGrid, people: People
) -> None:
    await joined(simulated, "a", "b")
    await people.define("Targets", {"replica": 2})
    [target] = await people.add([("target", SIZE, {"replica": 2, "priority": 1})])
    [follower] = await people.add([("follower", SIZE, {"affinity": "attr:Targets"})])
    await simulated.advance(100)
    assert await holders(simulated, follower) == []
    await people.choose(target, "Targets")  # and none of its copies changes by that
    await simulated.advance(HOUR)
    assert await holders(simulated, follower) == ["a", "b"]


async def test_what_distrib_kept_off_a_host_comes_when_another_datum_leaves_the_attribute(
    simulated: SimulatedGrid, people: People
) -> None:
    await joined(simulated, "a")
    await people.define("Few", {"distrib": 1})
    [first] = await people.add([("first", SIZE, "Few")])
    await simulated.advance(60)
    [second] = await people.add([("second", SIZE, "Few")])
    await simulated.advance(60)
    assert await holders(simulated, second) == []
    await people.choose(first, {"replica": 1})
    await simulated.advance(HOUR)
    assert await holders(simulated, second) == ["a"]


async def test_one_of_two_data_moves_when_the_other_comes_under_an_attribute_that_allows_a_host_only_one(
    simulated: SimulatedGrid, people: People
) -> None:
    await joined(simulated, "a")
    await people.define("Few", {"distrib": 1})
    [first] = await people.add([("first", SIZE, {"replica": 1})])
    [second] = await people.add([("second", SIZE, "Few")])
    await simulated.advance(60)
    await joined(simulated, "b")
    await people.choose(first, "Few")
    await simulated.advance(HOUR)
    assert sorted(await holders(simulated, first) + await holders(simulated, second)) == ["a", "b"]


# Blocked by a silent host ---------------------------------------------------------------------------------------------


async def test_a_surplus_copy_on_a_silent_host_goes_when_the_host_returns(
    simulated: SimulatedGrid, people: People
) -> None:
    _, back = await joined(simulated, "a", "b")
    await people.define("Kept", {"replica": 2})
    [datum] = await people.add([("datum", SIZE, "Kept")])
    await simulated.advance(300)
    await until_suspect(simulated, back)
    await people.define("Kept", {"replica": 1})
    simulated.return_(back)
    await simulated.advance(HOUR)
    assert len(await holders(simulated, datum)) == 1


async def test_a_displaced_copy_on_a_silent_host_goes_when_the_host_returns(
    simulated: SimulatedGrid, people: People
) -> None:
    await joined(simulated, "a", labels={"site": "x"})
    [back] = await joined(simulated, "b", labels={"site": "y"})
    await people.define("Kept", {"replica": 2})
    [datum] = await people.add([("datum", SIZE, "Kept")])
    await simulated.advance(300)
    await until_suspect(simulated, back)
    await people.define("Kept", {"replica": 1, "requires": "site=x"})
    simulated.return_(back)
    await simulated.advance(HOUR)
    assert await holders(simulated, datum) == ["a"]


async def test_copies_on_silent_hosts_are_spread_when_the_hosts_return(
    simulated: SimulatedGrid, people: People
) -> None:
    silent = await joined(simulated, "a", "b", labels={"site": "x"})
    await people.define("Kept", {"replica": 2})
    [datum] = await people.add([("datum", SIZE, "Kept")])
    await simulated.advance(300)
    await joined(simulated, "c", labels={"site": "y"})
    await until_suspect(simulated, *silent)
    await people.define("Kept", {"replica": 2, "spread": "site"})
    for host in silent:
        simulated.return_(host)
    await simulated.advance(HOUR)
    held = await holders(simulated, datum)
    assert len(held) == 2
    assert "c" in held


# Room -----------------------------------------------------------------------------------------------------------------


async def test_a_lost_copy_makes_room_for_what_waits(simulated: SimulatedGrid, people: People) -> None:
    [host] = await joined(simulated, "a", quota=15 * MB)
    [lost] = await people.add([("lost", SIZE, {})])
    await simulated.advance(60)
    [waits] = await people.add([("waits", SIZE, {"priority": 5})])
    await simulated.advance(60)
    assert await holders(simulated, waits) == []
    copy = host.copies.pop(lost)
    report = PlacementReport(uid=lost, root=copy.root, state=PlacementState.LOST, generation=copy.generation)
    request = SyncRequest(boot=host.boot, generation=host.generation, placements=[report])
    simulated.unlucky(host)
    await simulated.service.sync.sync(host.host, request, REPOSITORY)
    await simulated.advance(HOUR)
    assert await holders(simulated, waits) == ["a"]


async def test_a_host_with_little_room_is_believed_when_it_tells_of_some_more(
    simulated: SimulatedGrid, people: People
) -> None:
    [host] = await joined(simulated, "a", quota=GB, disk=160 * MB, others=60 * MB)
    await people.add([("first", 50 * MB, {})])
    await simulated.advance(60)
    [second] = await people.add([("second", 50 * MB, {})])
    await simulated.advance(60)
    assert await holders(simulated, second) == []
    host.lent.others = 0  # less than the step that is worth telling of a large disk
    await say(simulated, host)
    assert await holders(simulated, second) == ["a"]


class CountingPlanner:
    """The planner; it counts the data that it is asked about."""

    def __init__(self) -> None:
        self.data = 0

    def __call__(self, snapshot: Snapshot, now: Any) -> Plan:
        self.data += len(snapshot.data)
        return plan(snapshot, now)


async def test_free_space_that_shrinks_makes_nobody_look_at_what_waits_for_a_host(
    simulated: SimulatedGrid, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    [host] = await joined(simulated, "a")
    await people.add([(f"open{number}", MB, {"replica": 2}) for number in range(100)])
    await simulated.advance(1000)
    planner = CountingPlanner()
    monkeypatch.setattr(engine_module, "plan", planner)
    for _ in range(5):
        host.lent.others += 100 * MB
        host.change()
        simulated.talk(host)
        await simulated.advance(1)
    told = simulated.service.engine.books.index[host.host].facts.resources.free
    assert told == host.free  # it was heard
    assert planner.data == 0
    host.lent.others = 0
    host.change()
    simulated.talk(host)
    await simulated.advance(1)
    assert planner.data >= 100
