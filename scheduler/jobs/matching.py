"""Which host a run is given to. Pure: the same facts give the same answer, in whatever order they came.

Three questions, in this order:

*Whose turn is it?* Users take turns: who has the fewest processors at work now goes first, then who was served longest
ago. So nobody's thousand jobs hold up another's one. Among one user's jobs the higher priority goes first, then the
older.

*Where can it run?* Where the host is alive, its sharings and labels meet all needs, it may run that program, no other
run of the same job is or was there, and processors and memory suffice. A host on which the job has failed is taken only
if no other fits.

*Where is it best?* Where most of its input bytes are already; then where most is idle; then by a hash, so that equal
hosts are used evenly.

A job that asks for much could wait for ever behind small ones that fill every gap. Of each user the oldest one that
has waited for longer than `OVERDUE` therefore *reserves* a host: nobody whose turn comes later is given anything there
until the job fits (backfilling with a reservation, after EASY, Lifka 1995). Which host that is depends on the job
alone, so that it stays the same until it is free. As long as its user has less than an equal share of all processors,
also with that job, nobody else is given anything there either, and further overdue jobs of that user reserve hosts too:
else small jobs of those who have a little less at work would fill the host again and again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from bitdew.core.host import HostFacts
from bitdew.core.ids import HostId, Uid
from bitdew.core.job import ANYTHING
from bitdew.core.requirement import Requirement
from bitdew.core.units import format_size

OVERDUE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class HostOffer:
    """A host that is alive, and what is free there.

    Attributes:
        facts: What it says of itself.
        programs: What jobs may run there.
        cpus: Processors that neither machines nor runs take.
        memory: Bytes that neither machines nor runs take.
        slots: Runs that it takes beside those that it has; None for as many as fit.
        refuses: Why it is to be given nothing new, whatever is free; "" if it is.
    """

    facts: HostFacts
    programs: frozenset[str]
    cpus: int
    memory: int
    slots: int | None = None
    refuses: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that needs further runs.

    Attributes:
        uid: The job.
        owner: Whose it is.
        priority: Among that user's own.
        created: When it was submitted.
        program: What it calls.
        needs: Everything that must be true of a host.
        cpus: Processors that it takes.
        memory: Bytes that it takes.
        missing: How many runs it needs.
        since: Since when it has waited.
        taken: Hosts with another run of it that goes on or claims a result: replicas are on distinct hosts.
        failed: Hosts on which it has failed.
        inputs: What it reads, with sizes in bytes.
        index: Its place among those that were submitted together.
    """

    uid: Uid
    owner: str
    priority: int
    created: datetime
    program: str
    needs: tuple[Requirement, ...]
    cpus: int
    memory: int
    missing: int
    since: datetime
    taken: frozenset[HostId] = frozenset()
    failed: frozenset[HostId] = frozenset()
    inputs: Mapping[Uid, int] = field(default_factory=dict, hash=False)
    index: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be matched.

    Attributes:
        waiting: Jobs that need runs: of each kind of job of each user the first ones.
        hosts: The hosts that are alive.
        held: Which hosts have which inputs.
        working: For each user the processors at work.
        served: For each user when they were served last.
    """

    waiting: Sequence[Waiting]
    hosts: Mapping[HostId, HostOffer]
    held: Mapping[Uid, Collection[HostId]] = field(default_factory=dict)
    working: Mapping[str, int] = field(default_factory=dict)
    served: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A run that is to begin."""

    job: Uid
    host: HostId
    cause: str


@dataclass(slots=True)
class _Room:
    offer: HostOffer
    cpus: int
    memory: int
    slots: int | None
    reserved_for: Waiting | None = None
    against_all: bool = False
    """Whether those whose turn comes first are kept off too."""

    def fits(self, job: Waiting) -> bool:
        return self.cpus >= job.cpus and self.memory >= job.memory and (self.slots is None or self.slots > 0)

    def take(self, job: Waiting) -> None:
        self.cpus -= job.cpus
        self.memory -= job.memory
        if self.slots is not None:
            self.slots -= 1
        if self.reserved_for is job:
            self.reserved_for = None


class _Round:
    """One round of matching: what is free shrinks as it goes."""

    def __init__(self, picture: Picture, now: datetime) -> None:
        self.picture = picture
        self.now = now
        self.rooms = {
            host: _Room(one, one.cpus, one.memory, one.slots) for host, one in picture.hosts.items() if not one.refuses
        }
        self._able: dict[tuple[object, ...], tuple[HostId, ...]] = {}
        self._full: set[tuple[object, ...]] = set()

    def able(self, job: Waiting) -> tuple[HostId, ...]:
        """The hosts that could ever run such a job."""
        key = (job.program, job.needs)
        if key not in self._able:
            hosts = (host for host, room in self.rooms.items() if not _objection(job, room.offer))
            self._able[key] = tuple(sorted(hosts))
        return self._able[key]

    def turn(self, owner: str) -> tuple[int, float, str]:
        """The lower it is, the sooner the user is served: as it was when the round began."""
        served = self.picture.served.get(owner)
        return self.picture.working.get(owner, 0), served.timestamp() if served else 0.0, owner

    def reserve(self) -> None:
        """Keep hosts for each user's oldest overdue job, and for others that fit nowhere up to an equal share."""
        overdue: defaultdict[str, list[Waiting]] = defaultdict(list)
        for job in sorted(self.picture.waiting, key=lambda job: (job.since, job.uid)):
            if self.now - job.since > OVERDUE and any(self._could_hold(job, h) for h in self.able(job)):
                overdue[job.owner].append(job)
        turns, share = sorted(overdue, key=self.turn), self._share()
        has = {owner: self.picture.working.get(owner, 0) + overdue[owner][0].cpus for owner in turns}
        for owner in turns:
            self._keep_host(overdue[owner][0], against_all=has[owner] <= share)
        for owner in turns:
            for job in overdue[owner][1:]:
                if has[owner] + job.cpus > share:
                    break
                if not any(self.rooms[host].fits(job) for host in self.able(job)) and self._keep_host(job):
                    has[owner] += job.cpus

    def _keep_host(self, job: Waiting, *, against_all: bool = True) -> bool:
        """Reserve a host where a job fits now, or else always the same; whether there is one."""
        able = [h for h in self.able(job) if h not in job.taken and self._could_hold(job, h)]
        free = [host for host in able if self.rooms[host].reserved_for is None]
        fitting = [host for host in free if self.rooms[host].fits(job)]
        if not free:
            return False
        room = self.rooms[min(fitting or free, key=lambda host: _mixed(job.uid, host))]
        room.reserved_for, room.against_all = job, against_all
        return True

    def _share(self) -> float:
        """Processors that each user would have if all who want some had as many."""
        users = self.picture.working.keys() | {job.owner for job in self.picture.waiting}
        lent = sum(room.offer.facts.resources.cpus for room in self.rooms.values())
        return lent / max(1, len(users))

    def _is_open(self, room: _Room, job: Waiting) -> bool:
        """Whether nobody who comes first keeps this host for himself."""
        other = room.reserved_for
        if other is None or other.uid == job.uid:
            return True
        return not room.against_all and self.turn(job.owner) < self.turn(other.owner)

    def _could_hold(self, job: Waiting, host: HostId) -> bool:
        whole = self.rooms[host].offer.facts.resources
        return whole.cpus >= job.cpus and whole.memory >= job.memory

    def choose(self, job: Waiting, taken: Collection[HostId]) -> HostId | None:
        """The best host for a run of `job`."""
        kind = (job.program, job.needs, job.cpus, job.memory)
        if kind in self._full:
            return None
        fitting = [host for host in self.able(job) if self.rooms[host].fits(job)]
        if not fitting:
            self._full.add(kind)  # nothing gets free within a round
            return None
        open_ones = [host for host in fitting if host not in taken and self._is_open(self.rooms[host], job)]
        fresh = [host for host in open_ones if host not in job.failed]
        return min(fresh or open_ones, key=lambda host: self._rank(job, host), default=None)

    def _rank(self, job: Waiting, host: HostId) -> tuple[bool, int, int, str]:
        room = self.rooms[host]
        kept = room.reserved_for is not None and room.reserved_for.uid != job.uid  # else it would never get empty
        return kept, -self.here(job, host), -room.cpus, _mixed(job.uid, host)

    def here(self, job: Waiting, host: HostId) -> int:
        """Bytes of a job's inputs that a host has."""
        held = self.picture.held
        return sum(size for data, size in job.inputs.items() if host in held.get(data, ()))


def match(picture: Picture, now: datetime) -> list[Assignment]:
    """The runs that are to begin now."""
    work, found = _Round(picture, now), list[Assignment]()
    work.reserve()
    queues = _queues(picture.waiting)
    working = defaultdict(int, picture.working)
    turns = {owner: (picture.served.get(owner), 0) for owner in queues}
    while queues:
        owner = min(queues, key=lambda one: (working[one], *_last(turns[one]), one))
        job = next(queues[owner], None)
        if job is None:
            del queues[owner]
            continue
        chosen: set[HostId] = set()
        for _ in range(job.missing):
            host = work.choose(job, job.taken | chosen)
            if host is None:
                break
            chosen.add(host)
            work.rooms[host].take(job)
            working[owner] += job.cpus
            turns[owner] = (now, len(found) + 1)
            found.append(Assignment(job.uid, host, _cause(job, host, work, picture)))
    return found


def _queues(waiting: Sequence[Waiting]) -> dict[str, Iterator[Waiting]]:
    by_owner: dict[str, list[Waiting]] = defaultdict(list)
    for job in waiting:
        by_owner[job.owner].append(job)
    return {
        owner: iter(sorted(jobs, key=lambda job: (-job.priority, job.created, job.index, job.uid)))
        for owner, jobs in by_owner.items()
    }


def _last(turn: tuple[datetime | None, int]) -> tuple[float, int]:
    served, number = turn
    return (served.timestamp() if served else 0.0), number


def _mixed(job: Uid, host: HostId) -> str:
    """A place among equal hosts that depends on both, and on nothing else (rendezvous hashing)."""
    return hashlib.sha256(f"{job}{host}".encode()).hexdigest()


def _cause(job: Waiting, host: HostId, work: _Round, picture: Picture) -> str:
    total, here = sum(job.inputs.values()), work.here(job, host)
    name = picture.hosts[host].facts.name
    if total:
        return f"{name} is free and has {format_size(here)} of the {format_size(total)} that it reads"
    return f"{name} is free and has what it needs"


def _objection(job: Waiting, offer: HostOffer) -> str:
    """Why a host could never run such a job, or nothing."""
    for requirement in job.needs:
        verdict = requirement.check(offer.facts)
        if not verdict.matches:
            return verdict.reason
    if not offer.programs:
        return "it takes no jobs"
    if ANYTHING not in offer.programs and job.program not in offer.programs:
        return f"it does not share the program {job.program}"
    return ""


def objection(job: Waiting, offer: HostOffer) -> str:
    """Why this host is not given a run of this job now, or nothing if it could be."""
    facts = offer.facts
    if why := _objection(job, offer):
        return why
    if facts.resources.cpus < job.cpus or facts.resources.memory < job.memory:
        lent = f"{facts.resources.cpus} processors and {format_size(facts.resources.memory)}"
        return f"it lends {lent}, and the job asks for {job.cpus} and {format_size(job.memory)}"
    if facts.host_id in job.taken:
        return "another replica is there"
    if offer.refuses:
        return offer.refuses
    if offer.slots is not None and offer.slots <= 0:
        return "it has as many jobs as its volunteer allows at once"
    if offer.cpus < job.cpus:
        return f"{max(0, offer.cpus)} of its processors are free now"
    if offer.memory < job.memory:
        return f"{format_size(max(0, offer.memory))} of its memory are free now"
    return ""
