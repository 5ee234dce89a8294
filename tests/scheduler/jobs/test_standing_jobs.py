"""Standing jobs through a real service: a job for each datum with an attribute, its input, its results, its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.core.attribute import Attribute
from bitdew.core.errors import BitDewError
from bitdew.core.ids import new_uid
from bitdew.core.job import JobSpec
from bitdew.core.states import JobState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire import models as m

from .conftest import SPEC, MakeJobHost

EACH = JobSpec(("root", "fit.C", "{}"), needs=("root>=6.30",), outputs=("{}.hist",), environment={"OF": "{}"})


async def refused(asked) -> str:
    with pytest.raises(BitDewError) as refusal:
        await asked
    return refusal.value.key


@pytest.fixture
async def put(client: BitDew, tmp_path: Path):
    await client.define("events", Attribute(replica=0))

    async def put(name: str, attribute: str | Attribute = "events") -> str:
        path = tmp_path / name
        path.write_bytes(name.encode() * 100)
        return (await client.put(path, name, attribute)).uid

    return put


@pytest.fixture
def jobs_of(client: BitDew, until):
    async def jobs_of(uid: str, count: int) -> list[m.JobView]:
        async def there() -> list[m.JobView]:
            found = [job async for job in client.jobs(prefix=uid)]
            return found if len(found) >= count else []

        found = await until(there)
        assert len(found) == count
        return found

    return jobs_of


async def test_data_that_are_there_and_data_that_come_have_one_job_each(
    client: BitDew, job_host: MakeJobHost, put, jobs_of, folder: Path
) -> None:
    first = await put("e1")
    await put("noise", Attribute(replica=0))
    standing = await client.submit_each(EACH, "events", path="in/{}")
    assert (standing.attribute, standing.made, standing.ended) == ("events", 0, None)
    (job,) = await jobs_of(standing.uid, 1)
    assert (job.datum, job.spec.command, job.spec.outputs) == ("e1", ["root", "fit.C", "e1"], ["e1.hist"])
    assert (job.spec.environment, [(one.data, one.path) for one in job.inputs]) == ({"OF": "e1"}, [(first, "in/e1")])
    await put("e2")
    await jobs_of(standing.uid, 2)
    host = await job_host()
    for name in ("e1", "e2"):
        order = await host.do({f"{name}.hist": name.encode()})
        assert order.run is not None
        assert order.run.inputs[0].path == f"in/{name}"
    assert await client.finished(standing.uid) == {JobState.DONE: 2}
    done = await jobs_of(standing.uid, 2)
    assert [one.results[0].name.split("-")[0] for one in done] == ["e1", "e2"]
    fetched = [one.path async for one in client.results(standing.uid, folder)]
    assert fetched == [folder / "e1" / "e1.hist", folder / "e2" / "e2.hist"]
    told = await client.explain_standing(standing.uid[:6])
    assert [(one.name, one.state) for one in told.matches] == [("e2", JobState.DONE), ("e1", JobState.DONE)]
    assert told.standing.counts == {JobState.DONE: 2}


async def test_from_now_on_only_what_comes_has_a_job_and_explain_says_what_was_passed_over(
    client: BitDew, put, jobs_of
) -> None:
    await put("old")
    standing = await client.submit_each(EACH, "events", from_now=True)
    await put("new")
    (job,) = await jobs_of(standing.uid, 1)
    assert job.datum == "new"
    told = await client.explain_standing(standing.uid)
    assert [(one.name, one.job) for one in told.matches] == [("new", job.uid), ("old", None)]


async def test_a_datum_whose_bytes_come_later_or_whose_attribute_changes_has_its_job_then(
    client: BitDew, put, jobs_of
) -> None:
    standing = await client.submit_each(EACH, "events")
    await put("other", Attribute(replica=0))
    await client.choose("other", "events")
    (job,) = await jobs_of(standing.uid, 1)
    assert job.datum == "other"


async def test_a_cancelled_one_makes_no_more_jobs_and_its_jobs_go_on_unless_they_are_given_up_too(
    client: BitDew, put, jobs_of, job_host: MakeJobHost
) -> None:
    one, two = [await client.submit_each(EACH, "events", name=name) for name in ("one", "two")]
    await put("e1")
    for standing in (one, two):
        await jobs_of(standing.uid, 1)
    ended = await client.end_standing(one.uid)
    assert ended.ended is not None
    assert ended.ended_by == client.identity.subject.name
    await put("e2")
    await jobs_of(two.uid, 2)
    assert [job.datum async for job in client.jobs(prefix=one.uid)] == ["e1"]
    assert (await client.end_standing(two.uid, jobs=True)).counts == {JobState.CANCELLED: 2}
    host = await job_host()
    await host.do({"e1.hist": b"x"})
    assert [job.state async for job in client.jobs(prefix=one.uid)] == [JobState.DONE]
    assert (await client.end_standing(one.uid)).ended == ended.ended


async def test_as_many_jobs_are_under_way_as_may_be_and_the_others_follow(
    client: BitDew, put, jobs_of, job_host: MakeJobHost
) -> None:
    for number in range(4):
        await put(f"e{number}")
    standing = await client.submit_each(replace(EACH, outputs=()), "events", at_once=2)
    await jobs_of(standing.uid, 2)
    told = await client.explain_standing(standing.uid)
    assert told.standing.waiting == 2
    assert "2 data wait" in " ".join(told.why)
    host = await job_host()
    for number in range(4):
        order = await host.do({})
        assert order.run is not None
        assert order.run.spec.command[-1] == f"e{number}"
    assert await client.finished(standing.uid) == {JobState.DONE: 4}


async def test_a_service_that_starts_again_makes_the_jobs_that_are_missing_and_no_other(
    grid: Grid, client: BitDew, put, tmp_path: Path, until
) -> None:
    await put("e1")
    await put("e2")
    standing = await client.submit_each(EACH, "events", at_once=1)
    host = grid.service.rooms.jobs.store

    async def begun() -> bool:
        return sum((await host.counts(standing.uid)).values()) == 1

    await until(begun)
    await grid.stop_service()
    await grid.start_service()
    again = grid.client
    (job,) = [job async for job in again.jobs(prefix=standing.uid)]
    await again.cancel_job(job.uid)

    async def both() -> list[str]:
        names = [job.datum async for job in again.jobs(prefix=standing.uid)]
        return names if len(names) > 1 else []

    assert await until(both) == ["e1", "e2"]
    assert [one.uid for one in await again.standing_jobs()] == [standing.uid]


async def test_with_two_services_there_is_still_one_job_for_each_datum(
    postgres_url: str, tmp_path: Path, until
) -> None:
    async with Grid(0, database=postgres_url) as grid, grid.another_service("second") as second:
        await grid.service.rooms.leadership.gained()
        await grid.client.define("events", Attribute(replica=0))
        async with BitDew.connect(grid.folder / "operator", second.url) as other:
            standing = await other.submit_each(EACH, "events")
            for number in range(6):
                path = tmp_path / f"e{number}"
                path.write_bytes(bytes(10))
                await (other if number % 2 else grid.client).put(path, path.name, "events")

            async def all_there() -> bool:
                return (await other.standing_job(standing.uid)).made == 6

            await until(all_there)
            names = [job.datum async for job in other.jobs(prefix=standing.uid)]
            assert sorted(names) == [f"e{number}" for number in range(6)]


async def test_asked_twice_by_one_number_there_is_one(client: BitDew, put) -> None:
    job = m.SubmitRequest(spec=m.SpecModel.of(EACH), request=new_uid())
    request = m.StandingRequest(job=job, attribute="events")
    for _ in range(2):
        await client._call("POST", "/v1/standing-jobs", m.StandingView, body=request)
    assert [one.uid for one in await client.standing_jobs(mine=True)] == [job.request]
    assert (await client._call("POST", "/v1/jobs", m.JobList, body=job)).jobs == []  # the number is a standing job's
    assert [job async for job in client.jobs()] == []


async def test_what_can_not_be_is_refused_at_once(client: BitDew, put, grid: Grid) -> None:
    assert await refused(client.submit_each(EACH, "event")) == "attribute.not-found"
    assert await refused(client.submit_each(EACH, "events", path="../{}")) == "input.invalid"
    long = replace(EACH, command=("root", "{}" * 2000))  # a name has up to 128 characters
    assert await refused(client.submit_each(long, "events")) == "input.invalid"
    assert await refused(client.standing_job("0000")) == "job.not-found"
    standing = await client.submit_each(EACH, "events")
    token = await client.create_token("user")
    profile = IdentityFolder(grid.folder / "guest")
    await enrol(grid.service.url, token.token or "", "guest", profile, {Role.USER})
    async with BitDew.connect(grid.folder / "guest") as guest:
        assert (await guest.standing_job(standing.uid)).uid == standing.uid
        assert await refused(guest.end_standing(standing.uid)) == "certificate.role"


async def test_a_datum_that_would_stand_where_another_input_does_has_a_job_that_failed_and_says_why(
    client: BitDew, put, jobs_of
) -> None:
    await put("macro", Attribute(replica=0))
    await put("e1")
    standing = await client.submit_each(EACH, "events", inputs=[("macro", "e1")])
    (job,) = await jobs_of(standing.uid, 1)
    assert job.state is JobState.FAILED
    assert job.reason is not None
    assert job.reason.key == "input.invalid"
    assert SPEC.command[0] == job.name
