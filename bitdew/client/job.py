"""`Job` and `JobArray`: jobs in a program's hands, to await, follow, read and give up.

Owns no state but what was last seen of them: every answer is the service's. A wait that is cancelled leaves the job
going.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from bitdew.core.errors import error
from bitdew.core.ids import Uid
from bitdew.core.states import JOB, JobState
from bitdew.wire import models as m

from .connection import POLL
from .following import patiently
from .handle import Handle
from .job_events import JobEvent, Outcome, event_of, outcome_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from .grid import BitDew

BREATH: Final = 0.2
"""Seconds between two looks at which jobs of an array have ended: what ends meanwhile comes with the next one."""


class Job(Handle[m.JobView]):
    """A job, as `Dew.submit` and `Dew.job` give it. Await it for its outcome.

    Attributes:
        view: What the service last said of it.
    """

    @property
    def name(self) -> str:
        """Its name, for people."""
        return self.view.name

    @property
    def index(self) -> int:
        """Its number in its array, from 0."""
        return self.view.index

    @property
    def state(self) -> JobState:
        """The state that it was last seen in."""
        return self.view.state

    @property
    def is_over(self) -> bool:
        """Whether it was last seen to have ended."""
        return self.view.state in JOB.ends()

    def __repr__(self) -> str:
        return f"<Job {self.name} {self.uid[:8]}: {event_of(self.view)}>"

    # Waiting --------------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Outcome]:
        """As `done()`."""
        return self.done().__await__()

    async def done(self, *, timeout: float | None = None, check: bool = True) -> Outcome:  # noqa: ASYNC109 (a short form)
        """Return how it ended, once it has.

        Args:
            timeout: Seconds to wait at most; the job goes on after that.
            check: Whether a job that failed or was given up raises; else its outcome says why.

        Raises:
            TimeoutError: It has not ended in time.
            BitDewError: With `check`, why it is not done: `job.command`, `job.over-limit`, `job.outputs`,
                `job.cancelled`, …, with its `exit_code` among the fields. `service.unreachable`, if the service is away
                for longer than `patience`.
        """
        async with asyncio.timeout(timeout), aclosing(self._looks()) as looks:
            async for _ in looks:
                pass
        outcome = outcome_of(self.view)
        return outcome.require() if check else outcome

    async def events(self) -> AsyncGenerator[JobEvent]:
        """How it stands now, and then what happens to it, until it has ended: `queued`, `running on h2`, `done on h2`.

        A job that passes two states at once is told in the last.

        Raises:
            BitDewError: `job.not-found`; `service.unreachable`, if the service is away for longer than `patience`.
        """
        before: JobEvent | None = None
        async with aclosing(self._looks()) as looks:
            async for view in looks:
                event = event_of(view)
                if before is None or (event.state, event.hosts, event.attempt) != (
                    before.state,
                    before.hosts,
                    before.attempt,
                ):
                    yield event
                before = event

    async def refresh(self) -> m.JobView:
        """Look again; what is so now. Raises UserError `job.not-found`."""
        self.view = await self._grid.job(self.uid)
        return self.view

    async def explain(self) -> m.JobExplanation:
        """Why it is as it is, and what it waits for. Raises UserError `job.not-found`."""
        return await self._grid.explain_job(self.uid)

    # What it wrote and left -------------------------------------------------------------------------------------------

    async def log(self, *, run: int = 0) -> str:
        """What it wrote so far: in its run number `run`, or in the one that counts. Raises `…not-found`."""
        return (await self._grid.job_log(self.uid, run=run)).text

    async def logs(self) -> AsyncGenerator[str]:
        """What it writes, part by part, until it has ended. Where it is tried again, the next run's follows."""
        async with aclosing(self._grid.follow_job_log(self.uid)) as parts:
            async for part in parts:
                yield part.text

    async def results(self, folder: str | Path, *, force: bool = False) -> list[Path]:
        """Bring what it left into `folder`, verified; where the files are then.

        Raises:
            BitDewError: as `BitDew.get`.
        """
        return await _fetched(self._grid, self.uid, folder, force=force)

    async def read(self, path: str) -> bytes:
        """The bytes of the result that stood at `path` in its folder, verified; at most 64 MiB.

        Raises:
            BitDewError: `data.not-found`, if it left none there; as `Dew.read`.
        """
        view = self.view if self.is_over else await self.refresh()
        for one in view.results:
            if one.path == path:
                return await self._grid.read(one.data, 0, one.size)
        left = ", ".join(one.path for one in view.results) or "nothing"
        raise error(
            "data.not-found", f"The job {self.name} left no {path!r}", why=f"it is {view.state}, and left {left}"
        )

    # Ending -----------------------------------------------------------------------------------------------------------

    async def cancel(self) -> None:
        """Give it up: it does not start any more, or is ended where it runs. One that has ended stays as it is.

        Raises:
            BitDewError: `job.not-found`, `certificate.role`.
        """
        for view in await self._grid.cancel_job(self.uid):
            if view.uid == self.uid:
                self.view = view

    async def _looks(self) -> AsyncGenerator[m.JobView]:
        """The job now and after each change, until it has ended."""
        since = 0
        while True:
            self.view = view = await patiently(
                self._grid,
                lambda: self._grid.job(self.uid, since=since, wait=POLL if since else 0.0),  # noqa: B023 (called at once)
            )
            if view.version != since:
                yield view
            if view.state in JOB.ends():
                return
            since = view.version


class JobArray:
    """Jobs that were submitted together, as `Dew.submit_each` gives them. Await it for all their outcomes.

    Attributes:
        uid: What they have in common.
    """

    def __init__(self, grid: BitDew, uid: str, count: int) -> None:
        self._grid = grid
        self._count = count
        self.uid = Uid(uid)

    def __len__(self) -> int:
        """How many jobs it has."""
        return self._count

    def __repr__(self) -> str:
        return f"<JobArray {self.uid[:8]}: {self._count} jobs>"

    def __await__(self) -> Generator[Any, None, list[Outcome]]:
        """As `done()`."""
        return self.done().__await__()

    async def done(self, *, timeout: float | None = None, check: bool = True) -> list[Outcome]:  # noqa: ASYNC109
        """Return how all of them ended, in their order, once all have.

        Args:
            timeout: Seconds to wait at most; the jobs go on after that.
            check: Whether the first one that is not done raises, once all have ended.

        Raises:
            TimeoutError: They have not all ended in time.
            BitDewError: As `Job.done`.
        """
        async with asyncio.timeout(timeout):
            async with aclosing(self.progress()) as counts:
                async for _ in counts:
                    pass
            async with aclosing(self.jobs()) as jobs:
                outcomes = [outcome_of(job.view) async for job in jobs]
        outcomes.sort(key=lambda one: one.index)
        return [one.require() for one in outcomes] if check else outcomes

    async def as_completed(self) -> AsyncGenerator[Job]:
        """Each job once it has ended, in the order in which they do; whether it is done is told by its `state`.

        Raises:
            BitDewError: As `Job.events`.
        """
        told: set[str] = set()
        async with aclosing(self.progress()) as looks:
            async for counts in looks:
                if sum(number for state, number in counts.items() if state in JOB.ends()) <= len(told):
                    continue
                for job in await self._ended(told):
                    told.add(job.uid)
                    yield job
                await asyncio.sleep(0 if len(told) == self._count else BREATH)

    async def progress(self) -> AsyncGenerator[dict[JobState, int]]:
        """How many of them are in which state, now and after each change, until all have ended."""
        since = 0
        while True:
            found = await patiently(
                self._grid,
                lambda: self._grid.count_jobs(self.uid, since),  # noqa: B023 (called at once)
            )
            if found.version != since:
                yield found.counts
            if set(found.counts) <= JOB.ends():
                return
            since = found.version

    async def jobs(self) -> AsyncGenerator[Job]:
        """All of them, oldest first."""
        async with aclosing(self._grid.jobs(prefix=self.uid)) as found:
            async for view in found:
                yield Job(self._grid, view)

    async def results(self, folder: str | Path, *, force: bool = False) -> list[Path]:
        """Bring what they left into `folder`, in a folder for each job, by its number; where the files are then.

        Raises:
            BitDewError: as `BitDew.get`.
        """
        return await _fetched(self._grid, self.uid, folder, force=force)

    async def cancel(self) -> None:
        """Give up all that have not ended. Raises `certificate.role`."""
        await self._grid.cancel_job(self.uid)

    async def _ended(self, told: set[str]) -> list[Job]:
        """Those that have ended, without those that were `told`."""

        async def ask() -> list[Job]:
            async with aclosing(self._grid.jobs(prefix=self.uid, states=sorted(JOB.ends()))) as found:
                return [Job(self._grid, view) async for view in found if view.uid not in told]

        return await patiently(self._grid, ask)


async def _fetched(grid: BitDew, uid: str, folder: str | Path, *, force: bool) -> list[Path]:
    from pathlib import Path

    async with aclosing(grid.results(uid, Path(folder), force=force)) as found:
        return [one.path async for one in found]
