"""Jobs through a real service, with hosts that say what a test writes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from bitdew.scheduler.jobs.matchmaker import LEASE

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.core.errors import BitDewError
from bitdew.core.orders import OrderKind
from bitdew.core.states import JobState, RunState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire import models as m

from .conftest import SPEC, MakeJobHost, root_of


async def refused(asked) -> str:
    with pytest.raises(BitDewError) as refusal:
        await asked
    return refusal.value.key


async def test_a_job_is_matched_run_and_its_result_comes_back(
    client: BitDew, job_host: MakeJobHost, folder: Path
) -> None:
    host = await job_host()
    (job,) = await client.submit(SPEC, name="fit")
    order = await host.do()
    assert order.run is not None
    assert (order.run.job, order.run.spec.command) == (job.uid, ["root", "-b", "fit.C"])
    done = await client.job(job.uid)
    assert (done.state, done.name, [run.host_name for run in done.runs]) == (JobState.DONE, "fit", ["pc"])
    fetched = [one async for one in client.results(job.uid[:8], folder)]
    assert [(one.path, one.path.read_bytes()) for one in fetched] == [(folder / "fit.root", b"fitted")]
    owned = await client.datum(done.results[0].data)
    assert owned.owner == client.identity.subject.subject_id


async def test_a_job_waits_until_a_host_has_what_it_needs_and_explain_says_so(
    client: BitDew, job_host: MakeJobHost
) -> None:
    old = await job_host("old", sharings=[{"name": "root", "version": "6.28"}])
    (job,) = await client.submit(SPEC)
    assert await old.host.idle()
    told = await client.explain_job(job.uid)
    assert told.job.state is JobState.QUEUED
    assert "none can run it now" in " ".join(told.why)
    assert told.hosts == ["old: its sharing.root is 6.28, wanted sharing.root >= 6.30"]
    new = await job_host("new")
    await new.do()
    assert (await client.job(job.uid)).state is JobState.DONE


async def test_inputs_are_brought_to_the_host_for_as_long_as_a_run_reads_them(
    client: BitDew, job_host: MakeJobHost, tmp_path: Path, grid: Grid
) -> None:
    path = tmp_path / "events.root"
    path.write_bytes(b"events" * 1000)
    await client.put(path, "events", "replica=0".replace("replica=0", "") or None)
    host = await job_host()
    place = await host.host.take()  # one replica is wanted anyway
    other = await job_host("other", cpus=64)
    (job,) = await client.submit(SPEC, inputs=[("events", "in/events.root")])
    run = await host.run()  # it has the input already, though the other has more room
    assert run.run is not None
    assert [(one.data, one.path) for one in run.run.inputs] == [(place.subject, "in/events.root")]
    assert await other.host.idle()
    await host.say(run.subject, "failed", reason={"key": "job.command", "message": "no"})
    grid.clock.skip(5)
    again = await other.run()  # not where it failed
    copied = await other.host.take()
    assert copied.subject == place.subject
    assert "job" in copied.cause or "pin" in copied.cause
    assert (await client.job(job.uid)).state is JobState.ASSIGNED
    await other.say(again.subject, "staging")
    assert (await client.job(job.uid)).state is JobState.STAGING


async def test_a_job_whose_input_is_gone_fails_and_says_so(
    client: BitDew, job_host: MakeJobHost, tmp_path: Path, until
) -> None:
    (tmp_path / "x").write_bytes(b"x")
    await client.put(tmp_path / "x", "x")
    (job,) = await client.submit(SPEC, inputs=[("x", "")])
    await client.remove("x")
    await job_host()

    async def over() -> bool:
        return (await client.job(job.uid)).state is JobState.FAILED

    await until(over)
    reason = (await client.job(job.uid)).reason
    assert reason is not None
    assert reason.key == "job.input-gone"
    assert await refused(client.submit(SPEC, inputs=[("x", "")])) == "data.not-found"


async def test_a_lost_hosts_job_runs_elsewhere_and_its_late_result_is_refused(
    client: BitDew, job_host: MakeJobHost, grid: Grid
) -> None:
    slow = await job_host("slow")
    (job,) = await client.submit(SPEC)
    late = await slow.run()
    await slow.say(late.subject, "running")
    await asyncio.sleep(0)
    quick = await job_host("quick")
    grid.clock.skip(LEASE.total_seconds() + 61)
    await quick.host.hello()
    await quick.do({"fit.root": b"right"})
    await slow.host.hello()
    cancel = await slow.host.order(OrderKind.CANCEL)
    assert cancel.subject == late.subject
    reply = await slow.claim(late.subject, {"fit.root": b"late"})
    assert (reply.wanted, reply.verdict) == (False, "drop")
    assert await refused(slow.hand_over(late.subject, "fit.root", b"late")) == "run.not-found"
    done = await client.job(job.uid)
    assert [(run.number, run.state) for run in done.runs] == [(1, RunState.LOST), (2, RunState.DONE)]
    assert [one.size for one in done.results] == [5]


async def test_a_failing_job_is_tried_as_often_as_it_may_be_and_keeps_each_reason(
    client: BitDew, job_host: MakeJobHost, grid: Grid
) -> None:
    host = await job_host()
    (job,) = await client.submit(replace(SPEC, attempts=2))
    for number in (1, 2):
        order = await host.run()
        log = {"offset": 0, "text": f"log {number}\n"}
        fault = {"key": "job.command", "message": f"failure {number}"}
        await host.say(order.subject, "failed", exit_code=number, log=log, reason=fault)
        grid.clock.skip(5)
    failed = await client.job(job.uid)
    assert failed.state is JobState.FAILED
    assert [(r.exit_code, r.reason.message if r.reason else "") for r in failed.runs] == [
        (1, "failure 1"),
        (2, "failure 2"),
    ]
    assert failed.reason == failed.runs[1].reason
    assert (await client.job_log(job.uid)).text == "log 2\n"
    assert (await client.job_log(job.uid, run=1)).text == "log 1\n"
    assert await host.host.idle()


async def test_a_log_is_followed_while_it_is_written(client: BitDew, job_host: MakeJobHost) -> None:
    host = await job_host()
    (job,) = await client.submit(replace(SPEC, outputs=()))
    order = await host.run()

    async def write() -> None:
        await host.say(order.subject, "running", log={"offset": 0, "text": "one "})
        await host.say(order.subject, "running", log={"offset": 4, "text": "two "})
        await host.say(order.subject, "running", log={"offset": 4, "text": "two "})  # the reply was lost
        assert (await host.claim(order.subject, {})).log == 8
        await host.say(order.subject, "done")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        parts = [part.text async for part in client.follow_job_log(job.uid)]
    assert "".join(parts) == "one two "


async def test_of_three_replicas_the_liar_is_found_and_only_one_host_hands_over(
    client: BitDew, job_host: MakeJobHost, until
) -> None:
    hosts = [await job_host(name) for name in ("a", "b", "c")]
    (job,) = await client.submit(replace(SPEC, replicas=3))
    orders = sorted([(await host.run(), host) for host in hosts], key=lambda one: one[0].run.number)
    runs = [order.subject for order, _ in orders]
    liar, first, second = (host for _, host in orders)
    assert (await liar.claim(runs[0], {"fit.root": b"lie"})).verdict == "wait"
    assert (await first.claim(runs[1], {"fit.root": b"true"})).verdict == "wait"
    assert (await second.claim(runs[2], {"fit.root": b"true"})).verdict == "wait"
    assert (await first.claim(runs[1], {"fit.root": b"true"})).verdict == "store"
    assert not (await liar.claim(runs[0], {"fit.root": b"lie"})).wanted
    assert await refused(second.hand_over(runs[2], "fit.root", b"true")) == "run.not-found"
    await first.hand_over(runs[1], "fit.root", b"true")
    await first.say(runs[1], "done")
    done = await client.job(job.uid)
    assert done.state is JobState.DONE
    by_uid = {run.uid: run for run in done.runs}
    assert [by_uid[uid].state for uid in runs] == [RunState.FAILED, RunState.DONE, RunState.DONE]
    reason = by_uid[runs[0]].reason
    assert reason is not None
    assert reason.key == "job.disagreement"
    assert [one.path for one in done.results] == ["fit.root"]


async def test_hosts_that_say_that_they_store_before_they_say_what_agree_on_nothing(
    client: BitDew, job_host: MakeJobHost
) -> None:
    one, two = await job_host("a"), await job_host("b")
    (job,) = await client.submit(replace(SPEC, replicas=2))
    for host in (one, two):
        run = (await host.run()).subject
        await host.say(run, "running")
        assert (await host.say(run, "storing")).verdict == "wait"
    assert [run.state for run in (await client.job(job.uid)).runs] == [RunState.RUNNING, RunState.RUNNING]
    (mine,) = [run.uid for run in (await client.job(job.uid)).runs if run.host_name == "a"]
    assert (await one.claim(mine, {"fit.root": b"x"})).verdict == "wait"


async def test_who_waits_for_the_verdict_hears_it_at_once(client: BitDew, job_host: MakeJobHost) -> None:
    one, two = await job_host("a"), await job_host("b")
    await client.submit(replace(SPEC, replicas=2))
    orders = sorted([(await host.run(), host) for host in (one, two)], key=lambda one: one[0].run.number)
    (first, one), (second, two) = orders
    waiting = asyncio.create_task(one.claim(first.subject, {"fit.root": b"x"}, wait=30))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await two.claim(second.subject, {"fit.root": b"x"})
    async with asyncio.timeout(5):
        assert (await waiting).verdict == "store"


async def test_other_bytes_than_were_claimed_are_refused(client: BitDew, job_host: MakeJobHost) -> None:
    host = await job_host()
    await client.submit(SPEC)
    run = (await host.run()).subject
    await host.claim(run, {"fit.root": b"claimed"})
    assert await refused(host.hand_over(run, "other.root", b"claimed")) == "job.outputs"
    assert await refused(host.hand_over(run, "fit.root", b"another")) == "disk.changed"
    assert (await host.say(run, "done")).verdict == "store"  # it is not done before all is there


async def test_outputs_over_the_jobs_limits_are_no_result(client: BitDew, job_host: MakeJobHost, grid: Grid) -> None:
    host = await job_host()
    (job,) = await client.submit(replace(SPEC, attempts=1, caps=replace(SPEC.caps, output=10)))
    run = (await host.run()).subject
    said = [{"path": "big", "root": root_of(b"x"), "size": 11}]
    assert not (await host.say(run, "storing", exit_code=0, outputs=said)).wanted
    reason = (await client.job(job.uid)).reason
    assert reason is not None
    assert reason.key == "job.over-limit"


@pytest.mark.parametrize("state", ["staging", "running", "storing"])
async def test_a_job_is_cancelled_wherever_it_is(client: BitDew, job_host: MakeJobHost, state: str) -> None:
    host = await job_host()
    (job,) = await client.submit(replace(SPEC, outputs=()))
    run = (await host.run()).subject
    if state == "storing":
        await host.claim(run, {"a": b"a"})
    else:
        await host.say(run, state)
    (cancelled,) = await client.cancel_job(job.uid[:6])
    assert (cancelled.state, cancelled.runs[0].state) == (JobState.CANCELLED, RunState.CANCELLED)
    assert (await host.host.order(OrderKind.CANCEL)).subject == run
    assert not (await host.say(run, state if state != "storing" else "running")).wanted
    assert (await client.cancel_job(job.uid))[0].since == cancelled.since


async def test_an_array_is_one_job_for_each_value_and_is_waited_for_as_a_whole(
    client: BitDew, job_host: MakeJobHost, folder: Path
) -> None:
    host = await job_host()
    spec = replace(SPEC, command=("root", "fit.C({})"), outputs=("{}.root",), environment={"PART": "n{}"})
    jobs = await client.submit(spec, values=["7", "8", "9"])
    assert [(job.index, job.spec.command[1], job.spec.environment["PART"]) for job in jobs] == [
        (0, "fit.C(7)", "n7"),
        (1, "fit.C(8)", "n8"),
        (2, "fit.C(9)", "n9"),
    ]
    seen: list[dict[JobState, int]] = []
    waiting = asyncio.create_task(client.finished(jobs[0].array, progress=seen.append))
    for _ in jobs:
        order = await host.run()
        assert order.run is not None
        name = order.run.spec.outputs[0]
        await host.claim(order.subject, {name: name.encode()})
        await host.hand_over(order.subject, name, name.encode())
        await host.say(order.subject, "done")
    assert await waiting == {JobState.DONE: 3}
    assert len(seen) > 1
    fetched = [one async for one in client.results(jobs[0].array, folder)]
    assert sorted(str(one.path.relative_to(folder)) for one in fetched) == ["0/7.root", "1/8.root", "2/9.root"]
    assert [job.index async for job in client.jobs(prefix=jobs[0].array, states=[JobState.DONE])] == [0, 1, 2]


async def test_jobs_are_listed_page_by_page_and_a_request_asked_twice_makes_them_once(client: BitDew) -> None:
    jobs = await client.submit(SPEC, values=[str(n) for n in range(25)])
    request = m.SubmitRequest(spec=m.SpecModel.of(SPEC), values=["x"] * 3, request=jobs[0].array)
    again = await client._call("POST", "/v1/jobs", m.JobList, body=request)  # noqa: SLF001
    assert [job.uid for job in again.jobs] == [job.uid for job in jobs]
    seen, after = [], ""
    while True:
        query = {"limit": "10", **({"after": after} if after else {})}
        page = await client._call("GET", "/v1/jobs", m.JobList, query=query)  # noqa: SLF001
        seen += [job.uid for job in page.jobs]
        if page.next is None:
            break
        after = page.next
    assert sorted(seen) == sorted(job.uid for job in jobs)
    assert await refused(client._call("GET", "/v1/jobs", m.JobList, query={"after": "nonsense"})) == "input.invalid"  # noqa: SLF001
    assert await refused(client._call("GET", "/v1/jobs", m.JobList, query={"state": "odd"})) == "input.invalid"  # noqa: SLF001


async def test_another_user_sees_a_job_and_can_neither_cancel_it_nor_read_its_log(grid: Grid, client: BitDew) -> None:
    token = await client.create_token("user")
    assert token.token is not None
    home = IdentityFolder(grid.folder / "user")
    await enrol(grid.service.url, token.token, "bert", home, {Role.USER})
    (job,) = await client.submit(SPEC)
    async with BitDew(grid.folder / "user") as bert:
        assert (await bert.job(job.uid)).uid == job.uid
        assert await refused(bert.cancel_job(job.uid)) == "certificate.role"
        assert await refused(bert.job_log(job.uid)) == "certificate.role"
        (own,) = await bert.submit(SPEC)
        assert [one.uid async for one in bert.jobs(mine=True)] == [own.uid]


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"needs": ("root >> 6",)}, "input.invalid"),
        ({"requires": "memory >>> 1"}, "attribute.requires"),
        ({"command": ("",)}, "input.invalid"),
        ({"environment": {"LD_PRELOAD": "x"}}, "input.invalid"),
        ({"outputs": ("../x",)}, "input.invalid"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_its_key(client: BitDew, wrong: dict[str, object], key: str) -> None:
    said = m.SpecModel.of(SPEC).model_dump() | {
        name: list(value) if isinstance(value, tuple) else value for name, value in wrong.items()
    }
    request = m.SubmitRequest(spec=m.SpecModel.model_validate(said))
    assert await refused(client._call("POST", "/v1/jobs", m.JobList, body=request)) == key  # noqa: SLF001


async def test_a_stranger_says_nothing_of_a_run(client: BitDew, job_host: MakeJobHost) -> None:
    host, other = await job_host("a"), await job_host("b", programs=[])
    await client.submit(SPEC)
    run = (await host.run()).subject
    assert await refused(other.say(run, "running")) == "run.not-found"
    assert await refused(other.say("0" * 32, "running")) == "run.not-found"
    assert (await host.say(run, "running")).wanted


async def test_what_was_stored_outlives_the_service(client: BitDew, job_host: MakeJobHost, grid: Grid) -> None:
    host = await job_host()
    (job,) = await client.submit(SPEC)
    run = (await host.run()).subject
    await host.say(run, "running")
    await grid.stop_service()
    await grid.start_service()
    await host.host.hello()
    assert (await host.say(run, "running")).wanted
    await host.claim(run, {"fit.root": b"x"})
    await host.hand_over(run, "fit.root", b"x")
    await host.say(run, "done")
    assert (await grid.client.job(job.uid)).state is JobState.DONE
