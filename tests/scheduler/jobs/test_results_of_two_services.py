"""Two services on one PostgreSQL take what the replicas of one job say at the same moment: nothing counts twice."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from bitdew.catalog.database import Database
from bitdew.scheduler.jobs.records import ResultRecord
from bitdew.scheduler.jobs.result_store import ResultStore, add_result
from bitdew.scheduler.jobs.store import JobStore

from bitdew.composition import Service
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot, Uid
from bitdew.core.states import JobState, RunState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.tls import client_context
from bitdew.wire.transport import Transport

from .conftest import SPEC, JobHost, MakeJobHost

Twin = Callable[[JobHost], Awaitable[JobHost]]


@pytest.fixture
def grid(leading: Grid) -> Grid:
    """The service that leads."""
    return leading


@pytest.fixture
async def twin(grid: Grid, second: Service) -> AsyncIterator[Twin]:
    """The same host, talking to the second service."""
    async with AsyncExitStack() as exits:

        async def make(host: JobHost) -> JobHost:
            identity = await asyncio.to_thread(IdentityFolder(grid.folder / host.host.name).load)
            context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
            other = copy.copy(host.host)
            other.line = await exits.enter_async_context(Transport(second.url, context))
            return JobHost(other)

        yield make


async def at_once(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """All of them begin at one moment; what each returned, or the key of its refusal."""
    barrier = asyncio.Barrier(len(calls))

    async def call(one: Coroutine[Any, Any, Any]) -> Any:
        await barrier.wait()
        try:
            return await one
        except BitDewError as fault:
            return fault.key

    return list(await asyncio.gather(*map(call, calls)))


async def test_a_majority_that_claims_at_once_counts_once_and_hands_over_once(
    grid: Grid, job_host: MakeJobHost, twin: Twin
) -> None:
    hosts = [await job_host(name) for name in ("a", "b", "c")]
    twins = [await twin(host) for host in hosts]
    (job,) = await grid.client.submit(replace(SPEC, replicas=3))
    runs = [(await host.run()).subject for host in hosts]
    raw = {"fit.root": b"true"}
    # Each says it to both services: a reply that was lost is asked for again wherever the host gets through.
    await at_once(*(side[n].claim(runs[n], raw) for n in range(3) for side in (hosts, twins)))
    told = [(await one.claim(run, raw)).verdict for one, run in zip(hosts, runs, strict=True)]
    # Whoever claims when two agree already, is not needed any more.
    assert sorted(told) in (["drop", "store", "wait"], ["store", "wait", "wait"])
    chosen = told.index("store")
    given = await at_once(
        *(side[n].hand_over(runs[n], "fit.root", b"true") for n in range(3) for side in (hosts, twins))
    )
    kept = {one.data for one in given if not isinstance(one, str)}
    assert len(kept) == 1, given
    assert {one for one in given[2 * ((chosen + 1) % 3) :][:2] if isinstance(one, str)} == {"run.not-found"}
    await at_once(*(side[n].say(runs[n], "done") for n in range(3) for side in (hosts, twins)))
    done = await grid.client.job(job.uid)
    assert done.state is JobState.DONE
    ended = {"store": RunState.DONE, "wait": RunState.DONE, "drop": RunState.CANCELLED}
    assert {run.uid: run.state for run in done.runs} == dict(zip(runs, [ended[one] for one in told], strict=True))
    assert [(one.path, one.data) for one in done.results] == [("fit.root", kept.pop())]
    assert len([one async for one in grid.client.data() if one.name.startswith("job-")]) == 1


async def test_a_result_and_the_end_of_its_run_never_cross(
    grid: Grid, job_host: MakeJobHost, postgres_url: str
) -> None:
    host = await job_host("a")
    await grid.client.submit(replace(SPEC, replicas=1))
    uid = Uid((await host.run()).subject)
    await host.claim(uid, {"a.root": b"first", "b.root": b"second"})
    datum = (await host.hand_over(uid, "a.root", b"first")).data
    one, two = Database(postgres_url), Database(postgres_url)
    result = ResultRecord(uid, "b.root", Uid(datum), ContentRoot("0" * 64), 6)
    run = await JobStore(two).run(uid)
    assert run is not None
    lost, now = replace(run, state=RunState.LOST), datetime.now(UTC)
    try:
        async with one.write() as session:
            assert await add_result(session, result)
            ending = asyncio.create_task(JobStore(two).record(now=now, runs=[lost]))
            ended, _ = await asyncio.wait([ending], timeout=0.2)
            assert not ended, "it waits for the result to be stored"
        await ending
        assert await ResultStore(one).left_over() == {Uid(datum): RunState.LOST}, "what was stored is known, and goes"
        async with one.write() as session:
            assert not await add_result(session, replace(result, path="c.root")), "the run has ended"
    finally:
        await one.close()
        await two.close()
