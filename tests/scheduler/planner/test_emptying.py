"""Hosts that are drained: no copy and no machine comes, and those that are there leave as their wishes allow."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from bitdew.scheduler.planner import Fate, Halt, Launch, Renew, explain
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdew.core.draining import Drain
from bitdew.core.restarting import Restart
from bitdew.core.states import INTENDED, HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3


def only(planned, kind):
    return [action for action in planned.actions if isinstance(action, kind)]


@pytest.fixture
def w(world):
    """A machine that restarts runs on host a; its disk is held on b too, which could run it."""
    w = world().hosts_named("a b").datum(replica=2).copy("a").copy("b")
    return w.machine("vm", "a", M.RUNNING, restart=Restart.ALWAYS)


def run(w):
    """What was launched runs, and what was told to stop has stopped."""
    for uid, machine in list(w.machines.items()):
        if machine.state is M.STOPPING:
            w.machines[uid] = replace(machine, state=M.STOPPED)
        elif machine.host_id and not machine.ended:
            w.machines[uid] = replace(machine, state=M.RUNNING)
    return w


def test_a_machine_that_restarts_ends_on_a_drained_host_only_when_another_runs_in_its_place(w):
    w.drain("a")
    (renewal,) = only(w.plan(), Renew)
    assert (renewal.fate, renewal.halt_on, renewal.attempt) == (Fate.RUNS_ON, None, 1)
    w.perform(w.plan())
    assert w.machines["vm"].state is M.RUNNING
    (launch,) = only(w.plan(), Launch)
    assert (launch.machine_uid, launch.host_id) == (renewal.successor, "b")
    w.perform(w.plan())
    assert w.plan().actions == ()
    run(w)
    (halt,) = only(w.plan(), Halt)
    assert (halt.machine_uid, halt.host_id) == ("vm", "a")
    assert "runs in its place" in halt.cause


def test_while_no_other_host_can_run_it_the_machine_stays_and_it_is_told_why(w):
    w.host("b", sharings=()).drain("a")
    assert w.plan().actions == ()
    outlook = w.outlook()
    assert outlook.open
    assert "1 machine runs on on a drained host until another can" in outlook.reason
    (judged,) = explain(w.snapshot(), "disk", w.now).machines
    assert "until another that holds its disk can run one in its place" in judged.reason
    assert only(w.host("b").plan(), Renew)


def test_a_machine_that_never_restarts_runs_to_its_end_and_keeps_its_copy(w):
    w.machine("vm", "a", M.RUNNING).host("c").drain("a").come_to_rest()
    assert not only(w.plan(), Renew)
    assert "a" in w.holders()
    assert w.machine("vm", "a", M.STOPPED).come_to_rest().holders() == {"b", "c"}


@pytest.mark.parametrize("restart", list(Restart))
def test_where_machines_are_to_stop_all_do_at_once_and_those_that_restart_have_a_successor(w, restart):
    w.machine("vm", "a", M.RUNNING, restart=restart).drain("a", Drain.STOP)
    planned = w.plan()
    if restart is Restart.NEVER:
        (halt,) = planned.actions
        assert isinstance(halt, Halt)
        assert "its machines are to stop" in halt.cause
    else:
        (renewal,) = only(planned, Renew)
        assert (renewal.fate, renewal.halt_on) == (Fate.STOPS, "a")
    w.perform(planned)
    assert w.machines["vm"].state is M.STOPPING
    launched = only(w.plan(), Launch)
    assert [launch.host_id for launch in launched] == ([] if restart is Restart.NEVER else ["b"])


def test_a_machine_on_its_way_to_move_is_not_given_two_successors_when_its_host_is_lost(w):
    w.drain("a").perform(w.plan())
    w.turn("a", HostState.LOST)
    assert not only(w.plan(), Renew)


def test_one_whose_successor_its_user_stopped_is_stopped_too(w):
    w.drain("a").perform(w.plan()).perform(w.plan())
    (heir,) = (machine for uid, machine in w.machines.items() if uid != "vm")
    w.machines[heir.uid] = replace(heir, stop_wanted=True)
    assert {halt.machine_uid for halt in only(w.plan(), Halt)} == {"vm", heir.uid}
    del w.machines[heir.uid]  # ended, and none takes its place
    assert [halt.machine_uid for halt in only(w.plan(), Halt)] == ["vm"]


def test_a_host_that_is_drained_no_more_loses_the_machine_that_was_on_its_way_elsewhere(w):
    w.drain("a").perform(w.plan()).perform(w.plan()).drain("a", None)
    assert w.plan().actions == ()
    assert [halt.machine_uid for halt in only(run(w).plan(), Halt)] == ["vm"]


def test_a_drained_host_that_is_lost_is_drained_still_and_its_copies_do_not_count(world, placed):
    w = world().hosts_named("a b").datum().copy("a").drain("a").turn("a", HostState.LOST)
    assert placed(w.plan()) == ["b"]
    assert w.turn("a", HostState.DRAINED).come_to_rest().holders() == {"b"}


def test_a_pinned_copy_stays_on_a_drained_host(world):
    w = world().hosts_named("a b").datum(pin="a").copy("a").drain("a").come_to_rest()
    assert "a" in w.holders()


NAMES = "abcde"
MACHINES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(list(Restart))), max_size=5)


def ready(row):
    return row.state is HostState.ALIVE and not row.drained


def scene(world, replica, held, able, machines):
    w = world()
    for name in NAMES:
        w.host(name, sharings=("qemu",) if name in able else ())
    w.datum(replica=replica)
    for name in sorted(held):
        w.copy(name)
    for number, (host, restart) in enumerate(machines):
        if host in held:
            w.machine(f"vm{number}", host, M.RUNNING, restart=restart)
    return w


def strike(w, host, blow):
    if blow == "lost":
        w.turn(host, HostState.LOST)
    else:
        w.drain(host, None if blow == "back" else Drain(blow))


def rest(w):
    """Whoever is lost returns, and time passes until nothing is left to do or to wait for."""
    for name in NAMES:
        if w.hosts[name].state is HostState.LOST:
            w.turn(name, HostState.DRAINED if w.hosts[name].drain else HostState.ALIVE)
    for _ in range(40):
        step(w)
        if (wake_at := w.plan().wake_at) is None and not w.plan().actions:
            return
        w.now = max(w.now + timedelta(seconds=1), wake_at or w.now)
    raise AssertionError("it does not come to rest")


@settings(max_examples=60, deadline=None)
@given(
    replica=st.integers(0, 4),
    held=st.sets(st.sampled_from(NAMES), min_size=1),
    able=st.sets(st.sampled_from(NAMES)),
    machines=MACHINES,
    blows=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["keep", "stop", "back", "lost"])), max_size=8),
    spans=st.lists(st.sampled_from([1, 20, 70, 400]), min_size=8, max_size=8),
)
def test_whatever_is_drained_nothing_comes_there_and_no_machine_or_last_copy_is_lost_by_it(
    world, replica, held, able, machines, blows, spans
):
    w = scene(world, replica, held, able, machines)
    wanted = sum(machine.restart is not Restart.NEVER for machine in w.machines.values())
    for (host, blow), span in zip(blows, spans, strict=False):
        strike(w, host, blow)
        for _ in range(3):
            step(w)
        w.pass_time(seconds=span)
    rest(w)
    places = [m for m in w.machines.values() if not m.ended and m.successor is None and m.restart is not Restart.NEVER]
    assert len(places) == wanted
    ready_hosts = {name for name in NAMES if ready(w.hosts[name])}
    if ready_hosts & able & w.holders():  # it has the room for all of them
        assert {machine.host_id for machine in places} <= ready_hosts
    used = {machine.host_id for machine in w.machines.values() if not machine.ended}
    stays = w.holders() - ready_hosts - used
    assert len(stays) <= (not ready_hosts & w.holders())
    assert w.holders()


def step(w):
    """Plan once and let every host that can do what it was told; what may never be is looked for on the way."""
    planned = w.plan()
    assert planned.refusals == ()
    running = {uid for uid, machine in w.machines.items() if machine.state is M.RUNNING}
    for action in planned.actions:
        if (host := getattr(action, "host_id", None)) and type(action).__name__ in {"Place", "Launch"}:
            assert ready(w.hosts[host])
        if isinstance(action, Halt) and w.hosts[action.host_id].drain is not Drain.STOP:
            heir = w.machines[action.machine_uid].successor
            while heir in w.machines and w.machines[heir].successor:
                heir = w.machines[heir].successor
            assert heir in running
    w.perform(planned)
    able = {HostState.ALIVE, HostState.DRAINED}
    for (uid, host), row in list(w.copies.items()):
        if w.hosts[host].state in able and row.state in {*INTENDED, P.DROPPING}:
            w.copy(host, P.GONE if row.state is P.DROPPING else P.HELD, uid=uid, since=w.now)
    for uid, machine in list(w.machines.items()):
        if machine.host_id and w.hosts[machine.host_id].state in able:
            state = M.STOPPED if machine.state is M.STOPPING else M.RUNNING
            w.machines[uid] = machine if machine.ended else replace(machine, state=state)
