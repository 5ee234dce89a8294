"""What a plan says: actions, each with the cause that led to it, and when to plan again.

Owns the planner's answer. Performing it is the engine's part.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bitdew.core.ids import HostId, Uid


@dataclass(frozen=True, slots=True)
class Place:
    """Bring the datum `uid` to a host, for the first time or again after a failure.

    Attributes:
        uid: The datum.
        host_id: The host.
        lease_until: Until when it counts as intended if nothing is heard of it.
        cause: Why, as a sentence for people.
        repair: Whether it makes up for a copy that stopped counting.
    """

    uid: Uid
    host_id: HostId
    lease_until: datetime
    cause: str
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Take the datum `uid` off a host, or stop it on its way there; `cause` says why."""

    uid: Uid
    host_id: HostId
    cause: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a machine on a host that holds its disk; `cause` says why there."""

    machine_uid: Uid
    host_id: HostId
    cause: str


@dataclass(frozen=True, slots=True)
class Halt:
    """End a machine. Without a host it was never launched: it has only to be marked as stopped."""

    machine_uid: Uid
    host_id: HostId | None
    cause: str


Action = Place | Drop | Launch | Halt


@dataclass(frozen=True, slots=True)
class Wake:
    """The plan for the datum `uid` changes at `at` though no fact does; `why` is a sentence for people."""

    uid: Uid
    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A suggestion that the arbiter did not let pass, and the rule that it would have broken."""

    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer to one snapshot.

    Attributes:
        actions: What to do, in order.
        wakes: For each datum that waits for an instant, that instant and why; earliest first.
        refusals: What policies suggested in vain.
    """

    actions: tuple[Action, ...] = ()
    wakes: tuple[Wake, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def wake_at(self) -> datetime | None:
        """When to plan again though no fact changes, or None if only facts can change the plan."""
        return self.wakes[0].at if self.wakes else None
