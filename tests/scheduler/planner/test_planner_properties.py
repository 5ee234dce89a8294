"""What holds of every plan, whatever the facts and their order; and that plans lead to rest."""

from __future__ import annotations

import copy
import random
from collections import Counter
from datetime import timedelta

from bitdew.scheduler.planner import Drop, Halt, Launch, Place, explain, plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitdew.core.states import INTENDED, HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3
HOSTS, DATA = "abcdef", ("disk1", "disk2", "disk3")
brief = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def worlds(draw, new):
    w = new(repairs_per_round=1000)
    ages = st.sampled_from([0, 5, 59, 60, 130, 299, 300, 4000]).map(lambda age: w.now - timedelta(seconds=age))
    for host in HOSTS[: draw(st.integers(0, len(HOSTS)))]:
        w.host(
            host,
            draw(st.sampled_from([*HostState, HostState.ALIVE, HostState.ALIVE, HostState.ALIVE])),
            since=draw(ages),
            quota=draw(st.integers(0, 6)) * GB,
            free=draw(st.integers(0, 8)) * GB,
            sharings=draw(st.sampled_from([(), ("qemu",), ("root", "mock")])),
            memory=draw(st.integers(0, 3)) * GB,
            site=draw(st.sampled_from(["orsay", "lyon"])),
        )
    for uid in DATA[: draw(st.integers(1, len(DATA)))]:
        w.datum(
            uid,
            size=draw(st.integers(1, 3)) * GB,
            replica=draw(st.integers(-1, 4)),
            alive=draw(st.integers(0, 4)) > 0,
            damaged=draw(st.integers(0, 4)) == 0,
            fault_tolerance=draw(st.booleans()),
            priority=draw(st.integers(0, 1)),
            requires=draw(st.sampled_from(["", "", "site = lyon"])),
        )
        for host in w.hosts:
            if draw(st.booleans()):
                w.copy(
                    host,
                    draw(st.sampled_from([*P, P.HELD, P.HELD, P.HELD])),
                    uid=uid,
                    since=draw(ages),
                    failures=draw(st.integers(0, 3)),
                )
        for number in range(draw(st.integers(0, 3))):
            host = draw(st.sampled_from([None, None, *w.hosts]))
            state = draw(st.sampled_from(list(M) if host else [M.REQUESTED, M.WAITING, M.STOPPED]))
            w.machine(
                f"{uid}-vm{number}", host, state, uid=uid, deployment=uid, stop_wanted=draw(st.integers(0, 4)) == 0
            )
    return w


def drawn(data, new):
    return data.draw(worlds(new))


@brief
@given(data=st.data(), seed=st.integers())
def test_the_order_of_the_facts_does_not_matter(world, data, seed):
    w, chance = drawn(data, world), random.Random(seed)  # noqa: S311 - repeatable chance, no secret

    def shuffled(items):
        return chance.sample(items, len(items))

    assert plan(w.snapshot(shuffled), w.now) == w.plan()


@brief
@given(data=st.data())
def test_every_plan_is_safe_and_changes_no_fact(world, data):
    w = drawn(data, world)
    snapshot = w.snapshot()
    before = copy.deepcopy(snapshot)
    planned = plan(snapshot, w.now)
    assert snapshot == before

    places = [a for a in planned.actions if isinstance(a, Place)]
    drops = [a for a in planned.actions if isinstance(a, Drop)]
    pairs = [(a.uid, a.host_id) for a in (*places, *drops)]
    orders = [a.machine_uid for a in planned.actions if isinstance(a, Launch | Halt)]
    assert len(pairs) == len(set(pairs))
    assert len(orders) == len(set(orders))
    assert all(a.cause for a in planned.actions)
    assert all(wake.at > w.now for wake in planned.wakes)
    assert planned.refusals == ()  # the policies are not meant to lean on the arbiter

    promised = Counter()
    for action in places:
        promised[action.host_id] += w.data[action.uid].data.size
        assert w.hosts[action.host_id].state is HostState.ALIVE
        assert w.data[action.uid].alive
    for host, size in promised.items():
        assert w.hosts[host].committed + size <= w.hosts[host].facts.resources.quota

    going = {(a.uid, a.host_id) for a in drops}
    for uid, datum in w.data.items():
        living = {h for h in w.holders(uid) if w.hosts[h].state is HostState.ALIVE}
        staying = {h for h in living if (uid, h) not in going}
        if datum.alive:
            assert len(staying) >= min(len(living), max(datum.attribute.replica, 1))
    used = {(m.data_uid, m.host_id) for m in w.machines.values() if m.host_id and not m.ended}
    used |= {(w.machines[a.machine_uid].data_uid, a.host_id) for a in planned.actions if isinstance(a, Launch)}
    assert not going & used


@brief
@given(data=st.data())
def test_a_plan_that_was_booked_leaves_nothing_to_plan(world, data):
    w = drawn(data, world)
    w.perform(w.plan())
    assert w.plan().actions == ()


@brief
@given(data=st.data())
def test_a_plan_changes_by_itself_no_sooner_than_it_says(world, data):
    w = drawn(data, world)
    w.perform(w.plan())
    wake_at = w.plan().wake_at or w.now + timedelta(days=10)
    for part in (0.25, 0.5, 0.99):
        assert plan(w.snapshot(), w.now + (wake_at - w.now) * part).actions == ()


@brief
@given(data=st.data())
def test_the_explanation_agrees_with_the_plan(world, data):
    w = drawn(data, world)
    planned = w.plan()
    for uid in w.data:
        told = explain(w.snapshot(), uid, w.now)
        chosen = {j.host_id for j in told.hosts if j.verdict == "chosen"}
        assert chosen == {a.host_id for a in planned.actions if isinstance(a, Place) and a.uid == uid}
        assert len(told.hosts) == len(w.hosts)
        assert all(j.reason for j in told.hosts)


def _advance(w, chance):
    """Some hosts come or go; orders on living hosts progress, succeed or fail."""
    for host, row in list(w.hosts.items()):
        if chance.random() < 0.15:
            w.turn(host, HostState.ALIVE if row.state is HostState.LOST else HostState.LOST)
    for (uid, host), row in list(w.copies.items()):
        if w.hosts[host].state is not HostState.ALIVE:
            continue
        fate = chance.random()
        if row.state in INTENDED and fate < 0.5:
            w.copy(host, uid=uid, since=w.now)
        elif row.state in INTENDED and fate < 0.7:
            w.copy(host, P.FAILED, uid=uid, since=w.now, failures=row.failures + 1, reason="swarm.stalled")
        elif row.state is P.DROPPING and fate < 0.5:
            w.copy(host, P.GONE, uid=uid, since=w.now)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), tolerant=st.booleans())
def test_after_any_turmoil_every_wish_comes_true_and_stays_so(world, seed, tolerant):
    chance = random.Random(seed)  # noqa: S311 - repeatable chance, no secret
    w = world().hosts_named(" ".join(f"h{n}" for n in range(8)))
    for number in range(4):
        w.datum(f"disk{number}", replica=chance.choice([-1, 1, 2, 3]), fault_tolerance=tolerant)
    for _ in range(30):
        _advance(w, chance)
        w.perform(w.plan()).pass_time(seconds=chance.choice([1, 30, 90, 400]))
    for host in w.hosts:
        if w.hosts[host].state is not HostState.ALIVE:
            w.turn(host, HostState.ALIVE)
    while True:
        w.settle_down()
        if (wake_at := w.plan().wake_at) is None:
            break
        w.now = wake_at
    for uid, datum in w.data.items():
        wanted = len(w.hosts) if datum.attribute.replica == -1 else datum.attribute.replica
        assert len(w.holders(uid)) == wanted
