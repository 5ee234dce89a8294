"""What a deployment wants of hosts and what hosts lend to machines: never exceeded, and said when it is in the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from bitdew.scheduler.planner import Halt, Launch, explain
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdew.core.requirement import Requirement
from bitdew.core.restarting import Restart
from bitdew.core.states import MachineState

M = MachineState
GB = 1024**3


def launched(planned):
    return {action.machine_uid: action.host_id for action in planned.actions if isinstance(action, Launch)}


def why(w, machine="vm"):
    return next(m.reason for m in explain(w.snapshot(), "disk", w.now).machines if m.machine_uid == machine)


def lending(w, host, *, abilities=None, **caps):
    """`host` lends so much to machines, by hypervisors that can so much."""
    row = w.hosts[host]
    facts = replace(row.facts, resources=replace(row.facts.resources, **caps), abilities=abilities or {})
    w.hosts[host] = replace(row, facts=facts)
    return w


def on_one_host(world):
    return world().host("a", memory=64 * GB, cpus=8).datum().copy("a")


def test_a_host_runs_no_more_machines_than_it_says(world):
    w = lending(on_one_host(world), "a", machines=3).machine("there", "a", M.RUNNING)
    for number in range(4):
        w.machine(f"vm{number}")
    assert len(launched(w.plan())) == 2
    assert "runs 3 machine(s)" not in why(w, "vm0")
    full = lending(on_one_host(world), "a", machines=1).machine("there", "a", M.PAUSED).machine("vm")
    assert launched(full.plan()) == {}
    assert why(full) == "a: it runs 1 machine(s), as many as it lends room for"


def test_all_machines_of_a_host_together_have_no_more_processors_than_it_says(world):
    w = lending(on_one_host(world), "a", all_cpus=4).machine("there", "a", M.RUNNING, cpus=2).machine("vm", cpus=3)
    assert launched(w.plan()) == {}
    assert why(w) == "a: 2 of its 4 processors for machines are left, 3 needed"
    assert launched(w.machine("small", cpus=2).plan()) == {"small": "a"}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"network": "user"}, "a network"),
        ({"seeded": True}, "a seed"),
        ({"network": "user", "seeded": True, "ports": ((0, 22),)}, "a network and ports and a seed"),
    ],
)
def test_a_machine_goes_where_a_hypervisor_gives_it_what_it_needs(world, asked, told):
    w = world().hosts_named("a b").datum(replica=2).copy("a").copy("b").machine("vm", **asked)
    lending(w, "a", abilities={"qemu": frozenset()})
    lending(w, "b", abilities={"qemu": frozenset({"network", "ports", "seed"})})
    assert launched(w.plan()) == {"vm": "b"}
    lending(w, "b", abilities={"qemu": frozenset()})
    assert launched(w.plan()) == {}
    assert why(w).startswith(f"a: qemu there can't give machines {told}")


def test_a_host_that_does_not_say_what_its_hypervisors_can_is_tried(world):
    w = on_one_host(world).machine("vm", network="user", seeded=True, ports=((0, 22),))
    assert launched(w.plan()) == {"vm": "a"}


def test_a_deployment_says_which_hosts_will_do(world):
    w = world().host("a", site="lyon").host("b", site="orsay").datum(replica=2)
    w.copy("a").copy("b").machine("vm", requires=Requirement("site = orsay"))
    assert launched(w.plan()) == {"vm": "b"}
    w.relabel("b", site="nice")
    assert launched(w.plan()) == {}
    assert "site" in why(w)


def test_one_port_of_a_host_leads_to_one_machine(world):
    w = on_one_host(world).machine("there", "a", M.RUNNING, ports=((8022, 22),))
    w.machine("vm", ports=((8022, 22),)).machine("any", ports=((0, 22),))
    assert launched(w.plan()) == {"any": "a"}
    assert why(w) == "a: its port 8022 leads to another machine"
    w = on_one_host(world).machine("one", ports=((8022, 22),)).machine("two", ports=((8022, 22),))
    assert len(launched(w.plan())) == 1


def test_when_a_deployments_life_ends_its_machines_are_halted_and_none_follows(world):
    w = on_one_host(world)
    end = w.now + timedelta(hours=1)
    w.machine("runs", "a", M.RUNNING, ends=end, restart=Restart.ALWAYS)
    w.machine("failed", "a", M.FAILED, since=w.now, ends=end, restart=Restart.ALWAYS)
    w.machine("waits", ends=end, memory=1024 * GB)
    before = w.plan()
    assert not [a for a in before.actions if isinstance(a, Halt)]
    assert w.plan(minutes=59).outlooks["disk"].wake_at == end
    after = w.plan(hours=1)
    assert {(a.machine_uid, a.host_id) for a in after.actions} == {("runs", "a"), ("waits", None)}
    assert all(isinstance(a, Halt) and "life of its deployment" in a.cause for a in after.actions)


def test_a_machine_goes_on_from_its_snapshot_only_where_that_is(world):
    w = world().hosts_named("a b").datum(replica=2).copy("a").copy("b").machine("vm", bound="b").machine("free")
    assert launched(w.plan())["vm"] == "b"


@settings(max_examples=60, deadline=None)
@given(
    caps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=3),
    machines=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([(), ((0, 22),), ((8022, 22),)])), max_size=8),
)
def test_no_cap_of_a_host_is_ever_exceeded(world, caps, machines):
    w = world()
    w.datum(replica=len(caps))
    for number, (most, cpus) in enumerate(caps):
        w.host(f"h{number}", memory=64 * GB, cpus=4).copy(f"h{number}")
        lending(w, f"h{number}", machines=most, all_cpus=cpus)
    for number, (cpus, ports) in enumerate(machines):
        w.machine(f"vm{number}", cpus=cpus, ports=ports, deployment=f"d{number}")
    placed = launched(w.plan())
    for number, (most, cpus) in enumerate(caps):
        there = [machines[int(uid[2:])] for uid, host in placed.items() if host == f"h{number}"]
        assert not most or len(there) <= most
        assert not cpus or sum(taken for taken, _ in there) <= cpus
        assert max(Counter(port for _, ports in there for port, _ in ports if port).values(), default=0) <= 1
