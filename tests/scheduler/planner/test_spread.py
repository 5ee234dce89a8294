"""Spread: no two copies on one value of a label while others are eligible; alone and with the other wishes."""

from __future__ import annotations

import pytest

from bitdew.core.states import HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3


@pytest.fixture
def w(world):
    w = world().hosts_named("o1 o2 o3", site="orsay").hosts_named("l1 l2", site="lyon").host("n1", site="nancy")
    return w.host("bare")


def sites(w, uid="disk"):
    return sorted(w.hosts[host].facts.labels.get("site", "") for host in w.holders(uid))


def test_copies_go_to_different_values(w, placed):
    for number in range(10):
        w.datum(f"disk{number}", replica=3, spread="site")
    w.settle_down()
    assert all(sites(w, f"disk{number}") == ["lyon", "nancy", "orsay"] for number in range(10))
    assert w.plan().actions == ()


def test_an_emptier_host_on_a_used_value_is_passed_over(w, placed):
    w.host("n1", site="nancy", committed=19 * GB).datum(replica=3, spread="site")
    assert "n1" in placed(w.plan())


def test_the_cause_says_on_which_value(w):
    causes = [a.cause for a in w.datum(replica=4, spread="site").plan().actions]
    assert any("; site=nancy had no copy" in cause for cause in causes)
    assert any("; a host without site had no copy" in cause for cause in causes)


def test_hosts_without_the_label_are_one_more_value_chosen_last(w, placed):
    assert "bare" not in placed(w.datum(replica=3, spread="site").plan())
    assert "bare" in placed(w.datum(replica=4, spread="site").plan())


def test_replica_and_spread_with_more_copies_than_values_they_share_evenly(w):
    w.datum(replica=6, spread="site").come_to_rest()
    assert sites(w) == ["", "lyon", "lyon", "nancy", "orsay", "orsay"]
    assert (w.outlook().missing, w.outlook().open) == (0, True)
    assert "2 copies share a value of site: no other value has an eligible host" in w.outlook().reason


def test_a_shared_value_is_left_for_a_new_one_and_only_then(world, placed, dropped):
    w = world().hosts_named("o1 o2", site="orsay").datum(replica=2, spread="site").come_to_rest()
    assert w.holders() == {"o1", "o2"}
    w.host("l1", site="lyon")
    planned = w.plan()
    assert placed(planned) == ["l1"]
    assert dropped(planned) == []
    assert "copies share a value of site, and site=lyon had no copy" in planned.actions[0].cause
    w.perform(planned)
    w.obey()
    assert dropped(w.plan(seconds=59)) == []
    w.pass_time(seconds=60)
    assert len(w.holders()) == 3
    assert "for its value of site, which others share" in w.plan().actions[0].cause
    w.come_to_rest()
    assert sites(w) == ["lyon", "orsay"]
    assert w.plan().actions == ()
    assert not w.outlook().open


def test_copies_that_are_moved_for_the_spread_are_as_few_at_once_as_repairs(world, placed):
    w = world(repairs_per_round=2).hosts_named("o1 o2", site="orsay", quota=100 * GB)
    for number in range(5):
        w.datum(f"disk{number}", replica=2, spread="site").copy("o1", uid=f"disk{number}").copy(
            "o2", uid=f"disk{number}"
        )
    w.host("l1", site="lyon", quota=100 * GB)
    assert len(placed(w.plan())) == 2
    assert any(outlook.held_back for outlook in w.plan().outlooks.values())
    w.come_to_rest()
    assert all(sites(w, f"disk{number}") == ["lyon", "orsay"] for number in range(5))


def test_of_a_surplus_a_copy_that_shares_its_value_goes_though_others_are_fuller(w, dropped):
    w.host("n1", site="nancy", committed=18 * GB).datum(replica=2, spread="site")
    assert dropped(w.copy("o1").copy("o2").copy("n1").plan())[0].startswith("o")


def test_a_host_whose_label_changes_makes_copies_move(w):
    w.datum(replica=2, spread="site").copy("o1").copy("l1").relabel("l1", site="orsay").come_to_rest()
    assert len(set(sites(w))) == 2
    assert len(w.holders()) == 2


def test_replica_everywhere_and_spread_every_host_gets_a_copy(w):
    w.datum(replica=-1, spread="site").come_to_rest()
    assert w.holders() == set(w.hosts)
    assert not w.outlook().open


def test_spread_and_requires_values_of_hosts_that_do_not_match_are_no_choice(w):
    w.datum(replica=2, spread="site", requires="site = orsay").come_to_rest()
    assert sites(w) == ["orsay", "orsay"]
    assert w.outlook().open
    assert w.wish(requires="site in (orsay, lyon)").come_to_rest().holders()
    assert sites(w) == ["lyon", "orsay"]


def test_spread_and_quota_a_value_without_room_is_no_choice(world):
    w = (
        world()
        .hosts_named("o1 o2", site="orsay")
        .host("l1", site="lyon", quota=GB // 2)
        .datum(replica=2, spread="site")
    )
    assert w.come_to_rest().holders() == {"o1", "o2"}
    assert w.outlook().open


def test_distrib_and_spread_a_value_whose_hosts_are_full_of_the_attribute_is_no_choice(world, placed):
    w = world().hosts_named("o1 o2", site="orsay").host("l1", site="lyon")
    w.datum("other", attribute="few", distrib=1).copy("l1", uid="other")
    w.datum(attribute="few", distrib=1, replica=2, spread="site")
    assert set(placed(w.plan())) == {"o1", "o2"}


def test_pin_and_spread_a_pinned_copy_takes_its_value(w, placed):
    w.datum(replica=2, spread="site", pin="o2")
    for _ in range(2):
        chosen = placed(w.plan())
        assert "o2" in chosen
        assert not {"o1", "o3"} & set(chosen)
        assert len(chosen) == 2


def test_pin_and_spread_pinned_copies_that_share_a_value_are_not_moved(w):
    w.datum(replica=2, spread="site", pin="o1 o2").come_to_rest()
    assert w.holders() == {"o1", "o2"}
    assert not w.outlook().open


def test_a_copy_that_a_machine_runs_from_is_not_moved_for_the_spread(world):
    w = (
        world()
        .hosts_named("o1 o2", site="orsay")
        .datum(replica=2, spread="site")
        .copy("o1")
        .copy("o2")
        .host("l1", site="lyon")
    )
    w.machine("vm1", "o1", M.RUNNING).machine("vm2", "o2", M.RUNNING)
    assert w.plan().actions == ()
    w.machine("vm1", "o1", M.STOPPED).come_to_rest()
    assert w.holders() == {"o2", "l1"}


def test_ft_and_spread_a_lost_value_is_replaced_by_an_unused_one(w, placed):
    w.datum(replica=2, spread="site", fault_tolerance=True).copy("o1").copy("l1").turn("l1", HostState.LOST)
    w.pass_time(minutes=6)
    (host,) = placed(w.plan())
    assert host in {"l2", "n1"}


def test_spread_copies_on_lost_hosts_that_still_count_do_not_multiply_the_others(world):
    w = world().hosts_named("o1 o2", site="orsay").datum(replica=2, spread="site").copy("o1").copy("o2")
    w.turn("o2", HostState.LOST).hosts_named("l1 l2", site="lyon").hosts_named("n1", site="nancy").come_to_rest()
    assert len(w.holders()) <= 3
    w.turn("o2", HostState.ALIVE).pass_time(minutes=2).come_to_rest()
    assert len(w.holders()) == 2
    assert len(set(sites(w))) == 2


def test_a_copy_on_its_way_to_an_unused_value_is_not_stopped_as_one_too_many(world, dropped):
    w = world().hosts_named("o1 o2", site="orsay").host("l1", site="lyon").datum(replica=2, spread="site")
    w.copy("o1").copy("o2").copy("l1", P.FETCHING, since=w.now, lease_until=w.now.replace(hour=23))
    assert dropped(w.plan(minutes=10)) == []
