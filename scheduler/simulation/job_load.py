"""What users of a simulated grid ask for: how many jobs, how large, how long, how often they fail.

Owns the made-up users. What a job really does, when it is given to a host, is decided when it is made, so that it
follows from the seed alone and not from where the job runs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from bitdew.core.ids import Uid, new_uid
from bitdew.core.job import Caps, JobSpec

from ..jobs.records import JobRecord
from ..jobs.standing import Standing, job_for

GB: Final = 2**30
HOUR: Final = 3600.0
URGENT: Final = 10
"""The priority of what is urgent."""
LONGEST: Final = 8.0
"""How many times longer than the average a command runs at most."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one user asks for.

    Attributes:
        name: The user.
        at_once: Jobs of one array, at the hour `begins`.
        hourly: Further jobs in an hour, on average, one by one.
        minutes: That a command runs, on average; exponentially distributed.
        cpus: Of each.
        memory: Bytes of each.
        replicas: As in a job.
        attempts: As in a job.
        failing: The part of the commands that end with a failure, each time they are tried.
        urgent: The part of the jobs that have priority.
        standing: The jobs are those of a standing job, for data that come hourly: so many are under way at a time.
        begins: Hour of the beginning.
        ends: Hour after which nothing more is asked for.
    """

    name: str
    at_once: int = 0
    hourly: float = 0.0
    minutes: float = 10.0
    cpus: int = 1
    memory: int = GB
    replicas: int = 1
    attempts: int = 3
    failing: float = 0.0
    urgent: float = 0.0
    standing: int = 0
    begins: float = 0.0
    ends: float = 8.0

    def spec(self, *, urgent: bool) -> JobSpec:
        """One of its jobs."""
        return JobSpec(
            ("root",),
            needs=("root>=6.30",),
            caps=Caps(cpus=self.cpus, memory=self.memory, runtime=24 * 3600),
            attempts=self.attempts,
            replicas=self.replicas,
            priority=URGENT if urgent else 0,
        )


@dataclass(slots=True)
class SimulatedUser:
    """One user, by whom jobs come.

    Attributes:
        load: What is asked for.
        chance: The user's own.
        seconds: How long each job's command runs.
        backlog: Data that wait for their job, if it is a standing one that makes them.
        under_way: Jobs of the standing job that have not ended.
    """

    load: Load
    chance: random.Random
    seconds: dict[Uid, float] = field(default_factory=dict)
    backlog: int = 0
    under_way: int = 0
    _made: int = 0

    def arrivals(self) -> Iterator[float]:
        """The seconds at which something comes, one by one."""
        at, until = self.load.begins * HOUR, self.load.ends * HOUR
        while self.load.hourly > 0:
            at += self.chance.expovariate(self.load.hourly) * HOUR
            if at > until:
                return
            yield at

    def array(self, now: datetime) -> list[JobRecord]:
        """All that is asked for at once."""
        array = new_uid()
        return [self._job(array, index, now) for index in range(self.load.at_once)]

    def arrived(self, now: datetime) -> list[JobRecord]:
        """One thing more has come: a job, or a datum for the standing job."""
        if not self.load.standing:
            return [self._job(new_uid(), 0, now)]
        self.backlog += 1
        return self.made(now)

    def made(self, now: datetime) -> list[JobRecord]:
        """What the standing job makes of the data that wait, as far as there is room under its bound."""
        jobs = []
        while self.backlog and self.under_way < self.load.standing:
            self.backlog, self.under_way, self._made = self.backlog - 1, self.under_way + 1, self._made + 1
            spec = self.load.spec(urgent=False)
            standing = Standing(_STANDING, None, self.load.name, now, "events", "{}", spec, {}, (), None)
            jobs.append(self._known(job_for(standing, new_uid(), f"d{self._made}", self._made, now)))
        return jobs

    def _job(self, array: Uid, index: int, now: datetime) -> JobRecord:
        spec = self.load.spec(urgent=self.chance.random() < self.load.urgent)
        return self._known(JobRecord(new_uid(), array, index, "job", self.load.name, now, spec, since=now))

    def _known(self, job: JobRecord) -> JobRecord:
        mean = self.load.minutes * 60
        self.seconds[job.uid] = min(max(1.0, self.chance.expovariate(1 / mean)), LONGEST * mean)
        return job

    def fails(self) -> bool:
        """Whether a command that ends now has failed."""
        return self.chance.random() < self.load.failing


_STANDING: Final = Uid("5" * 32)
