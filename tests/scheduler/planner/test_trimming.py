"""Which copies are dropped, when, and which never are."""

from __future__ import annotations

import pytest

from bitdew.core.states import HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3
ENDED = (M.STOPPED, M.FAILED)


def test_no_more_copies_than_wanted_is_no_surplus(world):
    assert world().hosts_named("a b").datum(replica=2).copy("a").copy("b").plan().actions == ()


def test_of_a_surplus_the_copy_on_the_fullest_host_is_dropped(world, dropped):
    w = world().host("empty").host("full", committed=15 * GB).host("half", committed=8 * GB).datum(replica=2)
    planned = w.copy("empty").copy("full").copy("half").plan()
    assert dropped(planned) == ["full"]
    assert "replica=2: 3 held and settled on living hosts, 1 too many" in planned.actions[0].cause


def test_copies_on_hosts_that_no_longer_match_are_dropped_and_not_those_on_the_fullest(world, dropped):
    w = world().host("full", committed=15 * GB, site="lyon").host("empty", site="orsay")
    planned = w.datum(requires="site = lyon").copy("full").copy("empty").plan()
    assert dropped(planned) == ["empty"]
    assert "its site is orsay" in planned.actions[0].cause


def test_a_surplus_waits_until_the_newest_copy_is_settled(world, dropped):
    w = world().hosts_named("a b").datum().copy("a").copy("b", since=world.NOW)
    assert w.plan().actions == ()
    assert w.plan().wake_at == w.now + w.settings.settle
    assert len(dropped(w.plan(seconds=60))) == 1


def test_a_host_that_returns_is_counted_again_and_the_surplus_trimmed_after_settling(world, dropped):
    w = world().hosts_named("a b").datum(fault_tolerance=True).copy("a").copy("b").turn("a", HostState.LOST)
    assert w.plan().actions == ()
    w.pass_time(hours=1).turn("a", HostState.ALIVE)
    assert w.plan(seconds=59).actions == ()
    assert len(dropped(w.plan(seconds=60))) == 1


def test_copies_on_hosts_that_are_not_alive_are_no_surplus(world):
    for state in (HostState.SUSPECT, HostState.LOST):
        assert world().host("a").host("b", state).datum().copy("a").copy("b").plan().actions == ()


def test_everywhere_has_no_surplus(world):
    assert world().hosts_named("a b").datum(replica=-1).copy("a").copy("b").plan().actions == ()


def test_the_last_verified_copy_of_living_data_stays_even_if_none_is_wanted(world, dropped):
    w = world().hosts_named("a b c").datum(replica=0)
    for host in "abc":
        w.copy(host)
    assert len(dropped(w.plan())) == 2
    assert w.plan().refusals == ()
    assert len(w.settle_down().holders()) == 1


def test_a_copy_that_a_machine_runs_from_is_not_trimmed(world, dropped):
    w = world().host("a", committed=15 * GB).host("b").datum().copy("a").copy("b").machine("vm", "a", M.RUNNING)
    assert dropped(w.plan()) == ["b"]
    w.machine("vm2", "b", M.STOPPING)
    assert w.plan().actions == ()


@pytest.mark.parametrize("state", ENDED)
def test_a_machine_that_ended_keeps_no_copy(world, dropped, state):
    w = world().host("a", committed=15 * GB).host("b").datum().copy("a").copy("b").machine("vm", "a", state)
    assert dropped(w.plan()) == ["a"]


def test_a_copy_on_its_way_that_nobody_waits_for_is_stopped_after_settling(world, dropped):
    w = world().hosts_named("a b").datum().copy("a").copy("b", P.FETCHING, since=world.NOW)
    assert w.plan(seconds=59).actions == ()
    assert w.plan().wake_at == w.now + w.settings.settle
    assert dropped(w.plan(seconds=60)) == ["b"]


def test_a_late_arrival_is_trimmed(world):
    w = world().hosts_named("a b").datum().copy("a", P.FETCHING, since=world.NOW)
    w.pass_time(minutes=3).settle_down()
    assert w.holders() == {"a", "b"}
    w.pass_time(minutes=2).settle_down()
    assert len(w.holders()) == 1


@pytest.mark.parametrize("state", [P.ASSIGNED, P.FETCHING, P.VERIFYING, P.HELD, P.FAILED, P.LOST])
@pytest.mark.parametrize("host_state", list(HostState))
def test_removed_data_are_dropped_everywhere_whatever_the_host(world, dropped, state, host_state):
    w = world().host("a", host_state).datum(alive=False, replica=3).copy("a", state)
    planned = w.plan()
    assert dropped(planned) == ["a"]
    assert planned.wake_at is None


@pytest.mark.parametrize("state", [P.DROPPING, P.GONE])
def test_removed_data_are_not_dropped_twice(world, state):
    assert world().host("a").host("b").datum(alive=False).copy("a", state).plan().actions == ()


def test_removed_data_stay_where_a_machine_runs_from_them_until_it_ends(world, dropped):
    w = world().hosts_named("a b").datum(alive=False).copy("a").copy("b").machine("vm", "a", M.RUNNING)
    assert dropped(w.plan()) == ["b"]
    assert set(dropped(w.machine("vm", "a", M.STOPPED).plan())) == {"a", "b"}
