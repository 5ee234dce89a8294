"""The loop around the matching: gathers what waits and what is free, has it matched, and orders the runs.

Owns the moment of matching, and the judgement of silence: a run whose host is lost, or says nothing of it any more, is
lost. Of several processes on one database only the leader matches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import error
from bitdew.core.ids import HostId, Uid
from bitdew.core.job import Caps
from bitdew.core.states import HostState, PlacementState, RunState
from bitdew.tasks import first_of, to_the_end
from bitdew.wire.models import ErrorView

from ...catalog.data_store import Datum
from ...catalog.leadership import Leadership
from ..known import Known
from ..lookout import HOSTS
from ..planner.snapshot import HostRow
from .judging import judge
from .matching import HostOffer, Picture, Waiting, match
from .queue_store import QueueStore
from .queueing import again_at, most_that_begin, waits
from .records import JobRecord, RunRecord
from .settling import Case, Settler
from .store import QUEUE, JobStore

log = structlog.get_logger(__name__)

LEASE: Final = timedelta(seconds=60)
"""How long a host may say nothing of a run, while it says other things."""
HEADS: Final = 1000
"""Jobs of each kind of each user that are looked at together, at most: more than can begin only if some may not yet."""
OVERRUN: Final = timedelta(minutes=5)
"""How long beyond its time a run may be said to run: its host should have ended it."""
NAP: Final = 30.0
"""Seconds until another look though nothing woke the loop: data that a job reads may have ended."""
DEFECT_PAUSE: Final = 5.0
AFTER: Final = timedelta(milliseconds=10)
"""How long after a lease ended it is looked at: it lasts for all of its length."""
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

HostRows = Callable[[], Mapping[HostId, HostRow]]
Kept = Callable[[datetime], Awaitable[Mapping[HostId, Uid]]]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What waits and what is free, and the cases that it was made from."""

    picture: Picture
    cases: Mapping[Uid, Case]
    dead: Mapping[Uid, str]
    """Jobs that can't be done, and the datum that they miss."""
    wake_at: datetime | None
    """When a job that failed may be tried again."""


@dataclass(slots=True)
class _Looked:
    """What was made of some of the jobs that are queued."""

    cases: dict[Uid, Case] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    dead: dict[Uid, str] = field(default_factory=dict)
    wakes: list[datetime] = field(default_factory=list)
    inputs: set[Uid] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a run takes, of whom: it stays the same for all of a job's life."""

    owner: str
    caps: Caps
    runtime: timedelta
    many: bool
    """Whether the job has several replicas: it may need another run although some go on."""


class Matchmaker:
    """Gives runs to hosts."""

    def __init__(
        self,
        known: Known,
        store: JobStore,
        queue: QueueStore,
        settler: Settler,
        leadership: Leadership,
        rows: HostRows,
        kept: Kept,
    ) -> None:
        """`rows` are all hosts as the planner sees them; `kept` says which are kept free for machines."""
        self._known = known
        self._store = store
        self._queue = queue
        self._settler = settler
        self._leadership = leadership
        self._rows = rows
        self._kept = kept
        self._began = known.clock.now()
        self._wake_at: datetime | None = None
        self._taken: dict[Uid, _Taken] = {}
        """Of the jobs that have runs which go on."""
        self._served: dict[str, datetime] = {}
        """When users were served last, as far as that was asked; only who leads serves anybody."""
        self._epoch: int | None = None

    async def run(self) -> None:
        """Match whenever something changed and this process leads, until cancelled."""
        changes = self._known.changes
        while True:
            await self._leadership.gained()
            seen, hosts = changes.version(QUEUE), changes.version(HOSTS)
            try:
                await to_the_end(self.step())
            except Exception:
                log.exception("the jobs can't be matched")
                await self._known.clock.sleep(DEFECT_PAUSE)
                continue
            changed = changes.wait(QUEUE, seen, NAP), changes.wait(HOSTS, hosts, NAP)
            await wait_at_most(self._known.clock, self._nap(), first_of(*changed, self._leadership.lost.wait()))

    def _nap(self) -> float:
        if self._wake_at is None:
            return NAP
        return min(max((self._wake_at - self._known.clock.now()).total_seconds(), 0.01), NAP)

    async def step(self) -> None:
        """Give up what is lost, and begin what can begin."""
        async with self._known.database.facts():
            if self._epoch != self._leadership.epoch:
                self._epoch, self._served = self._leadership.epoch, {}  # another process served them meanwhile
            now = self._known.clock.now()
            live = await self._still_there(await self._live(), now)
            gathered = await self._gather(now, live)
            found = match(gathered.picture, now)
            changed: dict[Uid, Case] = {}
            for uid, missing in gathered.dead.items():
                case = changed[uid] = gathered.cases[uid]
                fault = error("job.input-gone", f"{case.job.name} can't run", why=f"its input {missing} is gone")
                case.fail(ErrorView.of(fault), now)
            for assignment in found:
                case = changed[assignment.job] = gathered.cases[assignment.job]
                case.begin(assignment.host, assignment.cause, now)
            for uid in {one.job for one in found}:
                changed[uid].judge(now)
            if changed:
                await self._settler.settle(list(changed.values()), check=self._leadership.check)
            self._served.update((changed[one.job].job.owner, now) for one in found)
            moments = [self._silent_at(run) for run in live]
            self._wake_at = min([*moments, *([gathered.wake_at] if gathered.wake_at else [])], default=None)

    async def gather(self, now: datetime, only: Collection[Uid]) -> Gathered:
        """What these jobs wait for, and what is free. Under the facts lock."""
        return await self._gather(now, await self._live(), only)

    async def _live(self) -> list[RunRecord]:
        """The runs that go on. What each takes is known from now on."""
        live = await self._queue.live_runs()
        jobs = {run.job for run in live}
        self._taken = {uid: taken for uid, taken in self._taken.items() if uid in jobs}
        for uid, job in (await self._store.jobs(jobs - self._taken.keys())).items():
            caps = job.spec.caps
            runtime = timedelta(seconds=caps.runtime)
            self._taken[uid] = _Taken(job.owner, caps, runtime, many=job.spec.replicas > 1)
        return live

    async def _gather(self, now: datetime, live: Sequence[RunRecord], only: Collection[Uid] | None = None) -> Gathered:
        offers = self._offers(live, await self._kept(now))
        if only is None:
            looked = await self._look_into_queue(most_that_begin(offers), now)
            looked = await self._look(await self._store.jobs(self._begun(live)), now, looked)
        else:
            looked = await self._look(await self._store.jobs(only), now, _Looked(), early=True)
        picture = Picture(
            waiting=looked.waiting,
            hosts=offers,
            held=await self._held(looked.inputs),
            working=self._working(live),
            served=await self._served_last({job.owner for job in looked.waiting}) if only is None else {},
        )
        return Gathered(picture, looked.cases, looked.dead, min(looked.wakes, default=None))

    def _begun(self, live: Sequence[RunRecord]) -> set[Uid]:
        return {run.job for run in live if self._taken[run.job].many}

    async def _look_into_queue(self, most: int, now: datetime) -> _Looked:
        """Of each kind the first jobs, `most` of which could begin; further ones only where some of these may not."""
        heads, before = max(1, min(most, HEADS)), 0
        while True:
            jobs = await self._queue.heads(heads)
            looked = await self._look({job.uid: job for job in jobs}, now, _Looked())
            no_more = len(jobs) < heads or len(jobs) == before  # no kind has further ones
            if no_more or heads >= HEADS or len(looked.waiting) == len(jobs):
                return looked
            heads, before = min(4 * heads, HEADS), len(jobs)

    async def _look(
        self, jobs: Mapping[Uid, JobRecord], now: datetime, looked: _Looked, *, early: bool = False
    ) -> _Looked:
        """Sort these jobs; `early`: also those that wait out a failure."""
        runs = await self._store.runs(jobs)
        cases = {job.uid: Case.of(job, runs[job.uid]) for job in jobs.values()}
        looked.cases |= cases
        inputs = {one.data for job in jobs.values() for one in job.inputs}
        looked.inputs |= inputs
        data = await self._known.data.get(inputs) if inputs else {}
        sizes = {uid: datum.data.size for uid, datum in data.items()}
        for case in cases.values():
            if (gone := _gone(case.job, data)) is not None:
                looked.dead[case.job.uid] = gone
                continue
            missing = judge(case.job.spec, list(case.runs.values())).missing if not case.job.ended else 0
            if missing and (again := again_at(case)) > now:
                looked.wakes.append(again)
                missing = missing if early else 0
            if missing:
                looked.waiting.append(waits(case, missing, sizes))
        return looked

    async def _served_last(self, owners: Collection[str]) -> dict[str, datetime]:
        unknown = [owner for owner in owners if owner not in self._served]
        self._served |= dict.fromkeys(unknown, LONG_AGO) | await self._queue.served(unknown)
        return {owner: moment for owner in owners if (moment := self._served[owner]) != LONG_AGO}

    def _offers(self, live: Sequence[RunRecord], kept: Mapping[HostId, Uid]) -> dict[HostId, HostOffer]:
        """What hosts have free. What their machines have is not lent to jobs too, nor what is kept for one."""
        cpus, memory, runs = dict[HostId, int](), dict[HostId, int](), Counter[HostId]()
        for run in live:
            runs[run.host] += 1
            caps = self._taken[run.job].caps
            cpus[run.host] = cpus.get(run.host, 0) + caps.cpus
            memory[run.host] = memory.get(run.host, 0) + caps.memory
        offers = {}
        for host, row in self._rows().items():
            record = self._known.hosts.get(host)
            if record is None or row.state not in {HostState.ALIVE, HostState.DRAINED}:
                continue
            lent, most = row.facts.resources, record.report.jobs_at_once
            offers[host] = HostOffer(
                facts=row.facts,
                programs=frozenset(record.report.programs),
                cpus=lent.cpus - row.cpus_taken - cpus.get(host, 0),
                memory=lent.memory - row.memory_taken - memory.get(host, 0),
                slots=most - runs[host] if most else None,
                refuses=_refuses(row, kept.get(host), paused=record.report.paused),
            )
        return offers

    async def _held(self, inputs: Collection[Uid]) -> dict[Uid, frozenset[HostId]]:
        if not inputs:
            return {}
        placements = await self._known.store.placements_of(inputs)
        return {
            uid: frozenset(one.host for one in placed if one.state is PlacementState.HELD)
            for uid, placed in placements.items()
        }

    # Silence --------------------------------------------------------------------------------------------------------

    async def _still_there(self, live: Sequence[RunRecord], now: datetime) -> list[RunRecord]:
        """Those of these runs that are not lost; the others are given up."""
        lost = {run.uid: why for run in live if (why := self._lost(run, now))}
        if not lost:
            return list(live)
        cases = await self._settler.cases(list(lost))
        for run in live:
            if run.uid not in lost:
                continue
            name = self._known.hosts.name(run.host)
            fault = error("job.host-lost", f"Run {run.uid[:8]} on {name} was given up", why=lost[run.uid])
            tell = "it was given up: it runs elsewhere"
            cases[run.uid].end(run.uid, RunState.LOST, now, ErrorView.of(fault), tell=tell)
        changed = list({case.job.uid: case for case in cases.values()}.values())
        for case in changed:
            case.judge(now)
        log.info("runs are lost", runs=len(lost))
        await self._settler.settle(changed, check=self._leadership.check)
        return [run for run in live if run.uid not in lost]

    def _lost(self, run: RunRecord, now: datetime) -> str:
        """Why a run is given up, or nothing."""
        record = self._known.hosts.get(run.host)
        if record is None or record.state in {HostState.LOST, HostState.BANNED}:
            return f"the host is {record.state if record else 'gone'}"
        if now - max(run.heard, self._began) > LEASE:
            return f"the host has said nothing of it for {LEASE.total_seconds():.0f} s"
        if run.state is RunState.RUNNING and now - run.since > self._taken[run.job].runtime + OVERRUN:
            return "its host should have ended it long ago"
        return ""

    def _silent_at(self, run: RunRecord) -> datetime:
        """When a run is given up unless its host says something of it; or ends it, if it is to."""
        silent = max(run.heard, self._began) + LEASE
        if run.state is RunState.RUNNING:
            silent = min(silent, run.since + self._taken[run.job].runtime + OVERRUN)
        return silent + AFTER

    def _working(self, live: Sequence[RunRecord]) -> dict[str, int]:
        found: dict[str, int] = {}
        for run in live:
            taken = self._taken[run.job]
            found[taken.owner] = found.get(taken.owner, 0) + taken.caps.cpus
        return found


def _gone(job: JobRecord, data: Mapping[Uid, Datum]) -> str | None:
    """An input that is not there any more."""
    for one in job.inputs:
        datum = data.get(one.data)
        if datum is None or not datum.alive:
            return datum.data.name if datum else one.data
    return None


def _refuses(row: HostRow, kept_for: Uid | None, *, paused: bool) -> str:
    if row.drained:
        return "it is being emptied"
    if paused:
        return "its volunteer lets nothing run there now"
    return f"it is kept free for machine {kept_for[:8]}, which has waited for long" if kept_for else ""
