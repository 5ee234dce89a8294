"""Pin: a copy stays on these hosts, whatever else; never beyond quota, liveness and ban."""

from __future__ import annotations

import pytest

from bitdew.core.states import HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3


def test_a_pinned_host_gets_a_copy_though_others_have_more_room(world, placed):
    w = world().host("a", committed=18 * GB).host("b").datum(pin="a")
    assert placed(w.plan()) == ["a"]
    assert w.plan().actions[0].cause.startswith("the datum is pinned to this host; ")


def test_replica_and_pin_pinned_copies_count_and_the_rest_goes_elsewhere(world, placed):
    w = world().hosts_named("a b c d").datum(replica=2, pin="a")
    assert len(placed(w.plan())) == 2
    assert "a" in placed(w.plan())


@pytest.mark.parametrize("replica", [0, 1])
def test_replica_and_pin_more_pins_than_replicas_are_all_served(world, replica):
    w = world().hosts_named("a b c d").datum(replica=replica, pin="a b c").come_to_rest()
    assert w.holders() == {"a", "b", "c"}


def test_replica_and_pin_when_a_pin_is_added_another_copy_makes_room_for_it(world):
    w = world().hosts_named("a b c").datum(replica=2).copy("a").copy("b").wish(pin="c").come_to_rest()
    assert "c" in w.holders()
    assert len(w.holders()) == 2


def test_a_pinned_copy_is_never_the_surplus(world, dropped):
    w = world().host("a", committed=18 * GB).host("b").datum(pin="a").copy("a").copy("b")
    assert dropped(w.plan()) == ["b"]


def test_a_pin_that_is_taken_back_frees_the_copy(world):
    w = world().hosts_named("a b c").datum(replica=1, pin="a b").come_to_rest().wish(pin="").come_to_rest()
    assert len(w.holders()) == 1


def test_pin_and_requires_the_pin_is_stronger(world):
    w = world().host("a", site="orsay").host("b", site="lyon").datum(requires="site = lyon", pin="a").come_to_rest()
    assert w.holders() == {"a"}


def test_pin_and_affinity_the_pin_is_stronger(world):
    w = world().hosts_named("a b c").datum("target").copy("b", uid="target").datum(affinity="target", pin="a")
    assert w.come_to_rest().holders() == {"a", "b"}
    w.wish(replica=2).come_to_rest()
    assert w.holders() == {"a", "b"}


def test_pin_and_affinity_a_pin_is_served_while_the_target_is_held_nowhere(world):
    w = world().hosts_named("a b").datum("target", replica=0).datum(affinity="target", pin="a").come_to_rest()
    assert w.holders() == {"a"}


def test_pin_and_quota_the_quota_is_stronger(world, placed):
    w = world().host("a", quota=GB // 2).host("b").datum(pin="a")
    assert placed(w.plan()) == ["b"]
    w.come_to_rest()
    outlook = w.outlook()
    assert (outlook.missing, outlook.open) == (1, True)
    assert outlook.reason == "pinned, but without a copy: a: its quota has 512.0 MB left, 1.0 GB needed"
    assert w.host("a").come_to_rest().holders() == {"a"}


@pytest.mark.parametrize("state", [HostState.LOST, HostState.SUSPECT, HostState.BANNED, HostState.DRAINED])
def test_pin_and_liveness_a_host_that_is_not_alive_gets_nothing_and_others_make_up_for_it(world, placed, state):
    w = world().host("a", state).host("b").datum(pin="a")
    assert placed(w.plan()) == ["b"]
    assert w.perform(w.plan()).outlook().open


def test_a_pinned_host_that_nobody_knows_yet_is_waited_for(world, placed):
    w = world().host("b").datum(pin="a").come_to_rest()
    assert w.holders() == {"b"}
    assert w.outlook().reason == "pinned, but without a copy: a: it is not known"
    assert w.outlook().open
    assert w.host("a").come_to_rest().holders() == {"a"}


def test_ft_and_pin_a_lost_pinned_copy_is_made_up_for_and_comes_back(world):
    w = world().hosts_named("a b").datum(pin="a", fault_tolerance=True).copy("a").turn("a", HostState.LOST)
    w.pass_time(minutes=6).come_to_rest()
    assert w.holders() == {"a", "b"}
    w.turn("a", HostState.ALIVE).come_to_rest()
    assert w.holders() == {"a"}


def test_drain_and_pin_the_copy_stays_but_another_counts_for_it(world):
    w = world().hosts_named("a b").datum(pin="a").copy("a").turn("a", HostState.DRAINED).come_to_rest()
    assert w.holders() == {"a", "b"}


def test_lifetime_and_pin_a_pinned_copy_goes_when_the_life_ends(world):
    w = world().hosts_named("a b").datum(pin="a", ends=world.NOW).copy("a").come_to_rest()
    assert w.holders() == set()


def test_priority_and_pin_the_more_urgent_datum_gets_the_last_room_of_the_pinned_host(world, placed):
    w = world().host("a", quota=GB).datum("disk1", pin="a").datum("disk2", pin="a", priority=1)
    assert [a.uid for a in w.plan().actions] == ["disk2"]


def test_a_pinned_host_that_failed_is_tried_again_in_its_time(world, placed):
    w = world().hosts_named("a b").datum(pin="a").copy("b")
    w.copy("a", P.FAILED, failures=1, since=w.now)
    assert placed(w.plan()) == []
    assert w.plan().wake_at == w.now + w.settings.retry_first
    assert placed(w.plan(seconds=10)) == ["a"]


def test_a_copy_on_its_way_to_a_pinned_host_is_not_stopped_as_unneeded(world, dropped):
    w = world().hosts_named("a b").datum(pin="a").copy("b").copy("a", P.FETCHING, since=world.NOW)
    assert dropped(w.plan(minutes=1)) == []
