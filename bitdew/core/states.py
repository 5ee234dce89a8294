"""States as tables: what may follow what, for placements, hosts and machines.

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
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True)
class StateTable(Generic[S]):
    """The legal moves of one kind of thing.

    Attributes:
        subject: What has the states: "placement", "host" or "machine".
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
        _H.LOST: frozenset({_H.ALIVE, _H.BANNED}),
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
        _M.REQUESTED: frozenset({_M.WAITING, _M.PREPARING, _M.STARTING, _M.RUNNING}) | _ACTIVE,
        _M.WAITING: frozenset({_M.REQUESTED, _M.PREPARING, _M.STARTING, _M.RUNNING}) | _ACTIVE,
        _M.PREPARING: frozenset({_M.STARTING, _M.RUNNING}) | _ACTIVE,
        _M.STARTING: frozenset({_M.RUNNING}) | _ACTIVE,
        _M.RUNNING: _ACTIVE,
        _M.STOPPING: frozenset({_M.STOPPED, _M.FAILED}),
        _M.STOPPED: frozenset(),
        _M.FAILED: frozenset(),
    },
)
