"""`BlockingJob` and `BlockingJobArray`: the twins of `Job` and `JobArray`, called through a portal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitdew.client.job import Job, JobArray
from bitdew.wire import models as m

from .handle import BlockingHandle

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from bitdew.client.job_events import JobEvent, Outcome
    from bitdew.core.ids import Uid
    from bitdew.core.states import JobState

    from .portal import Portal


class BlockingJob(BlockingHandle[Job, m.JobView]):
    """The twin of `Job`; `done` is what awaiting that one is.

    Attributes:
        twin: The job itself, for use inside of the loop.
    """

    @property
    def name(self) -> str:
        """As `Job.name`."""
        return self.twin.name

    @property
    def index(self) -> int:
        """As `Job.index`."""
        return self.twin.index

    @property
    def state(self) -> JobState:
        """As `Job.state`."""
        return self.twin.state

    @property
    def is_over(self) -> bool:
        """As `Job.is_over`."""
        return self.twin.is_over

    def __repr__(self) -> str:
        return repr(self.twin)

    def done(self, *, timeout: float | None = None, check: bool = True) -> Outcome:
        """As `Job.done`."""
        return self._portal.call(self.twin.done(timeout=timeout, check=check))

    def events(self) -> Generator[JobEvent]:
        """As `Job.events`."""
        return self._portal.each(self.twin.events())

    def refresh(self) -> m.JobView:
        """As `Job.refresh`."""
        return self._portal.call(self.twin.refresh())

    def explain(self) -> m.JobExplanation:
        """As `Job.explain`."""
        return self._portal.call(self.twin.explain())

    def log(self, *, run: int = 0) -> str:
        """As `Job.log`."""
        return self._portal.call(self.twin.log(run=run))

    def logs(self) -> Generator[str]:
        """As `Job.logs`."""
        return self._portal.each(self.twin.logs())

    def results(self, folder: str | Path, *, force: bool = False) -> list[Path]:
        """As `Job.results`."""
        return self._portal.call(self.twin.results(folder, force=force))

    def read(self, path: str) -> bytes:
        """As `Job.read`."""
        return self._portal.call(self.twin.read(path))

    def cancel(self) -> None:
        """As `Job.cancel`."""
        self._portal.call(self.twin.cancel())


class BlockingJobArray:
    """The twin of `JobArray`; `done` is what awaiting that one is.

    Attributes:
        twin: The array itself, for use inside of the loop.
    """

    def __init__(self, portal: Portal, array: JobArray) -> None:
        self._portal = portal
        self.twin = array

    @property
    def uid(self) -> Uid:
        """As `JobArray.uid`."""
        return self.twin.uid

    def __len__(self) -> int:
        """As in `JobArray`."""
        return len(self.twin)

    def __repr__(self) -> str:
        return repr(self.twin)

    def done(self, *, timeout: float | None = None, check: bool = True) -> list[Outcome]:
        """As `JobArray.done`."""
        return self._portal.call(self.twin.done(timeout=timeout, check=check))

    def as_completed(self) -> Generator[BlockingJob]:
        """As `JobArray.as_completed`."""
        ended = self._portal.each(self.twin.as_completed())
        try:
            for job in ended:
                yield BlockingJob(self._portal, job)
        finally:
            ended.close()

    def progress(self) -> Generator[dict[JobState, int]]:
        """As `JobArray.progress`."""
        return self._portal.each(self.twin.progress())

    def jobs(self) -> Generator[BlockingJob]:
        """As `JobArray.jobs`."""
        found = self._portal.each(self.twin.jobs())
        try:
            for job in found:
                yield BlockingJob(self._portal, job)
        finally:
            found.close()

    def results(self, folder: str | Path, *, force: bool = False) -> list[Path]:
        """As `JobArray.results`."""
        return self._portal.call(self.twin.results(folder, force=force))

    def cancel(self) -> None:
        """As `JobArray.cancel`."""
        self._portal.call(self.twin.cancel())
