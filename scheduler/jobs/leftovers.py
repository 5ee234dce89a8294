"""What runs that were given up had begun to hand over: data without a job's claim to them, and halves of uploads.

Owns that nothing of such a run stays. Its data end, whatever its results were to be, for they would stand beside the
job's own; the half of an upload goes at once, not only when its host has been silent for long.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError
from bitdew.core.ids import HostId
from bitdew.tasks import first_of, to_the_end

from ...catalog.data import DataRoom
from ...catalog.leadership import Leadership
from ...catalog.publishing import Publishing
from ..known import Known
from .result_store import ResultStore
from .results import datum_name
from .settling import LEFT
from .store import JobStore

log = structlog.get_logger(__name__)

NAP: Final = 300.0
"""Seconds until another look, where nobody says that there is something: a job may have read what could not go yet."""
DEFECT_PAUSE: Final = 5.0


class Leftovers:
    """Clears away after runs that ended without a result."""

    def __init__(
        self,
        known: Known,
        store: JobStore,
        results: ResultStore,
        publishing: Publishing,
        data: DataRoom,
        leadership: Leadership,
    ) -> None:
        self._known = known
        self._store = store
        self._results = results
        self._publishing = publishing
        self._data = data
        self._leadership = leadership

    async def run(self) -> None:
        """Clear away whenever a run was given up, until cancelled. Every process does it for the uploads it takes."""
        changes = self._known.changes
        while True:
            seen = changes.version(LEFT)
            try:
                await to_the_end(self.step())
            except Exception:
                log.exception("what runs left over can't be cleared away")
                await self._known.clock.sleep(DEFECT_PAUSE)
                continue
            news: list[Coroutine[Any, Any, object]] = [changes.wait(LEFT, seen, NAP)]
            if not self._leadership.held:
                news.append(self._leadership.gained())
            await wait_at_most(self._known.clock, NAP, first_of(*news))

    async def step(self) -> None:
        """Give up uploads that no run goes on with, and, where this process leads, end data that no job counts."""
        await self._give_up_uploads()
        if self._leadership.held:
            await self._end_data()

    async def _give_up_uploads(self) -> None:
        hosts = self._known.hosts
        coming = [one for one in self._publishing.under_way() if hosts.get(HostId(one.about.owner)) is not None]
        if not coming:
            return
        runs = await self._results.storing_on({HostId(one.about.owner) for one in coming})
        jobs = await self._store.jobs({run.job for run in runs})
        wanted = {
            (run.host, datum_name(jobs[run.job], run, output.path)) for run in runs for output in run.outputs or ()
        }
        for upload in coming:
            if (upload.about.owner, upload.name) not in wanted:
                log.info("the upload of a run that was given up is forgotten", upload=upload.uid, name=upload.name)
                await self._publishing.give_up(upload)

    async def _end_data(self) -> None:
        left = await self._results.left_over()
        data = await self._known.data.get(left)
        for uid, state in left.items():
            datum = data.get(uid)
            try:
                if datum is None or not datum.alive or await self._data.end(datum, f"the run that left it was {state}"):
                    await self._results.forget([uid])
            except BitDewError as fault:
                log.warning("a leftover can't be ended", data=uid, why=str(fault))
