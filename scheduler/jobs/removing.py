"""Forgetting jobs that have ended: when their owner says so, and when they are old.

Owns what goes with a job: its runs, their logs, and results that nobody asked to be kept. The results go first, so that
a process that ends between the two leaves no data that nobody knows.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from bitdew.core.errors import error
from bitdew.core.ids import Uid
from bitdew.trust.roles import Subject
from bitdew.wire.models import JobsRemoved

from ...catalog.data import DataRoom
from ..known import Known
from .desk import Desk
from .inputs import Inputs
from .removal_store import JobRemovalStore
from .standing_desk import StandingDesk
from .store import TOPIC

BATCH: Final = 500
"""Jobs that are forgotten in one transaction."""


class Remover:
    """Forgets jobs."""

    def __init__(
        self,
        known: Known,
        store: JobRemovalStore,
        desk: Desk,
        standing: StandingDesk,
        data: DataRoom,
        inputs: Inputs,
    ) -> None:
        self._known = known
        self._store = store
        self._desk = desk
        self._standing = standing
        self._data = data
        self._inputs = inputs

    async def remove(self, text: str, caller: Subject, *, keep: bool) -> JobsRemoved:
        """Forget a job, or those of an array, that have ended; a standing job that was cancelled too.

        Args:
            text: The job, the array or the standing job.
            caller: Who asks: its submitter or an operator.
            keep: Whether results stay that were to live as long as their job.

        Raises:
            UserError: `job.not-found`, `certificate.role`; `job.not-ended`, if none of them has.
        """
        standing = await self._standing.mine(text, caller)
        whole = standing or await self._desk.mine(text, caller)
        jobs, results = 0, 0
        while found := await self._store.ended(prefix=whole, most=BATCH):
            gone, ended = await self._forget(found, f"{caller.name} removed its job", keep=keep)
            jobs, results = jobs + gone, results + ended
            if not gone:
                break
        templates = await self._store.remove_standing(prefix=whole) if standing else 0
        if not jobs and not templates:
            raise error("job.not-ended", f"Nothing of {text[:40]!r} has ended")
        return JobsRemoved(jobs=jobs, results=results, standing=templates)

    async def purge(self, before: datetime) -> int:
        """Forget what ended before then; how many jobs these were."""
        gone = 0
        while found := await self._store.ended(before=before, most=BATCH):
            removed, _ = await self._forget(found, "its job ended long ago", keep=False)
            gone += removed
            if not removed:
                break
        await self._store.remove_standing(before=before)
        return gone

    async def _forget(self, jobs: Collection[Uid], because: str, *, keep: bool) -> tuple[int, int]:
        ended = 0
        if not keep:
            data = await self._known.data.get(await self._store.unkept_results(jobs))
            for datum in data.values():
                if datum.alive:
                    ended += await self._data.end(datum, because)
        read = await self._inputs.read_by(jobs)
        gone = await self._store.remove(jobs, self._known.clock.now())
        await self._inputs.released(read)
        self._known.changes.bump(TOPIC)
        return gone, ended
