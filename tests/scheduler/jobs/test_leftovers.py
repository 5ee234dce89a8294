"""Nothing stays of what a run had begun to hand over when it was given up: no data, and no half of an upload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from bitdew.scheduler.jobs.matchmaker import LEASE

from bitdew.client.grid import BitDew
from bitdew.core.errors import BitDewError
from bitdew.core.job import Limit
from bitdew.core.states import JobState
from bitdew.testing.grid import Grid
from bitdew.wire import models as m

from .conftest import SPEC, JobHost, MakeJobHost

BOTH = {"a.root": b"first", "b.root": b"second"}


async def half_handed_over(host: JobHost) -> str:
    """A run that handed over one of its two outputs; the run's uid."""
    run = (await host.run()).subject
    await host.say(run, "running")
    assert (await host.claim(run, BOTH)).verdict == "store"
    await host.hand_over(run, "a.root", BOTH["a.root"])
    return run


async def begun(host: JobHost, run: str) -> str:
    """The upload of the other one is under way; its uid."""
    body = m.OutputRequest(path="b.root")
    return (await host.host.line.call("POST", f"/v1/runs/{run}/outputs", m.UploadReply, body=body)).upload


async def names(client: BitDew) -> list[str]:
    return [datum.name async for datum in client.data()]


def uploads(grid: Grid) -> tuple[str, ...]:
    return grid.service.rooms.contents.repository.uploads.under_way


@pytest.mark.parametrize("wish", [None, {"replica": 0, "lifetime": "7d"}])
async def test_a_run_that_is_cancelled_while_it_stores_leaves_nothing(
    client: BitDew, job_host: MakeJobHost, grid: Grid, until, wish: dict[str, object] | None
) -> None:
    if wish:
        await client.define("kept", wish)
    host = await job_host()
    (job,) = await client.submit(SPEC, results="kept" if wish else None)
    run = await half_handed_over(host)
    upload = await begun(host, run)
    assert len(await names(client)) == 1
    assert uploads(grid) == (upload,)
    assert (await client.cancel_job(job.uid))[0].state is JobState.CANCELLED

    async def gone() -> bool:
        return not await names(client) and not uploads(grid)

    await until(gone)
    assert not list((grid.folder / "service").rglob(f"{upload}*"))
    with pytest.raises(BitDewError) as refusal:
        await host.hand_over(run, "b.root", BOTH["b.root"])
    assert refusal.value.key == "run.not-found"
    assert await names(client) == []


async def test_what_a_lost_run_had_handed_over_never_stands_beside_the_jobs_own_result(
    client: BitDew, job_host: MakeJobHost, grid: Grid, until
) -> None:
    slow = await job_host("slow")
    (job,) = await client.submit(SPEC)
    lost = await half_handed_over(slow)
    quick = await job_host("quick")
    grid.clock.skip(LEASE.total_seconds() + 61)
    await quick.host.hello()
    await quick.do(BOTH)
    done = await client.job(job.uid)
    assert (done.state, [run.host_name for run in done.runs]) == (JobState.DONE, ["slow", "quick"])

    async def alone() -> bool:
        return sorted(await names(client)) == sorted(result.name for result in done.results)

    await until(alone)
    assert all(lost[:12] not in name for name in await names(client))
    told = await client.datum(next(result.data for result in done.results if result.path == "a.root"))
    assert told.size == len(BOTH["a.root"])  # the same bytes as the lost run's, and they are still there


async def test_an_upload_is_cut_off_in_the_middle_when_its_job_is_cancelled(
    client: BitDew, job_host: MakeJobHost, until, grid: Grid
) -> None:
    host = await job_host()
    (job,) = await client.submit(SPEC)
    run = await half_handed_over(host)
    upload = await begun(host, run)

    async def slowly() -> AsyncIterator[bytes]:
        yield b"se"
        await client.cancel_job(job.uid)

        async def forgotten() -> bool:
            return not uploads(grid)

        await until(forgotten)  # though its sender is in the middle of a part
        yield b"cond"

    with pytest.raises(BitDewError) as refusal:
        await host.host.line.call("PUT", f"/v1/uploads/{upload}", m.PartDone, body=slowly(), query={"offset": "0"})
    assert refusal.value.key == "upload.not-found"
    assert not list((grid.folder / "service").rglob(f"{upload}*"))


async def test_what_is_over_after_a_restart_of_the_service_is_cleared_away_too(
    client: BitDew, job_host: MakeJobHost, grid: Grid, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await job_host()
    (job,) = await client.submit(SPEC)
    run = await half_handed_over(host)
    await begun(host, run)

    async def killed() -> None:
        """The process ends before it comes to this."""

    monkeypatch.setattr(grid.service.rooms.jobs.leftovers, "step", killed)
    await client.cancel_job(job.uid)
    assert len(await names(client)) == 1
    await grid.stop_service()
    await grid.start_service()

    async def gone() -> bool:
        return not await names(grid.client) and not uploads(grid)

    await until(gone)


@pytest.mark.parametrize(("count", "size", "limit"), [(1, 11, Limit.DISK), (3, 1, Limit.FILES)])
async def test_a_claim_over_the_jobs_limits_is_told_by_its_limit(
    client: BitDew, job_host: MakeJobHost, count: int, size: int, limit: Limit
) -> None:
    host = await job_host()
    caps = replace(SPEC.caps, output=10, files=2)
    (job,) = await client.submit(replace(SPEC, attempts=1, caps=caps))
    run = (await host.run()).subject
    said = [{"path": str(number), "root": f"{number:064x}", "size": size} for number in range(count)]
    await host.say(run, "storing", exit_code=0, outputs=said)
    failed = await client.job(job.uid)
    assert (failed.limit, failed.runs[0].limit) == (limit, limit)


async def test_a_limit_that_only_the_host_knows_is_none(client: BitDew, job_host: MakeJobHost) -> None:
    host = await job_host()
    (job,) = await client.submit(replace(SPEC, attempts=1))
    reason = {"key": "job.over-limit", "message": "it was too much", "fields": {"limit": ["of", "mine"]}}
    await host.say((await host.run()).subject, "failed", reason=reason)
    failed = await client.job(job.uid)
    assert (failed.state, failed.limit) == (JobState.FAILED, None)
