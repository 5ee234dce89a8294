"""What the arbiter refuses, whoever suggests it."""

from __future__ import annotations

import pytest
from bitdew.scheduler.planner import Drop, Expire, Halt, Launch, Place
from bitdew.scheduler.planner.arbiter import Arbiter

from bitdew.core.states import HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3


@pytest.fixture(scope="module")
def arbiter():
    return lambda w: Arbiter(w.snapshot(), w.now)


def place(w, host, uid="disk", **more):
    return Place(uid, host, w.now + w.settings.lease, "test", **more)


def why(judge):
    return judge.refusals[-1].reason


def test_a_second_action_about_a_pair_is_refused(world, arbiter):
    w = world().hosts_named("a b c").datum(replica=2).copy("b").copy("c")
    judge = arbiter(w)
    assert judge.offer(place(w, "a"))
    assert not judge.offer(place(w, "a"))
    assert not judge.offer(Drop("disk", "a", "test"))
    assert judge.offer(Drop("disk", "b", "test"))
    assert not judge.offer(Drop("disk", "b", "test"))
    assert not judge.offer(place(w, "b"))
    assert judge.ledger.actions == [place(w, "a"), Drop("disk", "b", "test")]


def test_the_last_verified_copy_on_a_living_host_is_kept(world, arbiter):
    w = world().hosts_named("a b").host("away", HostState.LOST).host("quiet", HostState.SUSPECT).datum(replica=0)
    w.copy("a").copy("b").copy("away").copy("quiet")
    judge = arbiter(w)
    assert judge.offer(Drop("disk", "b", "test"))
    assert not judge.offer(Drop("disk", "a", "test"))
    assert "last verified copy" in why(judge)
    assert not arbiter(world().host("away", HostState.LOST).datum().copy("away")).offer(Drop("disk", "away", "test"))


def test_the_last_copy_of_removed_data_may_go(world, arbiter):
    assert arbiter(world().host("a").datum(alive=False).copy("a")).offer(Drop("disk", "a", "test"))


def test_a_copy_that_a_machine_runs_from_is_kept(world, arbiter):
    w = world().hosts_named("a b").datum(alive=False).copy("a").copy("b").machine("vm", "a", M.RUNNING)
    assert not arbiter(w).offer(Drop("disk", "a", "test"))


def test_a_copy_that_nobody_recorded_is_not_deleted(world, arbiter):
    judge = arbiter(world().host("a").datum(alive=False))
    assert not judge.offer(Drop("disk", "a", "test"))
    assert not judge.offer(Drop("other", "a", "test"))
    assert "unknown is not delete" in why(judge)


def test_moves_that_the_tables_do_not_allow_are_refused(world, arbiter):
    w = world().hosts_named("a b").datum(replica=3).copy("a", P.GONE).copy("b", P.DROPPING)
    judge = arbiter(w)
    assert not judge.offer(Drop("disk", "a", "test"))
    assert not judge.offer(Drop("disk", "b", "test"))
    assert not judge.offer(place(w, "b"))


def test_nobody_is_promised_more_than_the_quota(world, arbiter):
    w = world().host("a", quota=GB).datum("one").datum("two")
    judge = arbiter(w)
    assert judge.offer(place(w, "a", "one"))
    assert not judge.offer(place(w, "a", "two"))
    assert "its quota has 0 B left, 1.0 GB needed" in why(judge)


def test_a_copy_is_not_placed_on_a_host_that_is_not_eligible_or_unknown(world, arbiter):
    w = world().host("a", HostState.DRAINED).host("b").datum(requires="site = lyon")
    judge = arbiter(w)
    assert not judge.offer(place(w, "a"))
    assert not judge.offer(place(w, "b"))
    assert not judge.offer(place(w, "nowhere"))
    assert not judge.offer(place(w, "b", "nothing"))


def test_repairs_beyond_the_cap_are_refused_and_first_copies_are_not(world, arbiter):
    w = world(repairs_per_round=1).hosts_named("a b c").datum(replica=3)
    judge = arbiter(w)
    assert judge.offer(place(w, "a", repair=True))
    assert not judge.offer(place(w, "b", repair=True))
    assert judge.offer(place(w, "c"))


def test_a_machine_is_launched_once_and_only_from_a_verified_copy(world, arbiter):
    w = world().hosts_named("a b c").datum(replica=2).copy("a").copy("b").copy("c", P.VERIFYING)
    judge = arbiter(w.machine("vm").machine("unwanted", stop_wanted=True).machine("runs", "a", M.RUNNING))
    assert not judge.offer(Launch("vm", "c", "test"))
    assert judge.offer(Launch("vm", "a", "test"))
    assert not judge.offer(Launch("vm", "b", "test"))
    assert not judge.offer(Halt("vm", None, "test"))
    assert not judge.offer(Launch("unwanted", "a", "test"))
    assert not judge.offer(Launch("runs", "b", "test"))
    assert not judge.offer(Launch("nobody", "b", "test"))
    assert not judge.offer(Drop("disk", "a", "test"))


def test_a_machine_is_not_launched_from_a_copy_that_is_to_be_dropped(world, arbiter):
    judge = arbiter(world().hosts_named("a b").datum().copy("a").copy("b").machine("vm"))
    assert judge.offer(Drop("disk", "a", "test"))
    assert not judge.offer(Launch("vm", "a", "test"))


def test_a_machine_is_halted_once_where_it_is_and_not_after_its_end(world, arbiter):
    w = world().host("a").datum().machine("vm", "a", M.RUNNING).machine("over", "a", M.STOPPED)
    judge = arbiter(w.machine("ending", "a", M.STOPPING))
    assert not judge.offer(Halt("vm", "b", "test"))
    assert judge.offer(Halt("vm", "a", "test"))
    assert not judge.offer(Halt("vm", "a", "test"))
    assert not judge.offer(Halt("over", "a", "test"))
    assert not judge.offer(Halt("ending", "a", "test"))
    assert not judge.offer(Halt("nobody", "a", "test"))


# --- wishes about places, and ends


def test_a_copy_is_not_placed_where_the_target_of_its_affinity_is_not_held(world, arbiter):
    w = world().hosts_named("a b").datum("target").copy("a", uid="target").datum(affinity="target", replica=2)
    judge = arbiter(w)
    assert not judge.offer(place(w, "b"))
    assert "target, the target of its affinity, is not held there" in why(judge)
    assert judge.offer(place(w, "a"))


def test_no_copy_is_placed_for_an_affinity_whose_target_is_held_nowhere(world, arbiter):
    w = world().host("a").datum("target", replica=0).datum(affinity="target")
    assert not arbiter(w).offer(place(w, "a"))


def test_a_host_gets_no_more_of_an_attribute_than_distrib_allows_those_of_this_round_counted(world, arbiter):
    w = world().hosts_named("a b").datum("one", attribute="few", distrib=1).datum("two", attribute="few", distrib=1)
    judge = arbiter(w)
    assert judge.offer(place(w, "a", "one"))
    assert not judge.offer(place(w, "a", "two"))
    assert "as many data of this attribute as distrib=1 allows" in why(judge)
    assert judge.offer(place(w, "b", "two"))


def test_a_pin_opens_every_door_but_that_of_the_quota(world, arbiter):
    w = world().host("a").host("full", quota=1).datum("other", attribute="few", distrib=0)
    w.datum(attribute="few", distrib=0, requires="site = lyon", affinity="other", pin="a full")
    judge = arbiter(w)
    assert judge.offer(place(w, "a"))
    assert not judge.offer(place(w, "full"))


def test_a_pinned_copy_is_kept_as_long_as_its_datum_lives(world, arbiter):
    w = world().hosts_named("a b").datum(replica=0, pin="a").copy("a").copy("b")
    judge = arbiter(w)
    assert not judge.offer(Drop("disk", "a", "test"))
    assert "pinned" in why(judge)
    assert arbiter(w.datum(alive=False, pin="a")).offer(Drop("disk", "a", "test"))


def test_a_life_ends_once_and_not_before_its_time(world, arbiter):
    w = world().host("a").datum("now", ends=world.NOW).datum("later", ends=world.NOW.replace(year=2030)).datum("ever")
    judge = arbiter(w.datum("dead", alive=False, ends=world.NOW))
    assert judge.offer(Expire("now", "test"))
    assert not judge.offer(Expire("now", "test"))
    for uid in ("later", "ever", "dead", "nobody"):
        assert not judge.offer(Expire(uid, "test"))


def test_no_life_ends_while_a_machine_runs_from_a_copy(world, arbiter):
    w = world().host("a", HostState.LOST).datum(ends=world.NOW).copy("a").machine("vm", "a", M.STOPPING)
    judge = arbiter(w)
    assert not judge.offer(Expire("disk", "test"))
    assert "a machine runs from a copy" in why(judge)


def test_nothing_is_placed_or_launched_for_a_life_that_is_over(world, arbiter):
    w = world().hosts_named("a b").datum(ends=world.NOW, replica=2).copy("a").machine("vm")
    judge = arbiter(w)
    assert not judge.offer(place(w, "b"))
    assert not judge.offer(Launch("vm", "a", "test"))


def test_no_machine_is_launched_from_a_copy_that_may_not_stay(world, arbiter):
    w = world().host("a", site="orsay").datum(requires="site = lyon").copy("a").machine("vm")
    judge = arbiter(w)
    assert not judge.offer(Launch("vm", "a", "test"))
    assert "its copy may not stay: it no longer matches" in why(judge)


def test_data_whose_bytes_have_not_come_are_not_placed(world, arbiter):
    w = world().hosts_named("a b").datum(awaited=True)
    judge = arbiter(w)
    assert not judge.offer(place(w, "a"))
    assert "its bytes have not come yet" in why(judge)
    assert arbiter(w.copy("b")).offer(place(w, "a"))
