"""Reports: what a host says is taken for true of that host, in any order, and nothing is counted that was not said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bitdew.scheduler.planner import PlannerSettings
from bitdew.scheduler.records import MachineRecord, PlacementRecord
from bitdew.scheduler.reports import HISTORY, judge_machine, judge_placement, vanished_machine, vanished_placement
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import ERRORS
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import MACHINE, MachineState, PlacementState
from bitdew.wire.models import ErrorView, MachineReport, PlacementReport

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DATUM, HOST, OTHER = Uid("d" * 32), HostId("a" * 32), HostId("b" * 32)
FIGURES = PlannerSettings(retry_first=timedelta(seconds=10), retry_most=timedelta(seconds=60))
P, M = PlacementState, MachineState


def report(state: PlacementState, generation: int = 5, **says: Any) -> PlacementReport:
    said = {"uid": DATUM, "root": "0" * 64, "state": state, "generation": generation, "size": 1000}
    return PlacementReport.model_validate(said | says)


def judged(known: PlacementRecord | None, said: PlacementReport, now: datetime = NOW) -> PlacementRecord | None:
    return judge_placement(known, said, HOST, now, FIGURES)


def placed(state: PlacementState, generation: int = 5, **changes: Any) -> PlacementRecord:
    found = judged(None, report(P.FETCHING if state is not P.FETCHING else P.HELD, generation))
    assert found is not None
    lease = NOW + timedelta(seconds=120)
    return replace(found, state=state, history=[], lease_until=lease, reason=None, **changes)


def fault(key: str = "swarm.stalled") -> ErrorView:
    return ErrorView(key=key, message="It stopped.")


# Placements -----------------------------------------------------------------------------------------------------------


def test_a_copy_that_was_not_known_is_adopted() -> None:
    fresh = judged(None, report(P.HELD, 7, done=1000))
    assert fresh is not None
    assert (fresh.state, fresh.generation, fresh.host, fresh.data) == (P.HELD, 7, HOST, DATUM)
    assert "adopted" in fresh.cause


@pytest.mark.parametrize("state", list(P))
@pytest.mark.parametrize("known", list(P))
def test_a_report_from_before_the_last_order_changes_nothing(known: PlacementState, state: PlacementState) -> None:
    assert judged(placed(known, 5), report(state, 4)) is None


@pytest.mark.parametrize("state", list(P))
def test_saying_the_same_again_changes_nothing(state: PlacementState) -> None:
    said = report(state, reason=fault() if state is P.FAILED else None)
    fresh = judged(placed(P.ASSIGNED if state is not P.ASSIGNED else P.FETCHING), said)
    assert fresh is not None
    assert judged(fresh, said, NOW + timedelta(seconds=9)) is None


def test_a_verified_copy_has_no_lease_no_failures_and_no_reason() -> None:
    known = placed(P.VERIFYING, failures=3, retry_at=NOW)
    fresh = judged(known, report(P.HELD, done=1000, seconds=2.5, from_peers=600, from_repository=400))
    assert fresh is not None
    assert (fresh.lease_until, fresh.failures, fresh.retry_at, fresh.reason) == (None, 0, None, None)
    assert (fresh.seconds, fresh.from_peers, fresh.from_repository) == (2.5, 600, 400)


def test_each_failure_in_a_row_waits_longer_up_to_the_most() -> None:
    known, waits = placed(P.FETCHING), []
    for generation in range(6, 12):
        fresh = judged(replace(known, state=P.ASSIGNED), report(P.FAILED, generation, reason=fault()))
        assert fresh is not None
        assert fresh.retry_at is not None
        waits.append((fresh.retry_at - NOW).total_seconds())
        known = fresh
    assert waits == [10, 20, 40, 60, 60, 60]
    assert known.reason is not None
    assert known.reason["key"] == "swarm.stalled"


def test_a_copy_on_its_way_keeps_its_lease() -> None:
    known = placed(P.ASSIGNED)
    fresh = judged(known, report(P.FETCHING))
    assert fresh is not None
    assert fresh.lease_until == known.lease_until


def test_what_is_gone_stays_gone_unless_it_is_held() -> None:
    gone = placed(P.GONE)
    assert [judged(gone, report(state)) for state in P if state is not P.HELD] == [None] * (len(P) - 1)
    back = judged(gone, report(P.HELD))
    assert back is not None
    assert "unforeseen held" in back.history


def test_history_is_bounded() -> None:
    known = placed(P.ASSIGNED)
    for turn in range(100):
        fresh = judged(known, report([P.FETCHING, P.VERIFYING][turn % 2]))
        assert fresh is not None
        known = fresh
    assert len(known.history) == HISTORY


_reports = st.builds(
    report,
    st.sampled_from(P),
    st.integers(0, 4),
    done=st.integers(0, 1000),
    reason=st.none() | st.sampled_from(sorted(ERRORS)).map(fault),
)
_events = st.lists(_reports | st.integers(1, 4) | st.just("inventory"), max_size=30)


@given(events=_events, known=st.booleans())
def test_no_course_of_reports_orders_and_inventories_raises_or_counts_a_copy_that_was_not_said_to_be_held(
    events: list[PlacementReport | int | str], *, known: bool
) -> None:
    """An integer is a new order to place it; "inventory" is a full one that does not show it."""
    record = placed(P.ASSIGNED, 1) if known else None
    said_held = False
    for turn, event in enumerate(events):
        now = NOW + timedelta(seconds=turn)
        if isinstance(event, PlacementReport):
            generation = record.generation if record else 0
            fresh = judged(record, event, now)
            if event.generation < generation:
                assert fresh is None
            else:
                said_held = event.state is P.HELD or (said_held and fresh is None)
            record = fresh or record
        elif isinstance(event, int) and record:
            record = replace(record, state=P.ASSIGNED, generation=record.generation + event)
            said_held = False
        elif record:
            vanished = vanished_placement(record, now, ordered=True)
            said_held = said_held and vanished is None
            record = vanished or record
        if record and record.state is P.HELD:
            assert said_held
        assert record is None or len(record.history) <= HISTORY


@given(said=st.permutations([report(P.FETCHING, 2), report(P.VERIFYING, 2), report(P.FAILED, 1), report(P.HELD, 3)]))
def test_the_newest_generation_wins_in_any_order_of_arrival(said: list[PlacementReport]) -> None:
    record = placed(P.ASSIGNED, 1)
    for one in said:
        record = judged(record, one) or record
    assert record.state is P.HELD


# What an inventory does not show --------------------------------------------------------------------------------------


def test_a_held_copy_that_is_not_there_has_failed_and_may_be_made_again_at_once() -> None:
    lost = vanished_placement(placed(P.HELD), NOW, ordered=False)
    assert lost is not None
    assert (lost.state, lost.retry_at, lost.done) == (P.FAILED, NOW, 0)
    assert lost.reason is not None
    assert lost.reason["key"] == "storage.failed"


def test_a_copy_that_was_being_dropped_is_gone() -> None:
    gone = vanished_placement(placed(P.DROPPING), NOW, ordered=False)
    assert gone is not None
    assert gone.state is P.GONE


@pytest.mark.parametrize("state", [P.ASSIGNED, P.FETCHING, P.VERIFYING, P.FAILED, P.GONE, P.LOST])
def test_nothing_follows_from_the_absence_of_what_was_not_there_yet(state: PlacementState) -> None:
    assert vanished_placement(placed(state), NOW, ordered=True) is None


@pytest.mark.parametrize("state", [P.ASSIGNED, P.FETCHING, P.VERIFYING])
def test_a_copy_on_its_way_that_the_host_forgot_and_no_order_brings_is_told_anew(state: PlacementState) -> None:
    forgotten = vanished_placement(placed(state), NOW, ordered=False)
    assert forgotten is not None
    assert (forgotten.state, forgotten.retry_at) == (P.FAILED, NOW)


# Machines -------------------------------------------------------------------------------------------------------------


def machine(state: MachineState, **changes: Any) -> MachineRecord:
    uid = Uid("1" * 32)
    record = MachineRecord(uid, Uid("2" * 32), DATUM, HOST, state, NOW, 5, False, "", None, "", 0)  # noqa: FBT003
    return replace(record, **changes)


def said(state: MachineState, generation: int = 5, **says: Any) -> MachineReport:
    return MachineReport.model_validate({"uid": "1" * 32, "state": state, "generation": generation} | says)


@pytest.mark.parametrize("end", sorted(MACHINE.ends()))
@pytest.mark.parametrize("state", list(M))
def test_what_has_ended_stays_ended(end: MachineState, state: MachineState) -> None:
    assert judge_machine(machine(end), said(state, 9), HOST, NOW) is None


def test_only_its_own_host_speaks_of_a_machine() -> None:
    assert judge_machine(machine(M.STARTING), said(M.RUNNING), OTHER, NOW) is None
    fresh = judge_machine(machine(M.STARTING), said(M.RUNNING, hypervisor="qemu"), HOST, NOW)
    assert fresh is not None
    assert (fresh.state, fresh.hypervisor) == (M.RUNNING, "qemu")


def test_a_stale_or_repeated_report_of_a_machine_changes_nothing() -> None:
    assert judge_machine(machine(M.STOPPING), said(M.RUNNING, 4), HOST, NOW) is None
    known = machine(M.RUNNING, hypervisor="qemu")
    assert judge_machine(known, said(M.RUNNING, hypervisor="qemu"), HOST, NOW) is None
    assert judge_machine(known, said(M.RUNNING), HOST, NOW) is None


def test_a_running_machine_that_is_not_there_has_failed_and_one_on_its_way_has_not() -> None:
    lost = vanished_machine(machine(M.RUNNING), NOW)
    assert lost is not None
    assert lost.state is M.FAILED
    assert lost.reason is not None
    assert lost.reason["key"] == "hypervisor.failed"
    for state in (M.REQUESTED, M.WAITING, *MACHINE.ends()):
        assert vanished_machine(machine(state), NOW) is None


@given(st.lists(st.builds(said, st.sampled_from(M), st.integers(3, 7)), max_size=20))
def test_no_course_of_reports_of_a_machine_raises_or_revives_it(reports: list[MachineReport]) -> None:
    record, ended = machine(M.REQUESTED), False
    for one in reports:
        fresh = judge_machine(record, one, HOST, NOW)
        assert not (ended and fresh)
        record = fresh or record
        ended = record.state in MACHINE.ends()
