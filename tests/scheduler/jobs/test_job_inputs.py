"""What users put for their own jobs: bounded, seen by nobody else, and there for as long as jobs read it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from bitdew.scheduler.jobs.inputs import AFTER, UNUSED

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.client.memory import BytesSource
from bitdew.core.attribute import Attribute
from bitdew.core.errors import BitDewError
from bitdew.core.job import JobSpec
from bitdew.core.states import JobState
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire import limits
from bitdew.wire import models as m

from .conftest import MakeJobHost

MB = 2**20
LARGE = limits.SMALL + 1
SPEC = JobSpec(("root", "-b"))
QUOTA = 4 * MB
Enrolled = Callable[[str], Awaitable[BitDew]]


@pytest.fixture
async def grid() -> AsyncIterator[Grid]:
    """A service without workers, where a user may put little."""
    async with Grid(0, input_quota=QUOTA) as grid:
        yield grid


@pytest.fixture
async def user(grid: Grid, client: BitDew) -> AsyncIterator[Enrolled]:
    """Enrols somebody who is neither an operator nor a publisher."""
    async with AsyncExitStack() as exits:

        async def make(name: str) -> BitDew:
            token = (await client.create_token("user")).token or ""
            home = grid.folder / f"user-{name}"
            await enrol(grid.service.url, token, name, IdentityFolder(home), {Role.USER})
            return await exits.enter_async_context(BitDew(home))

        yield make


async def fault(asked: Awaitable[Any]) -> BitDewError:
    with pytest.raises(BitDewError) as refusal:
        await asked
    return refusal.value


async def seen(who: BitDew) -> list[str]:
    return [one.uid async for one in who.data("in-")]


def file(folder: Path, size: int, name: str = "events.root") -> Path:
    (folder / name).write_bytes(os.urandom(size))
    return folder / name


async def tidied(grid: Grid, who: BitDew) -> list[str]:
    """What is there after what is to go went. The service itself does that once in an hour of its clock."""
    await grid.service.rooms.jobs.inputs.tidy()
    return await seen(who)


@pytest.mark.parametrize("size", [0, 1000, LARGE])
async def test_a_user_puts_a_file_once_and_his_job_reads_it(
    user: Enrolled, job_host: MakeJobHost, client: BitDew, tmp_path: Path, size: int
) -> None:
    anna, path = await user("anna"), file(tmp_path, size)
    told: list[tuple[int, int]] = []
    uid = await anna.put_input(path, sending=lambda done, total: told.append((done, total)))
    assert await anna.put_input(path) == uid == (await anna.datum(uid)).uid
    (job,) = await anna.submit(SPEC, inputs=[(uid, "in/events.root")])
    host = await job_host()
    order = await host.run()
    assert order.run is not None
    assert [(one.data, one.path, one.size) for one in order.run.inputs] == [(uid, "in/events.root", size)]
    assert (await client.job(job.uid)).owner == (await anna.datum(uid)).owner
    assert (await anna.get(uid, tmp_path / "back")) is not None
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert not told or told[-1] == (size, size)


async def test_what_one_puts_is_there_for_nobody_else_but_an_operator(
    user: Enrolled, client: BitDew, tmp_path: Path
) -> None:
    anna, bert = await user("anna"), await user("bert")
    path = file(tmp_path, 1000)
    uid = await anna.put_input(path)
    name = (await anna.datum(uid)).name
    assert await seen(anna) == await seen(client) == [uid]
    assert await seen(bert) == []
    for asked in (bert.datum(uid), bert.where(name), bert.explain(name), bert.submit(SPEC, inputs=[(uid, "x")])):
        assert (await fault(asked)).key == "data.not-found"
    assert name in {event.name for event in (await anna.events()).events}
    assert name not in {event.name for event in (await bert.events()).events}
    own = await bert.put_input(path)  # the same bytes: they are there once, and two data of them
    assert own != uid
    assert await seen(bert) == [own]
    assert sorted(await seen(client)) == sorted([own, uid])
    # All that a user may put is for jobs.
    assert (await fault(anna.put(path, "mine"))).key == "certificate.role"
    assert (await fault(anna.choose(uid, Attribute(replica=3)))).key == "certificate.role"


async def test_a_user_has_a_quota_and_is_told_what_is_used_of_it(
    user: Enrolled, client: BitDew, tmp_path: Path
) -> None:
    anna = await user("anna")
    first = await anna.put_input(file(tmp_path, 3 * MB, "a"))
    for size, name in ((MB + 1, "b"), (2 * MB, "c")):
        refusal = await fault(anna.put_input(file(tmp_path, size, name)))
        assert (refusal.key, refusal.fields["used"], refusal.fields["quota"]) == ("job.inputs-full", 3 * MB, QUOTA)
        assert "3.0 MB of 4.0 MB are used" in str(refusal)
    assert await anna.put_input(tmp_path / "a") == first  # what is there takes nothing more
    await anna.put_input(file(tmp_path, MB, "d"))
    refusal = await fault(anna.put_input(file(tmp_path, 1, "e")))
    assert refusal.fields["used"] == QUOTA
    bert = await user("bert")
    await bert.put_input(tmp_path / "e")  # each has one of his own
    await client.put_input(file(tmp_path, 5 * MB, "f"))  # and who may fill the repository anyway has none


async def test_it_goes_with_the_last_job_that_reads_it(
    user: Enrolled, job_host: MakeJobHost, tmp_path: Path, grid: Grid
) -> None:
    anna, host = await user("anna"), await job_host()
    uid = await anna.put_input(file(tmp_path, 1000))
    grid.clock.skip(UNUSED.total_seconds() - 60)
    jobs = [(await anna.submit(SPEC, inputs=[(uid, "x")]))[0] for _ in range(2)]
    for _ in jobs:
        await host.do({})
    assert await tidied(grid, anna) == [uid]
    await anna.remove_job(jobs[0].uid)
    assert await seen(anna) == [uid]
    await anna.remove_job(jobs[1].uid)
    assert await seen(anna) == []


async def test_it_goes_a_while_after_its_last_job_ended_and_not_while_one_waits(
    user: Enrolled, job_host: MakeJobHost, tmp_path: Path, grid: Grid
) -> None:
    anna = await user("anna")
    read, standing = await anna.put_input(file(tmp_path, 10, "a")), await anna.put_input(file(tmp_path, 10, "b"))
    (job,) = await anna.submit(SPEC, inputs=[(read, "x")])
    await grid.client.define("events", Attribute(replica=0))
    template = await anna.submit_each(SPEC, "events", inputs=[(standing, "y")])
    host = await job_host(hello=False)
    grid.clock.skip(10 * AFTER.total_seconds())
    assert sorted(await tidied(grid, anna)) == sorted([read, standing])
    await host.host.hello()
    await host.do({})
    assert (await anna.job(job.uid)).state is JobState.DONE
    assert sorted(await tidied(grid, anna)) == sorted([read, standing])
    grid.clock.skip(AFTER.total_seconds() + 1)
    assert await tidied(grid, anna) == [standing]
    assert (await fault(anna.submit(SPEC, inputs=[(read, "x")]))).key == "data.not-found"
    await anna.end_standing(template.uid)
    assert await tidied(grid, anna) == []
    # It can be put again, and is another datum.
    assert await anna.put_input(tmp_path / "a") != read


async def test_what_was_put_and_never_read_goes_unless_it_was_asked_for_again(
    user: Enrolled, tmp_path: Path, grid: Grid
) -> None:
    anna, path = await user("anna"), file(tmp_path, 1000)
    uid = await anna.put_input(path)
    assert await tidied(grid, anna) == [uid]
    grid.clock.skip(UNUSED.total_seconds() - 60)
    assert await anna.put_input(path) == uid  # a job for it is about to be submitted
    grid.clock.skip(120)
    assert await tidied(grid, anna) == [uid]
    grid.clock.skip(UNUSED.total_seconds())
    assert await tidied(grid, anna) == []


async def test_an_upload_that_broke_off_is_gone_on_with_and_counts_meanwhile(
    user: Enrolled, tmp_path: Path, grid: Grid
) -> None:
    anna, path = await user("anna"), file(tmp_path, 3 * MB)
    reached = asyncio.Event()
    sending = asyncio.create_task(anna.put_input(path, sending=lambda done, _total: done and reached.set()))
    async with asyncio.timeout(30):
        await reached.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    uploads = grid.service.rooms.contents.repository.uploads
    if uploads.under_way:  # it was quicker than its cancelling else
        refusal = await fault(anna.put_input(BytesSource(os.urandom(2 * MB)), label="other"))
        assert (refusal.key, refusal.fields["used"]) == ("job.inputs-full", 3 * MB)
    there: list[int] = []
    uid = await anna.put_input(path, sending=lambda done, _total: there.append(done))
    assert (await anna.datum(uid)).size == 3 * MB
    assert not uploads.under_way


async def test_an_upload_that_nobody_goes_on_with_gives_its_room_back(
    user: Enrolled, tmp_path: Path, grid: Grid
) -> None:
    anna, bert, inputs = await user("anna"), await user("bert"), "/v1/job-inputs"
    wish = m.JobInputRequest(label="x", root="a" * 64, size=3 * MB, fingerprint="b" * 64)
    begun = await anna.call("POST", inputs, m.JobInputReply, body=wish)
    assert begun.upload
    path = file(tmp_path, 2 * MB)
    assert (await fault(anna.put_input(path))).key == "job.inputs-full"
    grid.clock.skip(3601)
    await anna.put_input(path)
    assert begun.upload not in grid.service.rooms.contents.repository.uploads.under_way
    # Nobody else sees one, nor goes on with it.
    again = await anna.call(
        "POST", inputs, m.JobInputReply, body=wish.model_copy(update={"size": 1000, "root": "c" * 64})
    )
    done = m.JobInputDone(root="c" * 64)
    assert (await fault(bert.call("GET", f"/v1/uploads/{again.upload}", m.UploadView))).key == "upload.not-found"
    assert (
        await fault(bert.call("POST", f"{inputs}/{again.upload}", m.JobInputReply, body=done))
    ).key == "upload.not-found"


async def test_its_owner_may_remove_one_that_no_job_reads_and_nobody_else(
    user: Enrolled, client: BitDew, tmp_path: Path
) -> None:
    anna, bert = await user("anna"), await user("bert")
    uid, other = await anna.put_input(file(tmp_path, 1000)), await anna.put_input(file(tmp_path, 1000, "other"))
    plain = (await client.put(file(tmp_path, 10, "plain"), "plain", Attribute(replica=0))).uid
    for who in (bert, client):
        assert (await fault(who.remove_input(uid))).key == "data.not-found"
    assert (await fault(client.remove_input(plain))).key == "data.not-found"
    await anna.submit(SPEC, inputs=[(uid, "in/events.root")])
    await anna.remove_input(uid)
    await anna.remove_input(other)
    assert await seen(anna) == [uid]
    assert (await fault(anna.remove_input(other))).key == "data.not-found"
