"""Lifetimes: when the life of a datum ends, what keeps it, and what goes with it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from bitdew.scheduler.planner import Drop, Expire, Halt, Launch

from bitdew.core.states import HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3
ENDED = (M.STOPPED, M.FAILED)
SECOND = timedelta(seconds=1)


def expired(planned):
    return [a.uid for a in planned.actions if isinstance(a, Expire)]


def test_a_life_ends_at_its_instant_and_not_before(world):
    w = world().hosts_named("a b").datum(ends=world.NOW + SECOND).copy("a")
    assert w.plan().actions == ()
    assert (w.plan().wake_at, w.outlook().why) == (w.now + SECOND, "its lifetime ends")
    planned = w.plan(seconds=1)
    assert [(a.uid, a.cause) for a in planned.actions] == [
        ("disk", "disk ends: its lifetime ended at 2026-03-01 12:00:01 UTC")
    ]
    assert planned.wake_at is None


def test_copies_go_with_the_plan_after(world, dropped):
    w = world().hosts_named("a b").datum(ends=world.NOW, replica=2).copy("a").copy("b", P.FETCHING)
    w.perform(w.plan())
    assert set(dropped(w.plan())) == {"a", "b"}
    assert "disk ended: its lifetime ended at" in w.plan().actions[0].cause
    assert w.come_to_rest().holders() == set()


def test_a_datum_dies_with_its_target_through_chains(world):
    w = world().host("a").datum("head").datum("middle", lifetime_of="head").datum("end", lifetime_of="middle")
    w.copy("a", uid="end").copy("a", uid="middle").copy("a", uid="head")
    assert expired(w.plan()) == []
    w.datum("head", alive=False)
    assert expired(w.plan()) == ["middle"]
    w.perform(w.plan())
    assert expired(w.plan()) == ["end"]
    w.come_to_rest()
    assert not any(w.holders(uid) for uid in w.data)


def test_a_target_that_is_not_known_ends_nothing(world):
    assert expired(world().host("a").datum(lifetime_of="nobody").copy("a").plan()) == []


@pytest.mark.parametrize("state", [state for state in M if state not in ENDED])
def test_lifetime_and_machine_in_use_the_datum_lives_until_the_machine_ends(world, state):
    w = world().host("a", HostState.LOST).host("b").datum(ends=world.NOW, replica=2).copy("a").copy("b")
    w.machine("vm", "a", state)
    assert w.plan().actions == ()
    assert w.outlook().reason == ("its lifetime ended at 2026-03-01 12:00:00 UTC, but a machine runs from a copy")
    assert not w.outlook().open
    w.machine("vm", "a", M.STOPPED)
    assert expired(w.plan()) == ["disk"]


def test_lifetime_and_machine_without_a_host_is_not_waited_for_nor_launched(world):
    w = world().host("a").datum(ends=world.NOW).copy("a").machine("vm")
    assert [type(a) for a in w.plan().actions] == [Expire]
    w.perform(w.plan())
    assert {type(a) for a in w.plan().actions} == {Halt, Drop}
    assert not any(isinstance(a, Launch) for a in w.plan().actions)


def test_nothing_is_placed_for_a_life_that_is_over(world, placed):
    w = world().hosts_named("a b").datum(ends=world.NOW, replica=2).copy("a").machine("vm", "a", M.RUNNING)
    assert placed(w.plan()) == []
    assert w.outlook().missing == 0


def test_lifetime_and_ft_the_earlier_of_end_and_grace_is_waited_for(world):
    w = world().hosts_named("a b").datum(fault_tolerance=True, ends=world.NOW + timedelta(minutes=2)).copy("a")
    assert w.turn("a", HostState.LOST).plan().wake_at == w.now + timedelta(minutes=2)


def test_lifetime_and_awaited_a_datum_whose_bytes_never_came_ends_too(world):
    assert expired(world().datum(awaited=True, ends=world.NOW).plan()) == ["disk"]


def test_lifetime_and_affinity_target_a_dead_target_of_both_ends_the_follower(world):
    w = (
        world()
        .hosts_named("a b")
        .datum("target")
        .copy("a", uid="target")
        .datum(affinity="target", lifetime_of="target")
    )
    w.come_to_rest()
    assert w.holders() == {"a"}
    w.datum("target", alive=False).come_to_rest()
    assert w.holders() == set()


def test_changed_end_is_obeyed_at_once(world):
    w = world().host("a").datum(ends=world.NOW + timedelta(days=9)).copy("a")
    assert expired(w.plan()) == []
    assert expired(w.datum(ends=w.now - SECOND).plan()) == ["disk"]
