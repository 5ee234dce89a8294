"""One round of planning: every policy suggests, the arbiter commits, what is left open is noted."""

from __future__ import annotations

from datetime import datetime

from .actions import Plan
from .arbiter import Arbiter
from .outlook import outlooks
from .policies import POLICIES
from .snapshot import Snapshot


def plan(snapshot: Snapshot, now: datetime) -> Plan:
    """What to do about the data in `snapshot` at `now` (UTC), and what is left open about each.

    The same facts give the same plan, in whatever order they are given. The cost follows those data and the copies that
    they want, never the number of hosts.
    """
    arbiter = Arbiter(snapshot, now)
    for policy in POLICIES:
        for suggestion in policy(arbiter.ledger):
            arbiter.offer(suggestion)
    return Plan(tuple(arbiter.ledger.actions), tuple(arbiter.refusals), outlooks(arbiter.ledger))
