"""Where machines are launched, and when they are halted."""

from __future__ import annotations

import pytest
from bitdew.scheduler.planner import Halt, Launch

from bitdew.core.states import HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3


@pytest.fixture(scope="module")
def launched():
    return lambda planned: {a.machine_uid: a.host_id for a in planned.actions if isinstance(a, Launch)}


@pytest.mark.parametrize("state", [M.REQUESTED, M.WAITING])
def test_a_machine_is_launched_where_its_disk_is_held(world, launched, state):
    w = world().hosts_named("a b c").datum().copy("b").machine("vm", state=state)
    assert launched(w.plan()) == {"vm": "b"}
    assert "holds the disk" in w.plan().actions[0].cause


def test_a_machine_waits_while_its_disk_is_on_its_way(world, launched):
    assert launched(world().host("a").datum().copy("a", P.VERIFYING).machine("vm").plan()) == {}


@pytest.mark.parametrize("state", [state for state in HostState if state is not HostState.ALIVE])
def test_a_machine_is_launched_only_on_a_host_that_is_alive(world, launched, state):
    assert launched(world().host("a", state).datum().copy("a").machine("vm").plan()) == {}


@pytest.mark.parametrize(("sharing", "can"), [("qemu", True), ("virtualbox", True), ("mock", True), ("root", False)])
def test_a_machine_needs_a_hypervisor(world, launched, sharing, can):
    w = world().host("a", sharings=(sharing,)).datum().copy("a").machine("vm")
    assert bool(launched(w.plan())) is can


def test_what_jobs_have_is_not_lent_to_machines_too(world, launched):
    w = world().host("a", memory=4 * GB, cpus=4).datum().copy("a").machine("m", memory=2 * GB)
    assert w.plan().outlooks["disk"].machines is False
    for taken, free in (((2 * GB, 3), True), ((2 * GB + 1, 0), False), ((0, 4), False)):
        w.working = {"a": taken}
        assert launched(w.plan()) == ({"m": "a"} if free else {})
        assert w.plan().outlooks["disk"].machines is not free


def test_machines_are_launched_as_long_as_memory_lasts(world, launched):
    w = world().host("a", memory=4 * GB).datum().copy("a").machine("running", "a", M.RUNNING)
    for number in range(5):
        w.machine(f"vm{number}")
    assert len(launched(w.plan())) == 3


def test_a_machine_needs_as_many_processors_as_it_asks_for(world, launched):
    assert launched(world().host("a", cpus=1).datum().copy("a").machine("vm", cpus=2).plan()) == {}


def test_machines_spread_over_the_holders(world, launched):
    w = world().host("a", memory=64 * GB).host("b").host("c").datum(replica=3).copy("a").copy("b").copy("c")
    for number in range(6):
        w.machine(f"vm{number}")
    assert sorted(launched(w.plan()).values()) == ["a", "a", "b", "b", "c", "c"]


def test_machines_of_several_deployments_share_what_is_left(world, launched):
    w = world().host("a", memory=3 * GB).host("b", memory=2 * GB).datum(replica=2).copy("a").copy("b")
    for number in range(2):
        w.machine(f"big{number}", deployment="old", memory=2 * GB)
        w.machine(f"small{number}", deployment="young", memory=GB, created=w.now)
    assert launched(w.plan()) == {"big0": "a", "big1": "b", "small0": "a"}


def test_the_holder_with_the_fewest_machines_of_any_disk_is_first(world, launched):
    w = world().hosts_named("a b").datum(replica=2).copy("a").copy("b").machine("vm")
    w.busy = {"a": 2, "b": 1}
    assert launched(w.plan()) == {"vm": "b"}
    w.busy = {"a": 0, "b": 1}
    assert launched(w.plan()) == {"vm": "a"}


def test_older_deployments_are_served_first(world, launched):
    w = world().host("a", memory=GB).datum().copy("a")
    w.machine("vm1", deployment="new", created=w.now).machine("vm2", deployment="old", created=w.LONG_AGO)
    assert launched(w.plan()) == {"vm2": "a"}


def test_a_copy_that_was_just_chosen_to_boot_from_is_not_trimmed(world, launched, dropped):
    w = world().host("a", committed=15 * GB).host("b", sharings=()).datum().copy("a").copy("b").machine("vm")
    assert launched(w.plan()) == {"vm": "a"}
    assert dropped(w.plan()) == ["b"]


def test_a_machine_that_has_a_host_is_left_alone_even_if_the_host_is_lost(world):
    w = world().host("a", HostState.LOST).host("b").datum(replica=2).copy("a").copy("b")
    for state in (M.REQUESTED, M.PREPARING, M.RUNNING):
        assert w.machine("vm", "a", state).plan().actions == ()


def test_no_machine_is_launched_from_removed_data(world, launched):
    assert launched(world().host("a").datum(alive=False).copy("a").machine("vm").plan()) == {}


@pytest.mark.parametrize("state", list(M))
def test_an_unwanted_machine_is_halted_once(world, state):
    w = world().host("a").datum().copy("a").machine("vm", "a", state, stop_wanted=True)
    halts = [a for a in w.plan().actions if isinstance(a, Halt)]
    assert len(halts) == (state not in {M.STOPPING, M.STOPPED, M.FAILED})
    assert all(a.host_id == "a" for a in halts)


def test_an_unwanted_machine_without_a_host_is_cancelled_and_not_launched(world):
    w = world().host("a").datum().copy("a").machine("vm", stop_wanted=True)
    (halt,) = w.plan().actions
    assert (halt.machine_uid, halt.host_id) == ("vm", None)
