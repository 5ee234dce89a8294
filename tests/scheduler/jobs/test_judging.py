"""What its runs make of a job: who is believed, when another is tried, and when it is over."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

from bitdew.scheduler.jobs.judging import Verdict, judge
from bitdew.scheduler.jobs.records import RunRecord
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.ids import HostId, Uid
from bitdew.core.job import JobSpec
from bitdew.core.states import JobState, RunState

NOW = datetime(2026, 11, 27, tzinfo=UTC)
S = RunState


def run(number: int, state: RunState, digest: str = "") -> RunRecord:
    fault = {"key": "job.command", "message": f"run {number} failed"} if state is S.FAILED else None
    return RunRecord(
        uid=Uid(f"r{number}"),
        job=Uid("j"),
        number=number,
        host=HostId(f"h{number}"),
        state=state,
        since=NOW,
        started=NOW,
        heard=NOW,
        reason=fault,
        digest=digest,
    )


ONE = JobSpec(("root",), attempts=3)
THREE = JobSpec(("root",), attempts=2, replicas=3)


def test_a_job_needs_one_run_and_another_for_each_that_failed_until_its_attempts_are_used_up() -> None:
    assert judge(ONE, []).missing == 1
    assert judge(ONE, []).state is JobState.QUEUED
    assert judge(ONE, [run(1, S.RUNNING)]).missing == 0
    assert judge(ONE, [run(1, S.RUNNING)]).state is JobState.RUNNING
    assert judge(ONE, [run(1, S.FAILED), run(2, S.LOST)]).missing == 1
    over = judge(ONE, [run(1, S.FAILED), run(2, S.LOST), run(3, S.FAILED)])
    assert (over.state, over.missing) == (JobState.FAILED, 0)
    assert over.reason is not None
    assert over.reason["message"] == "run 3 failed"


def test_a_run_that_was_cancelled_is_no_attempt() -> None:
    assert judge(ONE, [run(n, S.CANCELLED) for n in range(9)]).missing == 1


def test_a_single_claim_is_stored_at_once_and_ends_the_job() -> None:
    assert judge(ONE, [run(1, S.STORING, "a")]).verdicts == {"r1": Verdict.STORE}
    assert judge(ONE, [run(1, S.STORING, "a")]).state is JobState.STORING
    assert judge(ONE, [run(1, S.DONE, "a")]).state is JobState.DONE


def test_of_three_replicas_two_that_agree_decide_and_the_third_was_wrong() -> None:
    assert judge(THREE, []).missing == 3
    first = judge(THREE, [run(1, S.STORING, "a"), run(2, S.RUNNING), run(3, S.RUNNING)])
    assert first.verdicts == {"r1": Verdict.WAIT}
    liar = judge(THREE, [run(1, S.STORING, "lie"), run(2, S.STORING, "a"), run(3, S.STORING, "a")])
    assert liar.verdicts == {"r1": Verdict.DISAGREES, "r2": Verdict.STORE, "r3": Verdict.WAIT}
    stored = judge(THREE, [run(1, S.FAILED), run(2, S.DONE, "a"), run(3, S.STORING, "a")])
    assert stored.verdicts == {"r3": Verdict.AGREES}
    assert stored.state is JobState.DONE


def test_as_soon_as_two_agree_the_third_is_not_needed() -> None:
    found = judge(THREE, [run(1, S.STORING, "a"), run(2, S.STORING, "a"), run(3, S.RUNNING)])
    assert found.superfluous == ("r3",)


def test_three_who_all_say_something_else_are_asked_for_one_more() -> None:
    said = [run(n, S.STORING, f"{n}") for n in (1, 2, 3)]
    assert judge(THREE, said).missing == 1
    assert judge(THREE, [*said, run(4, S.STORING, "2")]).verdicts["r2"] is Verdict.STORE
    all_wrong = judge(THREE, [run(n, S.STORING, f"{n}") for n in range(1, 7)])
    assert all_wrong.state is JobState.FAILED
    assert all_wrong.reason is not None
    assert all_wrong.reason["key"] == "job.disagreement"
    assert set(all_wrong.verdicts.values()) == {Verdict.DISAGREES}


def test_who_agrees_takes_the_place_of_one_that_could_not_hand_its_outputs_over() -> None:
    gone = judge(THREE, [run(1, S.LOST), run(2, S.STORING, "a"), run(3, S.STORING, "a")])
    assert gone.verdicts == {"r2": Verdict.STORE, "r3": Verdict.WAIT}


RUNS = st.lists(st.tuples(st.sampled_from(list(RunState)), st.sampled_from(["a", "b", "c"])), max_size=12)


@given(RUNS, st.integers(1, 5), st.integers(1, 4), st.randoms(use_true_random=False))
def test_whatever_hosts_say_at_most_one_result_is_stored_and_the_order_of_telling_does_not_matter(
    said: list[tuple[RunState, str]], replicas: int, attempts: int, chance: random.Random
) -> None:
    spec = JobSpec(("root",), attempts=attempts, replicas=replicas)
    runs = [run(n, state, digest if state in {S.STORING, S.DONE} else "") for n, (state, digest) in enumerate(said, 1)]
    found = judge(spec, runs)
    stores = [uid for uid, verdict in found.verdicts.items() if verdict is Verdict.STORE]
    assert len(stores) <= 1
    by_uid = {one.uid: one for one in runs}
    for uid in stores:
        alike = [one for one in runs if one.digest == by_uid[uid].digest and one.state in {S.STORING, S.DONE}]
        assert len(alike) >= spec.quorum
    counted = sum(one.state is not S.CANCELLED for one in runs)
    assert found.missing == 0 or counted + found.missing <= spec.most_runs
    # Nothing waits for what nobody will do: it is over, or somebody is at it or will be.
    at_it = found.missing or any(not one.ended for one in runs)
    assert at_it or found.state in {JobState.DONE, JobState.FAILED}
    shuffled = list(runs)
    chance.shuffle(shuffled)
    assert judge(spec, shuffled) == replace(found)
