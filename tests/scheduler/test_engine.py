"""The engine: it plans what changed, when it changed or fell due, and a defect in one plan ends nothing."""

from __future__ import annotations

from typing import Any

import pytest
from bitdew.scheduler import engine as engine_module
from bitdew.scheduler.engine import DEFECT_PAUSE
from bitdew.scheduler.planner import Plan, Snapshot, plan
from bitdew.scheduler.store import SchedulerStore
from structlog.testing import capture_logs

from bitdew.core.ids import Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import PlacementState
from bitdew.testing.grid import Grid


class DefectivePlanner:
    """The planner, with a defect in whatever concerns `bad`: the real one has none that could be shown."""

    def __init__(self) -> None:
        self.bad: set[Uid] = set()
        self.asked: list[set[Uid]] = []

    def __call__(self, snapshot: Snapshot, now: Any) -> Plan:
        self.asked.append(set(snapshot.data))
        if self.bad & set(snapshot.data):
            raise ZeroDivisionError("a defect")
        return plan(snapshot, now)


async def at_rest(grid: Grid) -> bool:
    """Whether all that changed was planned."""
    engine = grid.service.rooms.engine
    waits = engine.is_due()
    async with grid.service.database.facts():  # a plan that is being made holds it
        return not waits


@pytest.fixture
def planner(monkeypatch: pytest.MonkeyPatch) -> DefectivePlanner:
    defective = DefectivePlanner()
    monkeypatch.setattr(engine_module, "plan", defective)
    return defective


async def test_a_defect_in_planning_one_datum_is_logged_and_does_not_end_the_planning_of_others(
    grid: Grid, make_host, add_disk, planner: DefectivePlanner, until
) -> None:
    bad = await add_disk("bad")
    good = await add_disk("good")
    planner.bad = {Uid(bad.uid)}
    with capture_logs() as logs:
        host = await make_host()  # concerns both
        order = await host.order(OrderKind.PLACE)
        await until(lambda: at_rest(grid))
    assert order.subject == good.uid
    assert any(log["event"] == "planning failed" and log["exc_info"] for log in logs)
    assert [log["data"] for log in logs if log["event"] == "a datum can't be planned"] == [bad.uid]
    later = await add_disk("later")
    assert (await host.order(OrderKind.PLACE)).subject == later.uid


async def test_what_could_not_be_planned_is_looked_at_again_when_the_defect_is_gone(
    grid: Grid, make_host, add_disk, planner: DefectivePlanner
) -> None:
    disk = await add_disk()
    planner.bad = {Uid(disk.uid)}
    host = await make_host()
    assert await host.idle()
    planner.bad = set()
    grid.clock.skip(DEFECT_PAUSE + 1)
    assert (await host.order(OrderKind.PLACE)).subject == disk.uid


async def test_a_store_that_fails_for_a_while_ends_nothing(
    grid: Grid, make_host, add_disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_disk()

    async def broken(*_: object, **__: object) -> Any:
        raise OSError("the database does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(SchedulerStore, "deployments", broken)
        host = await make_host()
        assert await host.idle()
    grid.clock.skip(DEFECT_PAUSE + 1)
    assert await host.order(OrderKind.PLACE)


async def test_only_what_changed_is_planned(grid: Grid, make_host, add_disk, planner: DefectivePlanner, until) -> None:
    host = await make_host()
    one, two = await add_disk("one"), await add_disk("two")
    for _ in range(2):
        await host.take()

    await until(lambda: at_rest(grid))
    planner.asked.clear()
    await host.sync()
    await host.hello()
    assert planner.asked == []
    await grid.client.remove_disk("one")
    await host.order(OrderKind.DROP)
    assert set().union(*planner.asked) == {Uid(one.uid)}
    assert two.uid


async def test_a_plan_is_stored_whole_or_not_at_all(
    grid: Grid, make_host, add_disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await make_host()
    store = SchedulerStore(grid.service.database)

    async def broken(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("bitdew.scheduler.store.put_placements", broken)
        await add_disk()
        assert await host.idle()
        assert await store.open_orders(host.uid) == []
    grid.clock.skip(DEFECT_PAUSE + 1)
    order = await host.order(OrderKind.PLACE)
    (record,) = (await store.placements_on(host.uid)).values()
    assert (record.state, record.generation) == (PlacementState.ASSIGNED, order.generation)


async def test_an_idle_engine_does_not_spin(grid: Grid, make_host, add_disk, planner: DefectivePlanner, until) -> None:
    host = await make_host()
    await add_disk(replica=5)
    await host.take()
    await until(lambda: at_rest(grid))
    planner.asked.clear()
    for _ in range(20):
        grid.clock.skip(1)
        await host.sync()
    assert len(planner.asked) <= 1
