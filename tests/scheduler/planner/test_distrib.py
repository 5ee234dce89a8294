"""Distrib: at most so many data of an attribute on one host; alone and with the other wishes."""

from __future__ import annotations

from datetime import timedelta

from bitdew.core.states import HostState, PlacementState

P = PlacementState
GB = 1024**3


def few(w, names, distrib=1, **wishes):
    for number, name in enumerate(names.split()):
        w.datum(name, attribute="few", distrib=distrib, created=w.LONG_AGO + timedelta(seconds=number), **wishes)
    return w


def test_no_host_takes_more_data_of_an_attribute_than_it_may(world):
    w = few(world().hosts_named("a b"), "one two three four five", distrib=2).settle_down()
    taken = [host for name in w.data for host in w.holders(name)]
    assert sorted(taken) == ["a", "a", "b", "b"]
    outlook = w.outlook("five")
    assert (outlook.missing, outlook.open) == (1, True)
    assert "2 that have all that distrib=2 allows" in outlook.reason


def test_data_of_other_attributes_do_not_count(world, placed):
    w = few(world().host("a"), "one").datum("other").copy("a", uid="other")
    assert placed(w.plan()) == ["a"]


def test_none_at_all_may_be_the_wish(world):
    assert few(world().hosts_named("a b"), "one", distrib=0).plan().actions == ()


def test_copies_on_their_way_count(world):
    w = few(world().host("a"), "one two").copy("a", P.FETCHING, uid="one", since=world.NOW)
    assert w.plan().actions == ()


def test_when_fewer_are_allowed_the_youngest_move_and_only_after_others_are_settled(world, placed, dropped):
    w = few(world().host("a"), "one two three", distrib=3).settle_down().host("b").host("c")
    for name in w.data:
        w.wish(name, distrib=1)
    planned = w.plan()
    assert set(placed(planned)) == {"b", "c"}
    assert {a.uid for a in planned.actions} == {"two", "three"}
    w.come_to_rest()
    assert w.holders("one") == {"a"}
    assert len(w.holders("two") | w.holders("three")) == 2


def test_when_fewer_are_allowed_and_there_is_no_other_host_the_last_copies_stay(world):
    w = few(world().host("a"), "one two", distrib=2).settle_down()
    for name in w.data:
        w.wish(name, distrib=1)
    w.come_to_rest()
    assert w.holders("two") == {"a"}
    outlook = w.outlook("two")
    assert (outlook.missing, outlook.open) == (1, True)
    assert "more data of this attribute than distrib=1 allows" in outlook.reason


def test_replica_and_distrib_each_copy_takes_a_place_of_its_own(world):
    w = few(world().hosts_named("a b c d"), "one two three", replica=2).settle_down()
    assert len([host for name in w.data for host in w.holders(name)]) == 4
    assert len({host for name in w.data for host in w.holders(name)}) == 4


def test_everywhere_and_distrib_every_host_that_has_a_place_left(world, placed):
    w = few(world().hosts_named("a b c"), "one two", replica=-1).copy("a", uid="one")
    planned = w.plan()
    assert set(placed(planned)) == {"b", "c"}
    assert {a.uid for a in planned.actions} == {"one"}


def test_distrib_and_requires_both_must_hold(world):
    w = few(world().host("a", site="lyon").host("b"), "one two", requires="site = lyon").settle_down()
    assert w.holders("one") == {"a"}
    assert w.holders("two") == set()


def test_distrib_and_priority_the_more_urgent_gets_the_place(world, placed):
    w = few(world().host("a"), "one two").wish("two", priority=5)
    assert [a.uid for a in w.plan().actions] == ["two"]


def test_distrib_and_ft_a_lost_copy_is_made_again_where_a_place_is_left(world, placed):
    w = few(world().hosts_named("a b c"), "one two", fault_tolerance=True).copy("a", uid="one").copy("b", uid="two")
    w.turn("a", HostState.LOST).pass_time(minutes=6)
    assert placed(w.plan()) == ["c"]


def test_pin_and_distrib_a_pinned_datum_takes_a_place_whatever_the_limit(world):
    w = (
        few(world().hosts_named("a b"), "one two three")
        .wish("three", pin="a")
        .copy("a", uid="one")
        .copy("b", uid="two")
    )
    w.come_to_rest()
    assert "a" in w.holders("three")
    assert w.come_to_rest().holders("three") == {"a"}
