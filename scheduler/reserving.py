"""Hosts that are kept free for machines: asked by whoever gives hosts to jobs.

Owns how often that is found out: what it costs follows the disks that machines wait with, and jobs are matched many
times a second. The choice is the planner's (`planner/reserving.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import Final

from bitdew.core.ids import HostId, Uid

from .known import Known
from .planner.reserving import OVERDUE, reserved
from .planner.snapshot import Snapshot

FRESH: Final = 5.0
"""Seconds for which an answer is given again."""
DISKS: Final = 100
"""Disks that are looked at together: those whose machines have waited longest."""


class Reserving:
    """Says which hosts are given no further jobs."""

    def __init__(self, known: Known, snapshot: Callable[[Collection[Uid]], Awaitable[Snapshot]]) -> None:
        """`snapshot` gathers what the planner knows of some data, under the facts lock."""
        self._known = known
        self._snapshot = snapshot
        self._last: dict[HostId, Uid] = {}
        self._due = 0.0

    async def kept(self, now: datetime) -> Mapping[HostId, Uid]:
        """The hosts that are kept free, each with the machine that it is kept for. Under the facts lock.

        Raises:
            HostError: `storage.failed`.
        """
        if self._known.clock.monotonic() >= self._due:
            self._last = await self._find(now)
            self._due = self._known.clock.monotonic() + FRESH
        return self._last

    async def _find(self, now: datetime) -> dict[HostId, Uid]:
        disks = await self._known.store.disks_awaited(now - OVERDUE, DISKS)
        if not disks:
            return {}
        snapshot = await self._snapshot(disks)
        deployments = await self._known.store.deployments({row.deployment_uid for row in snapshot.machines})
        return reserved(snapshot, {uid: one.owner for uid, one in deployments.items()}, now)
