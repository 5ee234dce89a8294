"""What hosts say of their runs, taken in: what many say at the same time is read, judged and stored together.

Owns who may say something of a run: the host that it was given to, while it is its. A run that was given up stays so,
whatever its host says later: its results are never mixed in. Each report is judged by itself, in the order in which
they came; one that can't be fails alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from bitdew.batching import Batcher
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import HostId, Uid
from bitdew.core.job import Limit
from bitdew.core.states import RunState
from bitdew.wire.models import ErrorView, LogChunk, OutputModel, RunReply, RunReport

from ...catalog.faults import is_nobodys
from ..known import Known
from .judging import Verdict, judge
from .matchmaker import LEASE
from .records import JobRecord, RunRecord
from .results import Results
from .settling import Case, Settler

TOGETHER: Final = 128
"""Reports that are judged together at most: whoever comes next waits for them all."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a report came to.

    Attributes:
        reply: What the host should do.
        version: The one of the run's topic that the reply is of.
    """

    reply: RunReply
    version: int


@dataclass(frozen=True, slots=True)
class _Said:
    """A report."""

    uid: Uid
    host: HostId
    report: RunReport


class Hearing:
    """Takes in what hosts say of runs."""

    def __init__(self, known: Known, settler: Settler, results: Results) -> None:
        self._known = known
        self._settler = settler
        self._results = results
        # What is said of a run next follows from what was said of it first.
        self._batcher: Batcher[_Said, Heard] = Batcher(
            self._take_in,
            name="hearing of runs",
            most=TOGETHER,
            apart=lambda said: said.uid,
            again_alone=lambda fault: not is_nobodys(fault),
            within=known.database.facts,
        )

    async def take_in(self, uid: Uid, report: RunReport, host: HostId) -> Heard:
        """Store what follows from a report.

        Raises:
            UserError: `run.not-found`, if the host has no such run.
        """
        return await self._batcher.ask(_Said(uid, host, report))

    async def _take_in(self, batch: Sequence[_Said]) -> list[Heard | Exception]:
        now = self._known.clock.now()
        cases = await self._settler.cases([said.uid for said in batch])
        logs, done, mine = dict[Uid, LogChunk](), list[tuple[HostId, Uid]](), set[Uid]()
        changed: dict[Uid, Case] = {}
        for said in batch:
            case = cases.get(said.uid)
            if case is None or case.runs[said.uid].host != said.host:
                continue
            mine.add(said.uid)
            # What was carried out need not be told again; where it is over, so is everything about it.
            done.append((said.host, said.uid))
            if case.runs[said.uid].ended:
                continue
            changed[case.job.uid] = case
            case.put(_heard(case.runs[said.uid], said.report, now))
            await self._judge(case, case.runs[said.uid], said.report, now)
            if said.report.log is not None:
                logs[said.uid] = said.report.log
        ends = await self._settler.settle(list(changed.values()), logs=logs, done=done) if mine else {}
        return [
            Heard(reply_to(cases[said.uid], said.uid, ends.get(said.uid)), self._known.changes.version(said.uid))
            if said.uid in mine
            else not_found(said.uid)
            for said in batch
        ]

    async def _judge(self, case: Case, run: RunRecord, said: RunReport, now: datetime) -> None:
        """What follows from what was said."""
        uid = run.uid
        if said.state in {RunState.FAILED, RunState.CANCELLED}:
            fault = error("job.host-lost", f"Run {uid[:8]} was given back by its host", why="it can't go on with it")
            reason = said.reason or ErrorView.of(fault)
            state = RunState.FAILED if said.state is RunState.FAILED else RunState.LOST
            case.end(uid, state, now, reason)
        elif run.state is RunState.STORING and (fault_of := _over_limits(case.job, run)) is not None:
            case.end(uid, RunState.FAILED, now, ErrorView.of(fault_of))
        elif said.state is RunState.DONE:
            verdict = judge(case.job.spec, list(case.runs.values())).verdicts.get(uid)
            if verdict is Verdict.STORE and not await self._results.missing(run):
                case.end(uid, RunState.DONE, now, None)
        case.judge(now)


def reply_to(case: Case, uid: Uid, log_end: int | None = None) -> RunReply:
    """What the host of a run should do with it, as its job stands; `log_end` where that is newer than the run's."""
    run = case.runs[uid]
    end, period = run.log_end if log_end is None else log_end, LEASE.total_seconds()
    if run.ended or case.job.ended:
        return RunReply(wanted=False, verdict="drop", log=end, period=period)
    verdict = judge(case.job.spec, list(case.runs.values())).verdicts.get(uid)
    return RunReply(wanted=True, verdict="store" if verdict is Verdict.STORE else "wait", log=end, period=period)


def not_found(uid: str) -> BitDewError:
    """The refusal of a host that speaks of a run which it does not have."""
    return error("run.not-found", f"This host has no run {uid[:40]!r}", uid=uid[:40])


def _heard(run: RunRecord, said: RunReport, now: datetime) -> RunRecord:
    """A run after its host said how it stands. An end is judged apart."""
    state = said.state if said.state in _GOING_ON else run.state
    claims = state is RunState.STORING and said.outputs is not None
    outputs = tuple(sorted(said.outputs, key=lambda one: one.path)) if claims and said.outputs is not None else None
    if state is RunState.STORING and not claims:
        outputs = run.outputs
        if outputs is None:  # what it left is not known yet: two that claim nothing don't agree on anything
            state = run.state
    exit_code = said.exit_code if said.exit_code is not None else run.exit_code
    return replace(
        run,
        state=state,
        since=now if state is not run.state else run.since,
        heard=now,
        exit_code=exit_code,
        wall=said.wall if said.wall is not None else run.wall,
        cpu=said.cpu if said.cpu is not None else run.cpu,
        memory=said.memory if said.memory is not None else run.memory,
        outputs=outputs,
        digest=_digest(exit_code, outputs) if outputs is not None else "",
    )


_GOING_ON = frozenset({RunState.STAGING, RunState.RUNNING, RunState.STORING})


def _digest(exit_code: int | None, outputs: Collection[OutputModel]) -> str:
    told = [exit_code, *([one.path, one.root, one.size] for one in outputs)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _over_limits(job: JobRecord, run: RunRecord) -> BitDewError | None:
    """Why a claim can't be a result: a host that doesn't keep the limits must not fill the repository."""
    outputs, caps = run.outputs or (), job.spec.caps
    if len({one.path for one in outputs}) != len(outputs):
        return error("job.outputs", f"Run {run.uid[:8]} named an output twice")
    if len(outputs) > caps.files:
        why, limit = f"{caps.files} are allowed", Limit.FILES
        return error("job.over-limit", f"Run {run.uid[:8]} left {len(outputs)} files", why=why, limit=limit)
    size = sum(one.size for one in outputs)
    if size > caps.output:
        why = f"{caps.output} are allowed"
        return error("job.over-limit", f"Run {run.uid[:8]} left {size} bytes", why=why, limit=Limit.DISK)
    return None
