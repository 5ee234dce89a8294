"""Where copies are placed, when, and why."""

from __future__ import annotations

from datetime import timedelta

import pytest
from bitdew.scheduler.planner import Place

from bitdew.core.states import HostState, PlacementState

P = PlacementState
GB = 1024**3


def test_missing_copies_are_placed_on_distinct_hosts_under_a_lease(world, placed):
    w = world().hosts_named("a b c d").datum(replica=3)
    planned = w.plan()
    assert len(placed(planned)) == len(set(placed(planned))) == 3
    assert {a.lease_until for a in planned.actions} == {w.now + w.settings.lease}
    assert planned.wake_at == w.now + w.settings.lease


def test_no_copy_is_placed_where_none_is_wanted(world):
    assert world().hosts_named("a b").datum(replica=0).plan().actions == ()


def test_copies_held_and_copies_on_their_way_count(world, placed):
    w = world().hosts_named("a b c d").datum(replica=3).copy("a")
    w.copy("b", P.FETCHING, since=w.now)
    planned = w.plan()
    assert len(placed(planned)) == 1
    assert planned.actions[0].cause.startswith(
        "replica=3: 1 held, 1 on its way, 1 missing; chosen for its free quota ("
    )


def test_everywhere_means_every_eligible_host(world, placed):
    w = world().hosts_named("a b c").host("d", HostState.SUSPECT).datum(replica=-1).copy("a")
    assert set(placed(w.plan())) == {"b", "c"}
    assert set(placed(w.host("e").plan())) == {"b", "c", "e"}


@pytest.mark.parametrize("state", [state for state in HostState if state is not HostState.ALIVE])
def test_only_hosts_that_are_alive_are_given_copies(world, state):
    assert world().host("a", state).datum().plan().actions == ()


def test_only_hosts_that_match_are_given_copies(world, placed):
    w = world().host("a", site="orsay").host("b", site="lyon").host("c")
    assert placed(w.datum(replica=-1, requires="site = lyon").plan()) == ["b"]


def test_a_host_without_the_quota_is_given_no_copy(world, placed):
    w = world().host("full", quota=10 * GB, committed=9 * GB + 1).host("room", quota=10 * GB, committed=9 * GB)
    assert placed(w.datum(replica=2).plan()) == ["room"]


def test_a_host_without_the_space_is_given_no_copy_whatever_its_quota(world, placed):
    reserve = world().settings.reserve
    w = world().host("full", free=GB + reserve - 1).host("room", free=GB + reserve)
    assert placed(w.datum(replica=2).plan()) == ["room"]


def test_space_promised_to_transfers_that_have_not_begun_is_not_promised_twice(world):
    w = world().host("a", free=3 * GB, committed=2 * GB, used=0)
    assert w.datum(size=2 * GB).plan().actions == ()


def test_a_partial_copy_needs_only_the_space_for_the_rest(world, placed):
    w = world().host("a", free=GB // 2).datum(size=GB)
    w.copy("a", P.FAILED, done=3 * GB // 4, failures=1, retry_at=w.now)
    assert placed(w.plan()) == ["a"]


def test_quota_promised_earlier_in_the_round_counts(world):
    w = world().host("a", quota=3 * GB)
    for number in range(5):
        w.datum(f"disk{number}")
    assert len(w.plan().actions) == 3


def test_the_host_with_the_largest_free_share_of_its_quota_is_first(world, placed):
    w = world().host("fuller", committed=15 * GB).host("emptier", committed=5 * GB).datum()
    assert placed(w.plan()) == ["emptier"]


def test_of_equally_free_hosts_the_one_with_fewer_transfers_is_first(world, placed):
    for idle, busy in (("a", "b"), ("b", "a")):
        w = world().hosts_named("a b", quota=1000 * GB).datum("other").datum("disk")
        assert placed(w.copy(busy, P.FETCHING, uid="other", since=w.now).plan(), "disk") == [idle]


def test_equal_hosts_share_many_data_evenly(world):
    w = world().hosts_named(" ".join(f"h{n}" for n in range(10)), quota=1000 * GB)
    for number in range(200):
        w.datum(f"disk{number}")
        w.data = {name: row for name, row in w.data.items() if name == f"disk{number}"}  # each planned on its own
        w.perform(w.plan())
        w.copies.clear()
    shares = [row.committed // GB for row in w.hosts.values()]
    assert sum(shares) == 200
    assert min(shares) > 10


def test_priority_then_age_then_uid_decides_who_gets_the_last_room(world):
    w = world().host("a", quota=GB)
    w.datum("c", created=w.LONG_AGO).datum("b", created=w.LONG_AGO)
    assert [a.uid for a in w.plan().actions] == ["b"]
    w.datum("old", created=w.LONG_AGO - timedelta(days=1))
    assert [a.uid for a in w.plan().actions] == ["old"]
    w.datum("urgent", created=w.now, priority=1)
    assert [a.uid for a in w.plan().actions] == ["urgent"]


def test_a_copy_whose_lease_ran_out_is_planned_elsewhere_and_left_alone(world, placed):
    w = world().hosts_named("a b").datum().copy("a", P.FETCHING, since=world.NOW)
    assert w.plan().actions == ()
    assert w.plan().wake_at == w.now + w.settings.lease
    planned = w.plan(seconds=120)
    assert placed(planned) == ["b"]
    assert len(planned.actions) == 1
    assert "1 stalled" in planned.actions[0].cause


def test_a_host_is_not_asked_twice_for_a_copy_that_it_has_or_is_losing(world):
    for state in (P.HELD, P.DROPPING, P.ASSIGNED, P.FETCHING, P.VERIFYING):
        assert world().host("a").datum(replica=2).copy("a", state).plan().actions == ()


def test_a_host_that_lost_or_gave_up_its_copy_can_be_asked_again(world, placed):
    for state in (P.GONE, P.LOST):
        assert placed(world().host("a").datum().copy("a", state).plan()) == ["a"]


def test_a_failed_host_is_tried_again_when_its_time_comes(world, placed):
    w = world().host("a").datum()
    w.copy("a", P.FAILED, failures=2, reason="storage.full", retry_at=w.now + timedelta(seconds=20))
    assert w.plan().actions == ()
    assert w.plan().wake_at == w.now + timedelta(seconds=20)
    planned = w.plan(seconds=20)
    assert placed(planned) == ["a"]
    assert "tried again after it failed 2 times (storage.full)" in planned.actions[0].cause


def test_without_a_time_the_wait_after_failures_doubles_up_to_a_limit(world, placed):
    settings = world().settings
    assert [settings.retry_delay(n).total_seconds() for n in (1, 2, 3, 7, 99)] == [10, 20, 40, 600, 600]
    w = world().host("a").datum().copy("a", P.FAILED, failures=3, since=world.NOW)
    assert placed(w.plan(seconds=39)) == []
    assert placed(w.plan(seconds=40)) == ["a"]


def test_other_hosts_are_preferred_to_one_that_failed(world, placed):
    w = world().host("a").host("b", committed=15 * GB).datum()
    w.copy("a", P.FAILED, failures=1, retry_at=w.now)
    assert placed(w.plan()) == ["b"]
    w.copy("a", P.FAILED, failures=2, retry_at=w.now + timedelta(seconds=20))
    assert w.plan().wake_at == w.now + w.settings.lease  # not for the retry, which nobody waits for


def test_a_damaged_datum_without_holders_is_not_placed_and_with_holders_is(world, placed):
    w = world().hosts_named("a b").datum(replica=2, damaged=True)
    assert w.plan().actions == ()
    w.copy("a")
    assert placed(w.plan()) == ["b"]
    w.turn("a", HostState.LOST)
    assert w.plan().actions == ()


def test_a_copy_on_an_unknown_host_is_passed_over(world, placed):
    w = world().hosts_named("a b").datum().copy("b")
    del w.hosts["b"]
    assert placed(w.plan()) == ["a"]


# --- hosts that are lost


def test_a_copy_on_a_lost_host_keeps_counting_without_fault_tolerance(world):
    w = world().host("b").host("a", HostState.LOST).datum().copy("a")
    assert w.plan(days=365).actions == ()
    assert w.plan().wake_at is None


def test_a_copy_on_a_lost_host_is_made_again_after_the_grace_period_with_fault_tolerance(world, placed):
    w = world().host("b").host("a", HostState.LOST, since=world.NOW).datum(fault_tolerance=True).copy("a")
    assert w.plan(seconds=299).actions == ()
    assert w.plan().wake_at == w.now + w.settings.grace
    planned = w.plan(seconds=300)
    assert placed(planned) == ["b"]
    assert planned.actions[0].repair
    assert "1 lost" in planned.actions[0].cause


def test_a_blip_moves_nothing(world):
    w = world().hosts_named("a b").datum(fault_tolerance=True).copy("a")
    for state in (HostState.SUSPECT, HostState.LOST, HostState.ALIVE):
        w.turn("a", state).pass_time(minutes=4)
        assert w.plan().actions == ()


def test_a_copy_on_a_banned_host_stops_counting_at_once(world, placed):
    w = world().host("b").host("a", HostState.BANNED, since=world.NOW).datum().copy("a")
    assert placed(w.plan()) == ["b"]


def test_repairs_are_capped_and_the_rest_is_looked_at_again_soon(world):
    w = world(repairs_per_round=4).hosts_named("a b c", quota=100 * GB).host("gone", HostState.LOST, quota=100 * GB)
    for number in range(10):
        w.datum(f"disk{number}", fault_tolerance=True).copy("gone", uid=f"disk{number}")
    repaired = []
    while planned := w.plan().actions:
        assert len(planned) <= 4
        repaired += [a.uid for a in planned]
        if len(repaired) < 10:
            assert any(outlook.held_back for outlook in w.plan().outlooks.values())
        w.perform(w.plan()).pass_time(seconds=10)
    assert sorted(repaired) == sorted(w.data)


def test_first_copies_are_not_capped_as_repairs(world):
    w = world(repairs_per_round=1).hosts_named("a b c d e").datum(replica=5)
    assert len(w.plan().actions) == 5
    assert not any(a.repair for a in w.plan().actions if isinstance(a, Place))
