"""The grid at a glance: counts of everything, and of each kind those that are busiest. The same size for every grid."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from bitdew.core.states import HostState, JobState, MachineState, PlacementState

from . import limits
from .model import Count, Model, Sentence, UidText

Signed = Annotated[int, Field(ge=-1)]


class SwarmSummary(Model):
    """A datum of which copies are on their way."""

    data: UidText
    name: str
    size: Count
    held: Count
    intended: Count
    """Copies on their way."""
    wanted: Signed
    """Copies wanted; -1 for every eligible host."""
    done: Count
    """Bytes that the copies on their way have together."""


class HostSummary(Model):
    """A host that has something to do."""

    host: UidText
    name: str
    state: HostState
    cpus: Count
    transfers: Count
    """Copies on their way to it."""
    machines: Count
    jobs: Count
    """Runs of jobs that it has."""


class MachineSummary(Model):
    """A machine that has not ended."""

    uid: UidText
    disk: str
    host_name: str
    state: MachineState
    since: datetime


class JobSummary(Model):
    """A run of a job that has not ended, by the job it is of."""

    uid: UidText
    name: str
    owner: str
    owner_name: str
    host_name: str
    since: datetime


class OwnerSummary(Model):
    """The jobs of one user that have not ended."""

    owner: str
    owner_name: str
    jobs: dict[JobState, int]


class Trouble(Model):
    """Something that is not as it should be."""

    kind: str
    """host, copy, machine, job, data or service."""
    subject: str
    """The uid of what it is about; "" for several."""
    what: Sentence
    since: datetime | None = None


class SummaryReply(Model):
    """The grid at one moment. Lists have what is busiest, or newest, first."""

    at: datetime
    again: float
    """Seconds until there is another one: asked sooner, the service gives this again."""
    name: str
    leads: bool
    hosts: dict[HostState, int]
    copies: dict[PlacementState, int]
    machines: dict[MachineState, int]
    jobs: dict[JobState, int]
    data: Count
    data_bytes: Count
    swarms_filling: Count
    """Data of which copies are on their way, in all."""
    repository_sent: Count
    """Payload bytes that left the repository since the service started."""
    repository_free: Count
    repository_peers: Count
    swarms: list[SwarmSummary] = Field(max_length=limits.SUMMARY)
    busy_hosts: list[HostSummary] = Field(max_length=limits.SUMMARY)
    live_machines: list[MachineSummary] = Field(max_length=limits.SUMMARY)
    live_jobs: list[JobSummary] = Field(max_length=limits.SUMMARY)
    owners: list[OwnerSummary] = Field(max_length=limits.SUMMARY)
    troubles: list[Trouble] = Field(max_length=limits.SUMMARY)
