"""States as tables: what may follow what, for placements, hosts, machines, jobs and their runs.

The diagrams in the docs are drawn from these tables, and an illegal move is refused with the states that led there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, TypeVar

from .errors import error


class PlacementState(StrEnum):
    """One datum on one host."""

    ASSIGNED = "assigned"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    HELD = "held"
    DROPPING = "dropping"
    GONE = "gone"
    FAILED = "failed"
    LOST = "lost"


class HostState(StrEnum):
    """A machine that runs a worker, as the scheduler sees it."""

    JOINING = "joining"
    ALIVE = "alive"
    SUSPECT = "suspect"
    LOST = "lost"
    DRAINED = "drained"
    BANNED = "banned"


class MachineState(StrEnum):
    """One VM of a deployment on one host."""

    REQUESTED = "requested"
    WAITING = "waiting-for-disk"
    PREPARING = "preparing"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class JobState(StrEnum):
    """One command with its inputs and outputs, as who submitted it sees it."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    STAGING = "staging"
    RUNNING = "running"
    STORING = "storing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """One attempt of a job on one host."""

    ASSIGNED = "assigned"
    STAGING = "staging"
    RUNNING = "running"
    STORING = "storing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


def job_states(text: str) -> list[JobState]:
    """The states that `text` names, with commas between them.

    Raises:
        UserError: `input.invalid`.
    """
    try:
        return [JobState(one) for one in text.split(",")]
    except ValueError:
        why = f"it is one of {', '.join(JobState)}, or several of them with commas"
        raise error("input.invalid", f"{text[:80]!r} is no state of jobs", why=why, field="state") from None


S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True)
class StateTable(Generic[S]):
    """The legal moves of one kind of thing.

    Attributes:
        subject: What has the states: "placement", "host", "machine", "job" or "run".
        initial: The state that it starts in.
        moves: For each state, the states that may follow it. Staying is always legal and is no move.
    """

    subject: str
    initial: S
    moves: dict[S, frozenset[S]] = field(hash=False)

    def allows(self, old: S, new: S) -> bool:
        """Whether `new` may follow `old`."""
        return old == new or new in self.moves[old]

    def check(self, old: S, new: S, *, of: str = "", history: Iterable[S] = ()) -> S:
        """`new`, if it may follow `old`.

        Raises:
            ServiceError: `move.illegal`, with the history.
        """
        if self.allows(old, new):
            return new
        past = [*map(str, history), str(old)]
        raise error(
            "move.illegal",
            f"A {self.subject} {of} can't go from {old} to {new}".replace("  ", " "),
            why=f"it came by {' → '.join(past)}; next could be {', '.join(sorted(self.moves[old])) or 'nothing'}",
            subject=self.subject,
            of=of,
            history=past,
            refused=str(new),
        )

    def ends(self) -> frozenset[S]:
        """The states that nothing follows."""
        return frozenset(state for state, after in self.moves.items() if not after)

    def to_mermaid(self) -> str:
        """The table as a Mermaid state diagram."""
        lines = ["stateDiagram-v2", f"    [*] --> {_identifier(self.initial)}"]
        lines += [f"    {_identifier(s)}: {s}" for s in self.moves if _identifier(s) != s]
        lines += [
            f"    {_identifier(a)} --> {_identifier(b)}" for a, after in self.moves.items() for b in sorted(after)
        ]
        lines += [f"    {_identifier(s)} --> [*]" for s in self.moves if not self.moves[s]]
        return "\n".join(lines)


def _identifier(state: StrEnum) -> str:
    return str(state).replace("-", "_")


_P = PlacementState
PLACEMENT: Final = StateTable(
    "placement",
    _P.ASSIGNED,
    {
        # A worker that already has the bytes, or reports late, may pass over states that it went through unseen.
        _P.ASSIGNED: frozenset({_P.FETCHING, _P.VERIFYING, _P.HELD, _P.FAILED, _P.DROPPING, _P.LOST}),
        _P.FETCHING: frozenset({_P.VERIFYING, _P.HELD, _P.FAILED, _P.DROPPING, _P.LOST, _P.ASSIGNED}),
        _P.VERIFYING: frozenset({_P.HELD, _P.FETCHING, _P.FAILED, _P.DROPPING, _P.LOST}),
        _P.HELD: frozenset({_P.DROPPING, _P.LOST, _P.FAILED, _P.FETCHING}),
        _P.DROPPING: frozenset({_P.GONE, _P.FAILED, _P.LOST}),
        _P.FAILED: frozenset({_P.ASSIGNED, _P.DROPPING, _P.GONE, _P.LOST, _P.HELD}),
        _P.LOST: frozenset({_P.HELD, _P.FETCHING, _P.VERIFYING, _P.ASSIGNED, _P.FAILED, _P.GONE, _P.DROPPING}),
        _P.GONE: frozenset({_P.ASSIGNED}),
    },
)

INTENDED: Final = frozenset({_P.ASSIGNED, _P.FETCHING, _P.VERIFYING})
"""Placements that are on their way: nothing else is planned in their stead while their lease holds."""

_H = HostState
HOST: Final = StateTable(
    "host",
    _H.JOINING,
    {
        _H.JOINING: frozenset({_H.ALIVE, _H.LOST, _H.BANNED}),
        _H.ALIVE: frozenset({_H.SUSPECT, _H.LOST, _H.DRAINED, _H.BANNED}),
        _H.SUSPECT: frozenset({_H.ALIVE, _H.LOST, _H.DRAINED, _H.BANNED}),
        # A drained host stays drained, whatever happens to it, until it is said otherwise.
        _H.LOST: frozenset({_H.ALIVE, _H.DRAINED, _H.BANNED}),
        _H.DRAINED: frozenset({_H.ALIVE, _H.LOST, _H.BANNED}),
        _H.BANNED: frozenset({_H.JOINING}),
    },
)

_M = MachineState
_ACTIVE: Final = frozenset({_M.STOPPING, _M.STOPPED, _M.FAILED})
MACHINE: Final = StateTable(
    "machine",
    _M.REQUESTED,
    {
        _M.REQUESTED: frozenset({_M.WAITING, _M.PREPARING, _M.STARTING, _M.RUNNING, _M.PAUSED}) | _ACTIVE,
        _M.WAITING: frozenset({_M.REQUESTED, _M.PREPARING, _M.STARTING, _M.RUNNING, _M.PAUSED}) | _ACTIVE,
        _M.PREPARING: frozenset({_M.STARTING, _M.RUNNING, _M.PAUSED}) | _ACTIVE,
        _M.STARTING: frozenset({_M.RUNNING, _M.PAUSED}) | _ACTIVE,
        _M.RUNNING: frozenset({_M.PAUSED}) | _ACTIVE,
        _M.PAUSED: frozenset({_M.RUNNING}) | _ACTIVE,
        _M.STOPPING: frozenset({_M.STOPPED, _M.FAILED}),
        _M.STOPPED: frozenset(),
        _M.FAILED: frozenset(),
    },
)

_J = JobState
_J_LIVE: Final = (_J.ASSIGNED, _J.STAGING, _J.RUNNING, _J.STORING)
JOB: Final = StateTable(
    "job",
    _J.QUEUED,
    {
        _J.QUEUED: frozenset({_J.ASSIGNED, _J.FAILED, _J.CANCELLED}),
        # Of several runs the furthest counts, and each may be lost: a job may fall back to any earlier state.
        **{state: frozenset({*_J} - {state}) for state in _J_LIVE},
        _J.DONE: frozenset(),
        _J.FAILED: frozenset(),
        _J.CANCELLED: frozenset(),
    },
)

_R = RunState
_R_ENDS: Final = (_R.FAILED, _R.CANCELLED, _R.LOST)
RUN: Final = StateTable(
    "run",
    _R.ASSIGNED,
    {
        # A host whose reports were lost may have gone through states unseen.
        _R.ASSIGNED: frozenset({_R.STAGING, _R.RUNNING, _R.STORING, *_R_ENDS}),
        # One that was begun anew on its host goes back.
        _R.STAGING: frozenset({_R.RUNNING, _R.STORING, *_R_ENDS}),
        _R.RUNNING: frozenset({_R.STAGING, _R.STORING, *_R_ENDS}),
        _R.STORING: frozenset({_R.STAGING, _R.RUNNING, _R.DONE, *_R_ENDS}),
        _R.DONE: frozenset(),
        **{state: frozenset() for state in _R_ENDS},
    },
)
