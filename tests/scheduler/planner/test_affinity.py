"""Affinity: copies only where the target is held, wherever it goes; alone and with the other wishes."""

from __future__ import annotations

import pytest

from bitdew.core.states import HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3


@pytest.fixture
def w(world):
    """Five hosts; the target is held on a, b and c."""
    w = world().hosts_named("a b c d e").datum("target", replica=3)
    return w.copy("a", uid="target").copy("b", uid="target").copy("c", uid="target")


def test_copies_go_to_every_holder_of_the_target_and_nowhere_else(w, placed):
    w.datum(affinity="target")
    assert set(placed(w.plan(), "disk")) == {"a", "b", "c"}
    assert "affinity=target: 0 held, 0 on its way, 3 missing" in w.plan().actions[0].cause
    assert w.come_to_rest().holders() == {"a", "b", "c"}


def test_with_an_attribute_as_target_all_holders_of_its_data_count(w, placed):
    w.datum("one", attribute="inputs", replica=1).copy("d", uid="one")
    w.datum("two", attribute="inputs", replica=1).copy("e", uid="two")
    assert set(placed(w.datum(affinity="attr:inputs").plan(), "disk")) == {"d", "e"}


def test_replica_and_affinity_so_many_copies_on_holders(w, placed):
    w.datum(affinity="target", replica=2)
    assert len(placed(w.plan(), "disk")) == 2
    assert set(placed(w.plan(), "disk")) < {"a", "b", "c"}


def test_replica_and_affinity_no_more_are_missing_than_there_are_holders(w):
    w.datum(affinity="target", replica=9).come_to_rest()
    assert w.holders() == {"a", "b", "c"}
    assert (w.outlook().missing, w.outlook().open) == (0, False)


def test_copies_follow_when_the_target_moves(w, placed, dropped):
    w.datum(affinity="target").come_to_rest()
    w.copy("d", uid="target").copy("a", P.GONE, uid="target")
    planned = w.plan()
    assert placed(planned, "disk") == ["d"]
    assert dropped(planned, "disk") == []  # not before the new one is settled
    assert w.come_to_rest().holders() == {"b", "c", "d"}


def test_copies_follow_a_target_that_moved_altogether_without_a_moment_without_one(w):
    w.datum(affinity="target").copy("a").copy("b").copy("c")
    for host in "abc":
        w.copy(host, P.GONE, uid="target")
    w.copy("e", uid="target").wish("target", replica=1)
    for _ in range(20):
        assert w.holders()
        w.perform(w.plan())
        w.obey()
        w.pass_time(seconds=20)
    assert w.holders() == {"e"}


def test_a_target_that_is_held_nowhere_leaves_copies_where_they_are(w):
    w.datum("lonely", replica=0).datum(affinity="lonely").copy("d").copy("e")
    assert w.plan().actions == ()
    assert w.outlook().reason == "lonely, the target of its affinity, is held nowhere: copies stay where they are"
    assert (w.outlook().missing, w.outlook().open) == (0, False)


def test_a_target_that_ends_or_is_unknown_leaves_copies_where_they_are(w):
    w.datum("target", replica=3, alive=False).datum(affinity="target").copy("a").copy("d")
    assert [a.uid for a in w.plan().actions] == ["target"] * 3
    assert "target, the target of its affinity, no longer lives" in w.outlook().reason
    w.datum(affinity="attr:nobody").data["disk"] = w.data["disk"].__class__(
        w.data["disk"].data, w.data["disk"].attribute, w.data["disk"].attribute_uid, affinity="gone"
    )
    assert not any(a.uid == "disk" for a in w.plan().actions)
    assert w.outlook().reason.startswith("the target of its affinity is not known")


def test_affinity_and_requires_both_must_hold(w, placed):
    w.relabel("b", site="lyon").datum(affinity="target", requires="site = lyon")
    assert placed(w.plan(), "disk") == ["b"]
    assert w.come_to_rest().holders() == {"b"}
    assert not w.outlook().open


def test_affinity_and_quota_a_holder_without_room_is_waited_for(w, placed):
    w.host("b", quota=GB, committed=GB)
    w.datum(affinity="target", size=2 * GB)
    assert set(placed(w.plan(), "disk")) == {"a", "c"}
    outlook = w.outlook()
    assert (outlook.missing, outlook.open) == (1, True)
    assert "3 holders of target without one" not in outlook.reason
    assert "1 holder of target without one: b: its quota has 0 B left, 2.0 GB needed" in outlook.reason


def test_ft_and_affinity_a_lost_copy_is_made_again_only_on_a_holder(w, placed):
    w.datum(affinity="target", replica=1, fault_tolerance=True).copy("a").turn("a", HostState.LOST)
    assert placed(w.plan(seconds=299), "disk") == []
    assert len(placed(w.plan(seconds=300), "disk")) == 1
    assert set(placed(w.plan(seconds=300), "disk")) <= {"b", "c"}


def test_ft_and_affinity_with_no_other_holder_the_repair_waits_for_one(world, placed):
    w = world().hosts_named("a b").datum("target").copy("a", uid="target")
    w.datum(affinity="target", replica=1, fault_tolerance=True).copy("a").turn("a", HostState.LOST)
    w.pass_time(minutes=6)
    assert placed(w.plan(), "disk") == []
    assert w.outlook().open
    assert "every host that holds target" not in w.outlook().reason
    assert placed(w.copy("b", uid="target").plan(), "disk") == ["b"]


def test_distrib_and_affinity_a_holder_that_has_its_fill_gets_no_more(w, placed):
    w.datum("first", attribute="few", distrib=1, replica=1, affinity="target").copy("a", uid="first")
    w.datum("second", attribute="few", distrib=1, affinity="target")
    assert set(placed(w.plan(), "second")) == {"b", "c"}
    assert "a: it has as many data of this attribute as distrib=1 allows" in w.outlook("second").reason


def test_spread_and_affinity_holders_on_different_values_are_chosen(w, placed):
    w.relabel("a", site="orsay").relabel("b", site="orsay").relabel("c", site="lyon").relabel("d", site="nancy")
    for number in range(10):
        w.datum(f"disk{number}", affinity="target", replica=2, spread="site")
        chosen = set(placed(w.plan(), f"disk{number}"))
        assert "c" in chosen
        assert chosen < {"a", "b", "c"}


def test_lifetime_and_affinity_on_one_target_the_copies_go_when_it_ends(w):
    w.datum(affinity="target", lifetime_of="target").come_to_rest()
    w.datum("target", replica=3, alive=False)
    assert [a.cause for a in w.plan().actions if a.uid == "disk"] == [
        "disk ends: it was to live as long as target, which lives no more"
    ]
    assert w.come_to_rest().holders() == set()


def test_a_chain_of_affinities_follows_its_head(w):
    w.datum("middle", affinity="target").datum("end", affinity="middle").come_to_rest()
    assert w.holders("middle") == w.holders("end") == {"a", "b", "c"}
    w.turn("a", HostState.DRAINED).pass_time(minutes=2).come_to_rest()
    assert "a" not in w.holders("target")
    assert w.holders("target") == w.holders("middle") == w.holders("end")


def test_a_copy_on_its_way_to_where_the_target_is_no_more_is_stopped_at_once(w, dropped):
    w.datum(affinity="target", replica=1).copy("a", P.FETCHING, since=w.now).copy("a", P.GONE, uid="target")
    assert dropped(w.plan(), "disk") == ["a"]
    assert "target, the target of its affinity, is not held there" in w.plan().actions[0].cause


def test_a_machine_keeps_the_displaced_copy_that_it_runs_from(w, dropped):
    w.datum(affinity="target").copy("a").copy("b").copy("c").copy("d").machine("vm", "d", M.RUNNING)
    assert dropped(w.plan()) == []
    assert dropped(w.machine("vm", "d", M.STOPPED).plan()) == ["d"]


def test_no_machine_is_launched_from_a_copy_that_may_not_stay(w):
    w.datum(affinity="target", replica=1).copy("d").machine("vm")
    planned = w.plan()
    assert [type(a).__name__ for a in planned.actions] == ["Place"]
    assert "1 machine waits for a host" in planned.outlooks["disk"].reason
    assert planned.outlooks["disk"].open


def test_among_many_holders_only_some_are_looked_at(world, placed):
    w = world().hosts_named(" ".join(f"h{n}" for n in range(200))).datum("target", replica=-1)
    for host in w.hosts:
        w.copy(host, uid="target")
    assert len(placed(w.datum(affinity="target", replica=3).plan(), "disk")) == 3
