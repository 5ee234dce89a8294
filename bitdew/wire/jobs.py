"""Models of jobs: what people submit and see, what hosts are ordered to run, and what they report of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bitdew.core.job import (
    MOST_ATTEMPTS,
    MOST_ITEMS,
    MOST_PRIORITY,
    MOST_REPLICAS,
    MOST_TEXT,
    MOST_WORDS,
    Caps,
    JobSpec,
    Limit,
)
from bitdew.core.job_path import PATH_BYTES
from bitdew.core.states import JobState, RunState

from . import limits
from .attributes import Choice
from .model import Count, ErrorView, Model, NameText, RootText, Sentence, Size, UidText

Plain = Annotated[str, Field(max_length=MOST_TEXT, pattern=r"^[^\x00]*$")]
_CAPS = Caps()
PathText = Annotated[str, Field(max_length=PATH_BYTES, pattern=r"^[^\x00]+$")]
"""A path below a job's own directory, with slashes. Whoever uses it checks that it stays there."""


class CapsModel(Model):
    """How much one attempt may take; see `bitdew.core.job.Caps`. Seconds and bytes."""

    runtime: Count = _CAPS.runtime
    memory: Count = _CAPS.memory
    cpus: Count = _CAPS.cpus
    processes: Count = _CAPS.processes
    output: Count = _CAPS.output
    files: Count = _CAPS.files
    log: Count = _CAPS.log

    @classmethod
    def of(cls, caps: Caps) -> Self:
        """The model of `caps`."""
        return cls(**{name: getattr(caps, name) for name in cls.model_fields})

    def to_caps(self) -> Caps:
        """The caps, checked. Raises UserError `input.invalid`."""
        return Caps(**self.model_dump())


class SpecModel(Model):
    """One command and what it needs; see `bitdew.core.job.JobSpec`."""

    command: Annotated[list[Plain], Field(min_length=1, max_length=MOST_WORDS)]
    needs: list[Plain] = Field(default_factory=list, max_length=MOST_ITEMS)
    requires: Plain = ""
    outputs: list[Plain] = Field(default_factory=list, max_length=MOST_ITEMS)
    environment: dict[Plain, Plain] = Field(default_factory=dict, max_length=MOST_ITEMS)
    caps: CapsModel = Field(default_factory=CapsModel)
    attempts: Annotated[int, Field(ge=1, le=MOST_ATTEMPTS)] = 3
    priority: Annotated[int, Field(ge=-MOST_PRIORITY, le=MOST_PRIORITY)] = 0
    replicas: Annotated[int, Field(ge=1, le=MOST_REPLICAS)] = 1

    @classmethod
    def of(cls, spec: JobSpec) -> Self:
        """The model of `spec`."""
        return cls(
            command=list(spec.command),
            needs=list(spec.needs),
            requires=spec.requires,
            outputs=list(spec.outputs),
            environment=dict(spec.environment),
            caps=CapsModel.of(spec.caps),
            attempts=spec.attempts,
            priority=spec.priority,
            replicas=spec.replicas,
        )

    def to_spec(self) -> JobSpec:
        """The spec, checked. Raises UserError: `input.invalid`, `attribute.requires`."""
        return JobSpec(
            command=tuple(self.command),
            needs=tuple(self.needs),
            requires=self.requires,
            outputs=tuple(self.outputs),
            environment=dict(self.environment),
            caps=self.caps.to_caps(),
            attempts=self.attempts,
            priority=self.priority,
            replicas=self.replicas,
        )


class InputModel(Model):
    """A datum that a job reads."""

    data: NameText
    """Its name or uid."""
    path: Annotated[str, Field(max_length=PATH_BYTES, pattern=r"^[^\x00]*$")] = ""
    """Where it stands in the job's directory; empty for its name."""


class SubmitRequest(Model):
    """Jobs to run: one, or one for each of some values."""

    name: NameText | None = None
    spec: SpecModel
    inputs: list[InputModel] = Field(default_factory=list, max_length=MOST_ITEMS)
    values: list[Plain] = Field(default_factory=list, max_length=limits.JOBS)
    """For each of them a job: `{}` in the command, the outputs and the environment stands for it."""
    results: Choice = Field(default_factory=lambda: {"replica": 0})
    """What should be true of what the jobs produce. By default it stays in the repository."""
    provision: NameText | None = None
    """A disk: where no host can run the jobs, machines are deployed from it for them, and end with the queue."""
    machines: Annotated[int, Field(ge=1, le=limits.MACHINES_PER_DEPLOYMENT)] = 1
    """How many such machines at most."""
    request: UidText | None = None
    """The caller's own number of this request: asked twice with the same, the jobs are made once."""


def limit_of(reason: ErrorView | None) -> Limit | None:
    """The limit that a reason names, if it is one that is known here: a host may say what it likes."""
    said = reason.fields.get("limit") if reason is not None and reason.key == "job.over-limit" else None
    return next((one for one in Limit if one.value == said), None)


class InputView(Model):
    """A datum that a job reads, as people see it."""

    data: UidText
    name: str
    path: str
    size: Size


class ResultView(Model):
    """What a job produced."""

    path: str
    data: UidText
    name: str
    """The datum's."""
    size: Size


class RunView(Model):
    """One attempt."""

    uid: UidText
    number: int
    host: UidText
    host_name: str
    state: RunState
    since: datetime
    started: datetime
    cause: str = ""
    """Why it was given to that host."""
    exit_code: int | None = None
    reason: ErrorView | None = None
    limit: Limit | None = None
    """With the reason `job.over-limit`: what it took too much of."""
    wall: float | None = None
    """Seconds that its command ran."""
    cpu: float | None = None
    memory: int | None = None
    """Bytes at its peak."""
    log: int = 0
    """Characters that its log has."""


class JobView(Model):
    """A job as people see it."""

    uid: UidText
    array: UidText
    """The jobs that were submitted together."""
    index: int
    name: str
    owner: str
    state: JobState
    since: datetime
    created: datetime
    spec: SpecModel
    inputs: list[InputView] = Field(default_factory=list)
    runs: list[RunView] = Field(default_factory=list)
    results: list[ResultView] = Field(default_factory=list)
    reason: ErrorView | None = None
    limit: Limit | None = None
    """With the reason `job.over-limit`: what it took too much of, in its last attempt."""
    datum: str = ""
    """The name of the datum that it was made for, if a standing job made it."""
    version: int = 0
    """Grows with every change: what to wait beyond."""


class JobList(Model):
    """A page of jobs, oldest first."""

    jobs: list[JobView]
    next: str | None = None
    """What to ask `after` for the next page."""


class JobsRemoved(Model):
    """What was forgotten."""

    jobs: Count
    results: Count
    """Data that ended with them."""
    standing: Count = 0


class JobCounts(Model):
    """How many jobs are in which state."""

    counts: dict[JobState, int]
    version: int = 0


class JobExplanation(Model):
    """Why a job is as it is."""

    job: JobView
    why: list[Sentence]
    """How it stands, and what it waits for."""
    hosts: list[Sentence]
    """For hosts that could not be given it: what stood in the way."""


class LogReply(Model):
    """A part of a run's log, from `offset` on."""

    run: UidText | None
    offset: int
    text: str
    end: int
    """Characters written so far: the offset to ask for next."""
    state: JobState


# Between the scheduler and a host -------------------------------------------------------------------------------------


class RunInput(Model):
    """A datum that is to stand in a job's directory."""

    data: UidText
    root: RootText
    size: Size
    path: PathText


class RunOrder(Model):
    """Run this command, with these data in its directory."""

    job: UidText
    number: Count
    spec: SpecModel
    inputs: list[RunInput] = Field(default_factory=list, max_length=MOST_ITEMS)


class LogChunk(Model):
    """A part of a run's log."""

    offset: Count
    """Characters before this part."""
    text: Annotated[str, Field(max_length=limits.CONSOLE_CHUNK)]


class OutputModel(Model):
    """A file that a run left."""

    path: PathText
    root: RootText
    size: Size


class RunReport(Model):
    """How a run stands, as its host says. It is also the sign that the host is at it."""

    state: RunState
    reason: ErrorView | None = None
    exit_code: Annotated[int, Field(ge=-256, le=256)] | None = None
    wall: Annotated[float, Field(ge=0, le=2**53)] | None = None
    cpu: Annotated[float, Field(ge=0, le=2**53)] | None = None
    memory: Count | None = None
    log: LogChunk | None = None
    outputs: list[OutputModel] | None = Field(default=None, max_length=limits.OUTPUTS)
    """With `storing`: all that it left. Other runs of the job are compared with it."""
    wait: Annotated[float, Field(ge=0, le=limits.LONGEST_POLL)] = 0
    """Seconds that the reply may be held open while there is no verdict."""

    @model_validator(mode="after")
    def _reported(self) -> Self:
        if self.state in {RunState.ASSIGNED, RunState.LOST}:
            raise ValueError("no host says so of its own run")
        return self


class RunReply(Model):
    """What the host should do with its run."""

    wanted: bool
    """Whether it should go on: if not, all of it is to be removed."""
    verdict: Literal["wait", "store", "drop"] = "wait"
    """What becomes of its outputs: they are awaited, or others' are the same."""
    log: Count = 0
    """Characters of its log that the service has."""
    period: float
    """Seconds: the longest silence before the run is given up."""


class OutputRequest(Model):
    """One of a run's outputs is to be uploaded."""

    path: PathText


class OutputKept(Model):
    """One of a run's outputs is a datum now."""

    data: UidText
