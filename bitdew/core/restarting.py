"""When another machine takes the place of one that ended, or whose host is gone. Pure: states and instants.

Owns the words of a deployment's `restart` and its pauses. Where the next machine runs is the planner's choice.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Final

from .states import MachineState

LONG_RUN: Final = timedelta(minutes=10)
"""A machine that ran so long was a good one: its successor counts as a first attempt again."""
MOST_ATTEMPTS: Final = 7
"""Machines in a row, none of which ran for long, after which the place stays empty: the disk is at fault."""
_FIRST_PAUSE: Final = timedelta(seconds=5)


class Restart(StrEnum):
    """Which machines another one takes the place of. One that its user stopped is never replaced."""

    ALWAYS = "always"
    """Those that ended, however that was, and those whose host is lost."""
    ON_FAILURE = "on-failure"
    """Those that failed, and those whose host is lost."""
    NEVER = "never"
    """None: a machine on a host that is lost waits for it."""

    def replaces(self, state: MachineState) -> bool:
        """Whether one that ended in `state` by itself is replaced."""
        if state is MachineState.FAILED:
            return self is not Restart.NEVER
        return self is Restart.ALWAYS and state is MachineState.STOPPED


def pause(attempt: int) -> timedelta:
    """How long the place of the machine that was number `attempt` in a row stays empty: twice as long each time."""
    return _FIRST_PAUSE * int(2 ** (min(attempt, MOST_ATTEMPTS) - 1))


def next_attempt(attempt: int, ran: timedelta) -> int:
    """The number of the machine that follows number `attempt`, which ran so long."""
    return 1 if ran >= LONG_RUN else attempt + 1
