"""Liveness: silence of one period makes a host suspect, of three lost; being heard makes it alive again."""

from __future__ import annotations

import pytest
from bitdew.scheduler.liveness import GRACE, Liveness
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.ids import HostId
from bitdew.core.states import HOST, HostState

PERIOD = 20.0
A, B = HostId("a" * 32), HostId("b" * 32)


@pytest.fixture
def liveness() -> Liveness:
    return Liveness(PERIOD)


def states(liveness: Liveness, now: float) -> dict[HostId, HostState]:
    return {silence.host: silence.new for silence in liveness.judge(now)}


def test_a_host_is_alive_from_its_first_sync(liveness: Liveness) -> None:
    assert liveness.heard(A, 0) is HostState.ALIVE
    assert liveness.heard(A, 1) is None
    assert states(liveness, 1) == {}


def test_a_late_sync_is_not_a_missed_one(liveness: Liveness) -> None:
    liveness.heard(A, 0)
    assert states(liveness, PERIOD * (1 + GRACE)) == {}
    assert states(liveness, PERIOD * (1 + GRACE) + 0.1) == {A: HostState.SUSPECT}


def test_a_host_is_lost_after_three_periods_and_told_once(liveness: Liveness) -> None:
    liveness.heard(A, 0)
    liveness.judge(PERIOD * 2)
    assert states(liveness, PERIOD * 3 + GRACE * PERIOD) == {}
    assert states(liveness, PERIOD * 3 + GRACE * PERIOD + 0.1) == {A: HostState.LOST}
    assert states(liveness, PERIOD * 50) == {}


def test_a_jump_of_the_clock_goes_straight_from_alive_to_lost(liveness: Liveness) -> None:
    liveness.heard(A, 0)
    (silence,) = liveness.judge(PERIOD * 100)
    assert (silence.old, silence.new, silence.seconds) == (HostState.ALIVE, HostState.LOST, PERIOD * 100)


@pytest.mark.parametrize("silence", [PERIOD * 2, PERIOD * 10])
def test_being_heard_makes_a_silent_host_alive_again(liveness: Liveness, silence: float) -> None:
    liveness.heard(A, 0)
    liveness.judge(silence)
    assert liveness.heard(A, silence) is HostState.ALIVE
    assert states(liveness, silence + PERIOD) == {}


def test_one_hosts_silence_says_nothing_of_another(liveness: Liveness) -> None:
    liveness.heard(A, 0)
    liveness.heard(B, 0)
    liveness.heard(B, PERIOD * 4)
    assert states(liveness, PERIOD * 4) == {A: HostState.LOST}


def test_a_restart_gives_everyone_a_whole_period(liveness: Liveness) -> None:
    liveness.load({A: HostState.ALIVE, B: HostState.LOST}, now=1000)
    assert states(liveness, 1000 + PERIOD) == {}
    assert states(liveness, 1000 + PERIOD * 2) == {A: HostState.SUSPECT}
    assert liveness.heard(B, 1000 + PERIOD * 2) is HostState.ALIVE


def test_a_banned_host_stays_so(liveness: Liveness) -> None:
    liveness.load({A: HostState.BANNED}, now=0)
    assert liveness.heard(A, 1) is None
    assert states(liveness, PERIOD * 100) == {}


def test_a_drained_host_is_lost_like_others_and_drained_again_when_it_returns(liveness: Liveness) -> None:
    liveness.load({A: HostState.DRAINED, B: HostState.ALIVE}, now=0, drained=[A])
    assert liveness.heard(A, 1) is None
    liveness.heard(B, 1)
    liveness.drain(B, HostState.DRAINED, drained=True)
    assert states(liveness, 1 + PERIOD * 3) == {}
    assert states(liveness, 1 + PERIOD * 4) == {A: HostState.LOST, B: HostState.LOST}
    liveness.drain(B, HostState.LOST, drained=False)
    assert liveness.heard(A, PERIOD * 5) is HostState.DRAINED
    assert liveness.heard(B, PERIOD * 5) is HostState.ALIVE


class EveryoneIsLookedAt:
    """Liveness as it is said in words: all hosts are looked at each time."""

    def __init__(self) -> None:
        self.heard: dict[HostId, float] = {}
        self.states: dict[HostId, HostState] = {}

    def judge(self, now: float) -> dict[HostId, HostState]:
        found = {}
        for host, moment in self.heard.items():
            old = self.states[host]
            if now - moment > PERIOD * (3 + GRACE) and old in {
                HostState.ALIVE,
                HostState.SUSPECT,
                HostState.JOINING,
                HostState.DRAINED,
            }:
                found[host] = HostState.LOST
            elif now - moment > PERIOD * (1 + GRACE) and old is HostState.ALIVE:
                found[host] = HostState.SUSPECT
        self.states |= found
        return found


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["heard", "heard before", "learnt", "judged"]),
            st.sampled_from([A, B]),
            st.sampled_from([HostState.ALIVE, HostState.SUSPECT, HostState.LOST, HostState.DRAINED]),
            st.floats(0, PERIOD * 2),
        ),
        max_size=60,
    )
)
def test_hosts_that_are_not_looked_at_are_judged_as_if_they_were(
    steps: list[tuple[str, HostId, HostState, float]],
) -> None:
    liveness, plain, now = Liveness(PERIOD), EveryoneIsLookedAt(), 0.0
    liveness.load({A: HostState.ALIVE, B: HostState.JOINING}, now)
    plain.states, plain.heard = {A: HostState.ALIVE, B: HostState.JOINING}, {A: now, B: now}
    for step, host, state, passed in steps:
        now += passed
        match step:
            case "heard":
                plain.heard[host] = now
                if (new := liveness.heard(host, now)) is not None:
                    plain.states[host] = new
            case "heard before":
                liveness.heard_before(host, now - PERIOD / 2)
                plain.heard[host] = max(plain.heard[host], now - PERIOD / 2)
            case "learnt":
                liveness.learn(host, state, now)
                plain.states[host], plain.heard[host] = state, now
            case _:
                assert states(liveness, now) == plain.judge(now)


@given(steps=st.lists(st.tuples(st.booleans(), st.sampled_from([A, B]), st.floats(0, PERIOD * 5)), max_size=40))
def test_no_course_of_syncs_and_silences_makes_a_move_that_the_table_forbids(
    steps: list[tuple[bool, HostId, float]],
) -> None:
    liveness, now, heard = Liveness(PERIOD), 0.0, dict[HostId, float]()
    seen: dict[HostId, HostState] = {}
    for is_sync, host, passed in steps:
        now += passed
        if is_sync:
            old, new = seen.get(host, HostState.JOINING), liveness.heard(host, now)
            heard[host] = now
            if new is not None:
                assert HOST.allows(old, new)
                seen[host] = new
            assert seen[host] is HostState.ALIVE
        else:
            for silence in liveness.judge(now):
                assert seen[silence.host] is silence.old
                assert HOST.allows(silence.old, silence.new)
                seen[silence.host] = silence.new
            for known, moment in heard.items():
                assert (seen[known] is HostState.LOST) == (now - moment > PERIOD * (3 + GRACE))
