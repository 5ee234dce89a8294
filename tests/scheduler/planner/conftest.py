"""A small world that planner tests describe in a few words and turn into snapshots."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bitdew.scheduler.planner import (
    Census,
    DatumRow,
    DeploymentRow,
    Drop,
    Expire,
    Fate,
    Halt,
    HostIndex,
    HostRow,
    Launch,
    MachineRow,
    Place,
    PlacementRow,
    PlannerSettings,
    Renew,
    Snapshot,
    TargetRow,
    plan,
)

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.draining import Drain
from bitdew.core.host import HostFacts, Resources, Sharing
from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.lifetime import Reference
from bitdew.core.requirement import Requirement
from bitdew.core.states import INTENDED, HostState, MachineState, PlacementState

GB = 1024**3
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
P, M = PlacementState, MachineState
TAKEN = INTENDED | {P.HELD}


class World:
    """Facts under construction, gathered into snapshots as an engine does it. Ids are the names: failures read well.

    Data have an attribute of their own unless one is named with `attribute`.
    """

    GB, NOW, LONG_AGO = GB, NOW, LONG_AGO

    def __init__(self, **settings):
        self.settings = PlannerSettings(**settings)
        self.now = NOW
        self.hosts = {}
        self.data = {}
        self.copies = {}
        self.machines = {}
        self.deployments = {}
        self.busy = {}
        self.working = {}
        self.renewed = {}

    def host(
        self,
        name,
        state=HostState.ALIVE,
        *,
        since=LONG_AGO,
        quota=20 * GB,
        free=100 * GB,
        used=None,
        committed=0,
        sharings=("qemu",),
        memory=8 * GB,
        cpus=8,
        **labels,
    ):
        resources = Resources(cpus, memory, quota, committed if used is None else used, free)
        facts = HostFacts(HostId(name), name, resources, labels, tuple(Sharing(s) for s in sharings))
        self.hosts[name] = HostRow(facts, state, since, None, committed)
        return self

    def hosts_named(self, names, **same):
        for name in names.split():
            self.host(name, **same)
        return self

    def datum(
        self,
        name="disk",
        *,
        size=GB,
        created=LONG_AGO,
        alive=True,
        damaged=False,
        awaited=False,
        requires="",
        attribute=None,
        ends=None,
        affinity=None,
        lifetime_of=None,
        pin=(),
        **wishes,
    ):
        """`affinity` names a datum, or an attribute as "attr:NAME"; `pin` lists hosts by name."""
        data = Data(Uid(name), name, ContentRoot("00" * 32), size, 1024**2, created, "ann")
        if affinity is not None:
            wishes["affinity"] = Reference.parse(affinity)
        pin = tuple(pin.split() if isinstance(pin, str) else pin)
        self.data[name] = DatumRow(
            data,
            Attribute(requires=Requirement(requires), pin=pin, **wishes),
            Uid(attribute or f"wishes-of-{name}"),
            alive,
            damaged,
            awaited,
            ends,
            affinity,
            lifetime_of,
            frozenset(map(HostId, pin)),
        )
        return self

    def wish(self, name="disk", **changes):
        """The owner changes the attribute."""
        row = self.data[name]
        if "requires" in changes:
            changes["requires"] = Requirement(changes["requires"])
        if "pin" in changes:
            changes["pin"] = tuple(changes["pin"].split())
        attribute = replace(row.attribute, **changes)
        self.data[name] = replace(row, attribute=attribute, pins=frozenset(map(HostId, attribute.pin)))
        return self

    def relabel(self, host, **labels):
        """The volunteer says something else of the host."""
        row = self.hosts[host]
        self.hosts[host] = replace(row, facts=replace(row.facts, labels={**row.facts.labels, **labels}))
        return self

    def copy(self, host, state=P.HELD, *, uid="disk", since=LONG_AGO, lease_until=None, **more):
        old = self.copies.get((uid, host))
        size = self.data[uid].data.size
        counted = INTENDED | {P.HELD, P.DROPPING}
        grows = (state in counted) - (old is not None and old.state in counted)
        row = self.hosts[host]
        self.hosts[host] = replace(row, committed=row.committed + grows * size)
        if state in INTENDED and lease_until is None:
            lease_until = since + self.settings.lease
        self.copies[uid, host] = PlacementRow(Uid(uid), HostId(host), state, since, lease_until=lease_until, **more)
        return self

    def machine(
        self, name, host=None, state=M.REQUESTED, *, uid="disk", deployment="d", memory=GB, created=LONG_AGO, **more
    ):
        self.deployments[deployment] = DeploymentRow(Uid(deployment), Uid(uid), 1, memory, 1, created)
        self.machines[name] = MachineRow(Uid(name), Uid(deployment), Uid(uid), host, state, memory=memory, **more)
        return self

    def turn(self, host, state):
        """A host enters a state now."""
        self.hosts[host] = replace(self.hosts[host], state=state, state_since=self.now)
        return self

    def drain(self, host, machines=Drain.KEEP):
        """The operator wants a host empty; with None no more."""
        state = HostState.ALIVE if machines is None else HostState.DRAINED
        self.turn(host, state)
        self.hosts[host] = replace(self.hosts[host], drain=machines)
        return self

    def pass_time(self, **span):
        self.now += timedelta(**span)
        return self

    def snapshot(self, shuffle=lambda items: items, *, only=None):
        """The facts about all data, or about those in `only`: the sums are of all in either case."""
        data = {uid: row for uid, row in shuffle(list(self.data.items())) if only is None or uid in only}
        placements = {}
        for (uid, _), row in shuffle(list(self.copies.items())):
            if uid in data:
                placements.setdefault(uid, []).append(row)
        return Snapshot(
            HostIndex(shuffle([self._host_row(row) for row in self.hosts.values()]), reserve=self.settings.reserve),
            data,
            {uid: tuple(rows) for uid, rows in placements.items()},
            self._targets(),
            self._census(shuffle),
            self._excess(),
            tuple(shuffle(list(self.deployments.values()))),
            tuple(shuffle(list(self.machines.values()))),
            self.settings,
        )

    def _host_row(self, row):
        host = row.facts.host_id
        machines = [m for m in self.machines.values() if m.host_id == host and not m.ended]
        transfers = sum(r.host_id == host and r.state in INTENDED for r in self.copies.values())
        return replace(
            row,
            transfers=transfers,
            machines=len(machines) + self.busy.get(host, 0),
            memory_taken=sum(m.memory for m in machines),
            cpus_taken=sum(m.cpus for m in machines),
            jobs_memory=self.working.get(host, (0, 0))[0],
            jobs_cpus=self.working.get(host, (0, 0))[1],
        )

    def _census(self, shuffle):
        census = Census()
        for (uid, host), row in shuffle(list(self.copies.items())):
            taken, held = row.state in TAKEN, row.state is P.HELD
            census.add(self.data[uid].attribute_uid, host, taken=int(taken), held=int(held))
        return census

    def _targets(self):
        found = {}
        for row in self.data.values():
            for target in {row.affinity, row.lifetime_of} - {None}:
                name = target.removeprefix("attr:")
                of = {uid for uid, d in self.data.items() if d.attribute_uid == name and d.alive}
                alive = True
                if target in self.data:
                    of, alive = {target}, self.data[target].alive
                elif target == name:
                    continue
                holders = {host for uid in of for host in self.holders(uid)}
                found[target] = TargetRow(target, name, alive, frozenset(holders))
        return found

    def _excess(self):
        found, hosts = {}, {host for _, host in self.copies}
        for row in self.data.values():
            cap, attribute = row.attribute.distrib, row.attribute_uid
            for host in hosts if cap >= 0 else ():
                taken = [
                    uid
                    for (uid, on), r in self.copies.items()
                    if on == host and r.state in TAKEN and self.data[uid].attribute_uid == attribute
                ]
                taken.sort(key=lambda uid: (self.data[uid].data.created, uid))
                found[attribute, host] = frozenset(taken[cap:])
        return found

    def plan(self, **later):
        return plan(self.snapshot(), self.now + timedelta(**later))

    def perform(self, planned):
        """Book the actions as an engine does at once, before any host answers."""
        for action in planned.actions:
            match action:
                case Place(uid, host_id, lease_until):
                    failures = self.copies[uid, host_id].failures if (uid, host_id) in self.copies else 0
                    self.copy(host_id, P.ASSIGNED, uid=uid, since=self.now, lease_until=lease_until, failures=failures)
                case Drop(uid, host_id):
                    self.copy(host_id, P.DROPPING, uid=uid, since=self.now)
                case Launch(machine_uid, host_id):
                    self.machines[machine_uid] = replace(self.machines[machine_uid], host_id=host_id)
                case Halt(machine_uid, host_id):
                    state = M.STOPPING if host_id else M.STOPPED
                    self.machines[machine_uid] = replace(self.machines[machine_uid], state=state)
                case Renew(machine_uid, successor, attempt, fate=fate):
                    old = self.machines.pop(machine_uid)
                    if fate is not Fate.OVER:
                        state = M.STOPPING if fate is Fate.STOPS else old.state
                        self.machines[machine_uid] = replace(old, state=state, successor=successor)
                    self.renewed[machine_uid] = successor
                    self.machines[successor] = replace(
                        old, uid=successor, host_id=None, state=M.REQUESTED, since=self.now, attempt=attempt
                    )
                case Expire(uid):
                    self.data[uid] = replace(self.data[uid], alive=False)
        return self

    def obey(self):
        """Every host that can does what it was told; says how many orders were carried out."""
        outcome = dict.fromkeys(INTENDED, P.HELD) | {P.DROPPING: P.GONE}
        able = {HostState.ALIVE, HostState.DRAINED}
        under_way = [
            key for key, row in self.copies.items() if row.state in outcome and self.hosts[row.host_id].state in able
        ]
        for uid, host in under_way:
            self.copy(host, outcome[self.copies[uid, host].state], uid=uid, since=self.now)
        return len(under_way)

    def settle_down(self, rounds=50):
        """Plan and let every order succeed until nothing is left to do now."""
        for _ in range(rounds):
            planned = self.plan()
            self.perform(planned)
            if not self.obey() and not planned.actions:
                return self
        raise AssertionError("the planner does not come to rest")

    def come_to_rest(self, rounds=60):
        """Let time pass too, until nothing is planned and nothing is left to wait for."""
        for _ in range(rounds):
            self.settle_down()
            if (wake_at := self.plan().wake_at) is None:
                return self
            self.now = wake_at
        raise AssertionError("there is always something to wait for")

    def outlook(self, uid="disk"):
        return self.plan().outlooks[uid]

    def holders(self, uid="disk"):
        return {host for (of, host), row in self.copies.items() if of == uid and row.state is P.HELD}


@pytest.fixture(scope="session")
def world():
    """`world()` is an empty world."""
    return World


@pytest.fixture(scope="session")
def placed():
    """`placed(plan)` is where copies are placed, in order; `placed(plan, "disk")` for one datum."""
    return lambda planned, uid=None: [
        a.host_id for a in planned.actions if isinstance(a, Place) and (uid is None or a.uid == uid)
    ]


@pytest.fixture(scope="session")
def dropped():
    """`dropped(plan)` is where copies are dropped, in order."""
    return lambda planned, uid=None: [
        a.host_id for a in planned.actions if isinstance(a, Drop) and (uid is None or a.uid == uid)
    ]
