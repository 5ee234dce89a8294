"""What jobs want of machines, and the machines that were deployed for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bitdew.core.ids import Uid

from .records import JobRecord


@dataclass(frozen=True, slots=True)
class Demand:
    """Jobs of one user that name one disk and have not ended.

    Attributes:
        owner: The user.
        disk: The disk.
        jobs: How many.
        machines: How many machines they want at most.
        waits_since: When the one that has waited longest was queued; None if none waits.
        sample: One of them.
    """

    owner: str
    disk: Uid
    jobs: int
    machines: int
    waits_since: datetime | None
    sample: JobRecord


@dataclass(frozen=True, slots=True)
class Provision:
    """Machines that were deployed for a user's jobs.

    Attributes:
        owner: The user.
        disk: What they run from.
        deployment: They.
        count: How many are wanted now.
        idle_since: Since when no job wants them.
    """

    owner: str
    disk: Uid
    deployment: Uid
    count: int
    idle_since: datetime | None = None
