"""One round of planning: every policy suggests, the arbiter commits, the wakes are noted."""

from __future__ import annotations

from datetime import datetime

from .actions import Plan
from .arbiter import Arbiter
from .policies import POLICIES
from .snapshot import Snapshot
from .waking import wakes


def plan(snapshot: Snapshot, now: datetime) -> Plan:
    """What to do about the data in `snapshot` at `now` (UTC), and when to look again.

    The same facts give the same plan, in whatever order they are given.
    """
    arbiter = Arbiter(snapshot, now)
    for policy in POLICIES:
        for suggestion in policy(arbiter.ledger):
            arbiter.offer(suggestion)
    ledger, refusals = arbiter.ledger, arbiter.refusals
    return Plan(tuple(ledger.actions), wakes(ledger, refusals), tuple(refusals))
