"""What follows from a change of a job's runs, stored together: the job's state, its other runs, the orders to hosts.

Owns the way from a judgement into the store, and who hears of it. Callers hold the facts lock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from bitdew.core.errors import error
from bitdew.core.ids import HostId, Uid, new_uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import JOB, RUN, JobState, RunState
from bitdew.wire.models import ErrorView, LogChunk

from ...catalog.feed import Told
from ..host_store import Check
from ..known import Known
from ..lookout import ROOM
from ..records import OrderRecord
from .judging import Judgement, Verdict, judge
from .records import JobRecord, RunRecord
from .store import QUEUE, TOPIC, JobStore

LEFT: Final = "leftovers of runs"
"""The topic of runs that ended without a result after they had claimed one: they may have begun to hand it over."""


@dataclass(slots=True)
class Case:
    """A job whose runs change.

    Attributes:
        job: As it is now.
        runs: All that it ever had, as they are now, by uid.
        begun: Those of them that are new.
        changed: Those of them that are not as they are stored.
        cancelled: Hosts that are to hear that a run is not wanted any more: run and why.
        news: Whether anything but figures and signs of life changed: then whoever waits for the job is woken.
        stirs: Whether there is room now, or need of a run: then whoever matches jobs is woken too.
    """

    job: JobRecord
    runs: dict[Uid, RunRecord]
    begun: dict[Uid, str] = field(default_factory=dict)
    changed: set[Uid] = field(default_factory=set)
    cancelled: dict[Uid, str] = field(default_factory=dict)
    news: bool = False
    stirs: bool = False

    @classmethod
    def of(cls, job: JobRecord, runs: Iterable[RunRecord]) -> Case:
        """A job and its runs as they are stored."""
        return cls(job, {run.uid: run for run in runs})

    def put(self, run: RunRecord) -> None:
        """A run is as given now."""
        known = self.runs.get(run.uid)
        self.news = self.news or known is None or (known.state, known.digest) != (run.state, run.digest)
        self.stirs = self.stirs or run.ended
        self.runs[run.uid] = run
        if run.uid not in self.begun:
            self.changed.add(run.uid)

    def begin(self, host: HostId, cause: str, now: datetime) -> None:
        """A new run."""
        number = max((run.number for run in self.runs.values()), default=0) + 1
        run = RunRecord(
            uid=new_uid(),
            job=self.job.uid,
            number=number,
            host=host,
            state=RUN.initial,
            since=now,
            started=now,
            heard=now,
            cause=cause,
        )
        self.runs[run.uid] = run
        self.begun[run.uid] = cause
        self.news = True

    def end(self, uid: Uid, state: RunState, now: datetime, reason: ErrorView | None, *, tell: str = "") -> None:
        """A run is over. With `tell` its host is told to give it up, and why."""
        view = reason.model_dump(mode="json") if reason else None
        self.put(replace(self.runs[uid], state=RUN.check(self.runs[uid].state, state), since=now, reason=view))
        if tell:
            self.cancelled[uid] = tell

    def cancel(self, why: str, now: datetime) -> None:
        """Nobody wants the job any more."""
        for run in list(self.runs.values()):
            if not run.ended:
                self.end(run.uid, RunState.CANCELLED, now, None, tell=why)
        self.job = replace(self.job, state=JOB.check(self.job.state, JobState.CANCELLED), since=now)
        self.news = self.stirs = True

    def fail(self, reason: ErrorView, now: datetime) -> None:
        """The job can't be done."""
        for run in list(self.runs.values()):
            if not run.ended:
                self.end(run.uid, RunState.CANCELLED, now, None, tell=reason.message)
        view = reason.model_dump(mode="json")
        self.job = replace(self.job, state=JOB.check(self.job.state, JobState.FAILED), since=now, reason=view)
        self.news = self.stirs = True

    def judge(self, now: datetime) -> Judgement:
        """Let the runs make of the job what they make of it, and of each other."""
        judgement = judge(self.job.spec, list(self.runs.values()))
        for uid, verdict in judgement.verdicts.items():
            if verdict is Verdict.AGREES:
                self.end(uid, RunState.DONE, now, None)
            elif verdict is Verdict.DISAGREES:
                why = "more of the other hosts agree on another one"
                fault = error("job.disagreement", f"Run {uid[:8]} came to another result", why=why)
                self.end(uid, RunState.FAILED, now, ErrorView.of(fault))
        for uid in judgement.superfluous:
            self.end(uid, RunState.CANCELLED, now, None, tell="its job has its result")
        if judgement.state is not self.job.state:
            state = JOB.check(self.job.state, judgement.state, of=self.job.uid)
            done = [run for run in self.runs.values() if run.state is RunState.DONE]
            kept = min(done, key=lambda run: run.number).uid if state is JobState.DONE and done else None
            self.job = replace(self.job, state=state, since=now, reason=judgement.reason, kept=kept)
            self.news = True
        self.stirs = self.stirs or (self.news and judgement.missing > 0 and not self.begun)
        return judgement


class Settler:
    """Stores cases."""

    def __init__(
        self,
        known: Known,
        store: JobStore,
        look_at: Callable[[Iterable[Uid]], None],
        jobs_changed: Callable[[Iterable[HostId]], None],
    ) -> None:
        """`look_at` has data planned again; `jobs_changed` hears of hosts where runs began or ended."""
        self._known = known
        self._store = store
        self._look_at = look_at
        self._jobs_changed = jobs_changed

    async def cases(self, runs: Collection[Uid]) -> dict[Uid, Case]:
        """The jobs that these runs are of, each with all its runs, by the run."""
        jobs, known = await self._store.with_runs(runs)
        cases = [Case.of(job, known[job.uid]) for job in jobs]
        return {uid: case for case in cases for uid in case.runs}

    async def settle(
        self,
        cases: Sequence[Case],
        *,
        logs: Mapping[Uid, LogChunk] | None = None,
        done: Collection[tuple[HostId, Uid]] = (),
        check: Check | None = None,
    ) -> dict[Uid, int]:
        """Store what became of these jobs, order what follows, and tell those who wait; how long the `logs` are now."""
        now, hosts = self._known.clock.now(), self._known.hosts
        orders: list[OrderRecord] = []

        def order(case: Case, uid: Uid, kind: OrderKind, cause: str) -> None:
            run = case.runs[uid]
            generation = hosts.next_generation(run.host)
            case.runs[uid] = replace(run, generation=generation)
            orders.append(OrderRecord(new_uid(), run.host, generation, kind, uid, cause))

        for case in cases:
            for uid, cause in case.begun.items():
                order(case, uid, OrderKind.RUN, cause)
            for uid, cause in case.cancelled.items():
                order(case, uid, OrderKind.CANCEL, cause)
        told = _told(cases, orders, logs or {})
        self._jobs_changed(_hosts(cases))  # before it is stored: if that fails nobody knows whether it was
        ends = await self._store.record(
            now=now,
            jobs=[case.job for case in cases],
            begun=[case.runs[uid] for case in cases for uid in case.begun],
            runs=[case.runs[uid] for case in cases for uid in sorted(case.changed)],
            orders=orders,
            done=done,
            logs=logs,
            check=check,
            told=told,
        )
        for given in orders:
            hosts.order_waits(given.host, given.generation)
        self._known.tell(told, stored=True)
        self._look_at(told.data)
        return ends


def _left(run: RunRecord) -> bool:
    return run.ended and run.state is not RunState.DONE and run.outputs is not None


def _told(cases: Sequence[Case], orders: Sequence[OrderRecord], logs: Mapping[Uid, Any]) -> Told:
    topics: dict[str, None] = {}
    data: dict[Uid, None] = {}
    for case in cases:
        if case.news:  # a sign of life wakes nobody: thousands of hosts give one every few seconds
            # All its runs: what one of them claims is a verdict on the others.
            topics |= dict.fromkeys([TOPIC, case.job.uid, case.job.array, *case.runs])
        if case.stirs:
            topics[QUEUE] = None
        if case.begun or _ended(case):
            data |= dict.fromkeys(one.data for one in case.job.inputs)
        if any(_left(case.runs[uid]) for uid in case.changed):
            topics[LEFT] = None
    topics |= dict.fromkeys(f"{ROOM}{host}" for host in _hosts(cases))
    topics |= dict.fromkeys(order.host for order in orders)
    topics |= dict.fromkeys(logs)
    return Told(
        topics=tuple(topics),
        data=tuple(data),
        hosts=(),
        waiting={order.host: order.generation for order in orders},
    )


def _hosts(cases: Iterable[Case]) -> list[HostId]:
    """Where runs began or ended."""
    return sorted({case.runs[uid].host for case in cases for uid in {*case.begun, *_ended(case)}})


def _ended(case: Case) -> list[Uid]:
    return [uid for uid in case.changed if case.runs[uid].ended]
