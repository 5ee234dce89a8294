"""Jobs are forgotten: by command, and by age, with what goes with them and without what somebody keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from bitdew.scheduler.jobs.tables import JobInputRow, JobRow, ResultRow, RunRow, StandingMatchRow, StandingRow
from bitdew.scheduler.tables import OrderRow
from sqlalchemy import func, select

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.core.attribute import Attribute
from bitdew.core.errors import BitDewError
from bitdew.core.states import JobState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role

from .conftest import SPEC, MakeJobHost

QUIET = replace(SPEC, outputs=())


async def refused(asked) -> str:
    with pytest.raises(BitDewError) as refusal:
        await asked
    return refusal.value.key


async def rows(grid: Grid) -> dict[str, int]:
    """How many rows the tables of jobs have, where they have any."""
    found = {}
    async with grid.service.database.read() as session:
        for table in (JobRow, JobInputRow, RunRow, ResultRow, StandingRow, StandingMatchRow):
            found[table.__tablename__] = await session.scalar(select(func.count()).select_from(table)) or 0
    return {name: count for name, count in found.items() if count}


async def data(client: BitDew) -> set[str]:
    return {one.name async for one in client.data()}


async def test_a_job_goes_with_its_runs_its_log_and_its_results(
    grid: Grid, client: BitDew, job_host: MakeJobHost
) -> None:
    host = await job_host()
    (job,) = await client.submit(SPEC)
    assert await refused(client.remove_job(job.uid)) == "job.not-ended"
    await host.do()
    assert len(await data(client)) == 1
    gone = await client.remove_job(job.uid[:8])
    assert (gone.jobs, gone.results) == (1, 1)
    assert await refused(client.job(job.uid)) == "job.not-found"
    assert await rows(grid) == {}
    assert await data(client) == set()


async def test_results_that_somebody_keeps_or_reads_stay(grid: Grid, client: BitDew, job_host: MakeJobHost) -> None:
    host = await job_host()
    (kept,) = await client.submit(SPEC, results=Attribute(replica=1))
    await host.do({"fit.root": b"kept"})
    (read,) = await client.submit(SPEC)
    await host.do({"fit.root": b"read"})
    (left,) = await client.submit(SPEC)
    await host.do({"fit.root": b"left"})
    result = (await client.job(read.uid)).results[0]
    await client.submit(replace(QUIET, needs=("cern>=1",)), inputs=[(result.data, "in")])
    assert (await client.remove_job(kept.uid)).results == 0
    assert (await client.remove_job(read.uid)).results == 0
    assert (await client.remove_job(left.uid, keep=True)).results == 0
    assert len(await data(client)) == 3
    assert await rows(grid) == {"jobs": 1, "job_inputs": 1}


async def test_of_an_array_what_has_ended_goes_and_nothing_else(
    grid: Grid, client: BitDew, job_host: MakeJobHost
) -> None:
    host = await job_host(jobs_at_once=1)
    jobs = await client.submit(QUIET, values=["1", "2", "3"])
    (other,) = await client.submit(QUIET)
    await host.do({})
    assert (await client.remove_job(jobs[0].array)).jobs == 1
    assert [job.spec.command async for job in client.jobs(prefix=jobs[0].array)] == [
        job.spec.command for job in jobs[1:]
    ]
    assert (await client.job(other.uid)).state is not JobState.DONE


async def test_a_host_that_never_heard_of_the_end_is_told_that_there_is_no_such_run(
    grid: Grid, client: BitDew, job_host: MakeJobHost
) -> None:
    host = await job_host()
    (job,) = await client.submit(QUIET)
    run = await host.run()
    await host.say(run.subject, "running")
    await client.cancel_job(job.uid)
    assert (await client.remove_job(job.uid)).jobs == 1
    assert await refused(host.say(run.subject, "running")) == "run.not-found"
    async with grid.service.database.read() as session:
        its = OrderRow.subject == run.subject, OrderRow.closed.is_(None)
        assert list(await session.scalars(select(OrderRow.uid).where(*its))) == []


async def test_what_ended_long_ago_is_forgotten_by_itself(
    grid: Grid, client: BitDew, job_host: MakeJobHost, tmp_path: Path, until
) -> None:
    await client.define("events", Attribute(replica=0))
    (tmp_path / "e1").write_bytes(b"1")
    await client.put(tmp_path / "e1", "e1", "events")
    host = await job_host()
    await client.submit(SPEC)
    await host.do()
    standing = await client.submit_each(QUIET, "events")

    async def begun() -> bool:
        return bool([job async for job in client.jobs(prefix=standing.uid)])

    await until(begun)
    await host.do({})
    remover, now = grid.service.rooms.jobs.remover, grid.clock.now
    assert await remover.purge(now() - timedelta(minutes=1)) == 0
    before = await rows(grid)
    assert (before["jobs"], before["standing_matches"]) == (2, 1)
    grid.clock.skip(60)
    assert await remover.purge(now()) == 2
    assert await rows(grid) == {"standing_jobs": 1, "standing_matches": 1}  # it goes on, and makes no second job
    assert await data(client) == {"e1"}
    told = await client.explain_standing(standing.uid)
    assert [(one.name, one.state) for one in told.matches] == [("e1", None)]
    await client.end_standing(standing.uid)
    grid.clock.skip(60)
    await remover.purge(now())
    assert await rows(grid) == {}


async def test_a_standing_job_is_removed_with_its_jobs_once_it_was_cancelled(
    grid: Grid, client: BitDew, job_host: MakeJobHost, tmp_path: Path, until
) -> None:
    await client.define("events", Attribute(replica=0))
    standing = await client.submit_each(QUIET, "events")
    assert await refused(client.remove_job(standing.uid)) == "job.not-ended"
    await client.end_standing(standing.uid)
    gone = await client.remove_job(standing.uid)
    assert (gone.jobs, gone.standing) == (0, 1)
    assert await rows(grid) == {}


async def test_only_its_submitter_or_an_operator_removes_a_job(
    grid: Grid, client: BitDew, job_host: MakeJobHost
) -> None:
    token = await client.create_token("user")
    await enrol(grid.service.url, token.token or "", "bert", IdentityFolder(grid.folder / "bert"), {Role.USER})
    (mine,) = await client.submit(QUIET)
    await client.cancel_job(mine.uid)
    async with BitDew(grid.folder / "bert") as bert:
        assert await refused(bert.remove_job(mine.uid)) == "certificate.role"
        (his,) = await bert.submit(QUIET)
        await bert.cancel_job(his.uid)
    assert (await client.remove_job(his.uid)).jobs == 1
