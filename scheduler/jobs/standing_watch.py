"""The loop that makes jobs for data: woken when data come or change, when a job ends, and when a standing job is new.

Owns what is remembered of data that wait for their job; what is stored alone counts. A process that takes the lead, or
may have missed something, looks at all data that a standing job has not looked at. It does not decide where jobs run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import structlog

from bitdew.core.ids import Uid
from bitdew.tasks import first_of, to_the_end

from ...catalog.leadership import Leadership
from ..known import Known
from .standing_store import STANDING, StandingStore
from .store import QUEUE, TOPIC

log = structlog.get_logger(__name__)

SCANNED: Final = 1000
"""Data of one standing job that are remembered from one look at all of them."""
BATCH: Final = 200
"""Jobs that are made in one transaction."""
MOST_TOUCHED: Final = 100_000
"""Data that changed and were not looked at yet; beyond, all are looked at instead."""
LONG: Final = 3600.0
"""Seconds until the loop turns though nothing woke it. It looks at nothing then."""
DEFECT_PAUSE: Final = 5.0


@dataclass(slots=True)
class _Backlog:
    """Data that may need a job of one standing job.

    Attributes:
        attribute: The name of what they have.
        data: These, in their order.
        more: Whether there may be others in the database.
    """

    attribute: str
    data: dict[Uid, None] = field(default_factory=dict)
    more: bool = True


class StandingWatch:
    """Makes the jobs of all standing jobs."""

    def __init__(self, known: Known, store: StandingStore, leadership: Leadership) -> None:
        self._known = known
        self._store = store
        self._leadership = leadership
        self._backlogs: dict[Uid, _Backlog] = {}
        self._touched: set[Uid] = set()
        self._stale = True
        self._work = asyncio.Event()

    def look_at(self, data: Collection[Uid]) -> None:
        """These data are new, have arrived, or have another attribute."""
        if self._leadership.held and not self._stale:
            self._touched.update(data)
            self._stale = len(self._touched) > MOST_TOUCHED
            self._work.set()

    def look_at_all(self) -> None:
        """Something may have been missed."""
        self._stale = True
        self._work.set()

    async def run(self) -> None:
        """Make jobs while this process leads, until cancelled."""
        changes, epoch = self._known.changes, None
        while True:
            await self._leadership.gained()
            if epoch != self._leadership.epoch:
                epoch, self._stale = self._leadership.epoch, True
            standing, jobs = changes.version(STANDING), changes.version(QUEUE)
            self._work.clear()
            try:
                await to_the_end(self.step())
            except Exception:
                log.exception("jobs for data can't be made")
                self._stale = True
                await self._known.clock.sleep(DEFECT_PAUSE)
                continue
            waits = [self._work.wait(), changes.wait(STANDING, standing, LONG), self._leadership.lost.wait()]
            if any(backlog.data or backlog.more for backlog in self._backlogs.values()):
                waits.append(changes.wait(QUEUE, jobs, LONG))  # a job that ends makes room
            await first_of(*waits)

    async def step(self) -> None:
        """Make every job that can be made now."""
        stale, self._stale = self._stale, False
        touched, self._touched = self._touched, set()
        active = await self._store.active()
        known = {} if stale else self._backlogs
        self._backlogs = {uid: known.get(uid) or _Backlog(attribute) for uid, attribute in active.items()}
        await self._sort(touched)
        for uid, backlog in list(self._backlogs.items()):
            await self._serve(uid, backlog)

    async def _sort(self, touched: Collection[Uid]) -> None:
        """Put data that changed where they belong."""
        if not touched or not self._backlogs:
            return
        wanted = {backlog.attribute for backlog in self._backlogs.values()}
        found = await self._store.matching(touched, wanted)
        for backlog in self._backlogs.values():
            if not backlog.more:  # else they are found with the others, in their order
                backlog.data.update(dict.fromkeys(found.get(backlog.attribute, ())))
                if len(backlog.data) > 2 * SCANNED:
                    backlog.data, backlog.more = dict.fromkeys(list(backlog.data)[:SCANNED]), True

    async def _serve(self, uid: Uid, backlog: _Backlog) -> None:
        while True:
            if not backlog.data and backlog.more:
                found = await self._store.unmatched(uid, backlog.attribute, SCANNED)
                backlog.data, backlog.more = dict.fromkeys(found), len(found) == SCANNED
            if not backlog.data:
                return
            batch = list(backlog.data)[:BATCH]
            begun = await self._store.begin(uid, batch, self._known.clock.now(), self._leadership.check)
            if begun.over:
                self._backlogs.pop(uid, None)
                return
            if begun.jobs:
                log.info("jobs for data", standing=uid, jobs=len(begun.jobs), waiting=len(backlog.data))
                for topic in (TOPIC, QUEUE, uid):
                    self._known.changes.bump(topic)
            for one in set(batch) - set(begun.left):
                del backlog.data[one]
            if begun.left:
                return
