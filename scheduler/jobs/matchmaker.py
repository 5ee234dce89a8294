"""The loop around the matching: gathers what waits and what is free, has it matched, and orders the runs.

Owns the moment of matching, and the judgement of silence: a run whose host is lost, or says nothing of it any more, is
lost. Of several processes on one database only the leader matches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import error
from bitdew.core.ids import HostId, Uid
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
from .records import JobRecord, RunRecord
from .settling import Case, Settler
from .store import TOPIC, JobStore

log = structlog.get_logger(__name__)

LEASE: Final = timedelta(seconds=60)
"""How long a host may say nothing of a run, while it says other things."""
HEADS: Final = 200
"""Jobs of each kind of each user that are looked at together."""
OVERRUN: Final = timedelta(minutes=5)
"""How long beyond its time a run may be said to run: its host should have ended it."""
FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(minutes=5)
NAP: Final = 30.0
SHORT_NAP: Final = 5.0
"""Seconds until another look while something waits: what is free changes also where nobody tells."""
DEFECT_PAUSE: Final = 5.0
_CLAIMED: Final = frozenset({RunState.STORING, RunState.DONE})

HostRows = Callable[[], Mapping[HostId, HostRow]]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What waits and what is free, and the cases that it was made from."""

    picture: Picture
    cases: Mapping[Uid, Case]
    dead: Mapping[Uid, str]
    """Jobs that can't be done, and the datum that they miss."""
    wake_at: datetime | None
    """When a job that failed may be tried again."""


class Matchmaker:
    """Gives runs to hosts."""

    def __init__(self, known: Known, store: JobStore, settler: Settler, leadership: Leadership, rows: HostRows) -> None:
        """`rows` are all hosts as the planner sees them."""
        self._known = known
        self._store = store
        self._settler = settler
        self._leadership = leadership
        self._rows = rows
        self._began = known.clock.now()
        self._wake_at: datetime | None = None
        self._waiting = False

    async def run(self) -> None:
        """Match whenever something changed and this process leads, until cancelled."""
        changes = self._known.changes
        while True:
            await self._leadership.gained()
            seen, hosts = changes.version(TOPIC), changes.version(HOSTS)
            try:
                await to_the_end(self.step())
            except Exception:
                log.exception("the jobs can't be matched")
                await self._known.clock.sleep(DEFECT_PAUSE)
                continue
            changed = changes.wait(TOPIC, seen, NAP), changes.wait(HOSTS, hosts, NAP)
            await wait_at_most(self._known.clock, self._nap(), first_of(*changed, self._leadership.lost.wait()))

    def _nap(self) -> float:
        longest = SHORT_NAP if self._waiting else NAP
        if self._wake_at is None:
            return longest
        return min(max((self._wake_at - self._known.clock.now()).total_seconds(), 0.01), longest)

    async def step(self) -> None:
        """Give up what is lost, and begin what can begin."""
        async with self._known.database.facts():
            now = self._known.clock.now()
            await self._give_up_lost(now)
            gathered = await self.gather(now)
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
            self._wake_at = gathered.wake_at
            self._waiting = len(gathered.picture.waiting) > len({one.job for one in found})

    async def gather(self, now: datetime, only: Collection[Uid] | None = None) -> Gathered:
        """What waits, or these jobs of it, and what is free. Under the facts lock."""
        live = await self._store.live_runs()
        jobs = await self._store.unfinished(HEADS) if only is None else list((await self._store.jobs(only)).values())
        runs = await self._store.runs([job.uid for job in jobs])
        cases = {job.uid: Case.of(job, runs[job.uid]) for job in jobs}
        working = await self._store.jobs({run.job for run in live} - cases.keys())
        working |= {uid: case.job for uid, case in cases.items()}
        inputs = {one.data for job in jobs for one in job.inputs}
        data = await self._known.data.get(inputs) if inputs else {}
        waiting, dead, wakes = list[Waiting](), dict[Uid, str](), list[datetime]()
        for case in cases.values():
            if (gone := _gone(case.job, data)) is not None:
                dead[case.job.uid] = gone
                continue
            missing = judge(case.job.spec, list(case.runs.values())).missing if not case.job.ended else 0
            if missing and (again := _again_at(case)) > now:
                wakes.append(again)
                missing = 0 if only is None else missing
            if missing:
                waiting.append(self._waits(case, missing, data))
        picture = Picture(
            waiting=waiting,
            hosts=self._offers(live, working),
            held=await self._held(inputs),
            working=_working(live, working),
            served=await self._store.served({job.owner for job in waiting}),
        )
        return Gathered(picture, cases, dead, min(wakes, default=None))

    def _waits(self, case: Case, missing: int, data: Mapping[Uid, Datum]) -> Waiting:
        job, runs = case.job, case.runs.values()
        return Waiting(
            uid=job.uid,
            owner=job.owner,
            priority=job.spec.priority,
            created=job.created,
            program=job.spec.command[0],
            needs=job.spec.requirements(),
            cpus=job.spec.caps.cpus,
            memory=job.spec.caps.memory,
            missing=missing,
            since=job.since or job.created,
            taken=frozenset(run.host for run in runs if not run.ended or run.state in _CLAIMED),
            failed=frozenset(run.host for run in runs if run.state in {RunState.FAILED, RunState.LOST}),
            inputs={one.data: data[one.data].data.size for one in job.inputs},
            index=job.index,
        )

    def _offers(self, live: Sequence[RunRecord], jobs: Mapping[Uid, JobRecord]) -> dict[HostId, HostOffer]:
        """What hosts have free. What their machines have is not lent to jobs too."""
        cpus, memory, runs = dict[HostId, int](), dict[HostId, int](), Counter[HostId]()
        for run in live:
            runs[run.host] += 1
            caps = jobs[run.job].spec.caps
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
                refuses=_refuses(row, paused=record.report.paused),
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

    async def _give_up_lost(self, now: datetime) -> None:
        live = await self._store.live_runs()
        jobs, cases = await self._store.jobs({run.job for run in live}), dict[Uid, Case]()
        lost = {run.uid: why for run in live if (why := self._lost(run, jobs[run.job], now))}
        runs = await self._store.runs({run.job for run in live if run.uid in lost})
        for run in live:
            if run.uid not in lost:
                continue
            case = cases.setdefault(run.job, Case.of(jobs[run.job], runs[run.job]))
            name = self._known.hosts.name(run.host)
            fault = error("job.host-lost", f"Run {run.uid[:8]} on {name} was given up", why=lost[run.uid])
            case.end(run.uid, RunState.LOST, now, ErrorView.of(fault), tell="it was given up: it runs elsewhere")
        for case in cases.values():
            case.judge(now)
        if cases:
            log.info("runs are lost", runs=len(lost))
            await self._settler.settle(list(cases.values()), check=self._leadership.check)

    def _lost(self, run: RunRecord, job: JobRecord, now: datetime) -> str:
        """Why a run is given up, or nothing."""
        record = self._known.hosts.get(run.host)
        if record is None or record.state in {HostState.LOST, HostState.BANNED}:
            return f"the host is {record.state if record else 'gone'}"
        if now - max(run.heard, self._began) > LEASE:
            return f"the host has said nothing of it for {LEASE.total_seconds():.0f} s"
        allowed = timedelta(seconds=job.spec.caps.runtime) + OVERRUN
        if run.state is RunState.RUNNING and now - run.since > allowed:
            return "its host should have ended it long ago"
        return ""


def _gone(job: JobRecord, data: Mapping[Uid, Datum]) -> str | None:
    """An input that is not there any more."""
    for one in job.inputs:
        datum = data.get(one.data)
        if datum is None or not datum.alive:
            return datum.data.name if datum else one.data
    return None


def _refuses(row: HostRow, *, paused: bool) -> str:
    if row.drained:
        return "it is being emptied"
    return "its volunteer lets nothing run there now" if paused else ""


def _again_at(case: Case) -> datetime:
    """When a job may be tried again: a failure of its own is waited out, for longer each time; a lost host is not."""
    failed = [run for run in case.runs.values() if run.state is RunState.FAILED]
    if not failed:
        return case.job.created
    pause = min(FIRST_PAUSE * (1 << min(len(failed) - 1, 16)), LONGEST_PAUSE)
    return max(run.since for run in failed) + pause


def _working(live: Sequence[RunRecord], jobs: Mapping[Uid, JobRecord]) -> dict[str, int]:
    found: dict[str, int] = {}
    for run in live:
        job = jobs[run.job]
        found[job.owner] = found.get(job.owner, 0) + job.spec.caps.cpus
    return found
