"""What happens to a job, seen from one look at it to the next; and how it ended.

Owns these words. The looks themselves are `job`'s matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.states import JOB, RUN, JobState, RunState

if TYPE_CHECKING:
    from datetime import datetime

    from bitdew.core.job import Limit
    from bitdew.wire import models as m

_WITH_HOST: Final = frozenset({JobState.ASSIGNED, JobState.STAGING, JobState.RUNNING, JobState.STORING, JobState.DONE})


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One thing that happened to a job.

    Attributes:
        state: The state that it is in since.
        at: Since when, UTC.
        hosts: The names of the hosts that have it; several with replicas.
        attempt: The number of the latest attempt, from 1; 0 before the first.
        why: What went wrong, where something did: why it failed, or why it is tried again.
    """

    state: JobState
    at: datetime
    hosts: tuple[str, ...] = ()
    attempt: int = 0
    why: str = ""

    def __str__(self) -> str:
        """As people read it: `running on h2`."""
        where = f" on {', '.join(self.hosts)}" if self.hosts else ""
        again = " again" if self.state is JobState.QUEUED and self.attempt else ""
        return f"{self.state}{again}{where}{f': {self.why}' if self.why else ''}"


def event_of(view: m.JobView) -> JobEvent:
    """What one look at a job tells."""
    done = view.state is JobState.DONE
    current = [run for run in view.runs if (run.state is RunState.DONE if done else run.state not in RUN.ends())]
    hosts = tuple(dict.fromkeys(run.host_name for run in current)) if view.state in _WITH_HOST else ()
    reason = view.reason
    if view.state is JobState.QUEUED and view.runs:
        reason = view.runs[-1].reason or reason
    why = "" if reason is None or done else ": ".join(part for part in (reason.message, reason.why) if part)
    return JobEvent(view.state, view.since, hosts, max((run.number for run in view.runs), default=0), why)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: Its uid.
        index: Its number in its array, from 0.
        state: done, failed or cancelled.
        exit_code: The command's, of the run that counts; None where it never ended by itself.
        host: The name of that run's host; "" for a job that never ran.
        results: What it left: each one's path in the job's folder, its size in bytes, and the datum that it is.
        wall: Seconds that its command ran.
        cpu: Seconds of processor that it took.
        memory: Bytes at its peak.
        limit: What it took too much of, if that is why it failed: `time`, `cpu`, `memory`, `processes`, `disk` or
            `files`.
        fault: Why it is not done; None for a job that is.
    """

    job: str
    index: int
    state: JobState
    exit_code: int | None = None
    host: str = ""
    results: tuple[m.ResultView, ...] = ()
    wall: float | None = None
    cpu: float | None = None
    memory: int | None = None
    limit: Limit | None = None
    fault: BitDewError | None = None

    def require(self) -> Outcome:
        """The outcome itself, of a job that is done. Raises the fault of one that is not."""
        if self.fault is not None:
            raise self.fault
        return self


def outcome_of(view: m.JobView) -> Outcome:
    """How a job that has ended did."""
    run = _counting(view)
    return Outcome(
        job=view.uid,
        index=view.index,
        state=view.state,
        exit_code=run.exit_code if run else None,
        host=run.host_name if run else "",
        results=tuple(view.results),
        wall=run.wall if run else None,
        cpu=run.cpu if run else None,
        memory=run.memory if run else None,
        limit=view.limit,
        fault=_fault(view, run),
    )


def _counting(view: m.JobView) -> m.RunView | None:
    """The run that counts: the one that is done, or else the latest."""
    done = [run for run in view.runs if run.state is RunState.DONE]
    return next(iter(reversed(done or view.runs)), None)


def _fault(view: m.JobView, run: m.RunView | None) -> BitDewError | None:
    assert view.state in JOB.ends()  # noqa: S101 (only such jobs are asked about)
    if view.state is JobState.DONE:
        return None
    if view.state is JobState.CANCELLED:
        return error("job.cancelled", f"The job {view.name} was given up", job=view.uid)
    reason = view.reason or (run.reason if run else None)
    if reason is None:
        return error("job.failed", f"The job {view.name} failed", job=view.uid)
    fault = reason.to_error()
    exit_code = run.exit_code if run else None
    return error(
        fault.key,
        fault.message,
        why=fault.why,
        do=fault.do,
        **{**fault.fields, "job": view.uid, "exit_code": exit_code},
    )
