"""Jobs as a developer uses them: submit, follow, wait, read the log, take the results.

Owns these calls and their order. Where a job runs is decided on the other side of the wire.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bitdew.core.attribute import Attribute
from bitdew.core.errors import error
from bitdew.core.ids import checked_name, new_uid
from bitdew.core.job_path import checked_path
from bitdew.core.states import JOB, JobState
from bitdew.wire import limits
from bitdew.wire import models as m

from .connection import GRACE, POLL, name_part
from .data import DataCalls, chosen
from .getting import GetCalls
from .image import FileSource
from .inputs import put_for_jobs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from bitdew.core.job import JobSpec

    from .source import ByteSource

SUBMIT_SECONDS: Final = 120.0
"""Seconds that the service may take for ten thousand jobs: many times what it takes."""
FOLLOW_PAUSE: Final = 0.5
"""Seconds until it is looked whether a job is tried again, once a run's log has ended."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A result that came back.

    Attributes:
        job: The job that left it.
        result: What it is.
        path: Where it is now.
    """

    job: m.JobView
    result: m.ResultView
    path: Path


class JobCalls(DataCalls, GetCalls):
    """The part of `BitDew` that is about jobs."""

    async def submit(
        self,
        spec: JobSpec,
        *,
        name: str | None = None,
        inputs: Sequence[tuple[str, str]] = (),
        values: Sequence[str] = (),
        results: Attribute | str | None = None,
        provision: str | None = None,
        machines: int = 1,
        request: str | None = None,
    ) -> list[m.JobView]:
        """Ask for a command to be run; with `values`, once for each of them.

        It waits until a host has what it needs, and is tried again elsewhere where a host is lost. Asking does not
        wait for any of that.

        Args:
            spec: The command, what it needs, and how much it may take.
            name: For people; the program's by default.
            inputs: Data that it reads: each datum's name or uid, and its path in the job's directory ("" for its name).
            values: For each of them a job: `{}` in the command, the outputs and the environment stands for it.
            results: What should be true of its results; by default they stay in the repository.
            provision: A disk: where no host can run the jobs, machines are deployed from it for them.
            machines: How many such machines at most.
            request: What the jobs have in common, their `array`, if the caller is to know it before: a new uid.

        Returns:
            The jobs; of an array the first thousand.

        Raises:
            BitDewError: `data.not-found`, `input.invalid`, `attribute.…`.
        """
        asked = m.SubmitRequest(
            name=None if name is None else checked_name(name, "job's name"),
            spec=m.SpecModel.of(spec),
            inputs=[m.InputModel(data=name_part(data), path=path) for data, path in inputs],
            values=list(values),
            results={"replica": 0} if results is None else chosen(results),
            provision=None if provision is None else name_part(provision),
            machines=machines,
            request=request or new_uid(),
        )
        return (await self._call("POST", "/v1/jobs", m.JobList, body=asked, seconds=SUBMIT_SECONDS)).jobs

    async def put_input(
        self, path: Path | ByteSource, *, label: str = "", sending: Callable[[int, int], None] | None = None
    ) -> str:
        """Put a file, or other bytes, for jobs of one's own to read, and give the uid of its datum.

        The same bytes are put once. It lives as long as jobs read it, and a day longer; it goes when these are removed.
        Nobody else is shown it.

        Raises:
            BitDewError: `job.inputs-full`; as `put`.
        """
        source = await asyncio.to_thread(FileSource, path) if isinstance(path, Path) else path
        called = label or (path.name if isinstance(path, Path) else "bytes")
        return await put_for_jobs(self._call, source, called, self.patience, sending)

    async def remove_input(self, uid: str) -> None:
        """Remove what `put_input` put, by its uid, if no job reads it: else it goes with those.

        Raises:
            UserError: `data.not-found`, for what is not there, no such datum, or another's.
        """
        await self._call("DELETE", f"/v1/job-inputs/{name_part(uid)}", m.Nothing)

    async def jobs(
        self, *, prefix: str = "", states: Sequence[JobState] = (), mine: bool = False
    ) -> AsyncGenerator[m.JobView]:
        """Jobs, oldest first: of one array, in some states, or only one's own."""
        query = {"prefix": prefix, "state": ",".join(states), "mine": "1" if mine else "", "limit": str(limits.PAGE)}
        after: str | None = ""
        while after is not None:
            asked = {key: value for key, value in {**query, "after": after}.items() if value}
            reply = await self._call("GET", "/v1/jobs", m.JobList, query=asked)
            for one in reply.jobs:
                yield one
            after = reply.next

    async def any_jobs(self, *, prefix: str, states: Sequence[JobState], wait: float) -> list[m.JobView]:
        """A thousand jobs of one array, or of several whose uids begin so, at most; held open while there are none."""
        query = {"prefix": prefix, "state": ",".join(states), "limit": str(limits.PAGE), "wait": f"{wait:g}"}
        return (await self._call("GET", "/v1/jobs", m.JobList, query=query, seconds=wait + GRACE)).jobs

    async def job(self, uid: str, *, since: int = 0, wait: float = 0.0) -> m.JobView:
        """One job, by its uid or the beginning of it; with `wait`, held open so many seconds until it is past `since`.

        Raises:
            UserError: `job.not-found`.
        """
        query = {"since": str(since), "wait": f"{wait:g}"} if wait else {}
        return await self._call("GET", f"/v1/jobs/{name_part(uid)}", m.JobView, query=query, seconds=wait + GRACE)

    async def watch_job(self, uid: str) -> AsyncGenerator[m.JobView]:
        """A job now and after each change, until it has ended."""
        job = await self.job(uid)
        while True:
            yield job
            if job.state in JOB.ends():
                return
            job = await self.job(job.uid, since=job.version, wait=POLL)

    async def count_jobs(self, array: str = "", since: int = 0) -> m.JobCounts:
        """How many jobs of an array, or of all, are in which state; held open until that is past version `since`."""
        query = {"of": array, "since": str(since), "wait": str(POLL if since else 0)}
        asked = {key: value for key, value in query.items() if value}
        return await self._call("GET", "/v1/job-counts", m.JobCounts, query=asked, seconds=POLL + GRACE)

    async def finished(
        self, array: str, *, progress: Callable[[dict[JobState, int]], None] | None = None
    ) -> dict[JobState, int]:
        """Wait until all jobs of an array have ended; how many ended how.

        Args:
            array: Its uid, or that of one of its jobs, or the beginning of one.
            progress: Called with how many jobs are in which state, whenever that changed.
        """
        counts = await self.count_jobs(array)
        while True:
            if progress is not None:
                progress(counts.counts)
            if set(counts.counts) <= JOB.ends():
                return counts.counts
            counts = await self.count_jobs(array, counts.version)

    async def cancel_job(self, uid: str) -> list[m.JobView]:
        """Give up a job, or all jobs of an array. What has ended stays as it is."""
        return (await self._call("POST", f"/v1/jobs/{name_part(uid)}/cancel", m.JobList)).jobs

    async def remove_job(self, uid: str, *, keep: bool = False) -> m.JobsRemoved:
        """Forget a job, or those of an array or a standing job, that have ended: their runs, logs and results.

        Results that were given an attribute stay; with `keep` all do.

        Raises:
            BitDewError: `job.not-found`, `job.not-ended`, `certificate.role`.
        """
        query = {"keep": "1"} if keep else {}
        return await self._call("DELETE", f"/v1/jobs/{name_part(uid)}", m.JobsRemoved, query=query)

    async def explain_job(self, uid: str) -> m.JobExplanation:
        """Why a job is as it is, and what it waits for."""
        return await self._call("GET", f"/v1/jobs/{name_part(uid)}/explain", m.JobExplanation)

    async def job_log(self, uid: str, *, run: int = 0, offset: int = 0) -> m.LogReply:
        """What a job wrote so far, from `offset` on; of its run number `run`, or the one that counts."""
        return await self._log(uid, run, offset, 0)

    async def follow_job_log(self, uid: str, *, run: int = 0) -> AsyncGenerator[m.LogReply]:
        """What a job writes, part by part, until it has ended. Where it is tried again, the next run's follows."""
        known, offset = None, 0
        while True:
            reply = await self._log(uid, run, offset, POLL)
            if reply.run != known and known is not None:
                reply = await self._log(uid, run, 0, 0)
            known = reply.run
            if reply.text:
                yield reply
            offset = reply.end
            if reply.state in JOB.ends() and not reply.text:
                return
            if not reply.text and reply.run is not None:
                # That run is over, and another one may follow: only the job knows.
                await asyncio.sleep(FOLLOW_PAUSE)

    async def _log(self, uid: str, run: int, offset: int, wait: float) -> m.LogReply:
        query = {"run": str(run), "offset": str(offset), "wait": str(wait)}
        path = f"/v1/jobs/{name_part(uid)}/log"
        return await self._call("GET", path, m.LogReply, query=query, seconds=wait + GRACE)

    async def results(
        self,
        uid: str,
        folder: Path,
        *,
        force: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> AsyncGenerator[Fetched]:
        """Bring what a job, or the jobs of an array, left into `folder`, verified.

        The files of one job come as it left them. Those of an array come into a folder for each job, by its index;
        those of a standing job by its datum's name.

        Raises:
            BitDewError: `job.not-found`; as `get`.
        """
        jobs = [job async for job in self.jobs(prefix=name_part(uid))]
        if not jobs:
            raise error("job.not-found", f"There is no job {uid[:40]!r}", uid=uid[:40])
        total, done = sum(one.size for job in jobs for one in job.results), 0
        for job in jobs:
            index = f"{job.index:0{len(str(len(jobs) - 1))}}"
            alone = len(jobs) == 1 and (not job.datum or job.uid.startswith(uid))
            place = folder if alone else folder / (job.datum or index)
            for one in job.results:
                target = place.joinpath(*_parts(one.path))
                await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
                await self.get(one.data, target, force=force)
                done += one.size
                if progress is not None:
                    progress(done, total)
                yield Fetched(job, one, target)


def _parts(path: str) -> list[str]:
    """The parts of a result's path, which a host has said."""
    return checked_path(path, "where a result is put", field="path").split("/")
