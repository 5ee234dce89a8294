"""The audit and the reckoning find what is wrong: each planted fault is told by its rule, and a sound grid by none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from bitdew.scheduler import engine as engine_module
from bitdew.scheduler.engine import Engine
from bitdew.scheduler.planner import Action, Drop, Expire, Place, Plan, Snapshot, plan
from bitdew.scheduler.simulation import Lent, People, SimulatedGrid, SimulatedHost
from bitdew.scheduler.simulation.possessions import GB
from bitdew.scheduler.simulation.reckoning import shortcomings

from bitdew.core.ids import Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import PlacementState
from bitdew.wire.models import Order, SyncReply

HOUR = 3600.0
Planting = Callable[[SimulatedGrid, Uid], list[Action]]


@pytest.fixture
async def grid(tmp_path: Path) -> AsyncIterator[SimulatedGrid]:
    async with SimulatedGrid(tmp_path, seed=1) as grid:
        yield grid


async def settled(grid: SimulatedGrid, **wishes: Any) -> Uid:
    """A datum of 2 GB that is where it should be, on a grid of a large and a small host."""
    grid.join("large", Lent(quota=10 * GB))
    grid.join("small", Lent(quota=1 * GB, labels={"site": "lyon"}))
    await grid.settle()
    (uid,) = await People(grid).add([("datum", 2 * GB, wishes)])
    await grid.advance(HOUR)
    return uid


def named(grid: SimulatedGrid, name: str) -> SimulatedHost:
    return next(host for host in grid.hosts.values() if host.name == name)


def place(grid: SimulatedGrid, uid: Uid, name: str) -> Place:
    return Place(uid, named(grid, name).host, grid.clock.now(), "planted")


def drop(grid: SimulatedGrid, uid: Uid, name: str) -> Drop:
    return Drop(uid, named(grid, name).host, "planted")


@pytest.mark.parametrize(
    ("wishes", "planting", "rule"),
    [
        ({}, lambda g, u: [drop(g, u, "large")], "dropped the last verified copy"),
        ({"pin": ["large"]}, lambda g, u: [drop(g, u, "large")], "dropped a pinned copy"),
        ({}, lambda g, u: [drop(g, u, "large"), drop(g, u, "large")], "dropped a copy that is not recorded"),
        ({}, lambda g, u: [place(g, u, "small")], "over quota"),
        ({}, lambda g, u: [place(g, u, "small")], "placed twice"),
        ({"requires": "not site=lyon"}, lambda g, u: [place(g, u, "small")], "placed on an ineligible host: requires"),
        ({"distrib": 1}, lambda g, u: [place(g, u, "large")], "placed on an ineligible host: distrib"),
        ({"lifetime": "2h"}, lambda _, u: [Expire(u, "planted")], "a life was ended that was not over"),
    ],
)
async def test_a_planted_fault_is_told_by_its_rule(
    grid: SimulatedGrid, monkeypatch: pytest.MonkeyPatch, wishes: dict[str, Any], planting: Planting, rule: str
) -> None:
    uid = await settled(grid, **wishes)
    assert grid.audit.violations == []
    planted = planting(grid, uid)

    def faulty(snapshot: Snapshot, now: datetime) -> Plan:
        found, planted[:] = [*planted], []
        return replace(plan(snapshot, now), actions=tuple(found))

    monkeypatch.setattr(engine_module, "plan", faulty)
    grid.service.engine.look_at(uid)
    await grid.settle()
    assert rule in {violation.rule for violation in grid.audit.violations}


async def test_a_grid_at_rest_lacks_nothing(grid: SimulatedGrid) -> None:
    await settled(grid, replica=2, ft=True)
    assert await shortcomings(grid) == []


@pytest.mark.parametrize("wishes", [{}, {"replica": -1}, {"pin": ["large"]}])
async def test_a_scheduler_that_forgets_a_datum_is_found_out(
    grid: SimulatedGrid, monkeypatch: pytest.MonkeyPatch, wishes: dict[str, Any]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "is_due", lambda _self: False)
        await settled(grid, **wishes)
        found = await shortcomings(grid)
    assert any("datum" in shortcoming for shortcoming in found)


# A simulated host is as careful as a worker ---------------------------------------------------------------------------


async def test_a_host_carries_out_an_order_once_and_passes_over_a_stale_one(grid: SimulatedGrid) -> None:
    uid = await settled(grid)
    host = named(grid, "large")
    generation = host.copies[uid].generation
    stale = Order(uid="0" * 32, generation=generation - 1, kind=OrderKind.DROP, subject=uid, cause="late")
    again = Order(uid="0" * 32, generation=generation, kind=OrderKind.DROP, subject=uid, cause="again")
    for order in (stale, again):
        host.take(SyncReply(generation=generation, orders=[order], period=20.0))
        assert host.holds(uid)
    newer = again.model_copy(update={"generation": generation + 1})
    host.take(SyncReply(generation=generation + 1, orders=[newer], period=20.0))
    assert host.copies[uid].state is PlacementState.GONE


async def test_a_wiped_host_is_given_again_what_it_held_and_the_service_may_have_been_restarted_meanwhile(
    grid: SimulatedGrid,
) -> None:
    uid = await settled(grid)
    host = named(grid, "large")
    grid.fall_silent(host)
    await grid.restart_service()
    grid.return_(host, wiped=True)
    await grid.advance(HOUR)
    assert host.holds(uid)
    assert grid.audit.violations == []
    assert await shortcomings(grid) == []
