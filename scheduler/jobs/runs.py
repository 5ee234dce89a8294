"""What hosts say of their runs, taken in; and what a run is told to be.

Owns who may say something of a run: the host that it was given to, while it is its. A run that was given up stays so,
whatever its host says later: its results are never mixed in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import RunState
from bitdew.trust.roles import Subject
from bitdew.wire.models import ErrorView, OutputModel, RunInput, RunOrder, RunReply, RunReport, SpecModel

from ..known import Known
from .judging import Verdict, judge
from .matchmaker import LEASE
from .records import JobRecord, RunRecord
from .results import Results
from .settling import Case, Settler
from .store import JobStore


class Runs:
    """Hears hosts about runs, and tells them what these are."""

    def __init__(self, known: Known, store: JobStore, settler: Settler, results: Results) -> None:
        self._known = known
        self._store = store
        self._settler = settler
        self._results = results

    async def orders(self, uids: Collection[Uid]) -> dict[Uid, RunOrder]:
        """What these runs are to do. One whose inputs are not there any more is left out."""
        runs = await self._store.runs_by_uid(uids)
        jobs = await self._store.jobs({run.job for run in runs.values()})
        data = await self._known.data.get({one.data for job in jobs.values() for one in job.inputs})
        found = {}
        for uid, run in runs.items():
            job = jobs[run.job]
            if all(one.data in data for one in job.inputs):
                inputs = [
                    RunInput(data=one.data, root=data[one.data].data.root, size=data[one.data].data.size, path=one.path)
                    for one in job.inputs
                ]
                found[uid] = RunOrder(job=job.uid, number=run.number, spec=SpecModel.of(job.spec), inputs=inputs)
        return found

    async def report(self, uid: str, said: RunReport, caller: Subject) -> RunReply:
        """Take in how a run stands; with `wait`, held open until there is a verdict on its result.

        Raises:
            UserError: `run.not-found`, if the caller has no such run.
        """
        job = await self._take_in(Uid(uid), said, HostId(caller.subject_id))
        deadline = self._known.clock.monotonic() + said.wait
        while True:
            seen = self._known.changes.version(uid)
            reply = await self._reply(job, Uid(uid))
            waits = said.state is RunState.STORING and reply.wanted and reply.verdict == "wait"
            left = deadline - self._known.clock.monotonic()
            if not waits or not await self._known.changes.wait(uid, seen, left):
                return reply

    async def _take_in(self, uid: Uid, said: RunReport, host: HostId) -> Uid:
        """Store what follows from it; the run's job."""
        async with self._known.database.facts():
            run = await self._store.run(uid)
            if run is None or run.host != host:
                raise _not_found(uid)
            now, over = self._known.clock.now(), (host, uid)
            if run.ended:
                await self._store.record(now=now, done=[over])
                return run.job
            case = await self._settler.case(run.job)
            if case is None:
                raise _not_found(uid)
            run = _heard(run, said, now)
            case.put(run)
            await self._judge(case, run, said, now)
            logs = {uid: said.log} if said.log is not None else {}
            # What was carried out need not be told again; where it is over, so is everything about it.
            await self._settler.settle([case], logs=logs, done=[over])
            return run.job

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

    async def _reply(self, job: Uid, uid: Uid) -> RunReply:
        case = await self._settler.case(job)
        run = case.runs.get(uid) if case else None
        if case is None or run is None:
            raise _not_found(uid)
        if run.ended or case.job.ended:
            return RunReply(wanted=False, verdict="drop", log=run.log_end, period=LEASE.total_seconds())
        verdict = judge(case.job.spec, list(case.runs.values())).verdicts.get(uid)
        return RunReply(
            wanted=True,
            verdict="store" if verdict is Verdict.STORE else "wait",
            log=run.log_end,
            period=LEASE.total_seconds(),
        )


def _not_found(uid: str) -> BitDewError:
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
        return error("job.over-limit", f"Run {run.uid[:8]} left {len(outputs)} files", why=f"{caps.files} are allowed")
    size = sum(one.size for one in outputs)
    if size > caps.output:
        return error("job.over-limit", f"Run {run.uid[:8]} left {size} bytes", why=f"{caps.output} are allowed")
    return None
