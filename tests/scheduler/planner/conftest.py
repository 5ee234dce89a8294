"""A small world that planner tests describe in a few words and turn into snapshots."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bitdew.scheduler.planner import (
    DatumRow,
    DeploymentRow,
    Drop,
    Halt,
    HostRow,
    Launch,
    MachineRow,
    Place,
    PlacementRow,
    PlannerSettings,
    Snapshot,
    plan,
)

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.host import HostFacts, Resources, Sharing
from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.requirement import Requirement
from bitdew.core.states import INTENDED, HostState, MachineState, PlacementState

GB = 1024**3
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
P, M = PlacementState, MachineState


class World:
    """Facts under construction. Ids are the names, so that failures read well."""

    GB, NOW, LONG_AGO = GB, NOW, LONG_AGO

    def __init__(self, **settings):
        self.settings = PlannerSettings(**settings)
        self.now = NOW
        self.hosts = {}
        self.data = {}
        self.copies = {}
        self.machines = {}
        self.deployments = {}
        self.machines_on = {}

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

    def datum(self, name="disk", *, size=GB, created=LONG_AGO, alive=True, damaged=False, requires="", **wishes):
        data = Data(Uid(name), name, ContentRoot("00" * 32), size, 1024**2, created, "ann")
        attribute = Attribute(requires=Requirement(requires), **wishes)
        self.data[name] = DatumRow(data, attribute, alive, damaged)
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

    def pass_time(self, **span):
        self.now += timedelta(**span)
        return self

    def snapshot(self, shuffle=lambda items: items):
        placements = {}
        for (uid, _), row in shuffle(list(self.copies.items())):
            placements.setdefault(uid, []).append(row)
        return Snapshot(
            dict(shuffle(list(self.hosts.items()))),
            dict(shuffle(list(self.data.items()))),
            {uid: tuple(rows) for uid, rows in placements.items()},
            tuple(shuffle(list(self.deployments.values()))),
            tuple(shuffle(list(self.machines.values()))),
            dict(shuffle(list(self.machines_on.items()))),
            self.settings,
        )

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
        return self

    def settle_down(self, rounds=50):
        """Plan and let every order succeed until nothing is left to do now."""
        for _ in range(rounds):
            planned = self.plan()
            self.perform(planned)
            outcome = dict.fromkeys(INTENDED, P.HELD) | {P.DROPPING: P.GONE}
            under_way = [
                key
                for key, row in self.copies.items()
                if row.state in outcome and self.hosts[row.host_id].state is HostState.ALIVE
            ]
            if not planned.actions and not under_way:
                return self
            for uid, host in under_way:
                self.copy(host, outcome[self.copies[uid, host].state], uid=uid, since=self.now)
        raise AssertionError("the planner does not come to rest")

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
    return lambda planned: [a.host_id for a in planned.actions if isinstance(a, Drop)]
