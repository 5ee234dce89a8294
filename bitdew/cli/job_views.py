"""`bitdew job ls`, `show`, `logs` and `explain`: what is known of jobs."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bitdew.core.states import job_states
from bitdew.core.units import format_size

from . import job_standing, names
from .options import Json, Profile, Url
from .output import Output, heading, printable, table
from .running import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import JobExplanation, JobView

SHORT: Final = 8
"""Digits of a uid that are shown: enough to name a job by."""
MOST: Final = 1000
"""Jobs of an array that a table has; of more it has counts."""
JobUid = Annotated[
    str,
    typer.Argument(
        metavar="UID",
        help="The job's or array's id, or its first digits.",
        show_default=False,
        autocompletion=names.jobs,
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to `bitdew job`."""
    app.command("ls", epilog="Example: bitdew job ls --mine --state queued,running")(ls)
    app.command("show", epilog="Example: bitdew job show 3fa9")(show)
    app.command("logs", epilog="Example: bitdew job logs 3fa9 --follow")(logs)
    app.command("explain", epilog="Example: bitdew job explain 3fa9")(explain)


def ls(
    array: Annotated[str, typer.Option("--array", help="Only the jobs of this array.")] = "",
    state: Annotated[str, typer.Option("--state", help="Only jobs in these states, with commas.")] = "",
    mine: Annotated[bool, typer.Option("--mine", help="Only your own.")] = False,
    standing: Annotated[bool, typer.Option("--standing", help="The standing jobs instead: see submit --each.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the jobs."""
    from bitdew.wire.models import JobList, StandingList

    if standing:
        views = ask(profile, url, lambda grid: grid.standing_jobs(mine=mine))
        Output(as_json=as_json).document(StandingList(standing=views), lambda: [job_standing.rows_of(views)])
        return
    states = job_states(state) if state else []

    async def work(grid: BitDew) -> list[JobView]:
        return [job async for job in grid.jobs(prefix=array, states=states, mine=mine)]

    found = ask(profile, url, work)

    def shown() -> Iterator[object]:
        yield rows_of(found) if found else "There is no such job. Submit one: bitdew job submit -- CMD"

    Output(as_json=as_json).document(JobList(jobs=found), shown)


def show(uid: JobUid, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Show a job, its runs and its results; or a standing job."""
    output = Output(as_json=as_json)

    async def work(grid: BitDew) -> JobView | None:
        if (standing := await job_standing.standing_of(grid, uid)) is not None:
            job_standing.show(output, standing)
            return None
        return await grid.job(uid)

    if (job := ask(profile, url, work)) is None:
        return

    output.document(job, lambda: _told(job))


def _told(job: JobView) -> Iterator[object]:
    yield heading(f"{job.uid[:SHORT]} {job.name}: {job.state} since {job.since:%Y-%m-%d %H:%M:%S} UTC")
    yield f"Command: {shlex.join(job.spec.command)}"
    if job.spec.needs or job.spec.requires:
        yield f"Needs: {', '.join([*job.spec.needs, *filter(None, [job.spec.requires])])}"
    for one in job.inputs:
        yield f"Input: {one.path} ({one.name}, {format_size(one.size)})"
    if job.reason is not None:
        yield f"{job.reason.message} ({job.reason.key}) {job.reason.why}"
    if job.runs:
        rows = table(">RUN", "HOST", "STATE", ">EXIT", ">SECONDS", ">MEMORY", "REASON")
        for run in job.runs:
            reason = f"{run.reason.message} ({run.reason.key})" if run.reason else run.cause
            rows.add_row(
                str(run.number),
                run.host_name,
                run.state,
                "" if run.exit_code is None else str(run.exit_code),
                "" if run.wall is None else f"{run.wall:.1f}",
                "" if run.memory is None else format_size(run.memory),
                printable(reason),
            )
        yield rows
    for result in job.results:
        yield f"Result: {result.path} ({result.name}, {format_size(result.size)})"


def logs(
    uid: JobUid,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    run: Annotated[int, typer.Option("--run", min=0, help="Of this run; by default of the one that counts.")] = 0,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print what a job wrote on its output and error output."""
    output = Output(as_json=as_json)

    async def work(grid: BitDew) -> None:
        if not follow:
            reply = await grid.job_log(uid, run=run)
            if as_json:
                output.line(reply)
            else:
                output.raw(reply.text)
            return
        async for part in grid.follow_job_log(uid, run=run):
            if as_json:
                output.line(part)
            else:
                output.raw(part.text)

    ask(profile, url, work)


def explain(uid: JobUid, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Explain why a job is as it is, what it waits for, and what each host lacks; of a standing job, its data."""
    output = Output(as_json=as_json)

    async def work(grid: BitDew) -> JobExplanation | None:
        if (standing := await job_standing.standing_of(grid, uid)) is not None:
            job_standing.explain(output, await grid.explain_standing(standing.uid))
            return None
        return await grid.explain_job(uid)

    if (found := ask(profile, url, work)) is None:
        return

    def shown() -> Iterator[object]:
        yield heading(f"{found.job.uid[:SHORT]} {found.job.name}: {found.job.state}")
        yield from found.why
        if found.hosts:
            yield heading("Hosts that can't run it now")
            yield from found.hosts

    output.document(found, shown)


def rows_of(jobs: list[JobView]) -> Table:
    """Jobs as a table; very many only counted."""
    if len(jobs) > MOST:
        rows = table("STATE", ">JOBS")
        for state, number in sorted(Counter(job.state for job in jobs).items()):
            rows.add_row(state, str(number))
        return rows
    rows = table("UID", "NAME", ">INDEX", "STATE", "HOST", ">RUNS", "SINCE (UTC)", "REASON")
    for job in jobs:
        reason = f"{job.reason.message} ({job.reason.key})" if job.reason else ""
        host = job.runs[-1].host_name if job.runs else ""
        since = f"{job.since:%Y-%m-%d %H:%M:%S}"
        rows.add_row(
            job.uid[:SHORT], job.name, str(job.index), job.state, host, str(len(job.runs)), since, printable(reason)
        )
    return rows
