"""What its runs make of a job: whether it is done, has failed, or needs further runs, and what becomes of each.

Pure. A run *claims* a result when its host says that the command ended well, and with what outputs. Where a job has
several replicas, volunteers can't be trusted: what the greater part of the replicas claims alike is the result, and
whoever claims another one was wrong. This is the voting of BOINC's validators (Anderson 2004) with bytewise equality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from bitdew.core.errors import error
from bitdew.core.ids import Uid
from bitdew.core.job import JobSpec
from bitdew.core.states import RUN, JobState, RunState
from bitdew.wire.models import ErrorView

from .records import RunRecord

_CLAIMS: Final = frozenset({RunState.STORING, RunState.DONE})
_ORDER: Final = (RunState.STORING, RunState.RUNNING, RunState.STAGING, RunState.ASSIGNED)
"""Of a job with several live runs the furthest one says where it stands."""


class Verdict(StrEnum):
    """What becomes of a run's claim."""

    WAIT = "wait"
    """The others have not said enough."""
    STORE = "store"
    """Its outputs are the job's results: the host is to hand them over."""
    AGREES = "agrees"
    """Its outputs are the same as those that were handed over."""
    DISAGREES = "disagrees"
    """Others agreed on something else."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the runs of a job make of it.

    Attributes:
        state: The job's.
        verdicts: For each run that claims a result and has not ended.
        missing: How many further runs it needs now.
        reason: Why it failed, if it did.
        superfluous: Runs that go on though nothing depends on them any more.
    """

    state: JobState
    verdicts: dict[Uid, Verdict]
    missing: int = 0
    reason: dict[str, Any] | None = None
    superfluous: tuple[Uid, ...] = ()


def judge(spec: JobSpec, runs: Sequence[RunRecord]) -> Judgement:
    """What `runs`, all that a job ever had, make of it. It must not have been cancelled."""
    claims = [run for run in runs if run.state in _CLAIMS]
    live = sorted(
        (run for run in runs if not run.ended and run.state not in _CLAIMS), key=lambda run: (run.number, run.uid)
    )
    groups: dict[str, list[RunRecord]] = {}
    for run in claims:
        groups.setdefault(run.digest, []).append(run)
    best = max((len(group) for group in groups.values()), default=0)
    if best >= spec.quorum:
        return _agreed(max((g for g in groups.values() if len(g) >= spec.quorum), key=_weight), claims, live)
    waiting = {run.uid: Verdict.WAIT for run in claims if not run.ended}
    wanted = max(spec.replicas - len(claims), 0) or spec.quorum - best
    budget = spec.most_runs - sum(run.state is not RunState.CANCELLED for run in runs)
    missing = min(max(0, wanted - len(live)), max(0, budget))
    if missing or live:
        return Judgement(_furthest([*claims, *live]), waiting, missing)
    wrong = dict.fromkeys(waiting, Verdict.DISAGREES)
    return Judgement(JobState.FAILED, wrong, reason=_why(claims, runs))


def _weight(group: Sequence[RunRecord]) -> tuple[bool, int, int]:
    """What was stored stays the result; then the greater part decides, then who was first."""
    stored = any(run.state is RunState.DONE for run in group)
    return stored, len(group), -min(run.number for run in group)


def _agreed(group: Sequence[RunRecord], claims: Sequence[RunRecord], live: Sequence[RunRecord]) -> Judgement:
    done = [run for run in group if run.state is RunState.DONE]
    chosen = min(done or group, key=lambda run: run.number)
    alike = {run.uid for run in group}
    verdicts = {run.uid: Verdict.DISAGREES for run in claims if run.uid not in alike and not run.ended}
    for run in group:
        if not run.ended:
            # Who agrees waits until the chosen one has handed its outputs over: it may have to take its place.
            verdicts[run.uid] = Verdict.AGREES if done else Verdict.STORE if run is chosen else Verdict.WAIT
    state = JobState.DONE if done else JobState.STORING
    return Judgement(state, verdicts, superfluous=tuple(run.uid for run in live))


def _furthest(runs: Sequence[RunRecord]) -> JobState:
    states = {run.state for run in runs if run.state not in RUN.ends()}
    return JobState(next((state for state in _ORDER if state in states), JobState.QUEUED).value)


def _why(claims: Sequence[RunRecord], runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Why no further run is tried."""
    failed = [run for run in runs if run.reason is not None]
    if claims or not failed:
        fault = error(
            "job.disagreement",
            f"{len(runs)} runs came to no result that enough of them agree on",
            why=f"{len({run.digest for run in claims})} different results were claimed",
        )
        return ErrorView.of(fault).model_dump(mode="json")
    last = max(failed, key=lambda run: run.number)
    return dict(last.reason or {})
