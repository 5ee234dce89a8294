"""Jobs, as people submit, see, follow and cancel them. Where a job runs is the matching's choice."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid, new_uid
from bitdew.core.states import JOB, JobState, RunState
from bitdew.trust.roles import Role, Subject
from bitdew.wire import limits
from bitdew.wire.jobs import limit_of
from bitdew.wire.models import (
    ErrorView,
    InputView,
    JobCounts,
    JobExplanation,
    JobList,
    JobView,
    LogReply,
    ResultView,
    RunView,
    SpecModel,
    SubmitRequest,
)

from ...catalog.attributes import Attributes
from ...catalog.data import DataRoom
from ...catalog.data_store import Datum
from ...catalog.disks import Disks
from ..finding import SHORTEST_PREFIX
from ..known import Known
from .matching import objection
from .matchmaker import Matchmaker
from .records import JobRecord, ResultRecord, RunRecord
from .settling import Case, Settler
from .store import QUEUE, TOPIC, JobStore
from .submitting import inputs_of, name_of, specs_of

BREATH: Final = 0.2
"""Seconds until jobs that are waited for are looked for again, however often any job changes."""
MOST_TOLD: Final = 50
"""Hosts of which an explanation tells."""


class Desk:
    """Takes jobs from people and shows them."""

    def __init__(
        self,
        known: Known,
        store: JobStore,
        settler: Settler,
        matchmaker: Matchmaker,
        data: DataRoom,
        attributes: Attributes,
        disks: Disks,
    ) -> None:
        self._disks = disks
        self._known = known
        self._store = store
        self._settler = settler
        self._matchmaker = matchmaker
        self._data = data
        self._attributes = attributes

    # Submitting and cancelling --------------------------------------------------------------------------------------

    async def submit(self, asked: SubmitRequest, caller: Subject) -> JobList:
        """Take jobs: one, or one for each value. All of them, or none.

        Raises:
            UserError: `input.invalid`, `attribute.…`, `data.not-found`.
        """
        inputs = await inputs_of(self._data, asked.inputs, caller)
        await self._attributes.resolve(asked.results, caller.subject_id)  # what is wrong with it is told now
        array, now = Uid(asked.request) if asked.request else new_uid(), self._known.clock.now()
        specs = specs_of(asked)
        provision = None if asked.provision is None else (await self._disks.find(asked.provision)).data.uid
        jobs = [
            JobRecord(
                uid=new_uid(),
                array=array,
                index=index,
                name=asked.name or name_of(spec),
                owner=caller.subject_id,
                created=now,
                spec=spec,
                results=asked.results,
                inputs=inputs,
                since=now,
                provision=provision,
                machines=asked.machines,
            )
            for index, spec in enumerate(specs)
        ]
        if await self._store.add(jobs):
            for topic in (TOPIC, QUEUE):
                self._known.changes.bump(topic)
            shown = jobs[: limits.PAGE]
            names = await self._known.data.get({one.data for one in inputs})
            return JobList(jobs=[self._view(job, [], [], names) for job in shown])
        known = await self._store.find(array, limits.PAGE)
        if any(job.owner != caller.subject_id for job in known):
            raise error("input.invalid", "Another request has this number", field="request")
        return JobList(jobs=await self._views(known))

    async def cancel(self, text: str, caller: Subject) -> JobList:
        """Give up a job, or all jobs of an array. What has ended stays as it is.

        Raises:
            UserError: `job.not-found`, `certificate.role` for whoever is neither its submitter nor an operator.
        """
        found = await self._find(text)
        for job in found:
            _require_owner(job, caller)
        async with self._known.database.facts():
            now, cases = self._known.clock.now(), []
            jobs = await self._store.jobs([job.uid for job in found])
            runs = await self._store.runs(list(jobs))
            for uid, job in jobs.items():
                if not job.ended:
                    case = Case.of(job, runs[uid])
                    case.cancel(f"{caller.name} cancelled it", now)
                    cases.append(case)
            if cases:
                await self._settler.settle(cases)
        return JobList(jobs=await self._views(await self._again(found)))

    async def mine(self, text: str, caller: Subject) -> Uid:
        """The one job, or the one array, that is called so and the caller's; or anybody's, for an operator.

        Raises:
            UserError: `job.not-found`, `certificate.role`; `input.invalid`, if several are called so.
        """
        found = await self._find(text)
        for job in found:
            _require_owner(job, caller)
        array = found[0].array
        if len(found) == 1 or any(job.array != array for job in found) or not array.startswith(text):
            return (await self._one(text)).uid
        return array

    async def _again(self, jobs: Sequence[JobRecord]) -> list[JobRecord]:
        fresh = await self._store.jobs([job.uid for job in jobs])
        return [fresh[job.uid] for job in jobs if job.uid in fresh]

    # Seeing ---------------------------------------------------------------------------------------------------------

    async def jobs(
        self,
        *,
        owner: str | None,
        states: Collection[JobState] | None,
        prefix: str,
        after: str,
        limit: int,
        seconds: float,
    ) -> JobList:
        """A page of jobs, oldest first; held open for so many `seconds` while there are none.

        Raises:
            UserError: `input.invalid`, for an `after` that no page gave.
        """
        place = _place_from(after) if after else None
        clock, changes = self._known.clock, self._known.changes
        deadline = clock.monotonic() + seconds
        while True:
            seen = changes.version(TOPIC)  # before they are read, so that no change is missed
            found = await self._store.page(owner=owner, states=states, prefix=prefix, after=place, limit=limit + 1)
            if found or not await changes.wait(TOPIC, seen, deadline - clock.monotonic()):
                break
            await clock.sleep(BREATH)  # so that a grid where much happens is not asked at each change
        page, more = found[:limit], len(found) > limit
        return JobList(jobs=await self._views(page), next=_place_of(page[-1]) if more else None)

    async def job(self, text: str, since: int, seconds: float) -> JobView:
        """One job, held open until it is past version `since`.

        Raises:
            UserError: `job.not-found`; `input.invalid`, if several are called so.
        """
        job = await self._one(text)
        await self._known.changes.wait(job.uid, since, seconds)
        version = self._known.changes.version(job.uid)  # before the job is read, so that no change is missed
        view = (await self._views(await self._again([job])))[0]
        return view.model_copy(update={"version": version})

    async def counts(self, text: str, since: int, seconds: float) -> JobCounts:
        """How many jobs of an array, or of all, are in which state; held open until that is past version `since`.

        Raises:
            UserError: `job.not-found`.
        """
        array = (await self._find(text, most=1))[0].array if text else None
        topic = array or TOPIC
        if since and seconds and self._known.changes.version(topic) > since:
            await self._known.clock.sleep(BREATH)  # much changes: what does meanwhile is told along
        else:
            await self._known.changes.wait(topic, since, seconds)
        version = self._known.changes.version(topic)
        return JobCounts(counts=await self._store.counts(array), version=version)

    async def log(self, text: str, number: int, offset: int, seconds: float, caller: Subject) -> LogReply:
        """What a run of a job wrote after `offset` characters, held open until there is something or the run has ended.

        Args:
            text: The job.
            number: The run's number; 0 for the one whose results it has, or else the latest.
            offset: Characters that are known already.
            seconds: How long to hold it open.
            caller: Who asks.

        Raises:
            UserError: as `job`; `certificate.role`; `run.not-found`.
        """
        job = await self._one(text)
        _require_owner(job, caller)
        deadline = self._known.clock.monotonic() + seconds
        while True:
            job = (await self._again([job]))[0]
            run = _run_of(job, (await self._store.runs([job.uid]))[job.uid], number)
            topic = run.uid if run else job.uid
            seen = self._known.changes.version(topic)
            if run is not None:
                run = await self._store.run(run.uid) or run  # after `seen`: an end that it does not show wakes this
                written = await self._store.log(run.uid)  # after the run: if that had ended, this is all of it
                if written.end > offset or run.ended:
                    start, part = written.beyond(offset)
                    return LogReply(run=run.uid, offset=start, text=part, end=written.end, state=job.state)
            left = deadline - self._known.clock.monotonic()
            if job.ended or not await self._known.changes.wait(topic, seen, left):
                return LogReply(run=run.uid if run else None, offset=offset, text="", end=offset, state=job.state)

    async def explain(self, text: str) -> JobExplanation:
        """Why a job is as it is, and what it waits for.

        Raises:
            UserError: as `job`.
        """
        job = await self._one(text)
        view = (await self._views([job]))[0]
        why = [*_story(view)]
        hosts: list[str] = []
        if not job.ended:
            now = self._known.clock.now()
            async with self._known.database.facts():
                gathered = await self._matchmaker.gather(now, only=[job.uid])
            waiting = next(iter(gathered.picture.waiting), None)
            if job.uid in gathered.dead:
                why.append(f"its input {gathered.dead[job.uid]} is gone")
            elif waiting is not None:
                offers = gathered.picture.hosts.values()
                told = {offer.facts.name: objection(waiting, offer) for offer in offers}
                able = sorted(name for name, reason in told.items() if not reason)
                whole = f"of {len(told)} hosts that are alive"
                why.append(
                    f"{whole} {len(able)} could run it now" if able else f"{whole} none can run it now: it waits"
                )
                if not able and job.provision is not None:
                    disk = (await self._known.data.get([job.provision])).get(job.provision)
                    called = disk.data.name if disk else job.provision[:8]
                    why.append(f"machines are deployed for it from the disk {called}, {job.machines} at most")
                hosts = [f"{name}: {reason}" for name, reason in sorted(told.items()) if reason][:MOST_TOLD]
            if gathered.wake_at is not None:
                pause = (gathered.wake_at - now).total_seconds()
                why.append(f"it failed, and is tried again in {max(0.0, pause):.0f} s")
        return JobExplanation(job=view, why=why, hosts=hosts)

    # Finding --------------------------------------------------------------------------------------------------------

    async def _find(self, text: str, most: int = limits.JOBS) -> list[JobRecord]:
        found = await self._store.find(text, most) if len(text) >= SHORTEST_PREFIX else []
        if not found:
            raise error("job.not-found", f"There is no job {text[:40]!r}", uid=text[:40])
        return found

    async def _one(self, text: str) -> JobRecord:
        found = await self._find(text, most=2)
        exact = [job for job in found if job.uid == text]
        if len(found) > 1 and not exact:
            do = "Give more digits of one of them: bitdew job ls shows them."
            raise error("input.invalid", f"{text!r} is the beginning of several jobs", do=do)
        return (exact or found)[0]

    async def _views(self, jobs: Sequence[JobRecord]) -> list[JobView]:
        runs = await self._store.runs([job.uid for job in jobs])
        results = await self._store.results({job.kept for job in jobs if job.kept is not None})
        wanted = {one.data for job in jobs for one in job.inputs}
        wanted |= {one.data for kept in results.values() for one in kept}
        data = await self._known.data.get(wanted)
        return [self._view(job, runs[job.uid], results.get(job.kept, []) if job.kept else [], data) for job in jobs]

    def _view(
        self, job: JobRecord, runs: Sequence[RunRecord], results: Sequence[ResultRecord], data: Mapping[Uid, Datum]
    ) -> JobView:
        def named(uid: Uid) -> str:
            return data[uid].data.name if uid in data else ""

        return JobView(
            uid=job.uid,
            array=job.array,
            index=job.index,
            name=job.name,
            owner=job.owner,
            state=job.state,
            since=job.since or job.created,
            created=job.created,
            spec=SpecModel.of(job.spec),
            inputs=[
                InputView(
                    data=one.data,
                    name=named(one.data),
                    path=one.path,
                    size=data[one.data].data.size if one.data in data else 0,
                )
                for one in job.inputs
            ],
            runs=[self._run_view(run) for run in runs],
            results=[ResultView(path=r.path, data=r.data, name=named(r.data), size=r.size) for r in results],
            reason=(reason := ErrorView.model_validate(job.reason) if job.reason else None),
            limit=limit_of(reason),
            datum=job.datum,
            version=self._known.changes.version(job.uid),
        )

    def _run_view(self, run: RunRecord) -> RunView:
        return RunView(
            uid=run.uid,
            number=run.number,
            host=run.host,
            host_name=self._known.hosts.name(run.host),
            state=run.state,
            since=run.since,
            started=run.started,
            cause=run.cause,
            exit_code=run.exit_code,
            reason=(reason := ErrorView.model_validate(run.reason) if run.reason else None),
            limit=limit_of(reason),
            wall=run.wall,
            cpu=run.cpu,
            memory=run.memory,
            log=run.log_end,
        )


def _require_owner(job: JobRecord, caller: Subject) -> None:
    if caller.role is not Role.OPERATOR and job.owner != caller.subject_id:
        why = "only whoever submitted it or an operator may"
        raise error("certificate.role", f"Job {job.uid[:8]} is not yours", why=why)


def _run_of(job: JobRecord, runs: Sequence[RunRecord], number: int) -> RunRecord | None:
    if number:
        for run in runs:
            if run.number == number:
                return run
        raise error("run.not-found", f"Job {job.uid[:8]} has no run {number}", why=f"it had {len(runs)}")
    return next((run for run in runs if run.uid == job.kept), runs[-1] if runs else None)


def _place_of(job: JobRecord) -> str:
    return f"{job.created.isoformat()} {job.array} {job.index}"


def _place_from(text: str) -> tuple[datetime, Uid, int]:
    try:
        created, array, index = text.split(" ")
        moment = datetime.fromisoformat(created)
        if moment.tzinfo is None:
            raise ValueError("it has no zone")  # noqa: TRY301
        return moment, Uid(array), int(index)
    except ValueError as fault:
        raise _no_place(text) from fault


def _no_place(text: str) -> BitDewError:
    return error("input.invalid", f"{text[:80]!r} is no place in the list", field="after")


def _story(view: JobView) -> list[str]:
    """How a job came to where it is."""
    told = [f"it is {view.state} since {view.since:%H:%M:%S} UTC"]
    for run in view.runs:
        ended = f": {run.reason.message}" if run.reason else ""
        given = f" ({run.cause})" if run.cause and run.state is not RunState.DONE else ""
        told.append(f"run {run.number} on {run.host_name} is {run.state}{given}{ended}")
    if view.state in JOB.ends() and view.reason is not None:
        told.append(view.reason.message)
    return told
