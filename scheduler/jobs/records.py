"""What is known of jobs and their runs, as the rooms pass it around."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.job import JobSpec
from bitdew.core.states import JOB, RUN, JobState, RunState
from bitdew.wire.models import OutputModel


@dataclass(frozen=True, slots=True)
class JobInput:
    """A datum that a job reads, and where it stands in the job's directory."""

    data: Uid
    path: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One command, as it was submitted and as it stands.

    Attributes:
        uid: The job.
        array: The jobs that were submitted together.
        index: Its place among them.
        name: For people.
        owner: The subject who submitted it.
        created: When.
        spec: What is to be run.
        results: What should be true of its results: an attribute's name, or wishes.
        inputs: What it reads.
        state: As its runs make it.
        since: When it entered that state.
        reason: Why it failed.
        kept: The run whose results it has.
        provision: The disk that machines are deployed from for it, if nothing else can run it.
        machines: How many such machines there are at most for all of its kind.
        datum: The name of the datum that a standing job, whose uid is the array's, made it for.
    """

    uid: Uid
    array: Uid
    index: int
    name: str
    owner: str
    created: datetime
    spec: JobSpec
    results: Any = field(hash=False, default_factory=dict)
    inputs: tuple[JobInput, ...] = ()
    state: JobState = JOB.initial
    since: datetime | None = None
    reason: dict[str, Any] | None = field(hash=False, default=None)
    kept: Uid | None = None
    provision: Uid | None = None
    machines: int = 1
    datum: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in JOB.ends()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One attempt of a job on one host.

    Attributes:
        uid: The run.
        job: Its job.
        number: Its number among the job's runs, from 1.
        host: Where.
        state: As the host says, or as its silence was judged.
        since: When it entered that state.
        started: When it was given to the host.
        heard: When the host last said anything of it.
        generation: Of the last order about it.
        cause: Why that host.
        reason: Why it failed.
        exit_code: Of the command, negative for a signal.
        wall: Seconds that the command ran.
        cpu: Seconds of processor time that it took.
        memory: Bytes at its peak.
        log_end: Characters that its log has.
        outputs: What it left, as the host says.
        digest: Of the exit code and all outputs: runs agree if theirs are the same.
    """

    uid: Uid
    job: Uid
    number: int
    host: HostId
    state: RunState
    since: datetime
    started: datetime
    heard: datetime
    generation: int = 0
    cause: str = ""
    reason: dict[str, Any] | None = field(hash=False, default=None)
    exit_code: int | None = None
    wall: float | None = None
    cpu: float | None = None
    memory: int | None = None
    log_end: int = 0
    outputs: tuple[OutputModel, ...] | None = field(hash=False, default=None)
    digest: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in RUN.ends()


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """A file that a run left, as a datum."""

    run: Uid
    path: str
    data: Uid
    root: ContentRoot
    size: int
