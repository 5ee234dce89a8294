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
def ties(draw, uid):
    """Wishes that make a datum depend on an earlier one."""
    earlier = list(DATA[: DATA.index(uid)])
    found = {}
    if earlier and draw(st.integers(0, 2)) == 0:
        found["affinity"] = draw(st.sampled_from([*earlier, "attr:all"]))
        if found["affinity"] == "attr:all":
            found["attribute"] = "another"
        if draw(st.booleans()):
            found["replica"] = None
    if earlier and draw(st.integers(0, 4)) == 0:
        found["lifetime_of"] = draw(st.sampled_from(earlier))
    return found


@st.composite
def distributions(draw, w):
    """Wishes about where copies go."""
    found = {"attribute": "all"}
    if draw(st.integers(0, 2)) == 0:
        found["spread"] = "site"
    if draw(st.integers(0, 3)) == 0:
        found["distrib"] = draw(st.integers(0, 2))
    if draw(st.integers(0, 3)) == 0:
        found["pin"] = draw(st.lists(st.sampled_from([*w.hosts, "nowhere"]), max_size=2, unique=True))
    if draw(st.integers(0, 4)) == 0:
        found["ends"] = w.now + timedelta(seconds=draw(st.sampled_from([-5, 0, 90])))
    return found


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
            **draw(st.sampled_from([{"site": "orsay"}, {"site": "lyon"}, {"site": "nancy"}, {}])),
        )
    for uid in DATA[: draw(st.integers(1, len(DATA)))]:
        w.datum(
            uid,
            size=draw(st.integers(1, 3)) * GB,
            **{"replica": draw(st.integers(-1, 4))} | draw(distributions(w)) | draw(ties(uid)),
            alive=draw(st.integers(0, 4)) > 0,
            damaged=draw(st.integers(0, 4)) == 0,
            awaited=draw(st.integers(0, 9)) == 0,
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
    assert set(planned.outlooks) == set(w.data)
    for outlook in planned.outlooks.values():
        assert outlook.wake_at is None or outlook.wake_at > w.now
        assert bool(outlook.why) == (outlook.wake_at is not None)
        assert outlook.reason or not (outlook.missing or outlook.open)
    assert planned.refusals == ()  # the policies are not meant to lean on the arbiter

    promised = Counter()
    for action in places:
        promised[action.host_id] += w.data[action.uid].data.size
        host, datum = w.hosts[action.host_id], w.data[action.uid]
        assert host.state is HostState.ALIVE
        assert datum.alive
        if action.host_id in datum.pins:
            continue
        assert datum.attribute.requires.check(host.facts).matches
        if datum.affinity is not None:
            assert action.host_id in snapshot.targets[datum.affinity].holders
        if datum.attribute.distrib >= 0:
            same = sum(
                a.host_id == action.host_id and w.data[a.uid].attribute_uid == datum.attribute_uid for a in places
            )
            pinned = sum(
                a.host_id == action.host_id and action.host_id in w.data[a.uid].pins for a in places if a != action
            )
            taken = snapshot.census.taken(datum.attribute_uid, action.host_id)
            assert taken + same - pinned <= datum.attribute.distrib
    for host, size in promised.items():
        assert w.hosts[host].committed + size <= w.hosts[host].facts.resources.quota

    going = {(a.uid, a.host_id) for a in drops}
    for uid, datum in w.data.items():
        living = {h for h in w.holders(uid) if w.hosts[h].state is HostState.ALIVE}
        staying = {h for h in living if (uid, h) not in going}
        if datum.alive:
            assert staying or not living
            assert not {host for of, host in going if of == uid} & datum.pins
            if not datum.attribute.affinity and not datum.attribute.distrib >= 0:
                fitting = {h for h in living if datum.attribute.requires.stays(w.hosts[h].facts).matches}
                fits = [h for h in staying if h in fitting or h in datum.pins]
                assert len(fits) >= min(len(fitting), max(datum.attribute.replicas, 1))
    used = {
        (m.data_uid, m.host_id)
        for m in w.machines.values()
        if m.host_id and not m.ended and w.hosts[m.host_id].state is not HostState.BANNED
    }
    used |= {(w.machines[a.machine_uid].data_uid, a.host_id) for a in planned.actions if isinstance(a, Launch)}
    assert not going & used


@brief
@given(data=st.data())
def test_a_plan_that_was_booked_leaves_nothing_to_plan(world, data):
    w = drawn(data, world)
    w.perform(w.plan())
    for _ in range(1 + len(DATA)):  # what ends takes others with it, and their copies and machines, plan by plan
        planned = w.plan()
        assert not [a for a in planned.actions if isinstance(a, Launch)]
        w.perform(planned)
    assert w.plan().actions == ()


@brief
@given(data=st.data())
def test_a_plan_changes_by_itself_no_sooner_than_it_says(world, data):
    w = drawn(data, world)
    for _ in range(2 + len(DATA)):
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


WISHES = {
    "plain": {"replica": 3},
    "tolerant": {"replica": 2, "fault_tolerance": True},
    "everywhere": {"replica": -1},
    "spread": {"replica": 3, "spread": "site"},
    "near": {"affinity": "plain"},
    "nearer": {"affinity": "near", "replica": 2},
    "with_all": {"affinity": "attr:few", "replica": 1},
    "few1": {"replica": 3, "distrib": 1, "attribute": "few"},
    "few2": {"replica": 2, "distrib": 1, "attribute": "few"},
    "few3": {"replica": 2, "distrib": 1, "attribute": "few", "spread": "site"},
    "choosy": {"replica": 2, "requires": "site in (orsay, lyon)", "spread": "site"},
    "pinned": {"replica": 2, "pin": "h0 h5", "requires": "site = nancy"},
}


def _disturb(w, chance):
    """Something that a user, a volunteer or an operator may do."""
    host, uid = chance.choice(list(w.hosts)), chance.choice(list(w.data))
    match chance.randrange(7):
        case 0:
            w.relabel(host, site=chance.choice(["orsay", "lyon", "nancy"]))
        case 1:
            w.turn(host, chance.choice([HostState.DRAINED, HostState.ALIVE, HostState.LOST]))
        case 2:
            w.wish(uid, requires=chance.choice(["", "site = orsay", "not site = lyon", "site in (lyon, nancy)"]))
        case 3:
            w.wish(uid, spread=chance.choice(["", "site"]))
        case 4 if w.data[uid].affinity is None:
            w.wish(uid, replica=chance.choice([-1, 0, 1, 2, 4]))
        case 5:
            w.wish(uid, pin=chance.choice(["", "h1", "h2 h3"]))
        case 6 if w.data[uid].attribute_uid == "few":
            distrib = chance.choice([1, 2, -1])
            for name in ("few1", "few2", "few3"):
                w.wish(name, distrib=distrib)
        case _:
            pass


def _check(w, uid):
    """Every wish of a datum is met, or its outlook tells why not."""
    snapshot, row = w.snapshot(), w.data[uid]
    told, outlook = explain(snapshot, uid, w.now), w.outlook(uid)
    assert told.intended == 0
    living = {h for h in w.holders(uid) if w.hosts[h].state is HostState.ALIVE}
    misplaced = {j.host_id for j in told.hosts if j.verdict == "displaced"} - row.pins
    wishes, excused = row.attribute, outlook.reason
    for pin in row.pins:
        assert pin in w.holders(uid) or excused
    assert not misplaced or excused or not living - misplaced
    for host in living - misplaced - row.pins:
        assert wishes.requires.check(w.hosts[host].facts).matches
        crowd = [d for d in w.data if w.data[d].attribute_uid == "few" and host in w.holders(d) - w.data[d].pins]
        if uid in crowd and len(crowd) > wishes.distrib >= 0:
            assert any(w.outlook(other).reason for other in crowd)
    if wishes.replicas >= 0 and not excused:
        wanted = (
            min(wishes.replicas, len(snapshot.targets[row.affinity].holders | row.pins))
            if row.affinity
            else wishes.replicas
        )
        assert told.held >= wanted
        assert len(living - misplaced) <= max(wanted, 1, len(row.pins)) + (told.held - len(living - misplaced))
        if wishes.spread:
            sites = [w.hosts[h].facts.labels.get("site") for h in living - misplaced]
            free = {h.facts.labels.get("site") for h in w.hosts.values() if judged(told, h.facts.host_id) == "eligible"}
            shared = len(sites) > len(set(sites))
            assert not (shared and free - set(sites)) or row.pins or told.held > len(living)


def judged(told, host):
    return next(j.verdict for j in told.hosts if j.host_id == host)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_all_wishes_together_come_to_rest_whatever_is_changed_meanwhile(world, seed):
    chance = random.Random(seed)  # noqa: S311 - repeatable chance, no secret
    w = world(repairs_per_round=1000)
    for number in range(7):
        w.host(f"h{number}", quota=100 * GB, site=["orsay", "lyon", "nancy"][number % 3])
    for name, wishes in WISHES.items():
        w.datum(name, **wishes)
    for _ in range(chance.randrange(6)):
        for _ in range(chance.randrange(1, 4)):
            _disturb(w, chance)
        w.perform(w.plan()).pass_time(seconds=chance.choice([1, 30, 90]))
        if chance.random() < 0.5:
            w.come_to_rest()
    w.come_to_rest()
    for uid in w.data:
        _check(w, uid)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_it_does_not_matter_which_data_are_planned_together(world, seed):
    chance = random.Random(seed)  # noqa: S311 - repeatable chance, no secret
    w = world(repairs_per_round=1000)
    for number in range(7):
        w.host(f"h{number}", quota=100 * GB, site=["orsay", "lyon", "nancy"][number % 3])
    for name, wishes in WISHES.items():
        w.datum(name, **wishes)
    quiet = 0
    for _ in range(3000):  # one at a time, at random, each host obeying at once
        uid = chance.choice(list(w.data))
        planned = plan(w.snapshot(only={uid}), w.now)
        w.perform(planned)
        w.obey()
        quiet = 0 if planned.actions else quiet + 1
        if quiet > 20:
            w.pass_time(seconds=61)
        if quiet > 200:
            break
    else:
        raise AssertionError("it does not come to rest")
    w.come_to_rest()
    for uid in w.data:
        _check(w, uid)
