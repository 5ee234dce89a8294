"""When another machine takes a machine's place, and after which pause."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from bitdew.core.restarting import LONG_RUN, MOST_ATTEMPTS, Restart, next_attempt, pause
from bitdew.core.states import MACHINE, MachineState


@pytest.mark.parametrize(
    ("restart", "replaced"),
    [
        (Restart.ALWAYS, {MachineState.FAILED, MachineState.STOPPED}),
        (Restart.ON_FAILURE, {MachineState.FAILED}),
        (Restart.NEVER, set()),
    ],
)
def test_each_word_says_which_ends_are_made_up_for(restart: Restart, replaced: set[MachineState]) -> None:
    assert {state for state in MachineState if restart.replaces(state)} == replaced
    assert replaced <= MACHINE.ends()


def test_the_pause_doubles_with_each_attempt_and_stays_bounded() -> None:
    pauses = [pause(attempt) for attempt in range(1, MOST_ATTEMPTS + 1)]
    assert pauses[0] == timedelta(seconds=5)
    assert all(later == 2 * earlier for earlier, later in pairwise(pauses))
    assert pause(10**6) == pauses[-1]


def test_one_that_ran_for_long_is_followed_by_a_first_attempt() -> None:
    assert next_attempt(5, LONG_RUN) == 1
    assert next_attempt(5, LONG_RUN - timedelta(seconds=1)) == 6
