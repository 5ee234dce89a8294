"""Copies where they may not be any more: they count for nothing, and go only when others make up for them."""

from __future__ import annotations

import pytest

from bitdew.core.states import HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3


@pytest.fixture
def w(world):
    """Two copies in orsay; the owner wants them in lyon now."""
    w = world().hosts_named("o1 o2", site="orsay").hosts_named("l1 l2", site="lyon")
    return w.datum(replica=2, requires="site = orsay").copy("o1").copy("o2").wish(requires="site = lyon")


def test_requires_changed_at_run_time_moves_the_copies_and_never_leaves_none(w, placed, dropped):
    assert (set(placed(w.plan())), dropped(w.plan())) == ({"l1", "l2"}, [])
    assert "replica=2: 0 held, 0 on its way, 2 displaced, 2 missing" in w.plan().actions[0].cause
    w.perform(w.plan())
    w.obey()
    assert dropped(w.plan(seconds=59)) == []
    assert w.plan().wake_at == w.now + w.settings.settle
    w.pass_time(seconds=60)
    assert set(dropped(w.plan())) == {"o1", "o2"}
    assert w.plan().actions[0].cause == (
        "it no longer matches: its site is orsay, wanted site = lyon; 2 of 2 copies elsewhere are settled"
    )
    assert w.come_to_rest().holders() == {"l1", "l2"}


def test_without_a_better_host_the_displaced_go_once_one_other_is_settled(w, dropped):
    w.turn("l2", HostState.SUSPECT).settle_down()
    assert dropped(w.plan()) == []
    w.pass_time(seconds=60)
    assert set(dropped(w.plan())) == {"o1", "o2"}
    assert "and there is no better host" in w.plan().actions[0].cause


def test_without_any_fitting_host_all_displaced_copies_stay(w):
    w.wish(requires="site = nowhere")
    assert w.plan().actions == ()
    outlook = w.outlook()
    assert (outlook.missing, outlook.open) == (2, True)
    assert outlook.reason == (
        "2 missing, no eligible host: 4 that do not match; 2 displaced copies stay until a host for it is found: "
        "o1: it no longer matches: its site is orsay, wanted site = nowhere; "
        "o2: it no longer matches: its site is orsay, wanted site = nowhere"
    )


def test_a_better_host_that_failed_is_waited_for(w, dropped):
    w.copy("l1").copy("l2", P.FAILED, failures=1, since=w.now)
    assert dropped(w.plan()) == []
    assert w.plan().wake_at == w.now + w.settings.retry_first


@pytest.mark.parametrize(
    "hinder",
    [lambda w: w.turn("l2", HostState.BANNED), lambda w: w.relabel("l2", site="nancy")],
    ids=["banned", "moved"],
)
def test_a_better_host_that_failed_and_can_not_be_tried_again_is_not_waited_for(w, dropped, hinder):
    hinder(w.copy("l1").copy("l2", P.FAILED, failures=1, since=w.now))
    w.pass_time(minutes=2)
    assert set(dropped(w.plan())) == {"o1", "o2"}
    assert "and there is no better host" in w.plan().actions[0].cause


def test_copies_that_nobody_wants_shrink_to_one_though_all_are_displaced(w, dropped):
    w.wish(replica=0)
    assert len(dropped(w.plan())) == 1
    assert len(w.come_to_rest().holders()) == 1
    assert w.plan().refusals == ()


def test_a_wish_that_is_taken_back_in_time_moves_nothing_more(w):
    w.perform(w.plan())
    w.obey()
    w.wish(requires="site = orsay").pass_time(minutes=2).come_to_rest()
    assert w.holders() == {"o1", "o2"}


def test_a_copy_is_not_displaced_by_the_space_that_it_takes_itself(world):
    w = world().host("a", free=2 * GB).datum(requires="free >= 5GB").copy("a")
    assert w.plan().actions == ()
    assert not w.outlook().open


def test_a_copy_on_its_way_to_where_it_may_not_be_is_stopped_at_once(w, dropped):
    w.copy("o1", P.FETCHING, since=w.now)
    assert dropped(w.plan()) == ["o1"]
    assert w.plan().actions[0].cause.startswith("a copy on its way here is stopped: it no longer matches")


def test_a_machine_keeps_its_displaced_copy_until_it_ends(w, dropped):
    w.machine("vm", "o1", M.RUNNING).come_to_rest()
    assert w.holders() == {"o1", "l1", "l2"}
    assert "1 displaced copy stays until nothing keeps it" in w.outlook().reason
    assert w.machine("vm", "o1", M.STOPPED).come_to_rest().holders() == {"l1", "l2"}


def test_displaced_copies_still_feed_the_others(w, placed):
    w.datum(replica=2, requires="site = lyon", damaged=True)
    assert set(placed(w.plan())) == {"l1", "l2"}


# --- drained hosts


def test_a_drained_host_is_emptied_once_others_hold_the_copies(world, placed, dropped):
    w = world().hosts_named("a b").datum().copy("a").turn("a", HostState.DRAINED)
    assert (placed(w.plan()), dropped(w.plan())) == (["b"], [])
    w.settle_down()
    assert w.holders() == {"a", "b"}
    assert w.come_to_rest().holders() == {"b"}


def test_a_drained_host_keeps_the_last_copy(world):
    w = world().host("a").datum().copy("a").turn("a", HostState.DRAINED)
    assert w.plan().actions == ()
    assert w.plan().refusals == ()
    assert "a: the host is drained" in w.outlook().reason
    assert w.outlook().open


def test_a_host_that_is_drained_no_more_keeps_what_it_has(world):
    w = world().hosts_named("a b").datum().copy("a").turn("a", HostState.DRAINED).pass_time(seconds=5)
    assert w.turn("a", HostState.ALIVE).plan().actions == ()


def test_affinity_and_drain_followers_leave_a_drained_host_with_their_target(world):
    w = world().hosts_named("a b").datum("target").copy("a", uid="target").datum(affinity="target").copy("a")
    w.turn("a", HostState.DRAINED).come_to_rest()
    assert w.holders("target") == w.holders() == {"b"}


def test_everywhere_and_requires_changed_hosts_that_match_no_more_are_cleared(world, dropped):
    w = world().hosts_named("o1 o2", site="orsay").host("l1", site="lyon").datum(replica=-1).come_to_rest()
    assert len(w.holders()) == 3
    w.wish(requires="site = lyon")
    assert dropped(w.plan()) == []
    assert set(dropped(w.plan(minutes=1))) == {"o1", "o2"}
    assert w.come_to_rest().holders() == {"l1"}


def test_ft_and_drain_a_lost_copy_is_the_repair_and_a_displaced_one_is_not(world):
    w = world(repairs_per_round=0).hosts_named("a b c d").datum(replica=2, fault_tolerance=True).copy("a").copy("b")
    w.turn("a", HostState.LOST).turn("b", HostState.DRAINED).pass_time(minutes=6)
    assert [a.repair for a in w.plan().actions] == [False]
    assert any(outlook.held_back for outlook in w.plan().outlooks.values())
    assert "repairs are begun a few at a time" in w.outlook().reason
