"""Hosts are kept free of jobs for machines that have waited for long: one for each user, never two on one host."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from bitdew.scheduler.planner import Launch
from bitdew.scheduler.planner.reserving import OVERDUE, reserved
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.ids import Uid
from bitdew.core.states import HostState

LONG = OVERDUE + timedelta(seconds=1)


def with_jobs(facts: Any, name: str, cpus: int, memory: int = 0) -> None:
    facts.working[name] = memory, cpus


def waits(facts: Any, name: str, span: timedelta = LONG, deployment: str = "d", **asked: Any) -> None:
    facts.machine(name, deployment=deployment, since=facts.now - span, **asked)


def kept(facts: Any, **owners: str) -> dict[str, str]:
    found = reserved(facts.snapshot(), {Uid(uid): owner for uid, owner in owners.items()}, facts.now)
    return {str(host): str(machine) for host, machine in found.items()}


def test_a_machine_that_has_waited_for_long_keeps_a_holder_free_that_jobs_fill(world) -> None:
    facts = world()
    facts.datum().hosts_named("a b").copy("a")
    with_jobs(facts, "a", 8)
    waits(facts, "m", cpus=8)
    assert kept(facts) == {"a": "m"}


def test_a_machine_that_has_just_begun_to_wait_keeps_none(world) -> None:
    facts = world()
    facts.datum().hosts_named("a").copy("a")
    with_jobs(facts, "a", 8)
    waits(facts, "m", OVERDUE, cpus=8)
    assert kept(facts) == {}


def test_a_host_that_could_not_run_it_without_jobs_either_stays_open_to_them(world) -> None:
    facts = world()
    facts.datum().host("small", cpus=4).host("bare", sharings=()).host("lost", HostState.LOST)
    for name in ("small", "bare", "lost"):
        facts.copy(name)
        with_jobs(facts, name, 4)
    waits(facts, "m", cpus=8)
    assert kept(facts) == {}


def test_of_each_user_the_one_that_waited_longest_keeps_one_host(world) -> None:
    facts = world()
    facts.datum().hosts_named("a b c")
    for name in "abc":
        facts.copy(name)
        with_jobs(facts, name, 8)
    waits(facts, "ada-late", deployment="d", cpus=8)
    waits(facts, "ada-early", 2 * LONG, deployment="e", cpus=8)
    waits(facts, "bert", deployment="f", cpus=8)
    assert sorted(kept(facts, d="ada", e="ada", f="bert").values()) == ["ada-early", "bert"]


@st.composite
def grids(draw: Any) -> tuple[list[tuple[int, int]], list[tuple[int, int, str]]]:
    hosts = draw(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=1, max_size=5))
    machines = st.tuples(st.integers(1, 8), st.integers(0, 900), st.sampled_from(["ada", "bert", "cleo"]))
    return hosts, draw(st.lists(machines, max_size=6))


@given(grid=grids())
def test_what_is_kept_fits_and_a_machine_that_waits_starts_once_the_jobs_there_have_ended(world, grid) -> None:
    hosts, machines = grid
    facts = world()
    facts.datum()
    for n, (cpus, jobs) in enumerate(hosts):
        facts.host(f"h{n}", cpus=cpus).copy(f"h{n}")
        with_jobs(facts, f"h{n}", min(jobs, cpus))
    owners = {f"d{n}": owner for n, (_, _, owner) in enumerate(machines)}
    for n, (cpus, seconds, _) in enumerate(machines):
        waits(facts, f"m{n}", timedelta(seconds=seconds), deployment=f"d{n}", cpus=cpus)
    found = kept(facts, **owners)
    assert len(set(found.values())) == len(found), "no machine keeps two hosts"
    whose = [owners[f"d{machine[1:]}"] for machine in found.values()]
    assert len(set(whose)) == len(whose), "one host for each user"
    assert kept(facts, **owners) == found, "the same facts give the same answer"
    for host, machine in found.items():
        assert facts.machines[machine].cpus <= facts.hosts[host].facts.resources.cpus
        assert facts.now - facts.machines[machine].since > OVERDUE
    # No further job begins on what is kept, so that in the end none is left there: then it runs, or another there.
    for host in found:
        with_jobs(facts, host, 0)
    launched = {str(a.machine_uid): str(a.host_id) for a in facts.plan().actions if isinstance(a, Launch)}
    for host, machine in found.items():
        assert machine in launched or host in launched.values()
    left = [m for m in machines if timedelta(seconds=m[1]) > OVERDUE]
    if left and any(cpus >= min(m[0] for m in left) for cpus, _ in hosts):
        assert found, "somebody's turn comes"
