"""Models of standing jobs: templates from which a job is made for each datum that has an attribute."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from bitdew.core.states import JobState

from . import limits
from .jobs import SpecModel, SubmitRequest
from .model import Count, Model, NameText, Sentence, UidText

AT_ONCE = 100
"""Jobs of one standing job that are under way at a time, unless its owner says otherwise."""
PathPattern = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00]+$")]


class StandingRequest(Model):
    """A job for each datum that has an attribute, now and later."""

    job: SubmitRequest
    """What each of these jobs is: `{}` in the command, the outputs and the environment stands for the datum's name."""
    attribute: NameText
    """The name of the attribute that a datum must have."""
    path: PathPattern = "{}"
    """Where the datum's bytes stand in its job's directory; `{}` stands for its name."""
    at_once: Annotated[int, Field(ge=1, le=limits.JOBS)] = AT_ONCE
    """How many of these jobs are under way at a time at most; further data wait."""
    from_now: bool = False
    """Whether data that are there already have no job."""

    @model_validator(mode="after")
    def _one_job_each(self) -> Self:
        if self.job.values:
            raise ValueError("a standing job has no values: the data are what its jobs differ in")
        return self


class StandingView(Model):
    """A standing job as people see it."""

    uid: UidText
    """Also the array of the jobs that were made from it."""
    name: str
    owner: str
    created: datetime
    attribute: str
    path: str
    spec: SpecModel
    at_once: int
    made: Count
    """Jobs that it has made in all; those that were removed since count too."""
    counts: dict[JobState, int] = Field(default_factory=dict)
    """How many of its jobs are in which state."""
    waiting: Count = 0
    """Data that match and have no job yet."""
    ended: datetime | None = None
    """When it was cancelled: from then on it makes no more jobs."""
    ended_by: str = ""


class StandingList(Model):
    """Standing jobs, oldest first."""

    standing: list[StandingView]


class StandingMatch(Model):
    """A datum that a standing job has looked at: it never looks at the same one again."""

    data: UidText
    name: str
    at: datetime
    job: UidText | None = None
    """The job that was made for it; None for one that was there before `from_now`."""
    state: JobState | None = None
    """That job's; None also where it was removed."""


class StandingExplanation(Model):
    """Which data a standing job has made jobs for, and why it makes no more now."""

    standing: StandingView
    why: list[Sentence]
    matches: list[StandingMatch]
    """The latest ones, newest first."""


class StandingEnd(Model):
    """How a standing job is to end."""

    jobs: bool = False
    """Whether its jobs that are under way are given up too."""
