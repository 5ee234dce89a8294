"""States' tables are closed and connected, and an illegal move is refused with what led to it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import ServiceError, UserError
from bitdew.core.states import (
    HOST,
    INTENDED,
    JOB,
    MACHINE,
    PLACEMENT,
    RUN,
    HostState,
    JobState,
    MachineState,
    PlacementState,
    RunState,
    StateTable,
    job_states,
)

TABLES = [
    (PLACEMENT, PlacementState),
    (HOST, HostState),
    (MACHINE, MachineState),
    (JOB, JobState),
    (RUN, RunState),
]
each_table = pytest.mark.parametrize(("table", "states"), TABLES, ids=[table.subject for table, _ in TABLES])


def reachable(table: StateTable) -> set:
    found, edge = {table.initial}, [table.initial]
    while edge:
        new = table.moves[edge.pop()] - found
        found |= new
        edge += new
    return found


@each_table
def test_every_state_has_its_moves_and_every_move_leads_to_a_state(table: StateTable, states: type) -> None:
    assert set(table.moves) == set(states)
    assert set().union(*table.moves.values()) <= set(states)


@each_table
def test_every_state_can_be_reached(table: StateTable, states: type) -> None:
    assert reachable(table) == set(states)


@each_table
def test_staying_is_legal_and_is_no_move(table: StateTable, states: type) -> None:
    for state in states:
        assert table.check(state, state) is state
        assert state not in table.moves[state]


def test_only_a_machine_ends_for_good() -> None:
    assert PLACEMENT.ends() == HOST.ends() == frozenset()
    assert MACHINE.ends() == {MachineState.STOPPED, MachineState.FAILED}


def test_whatever_a_machine_does_it_can_still_stop_or_fail() -> None:
    for state in set(MachineState) - MACHINE.ends():
        assert MACHINE.allows(state, MachineState.FAILED)
        assert MACHINE.allows(state, MachineState.STOPPED)


def test_a_lost_host_and_its_copies_come_back() -> None:
    assert HOST.allows(HostState.LOST, HostState.ALIVE)
    assert PLACEMENT.allows(PlacementState.LOST, PlacementState.HELD)


def test_a_verified_copy_goes_only_by_being_dropped() -> None:
    assert not PLACEMENT.allows(PlacementState.HELD, PlacementState.GONE)
    assert PLACEMENT.allows(PlacementState.DROPPING, PlacementState.GONE)


def test_a_banned_host_only_joins_anew() -> None:
    assert HOST.moves[HostState.BANNED] == {HostState.JOINING}


def test_what_is_intended_is_on_its_way_and_not_there() -> None:
    assert PlacementState.HELD not in INTENDED
    assert all(PLACEMENT.allows(state, PlacementState.HELD) for state in INTENDED)


def test_an_illegal_move_is_refused_with_its_history_and_what_could_be_next() -> None:
    past = [MachineState.REQUESTED, MachineState.RUNNING]
    with pytest.raises(ServiceError) as refused:
        MACHINE.check(MachineState.STOPPING, MachineState.RUNNING, of="vm-7", history=past)
    assert refused.value.key == "move.illegal"
    assert refused.value.message == "A machine vm-7 can't go from stopping to running"
    assert refused.value.why == "it came by requested → running → stopping; next could be failed, stopped"
    assert refused.value.fields == {
        "subject": "machine",
        "of": "vm-7",
        "history": ["requested", "running", "stopping"],
        "refused": "running",
    }


def test_an_end_is_told_as_such() -> None:
    with pytest.raises(ServiceError) as refused:
        MACHINE.check(MachineState.FAILED, MachineState.RUNNING)
    assert refused.value.message == "A machine can't go from failed to running"
    assert "next could be nothing" in refused.value.why


@each_table
@given(data=st.data())
def test_any_walk_along_the_table_is_allowed_and_any_step_off_it_refused(
    table: StateTable, states: type, data: st.DataObject
) -> None:
    state, history = table.initial, []
    for wanted in data.draw(st.lists(st.sampled_from(list(states)), max_size=20)):
        if wanted == state or wanted in table.moves[state]:
            assert table.allows(state, wanted)
            assert table.check(state, wanted, of="x", history=history) is wanted
            history.append(state)
            state = wanted
        else:
            assert not table.allows(state, wanted)
            with pytest.raises(ServiceError) as refused:
                table.check(state, wanted, of="x", history=history)
            assert refused.value.fields["history"] == [*map(str, history), str(state)]
            assert refused.value.fields["refused"] == str(wanted)


@each_table
def test_the_diagram_shows_every_move_and_no_other(table: StateTable, states: type) -> None:
    first, *lines = table.to_mermaid().splitlines()
    assert first == "stateDiagram-v2"
    names = {state.replace("-", "_"): state for state in states}
    arrows = [re.fullmatch(r"    (\S+) --> (\S+)", line) for line in lines]
    drawn = [(arrow[1], arrow[2]) for arrow in arrows if arrow]
    assert len(set(drawn)) == len(drawn)
    assert {(names[a], names[b]) for a, b in drawn if "[*]" not in {a, b}} == {
        (str(a), str(b)) for a, after in table.moves.items() for b in after
    }
    assert [names[b] for a, b in drawn if a == "[*]"] == [str(table.initial)]
    assert {names[a] for a, b in drawn if b == "[*]"} == set(table.ends())


def test_the_diagram_names_states_whose_words_it_can_not_spell() -> None:
    assert "    waiting_for_disk: waiting-for-disk" in MACHINE.to_mermaid().splitlines()
    assert ":" not in HOST.to_mermaid()


def test_states_of_jobs_are_read_from_what_people_write_and_others_are_refused() -> None:
    assert job_states("queued,running") == [JobState.QUEUED, JobState.RUNNING]
    for odd in ("odd", "queued,", "Queued"):
        with pytest.raises(UserError) as refusal:
            job_states(odd)
        assert refusal.value.key == "input.invalid"
        assert "queued" in refusal.value.why
