"""Which machines another takes the place of, when, and that it comes to an end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from bitdew.scheduler.planner import Launch, Renew, explain
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdew.core.restarting import LONG_RUN, MOST_ATTEMPTS, Restart, pause
from bitdew.core.states import HostState, MachineState

M = MachineState
SECOND = timedelta(seconds=1)
ALWAYS, ON_FAILURE, NEVER = Restart.ALWAYS, Restart.ON_FAILURE, Restart.NEVER


def renewals(planned):
    return [action for action in planned.actions if isinstance(action, Renew)]


@pytest.fixture
def ended(world):
    """A machine on host a that ended now, with the policy given."""

    def make(state=M.FAILED, restart=ON_FAILURE, **more):
        w = world().hosts_named("a b").datum(replica=2).copy("a").copy("b")
        return w.machine("vm", "a", state, since=w.now, restart=restart, **more)

    return make


@pytest.mark.parametrize("restart", [ALWAYS, ON_FAILURE, NEVER])
@pytest.mark.parametrize("state", [M.FAILED, M.STOPPED])
def test_a_machine_that_ended_is_replaced_as_its_deployment_says_and_not_before_the_pause(ended, state, restart):
    w = ended(state, restart)
    before, after = w.plan(), w.plan(seconds=5)
    assert renewals(before) == []
    assert bool(renewals(after)) is restart.replaces(state)
    if restart.replaces(state):
        assert before.outlooks["disk"].wake_at == w.now + pause(1)
        (renewal,) = renewals(after)
        assert (renewal.machine_uid, renewal.attempt, renewal.halt_on) == ("vm", 2, None)
        assert str(state) in renewal.cause
        assert any("take the place" in sentence for sentence in explain(w.snapshot(), "disk", w.now + pause(1)).next)


def test_one_that_its_user_stopped_or_whose_disk_is_gone_is_not_replaced(ended):
    assert renewals(ended(stop_wanted=True).plan(hours=1)) == []
    w = ended()
    w.datum(alive=False, replica=2)
    assert renewals(w.plan(hours=1)) == []


@pytest.mark.parametrize("state", [M.REQUESTED, M.PREPARING, M.RUNNING])
@pytest.mark.parametrize("host", [state for state in HostState if state is not HostState.DRAINED])
@pytest.mark.parametrize("restart", [ON_FAILURE, NEVER])
def test_a_machine_on_a_host_that_is_gone_is_replaced_at_once(ended, state, host, restart):
    w = ended(state, restart).turn("a", host)
    found = renewals(w.plan())
    assert bool(found) is (host in {HostState.LOST, HostState.BANNED} and restart is not NEVER)
    if found:
        (renewal,) = found
        assert (renewal.attempt, renewal.halt_on) == (1, "a" if host is HostState.LOST else None)


def test_the_successor_is_the_same_however_often_it_is_decided_and_runs_elsewhere(ended):
    w = ended(M.RUNNING).turn("a", HostState.LOST)
    first, second = renewals(w.plan()), renewals(w.plan(seconds=3))
    assert [one.successor for one in first] == [one.successor for one in second]
    w.perform(w.plan())
    assert [(a.machine_uid, a.host_id) for a in w.plan().actions if isinstance(a, Launch)] == [
        (first[0].successor, "b")
    ]


def test_machines_that_fail_in_a_row_are_given_up(ended):
    w, waited = ended(), []
    while True:
        wake = w.plan().outlooks["disk"].wake_at
        if wake is None:
            break
        waited.append(wake - w.now)
        w.now = wake
        w.perform(w.plan()).perform(w.plan())
        (machine,) = w.machines.values()
        w.machine(machine.uid, "b", M.FAILED, since=w.now, restart=ON_FAILURE, attempt=machine.attempt)
    assert waited == [pause(attempt) for attempt in range(1, MOST_ATTEMPTS)]


def test_one_that_ran_for_long_counts_as_a_good_one(ended):
    w = ended(attempt=MOST_ATTEMPTS, ran=LONG_RUN)
    (renewal,) = renewals(w.plan(seconds=5))
    assert renewal.attempt == 1
    assert renewals(ended(attempt=MOST_ATTEMPTS, ran=LONG_RUN - SECOND).plan(hours=9)) == []


def come_to_rest(w):
    """Plan, and let hosts that are alive run what they have, until nothing is left; the machines that were launched."""
    launched = []
    while (planned := w.plan()).actions:
        w.perform(planned)
        launched += [action.machine_uid for action in planned.actions if isinstance(action, Launch)]
        for uid, machine in w.machines.items():
            if machine.host_id and w.hosts[machine.host_id].state is HostState.ALIVE and not machine.ended:
                w.machines[uid] = replace(machine, state=M.RUNNING)
    return launched


def fail_one(w, host):
    """One of the machines that run on a host fails, after it ran for long."""
    for uid, machine in w.machines.items():
        if machine.host_id == host and not machine.ended:
            w.machines[uid] = replace(machine, state=M.FAILED, since=w.now, ran=LONG_RUN)
            return


@settings(max_examples=60, deadline=None)
@given(
    wanted=st.integers(1, 5),
    blows=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["lost", "back", "fails"])), max_size=12),
)
def test_as_many_run_in_the_end_as_are_wanted_and_no_identity_is_launched_twice(world, wanted, blows):
    w = world().hosts_named("a b c d").datum(replica=4)
    for host in "abcd":
        w.copy(host)
    for number in range(wanted):
        w.machine(f"vm{number}", restart=ON_FAILURE)
    launched = come_to_rest(w)
    for host, blow in blows:
        if blow == "fails":
            fail_one(w, host)
        else:
            w.turn(host, HostState.LOST if blow == "lost" else HostState.ALIVE)
        launched += come_to_rest(w)
        w.pass_time(minutes=1)
    for host in "abcd":
        w.turn(host, HostState.ALIVE)
    w.pass_time(minutes=10)
    launched += come_to_rest(w)
    assert [machine.state for machine in w.machines.values()] == [M.RUNNING] * wanted
    assert len(launched) == len(set(launched))
