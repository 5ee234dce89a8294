"""Jobs on a grid in virtual time: the real matching and judging, with hosts and users that are played.

Owns time, and the rules that are checked at each instant. In each, everything that is due happens first, and then the
queue is matched once, as the matchmaker does it: of each kind of job of each user the first ones that may be tried.
"""

from __future__ import annotations

import heapq
import itertools
import random
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from bitdew.core.errors import error
from bitdew.core.host import HostFacts, Resources, Sharing
from bitdew.core.ids import HostId, Uid
from bitdew.core.job import ANYTHING
from bitdew.core.states import JobState, RunState
from bitdew.wire.models import ErrorView

from ..jobs.judging import Verdict, judge
from ..jobs.matching import OVERDUE, Assignment, HostOffer, Picture, Waiting, match
from ..jobs.queueing import again_at, most_that_begin, waits
from ..jobs.records import JobRecord, RunRecord
from ..jobs.settling import Case
from .churn import Availability
from .clock import BEGINNING
from .identities import uid_from
from .job_figures import JobFigures
from .job_load import GB, HOUR, Load, SimulatedUser

SUSPECT: Final = 20.0
"""Seconds of silence after which a host is given nothing more."""
LOST: Final = 60.0
"""Seconds of silence after which a host is lost, and what runs there."""
FAULT: Final = ErrorView.of(error("job.command", "The command failed"))
GONE: Final = ErrorView.of(error("job.host-lost", "The host is lost"))


@dataclass(slots=True)
class PlayedHost:
    """A volunteer's host. `memory` in bytes; `heard`: seconds, when it went; None while it is there."""

    host: HostId
    facts: HostFacts
    silent_since: float | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What is to be simulated.

    Attributes:
        hosts: How many, with 2 to 8 processors and as much memory in GB, twice.
        loads: What each user asks for.
        availability: How hosts come and go.
        hours: Virtual hours at most: it is over when nothing is left to do, or then.
        lying: The part of the hosts that claim something else than the others.
        seed: Where chance begins.
    """

    hosts: int
    loads: Sequence[Load]
    availability: Availability
    hours: float = 72.0
    lying: float = 0.0
    seed: int = 0


class JobGrid:
    """The grid.

    Attributes:
        figures: What comes of it.
        cases: All jobs that ever were.
        violations: Rules that were broken, as sentences.
    """

    def __init__(self, options: JobOptions) -> None:
        self._options = options
        self._chance = random.Random(options.seed)  # noqa: S311 (nothing is kept secret by it)
        self._seconds = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._hosts: dict[HostId, PlayedHost] = {}
        self._liars: set[HostId] = set()
        self._users = {load.name: SimulatedUser(load, self._fork()) for load in options.loads}
        self._queues: defaultdict[tuple[object, ...], list[tuple[object, ...]]] = defaultdict(list)
        self._live: dict[Uid, tuple[RunRecord, Case]] = {}
        self._served: dict[str, datetime] = {}
        self._open = 0
        self.cases: dict[Uid, Case] = {}
        self.figures = JobFigures()
        self.violations: list[str] = []

    def _fork(self) -> random.Random:
        return random.Random(self._chance.getrandbits(64))  # noqa: S311

    @property
    def now(self) -> datetime:
        """The time of day."""
        return BEGINNING + timedelta(seconds=self._seconds)

    def play(self, passed: Callable[[float], None] = lambda _part: None) -> None:
        """Until nothing is left to do, or the time is over. `passed` is told which part of it is."""
        for _ in range(self._options.hosts):
            self._join(rest=True)
        for user in self._users.values():
            self._at(user.load.begins * HOUR, partial(self._submit_array, user))
            self._expect_arrival(user, user.arrivals())
        end = self._options.hours * HOUR
        while self._events and self._events[0][0] <= end and (self._open or self._expecting):
            self._seconds = self._events[0][0]
            while self._events and self._events[0][0] <= self._seconds:
                heapq.heappop(self._events)[2]()
            self._match()
            self.figures.passing(self._seconds, self._working(), self._left_waiting)
            passed(self._seconds / end)
        self.figures.over(self._seconds, self.cases.values())

    def _at(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(seconds, self._seconds), next(self._numbers), what))

    # Users ------------------------------------------------------------------------------------------------------------

    _expecting = 0
    _left_waiting: Collection[str] = ()

    def _expect_arrival(self, user: SimulatedUser, arrivals: Iterable[float]) -> None:
        coming = iter(arrivals)

        def expect() -> None:
            if (at := next(coming, None)) is not None:
                self._expecting += 1
                self._at(at, arrive)

        def arrive() -> None:
            self._expecting -= 1
            self._submit(user.arrived(self.now))
            expect()

        self._expecting += 1  # the beginning
        self._at(user.load.begins * HOUR, lambda: self._begun(expect))

    def _begun(self, expect: Callable[[], None]) -> None:
        self._expecting -= 1
        expect()

    def _submit_array(self, user: SimulatedUser) -> None:
        self._submit(user.array(self.now))

    def _submit(self, jobs: Sequence[JobRecord]) -> None:
        for job in jobs:
            self.cases[job.uid] = Case.of(job, [])
            self._open += 1
            self._enqueue(job)

    def _enqueue(self, job: JobRecord) -> None:
        spec = job.spec
        kind = job.owner, spec.command[0], spec.needs, spec.requires, spec.caps.cpus, spec.caps.memory
        insort(self._queues[kind], (-spec.priority, job.created, job.array, job.index, job.uid))

    # Hosts ------------------------------------------------------------------------------------------------------------

    def _join(self, *, rest: bool = False) -> None:
        chance, uid = self._chance, HostId(uid_from(self._chance))
        cpus = chance.choice([2, 4, 4, 8])
        name = f"h{len(self._hosts) + 1}"
        facts = HostFacts(uid, name, Resources(cpus, 2 * cpus * GB), {}, (Sharing("root", "6.40"),))
        self._hosts[uid] = PlayedHost(uid, facts)
        if chance.random() < self._options.lying:
            self._liars.add(uid)
        self._stay(self._hosts[uid], rest=rest)

    def _stay(self, host: PlayedHost, *, rest: bool = False) -> None:
        available = self._options.availability
        if available.churn > 0:
            length = available.rest_of_session(self._chance) if rest else available.session(self._chance)
            self._at(self._seconds + length, lambda: self._leave(host))

    def _leave(self, host: PlayedHost) -> None:
        """It is switched off, and what ran there with it."""
        available, left = self._options.availability, self._seconds
        host.silent_since = left
        self.figures.departures += 1
        self._at(left + SUSPECT, lambda: None)
        self._at(left + LOST, lambda: self._lose(host, left))
        back = left + available.absence_of(self._chance)
        if self._chance.random() < available.for_good:
            self._at(back, self._join)
        else:
            self._at(back, lambda: self._return(host))

    def _lose(self, host: PlayedHost, since: float) -> None:
        if host.silent_since == since:
            host.lost = True
            self._give_back(host)

    def _return(self, host: PlayedHost) -> None:
        host.silent_since, host.lost = None, False
        self._give_back(host)  # it finds that its commands are gone, and says so
        self._stay(host)

    def _give_back(self, host: PlayedHost) -> None:
        for run, case in [one for one in self._live.values() if one[0].host == host.host]:
            if not case.runs[run.uid].ended:
                case.end(run.uid, RunState.LOST, self.now, GONE)
                self.figures.lost += 1
                self._judged(case)

    def _offers(self) -> dict[HostId, HostOffer]:
        cpus, memory = Counter[HostId](), Counter[HostId]()
        for run, case in self._live.values():
            cpus[run.host] += case.job.spec.caps.cpus
            memory[run.host] += case.job.spec.caps.memory
        found = {}
        for uid, host in self._hosts.items():
            if host.silent_since is None or self._seconds - host.silent_since < SUSPECT:
                lent = host.facts.resources
                room = lent.cpus - cpus[uid], lent.memory - memory[uid]
                if min(room) < 0:
                    self.violations.append(f"room of {host.facts.name} was given twice")
                found[uid] = HostOffer(host.facts, frozenset({ANYTHING}), *room)
        return found

    # Runs -------------------------------------------------------------------------------------------------------------

    def _end_command(self, uid: Uid) -> None:
        run, case = self._live.get(uid, (None, None))
        if run is None or case is None or case.runs[uid].ended:
            return
        if self._hosts[run.host].silent_since is not None:
            return  # it went off before it came so far
        if self._users[case.job.owner].fails():
            case.end(uid, RunState.FAILED, self.now, FAULT)
        else:
            told = f"lie {run.host}" if run.host in self._liars else "right"
            case.put(replace(case.runs[uid], state=RunState.STORING, exit_code=0, outputs=(), digest=told))
        self._judged(case)

    def _judged(self, case: Case) -> None:
        """What follows from a change: what is chosen is handed over at once."""
        while not case.job.ended:
            verdicts = case.judge(self.now).verdicts
            stored = [uid for uid, verdict in verdicts.items() if verdict is Verdict.STORE]
            if not stored or case.job.ended:
                break
            case.end(stored[0], RunState.DONE, self.now, None)
        for uid in [uid for uid, (_, other) in self._live.items() if other is case and case.runs[uid].ended]:
            del self._live[uid]
        if case.job.ended:
            self._open -= 1
            self._check_end(case)
            user = self._users[case.job.owner]
            if user.load.standing:
                user.under_way -= 1
                self._submit(user.made(self.now))
        elif case.job.state is JobState.QUEUED:
            self._enqueue(case.job)

    # Matching ---------------------------------------------------------------------------------------------------------

    def _match(self) -> None:
        offers, now = self._offers(), self.now
        waiting, wakes = self._heads(max(16, most_that_begin(offers)))
        found = match(Picture(waiting, offers, {}, self._working(), self._served), now)
        self._check_turns(found, waiting, offers)
        for one in found:
            case = self.cases[one.job]
            case.begin(one.host, one.cause, now)
            run = list(case.runs.values())[-1]
            self._live[run.uid] = (run, case)
            self._served[case.job.owner] = now
            length = self._users[case.job.owner].seconds[one.job]
            self._at(self._seconds + length, partial(self._end_command, run.uid))
            self.figures.begun(case, self._seconds)
        begun = {one.job for one in found}
        for case in (self.cases[uid] for uid in begun):
            case.judge(now)
            for run in [run for run in case.runs.values() if run.state is RunState.ASSIGNED]:
                case.put(replace(run, state=RunState.RUNNING))  # there is nothing to stage
            case.judge(now)
        self._left_waiting = {one.owner for one in waiting if one.uid not in begun}
        if wakes:
            self._at((min(wakes) - BEGINNING).total_seconds(), lambda: None)

    def _heads(self, most: int) -> tuple[list[Waiting], list[datetime]]:
        found, wakes = list[Waiting](), list[datetime]()
        begun = {case.job.uid: case for _, case in self._live.values() if case.job.spec.replicas > 1}
        for queue in self._queues.values():
            ready, at, seen = 0, 0, set[object]()
            while at < len(queue) and ready < most:
                uid = queue[at][-1]
                case = self.cases[Uid(str(uid))]
                if uid in seen or case.job.state is not JobState.QUEUED:
                    del queue[at]
                    continue
                seen.add(uid)
                at += 1
                if (again := again_at(case)) > self.now:
                    wakes.append(again)
                    continue
                found += self._waits(case)
                ready += 1
        for case in begun.values():
            if case.job.state is not JobState.QUEUED and again_at(case) <= self.now:
                found += self._waits(case)
        return found, wakes

    def _waits(self, case: Case) -> list[Waiting]:
        missing = judge(case.job.spec, list(case.runs.values())).missing
        return [waits(case, missing, {one.data: GB for one in case.job.inputs})] if missing else []

    def _working(self) -> dict[str, int]:
        found = Counter[str]()
        for _, case in self._live.values():
            found[case.job.owner] += case.job.spec.caps.cpus
        return dict(found)

    # Rules ------------------------------------------------------------------------------------------------------------

    def _check_turns(
        self, found: Sequence[Assignment], waiting: Sequence[Waiting], offers: Mapping[HostId, HostOffer]
    ) -> None:
        begun, by_uid = {one.job for one in found}, {one.uid: one for one in waiting}
        for one in found:
            job = by_uid[one.job]
            if one.host in job.taken or one.host not in offers:
                self.violations.append(f"a run was given to {one.host[:8]}, which may not have it")
        for job in by_uid.values():
            if job.uid in begun or job.taken or job.missing > 1:
                continue
            for other in (by_uid[uid] for uid in begun):
                same = (other.owner, other.cpus, other.memory) == (job.owner, job.cpus, job.memory)
                if same and other.priority < job.priority and self.now - other.since <= OVERDUE:
                    self.violations.append(f"a job of {job.owner} was passed over by one of lower priority")

    def _check_end(self, case: Case) -> None:
        runs, spec = case.runs.values(), case.job.spec
        if sum(run.state is not RunState.CANCELLED for run in runs) > spec.most_runs:
            self.violations.append(f"a job of {case.job.owner} had more runs than attempts")
        done = [run.host for run in runs if run.state is RunState.DONE]
        if len(done) != len(set(done)):
            self.violations.append(f"two replicas of a job of {case.job.owner} were on one host")
        if case.job.state is JobState.DONE and len(done) < spec.quorum:
            self.violations.append(f"a job of {case.job.owner} was done before enough agreed")
        if any(run.digest.startswith("lie") for run in runs if run.state is RunState.DONE) and spec.replicas > 1:
            self.violations.append(f"a lie became the result of a job of {case.job.owner}")
