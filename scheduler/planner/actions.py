"""What a plan says: actions, each with the cause that led to it, and what is left open about each datum.

Owns the planner's answer. Performing it is the engine's part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

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


class Fate(StrEnum):
    """What becomes of a machine whose place another takes."""

    OVER = "over"
    """It has ended; if nobody knows that, it counts as failed from then on."""
    STOPS = "stops"
    """It is told to stop."""
    RUNS_ON = "runs on"
    """It runs on until the other does."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Have another machine take the place of one that ended, or whose host is lost or drained.

    Attributes:
        machine_uid: The machine.
        successor: The uid of the other: it follows from this one's, so that none gets two.
        attempt: The successor's number among those in a row of which none ran for long.
        halt_on: The host that is told to end the machine, should it come back; None if it has ended or runs on.
        cause: Why, as a sentence for people.
        fate: What becomes of the machine.
    """

    machine_uid: Uid
    successor: Uid
    attempt: int
    halt_on: HostId | None
    cause: str
    fate: Fate = Fate.OVER


@dataclass(frozen=True, slots=True)
class Expire:
    """End the life of the datum `uid`: its copies are dropped by the plans that follow. `cause` says why."""

    uid: Uid
    cause: str


Action = Place | Drop | Launch | Halt | Renew | Expire


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is left open about a datum when the plan is carried out, and what could change that.

    Attributes:
        uid: The datum.
        missing: Copies that are neither there, nor on their way, nor placed by this plan.
        open: Whether a host that joins, changes or gets room could change the plan: copies are missing, values of the
            spread's label are shared, copies that may not stay have nowhere to go, or machines have no host. A host
            that becomes eligible for data that are wanted on every host is not announced by it: those who feed the
            planner look for what such a host lacks.
        machines: Whether machines have no host yet, or one that they are to leave, and wait for room that jobs have.
        held_back: Whether repairs were held back: they are begun a few at a time, and whoever feeds the planner gives
            each datum its turn. There is no instant for it in `wake_at`.
        wake_at: When the plan changes though no fact does, or None.
        why: What happens then, as a sentence for people; "" without `wake_at`.
        reason: Why it is short of what is wished, for people; "" if it is not.
    """

    uid: Uid
    missing: int = 0
    open: bool = False
    machines: bool = False
    held_back: bool = False
    wake_at: datetime | None = None
    why: str = ""
    reason: str = ""


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
        refusals: What policies suggested in vain.
        outlooks: For each datum of the snapshot, what is left open about it.
    """

    actions: tuple[Action, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    outlooks: Mapping[Uid, Outlook] = field(default_factory=dict)

    @property
    def wake_at(self) -> datetime | None:
        """When to plan again though no fact changes, or None if only facts can change the plan."""
        return min((outlook.wake_at for outlook in self.outlooks.values() if outlook.wake_at), default=None)
