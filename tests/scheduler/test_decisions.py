"""Decisions: each action of a plan becomes one order above all before it, and the state that the order leads to."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bitdew.scheduler.decisions import Decisions, decide
from bitdew.scheduler.planner import Action, Drop, Halt, Launch, Place, Renew
from bitdew.scheduler.records import MachineRecord, PlacementRecord

from bitdew.core.ids import HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import MachineState, PlacementState

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = NOW + timedelta(seconds=120)
DATUM, HOST, OTHER = Uid("d" * 32), HostId("a" * 32), HostId("b" * 32)
VM = Uid("1" * 32)
OTHER_VM = Uid("e" * 32)


class Generations:
    """Counts up from 7 for each host."""

    def __init__(self) -> None:
        self.given: Counter[HostId] = Counter()

    def __call__(self, host: HostId) -> int:
        self.given[host] += 1
        return 6 + self.given[host]


@pytest.fixture
def generations() -> Generations:
    return Generations()


@pytest.fixture
def machine() -> MachineRecord:
    past = NOW - timedelta(hours=1)
    return MachineRecord(
        VM,
        Uid("2" * 32),
        DATUM,
        None,
        MachineState.REQUESTED,
        past,
        0,
        False,
        "",
        None,
        "",
        0,  # noqa: FBT003
    )


def one(decided: Decisions) -> PlacementRecord:
    (placement,) = decided.placements
    return placement


def test_a_first_placement_is_assigned_with_its_lease_cause_and_order(generations: Generations) -> None:
    decided = decide([Place(DATUM, HOST, LEASE, "because")], {}, {}, generations, NOW)
    placement, (order,) = one(decided), decided.orders
    assert (placement.state, placement.generation, placement.lease_until) == (PlacementState.ASSIGNED, 7, LEASE)
    assert (placement.since, placement.assigned, placement.cause) == (NOW, NOW, "because")
    assert (order.kind, order.host, order.subject, order.generation) == (OrderKind.PLACE, HOST, DATUM, 7)
    assert order.cause == "because"


def test_placing_again_keeps_when_it_was_first_assigned_its_failures_and_its_history(generations: Generations) -> None:
    first = one(decide([Place(DATUM, HOST, LEASE, "first")], {}, {}, generations, NOW))
    failed = replace(first, state=PlacementState.FAILED, failures=2, retry_at=NOW, seconds=3.0)
    later = NOW + timedelta(minutes=5)
    again = one(decide([Place(DATUM, HOST, LEASE, "again")], {(DATUM, HOST): failed}, {}, generations, later))
    assert (again.state, again.assigned, again.since) == (PlacementState.ASSIGNED, NOW, later)
    assert (again.failures, again.retry_at, again.seconds, again.generation) == (2, None, None, 8)
    assert again.history == ["failed"]


def test_a_drop_ends_the_lease(generations: Generations) -> None:
    known = one(decide([Place(DATUM, HOST, LEASE, "first")], {}, {}, generations, NOW))
    decided = decide([Drop(DATUM, HOST, "too many")], {(DATUM, HOST): known}, {}, generations, NOW)
    dropping = one(decided)
    assert (dropping.state, dropping.lease_until, dropping.cause) == (PlacementState.DROPPING, None, "too many")
    assert decided.orders[0].kind is OrderKind.DROP
    assert dropping.generation == decided.orders[0].generation == 8


def test_a_launch_gives_the_machine_its_host(generations: Generations, machine: MachineRecord) -> None:
    decided = decide([Launch(VM, HOST, "it holds it")], {}, {VM: machine}, generations, NOW)
    (launched,), (order,) = decided.machines, decided.orders
    assert (launched.host, launched.generation, launched.state) == (HOST, 7, MachineState.REQUESTED)
    assert (order.kind, order.subject, order.host) == (OrderKind.LAUNCH, VM, HOST)


def test_a_machine_that_never_had_a_host_is_stopped_without_an_order(
    generations: Generations, machine: MachineRecord
) -> None:
    decided = decide([Halt(VM, None, "its user")], {}, {VM: machine}, generations, NOW)
    assert decided.orders == []
    assert [(m.state, m.since) for m in decided.machines] == [(MachineState.STOPPED, NOW)]
    assert not generations.given


def test_a_machine_on_a_host_is_stopping_until_the_host_says_more(
    generations: Generations, machine: MachineRecord
) -> None:
    running = replace(machine, host=HOST, state=MachineState.RUNNING, generation=3)
    decided = decide([Halt(VM, HOST, "its user")], {}, {VM: running}, generations, NOW)
    assert [(m.state, m.generation) for m in decided.machines] == [(MachineState.STOPPING, 7)]
    assert [(o.kind, o.generation) for o in decided.orders] == [(OrderKind.HALT, 7)]


def test_a_machine_whose_host_is_lost_is_given_up_and_is_to_be_halted_should_it_come_back(
    generations: Generations, machine: MachineRecord
) -> None:
    running = replace(machine, host=HOST, state=MachineState.RUNNING, generation=3)
    decided = decide([Renew(VM, OTHER_VM, 4, HOST, "pc is lost")], {}, {VM: running}, generations, NOW)
    (given_up,), (successor,), (order,) = decided.machines, decided.requested, decided.orders
    assert (given_up.state, given_up.successor, given_up.generation) == (MachineState.FAILED, OTHER_VM, 7)
    assert given_up.reason is not None
    assert given_up.reason["key"] == "machine.host-lost"
    assert (order.kind, order.host, order.subject, order.generation) == (OrderKind.HALT, HOST, VM, 7)
    assert (successor.uid, successor.state, successor.host) == (OTHER_VM, MachineState.REQUESTED, None)
    assert (successor.deployment, successor.data, successor.attempt) == (machine.deployment, machine.data, 4)
    assert "pc is lost" in successor.cause


def test_a_machine_that_ended_is_followed_by_another_and_stays_as_it_ended(
    generations: Generations, machine: MachineRecord
) -> None:
    ended = replace(machine, host=HOST, state=MachineState.STOPPED, reason=None)
    decided = decide([Renew(VM, OTHER_VM, 2, None, "it stopped")], {}, {VM: ended}, generations, NOW)
    assert decided.machines == [replace(ended, successor=OTHER_VM)]
    assert decided.orders == []


def test_each_host_has_generations_of_its_own_in_the_order_of_the_plan(generations: Generations) -> None:
    data = [Uid(f"{n:032x}") for n in range(3)]
    actions: list[Action] = [Place(uid, host, LEASE, "") for uid in data for host in (HOST, OTHER)]
    decided = decide(actions, {}, {}, generations, NOW)
    for host in (HOST, OTHER):
        assert [o.generation for o in decided.orders if o.host == host] == [7, 8, 9]
    assert len({order.uid for order in decided.orders}) == 6
    by_pair = {(p.data, p.host): p.generation for p in decided.placements}
    assert by_pair == {(o.subject, o.host): o.generation for o in decided.orders}
