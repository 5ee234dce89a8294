"""`bitdew job`: commands that run on the grid's hosts and machines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bitdew.core.errors import ERRORS, BitDewError, error
from bitdew.core.job import Caps, JobSpec
from bitdew.core.states import JOB, JobState
from bitdew.core.units import parse_duration, parse_size

from . import job_standing, job_views, names
from .options import Json, Profile, Url
from .output import Output
from .running import ask
from .waiting import saying_why

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import JobView, StandingView

app = typer.Typer(help="Commands that run on the grid's hosts.", no_args_is_help=True, rich_markup_mode=None)
job_views.register(app)
JobUid = job_views.JobUid
_CAPS: Final = Caps()


@app.command(
    "submit",
    context_settings={"allow_interspersed_args": False},
    epilog="Example: bitdew job submit --needs 'root>=6.30' --in events.root --out '*.png' -- python3 analysis.py",
)
def submit(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The program and its arguments.")],
    name: Annotated[str | None, typer.Option("--name", help="What to call it.")] = None,
    needs: Annotated[list[str] | None, typer.Option("--needs", help="An application: root, 'root>=6.30,<7'.")] = None,
    requires: Annotated[str, typer.Option("--requires", help="What else must be true of a host.")] = "",
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--in",
            help="A datum, or a file that is put first; =PATH says where it stands.",
            autocompletion=names.inputs,
        ),
    ] = None,
    out: Annotated[list[str] | None, typer.Option("--out", help="A pattern of the files that are its results.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", help="A variable: NAME=VALUE.")] = None,
    timeout: Annotated[str, typer.Option("--timeout", help="How long it may run: 90s, 2h.")] = "1h",
    memory: Annotated[str, typer.Option("--memory", help="Memory that it may take.")] = "1GB",
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="Processors that it may take.")] = 1,
    output: Annotated[str, typer.Option("--output", help="Bytes that it may leave in its folder.")] = "1GB",
    files: Annotated[int, typer.Option("--files", min=1, help="Files that it may leave there.")] = _CAPS.files,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Processes that it may have at a time.")
    ] = _CAPS.processes,
    log: Annotated[str, typer.Option("--log", help="Bytes that are kept of what it prints.")] = "1MB",
    attempts: Annotated[int, typer.Option("--attempts", min=1, help="How often it is tried at most.")] = 3,
    priority: Annotated[int, typer.Option("--priority", help="Which of your own jobs goes first: the higher.")] = 0,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="So many jobs: {} stands for the number of each, from 0.")
    ] = None,
    array: Annotated[
        Path | None, typer.Option("--array", help="A job for each line of this file: {} stands for the line.")
    ] = None,
    each: Annotated[
        str | None,
        typer.Option(
            "--each", help="A job for each datum with an attribute, now and later: attr=NAME. {} is its name."
        ),
    ] = None,
    each_path: Annotated[
        str, typer.Option("--each-path", help="Where such a datum stands; {} stands for its name.")
    ] = "{}",
    from_now: Annotated[bool, typer.Option("--from-now", help="Not for data that are there already.")] = False,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, help="Jobs for data that are under way at a time at most.")
    ] = 100,
    replicas: Annotated[
        int, typer.Option("--replica", min=1, help="Run it on so many hosts; what most of them agree on is its result.")
    ] = 1,
    keep: Annotated[
        str | None, typer.Option("--keep", help="The attribute of its results.", autocompletion=names.attributes)
    ] = None,
    provision: Annotated[
        str | None,
        typer.Option(
            "--provision",
            help="A disk: where no host can run it, machines boot from it for it.",
            autocompletion=names.disks,
        ),
    ] = None,
    machines: Annotated[int, typer.Option("--machines", min=1, help="How many such machines at most.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Ask for a command to be run. It waits until a host has what it needs, and is tried again where one is lost.

    Hosts run the programs that their volunteers share, without a shell; machines of the grid run any command. Each run
    has a folder of its own, with its inputs in it; what it leaves there and `--out` names are its results.
    """
    shown = Output(as_json=as_json)
    caps = Caps(
        runtime=max(1, round(parse_duration(timeout).total_seconds())),
        memory=parse_size(memory),
        cpus=cpus,
        processes=processes,
        output=parse_size(output),
        files=files,
        log=parse_size(log),
    )
    spec = JobSpec(
        command=tuple(command),
        needs=tuple(needs or ()),
        requires=requires,
        outputs=tuple(out or ()),
        environment=dict(map(_variable, env or ())),
        caps=caps,
        attempts=attempts,
        priority=priority,
        replicas=replicas,
    )
    values = _values(count, array)
    if each is not None:
        if values or wait:
            raise error("input.invalid", "--each goes with none of --count, --array and --wait", field="each")
        attribute = job_standing.attribute_of(each)

        async def stand(grid: BitDew) -> StandingView:
            given = [await _input(grid, text, shown) for text in inputs or ()]
            return await grid.submit_each(
                spec,
                attribute,
                path=each_path,
                name=name,
                inputs=given,
                results=keep,
                provision=provision,
                machines=machines,
                at_once=at_once,
                from_now=from_now,
            )

        job_standing.show(shown, ask(profile, url, stand))
        return

    async def work(grid: BitDew) -> list[JobView]:
        given = [await _input(grid, text, shown) for text in inputs or ()]
        jobs = await grid.submit(
            spec, name=name, inputs=given, values=values, results=keep, provision=provision, machines=machines
        )
        if not wait:
            return jobs
        await _finished(grid, jobs[0].array, shown)
        return [job async for job in grid.jobs(prefix=jobs[0].array)]

    from bitdew.wire.models import JobList

    jobs = ask(profile, url, work)

    def told() -> Iterator[object]:
        yield job_views.rows_of(jobs)
        if not wait:
            first = jobs[0].array[: job_views.SHORT] if len(jobs) > 1 else jobs[0].uid[: job_views.SHORT]
            yield f"Wait for it: bitdew job wait {first}; take its results: bitdew job results {first}"

    shown.document(JobList(jobs=jobs), told)
    _exit_with(jobs)


@app.command("wait", epilog="Example: bitdew job wait 3fa9")
def wait_for(uid: JobUid, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Wait until a job, or all jobs of an array, have ended; the exit code tells whether all are done."""
    output = Output(as_json=as_json)

    async def work(grid: BitDew) -> list[JobView]:
        await _finished(grid, uid, output)
        return [job async for job in grid.jobs(prefix=uid)]

    from bitdew.wire.models import JobList

    jobs = ask(profile, url, work)
    output.document(JobList(jobs=jobs), lambda: [job_views.rows_of(jobs)])
    _exit_with(jobs)


@app.command("cancel", epilog="Example: bitdew job cancel 3fa9")
def cancel(
    uid: JobUid,
    under_way: Annotated[
        bool, typer.Option("--under-way", help="Of a standing job: its jobs that are under way too.")
    ] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Give up a job, or all jobs of an array. What has ended stays as it is. A standing job makes no more jobs."""
    output = Output(as_json=as_json)

    async def work(grid: BitDew) -> list[JobView] | None:
        if (standing := await job_standing.standing_of(grid, uid)) is not None:
            job_standing.show(output, await grid.end_standing(standing.uid, jobs=under_way))
            return None
        return await grid.cancel_job(uid)

    from bitdew.wire.models import JobList

    if (found := ask(profile, url, work)) is None:
        return
    output.document(JobList(jobs=found), lambda: [job_views.rows_of(found)])


@app.command("rm", epilog="Example: bitdew job rm 3fa9")
def remove(
    uid: JobUid,
    keep: Annotated[bool, typer.Option("--keep-results", help="Leave all results as data.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Forget a job, or those of an array, that have ended, with logs and with results that have no attribute of theirs.

    A standing job that was cancelled goes too, once all its jobs are gone.
    """
    gone = ask(profile, url, lambda grid: grid.remove_job(uid, keep=keep))

    def told() -> Iterator[object]:
        yield f"Jobs removed: {gone.jobs}, with {gone.results} results."
        if gone.standing:
            yield "The standing job is removed."

    Output(as_json=as_json).document(gone, told)


@app.command("results", epilog="Example: bitdew job results 3fa9 -o plots")
def results(
    uid: JobUid,
    folder: Annotated[Path, typer.Option("--output", "-o", help="The folder to put them into.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Put them in place of files that are there.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Bring the results of a job, or of an array's jobs, here, verified."""
    output = Output(as_json=as_json)

    async def work(grid: BitDew) -> list[tuple[str, str, int]]:
        with output.progress("results") as report:
            found = grid.results(uid, folder, force=force, progress=report)
            return [(one.job.uid, str(one.path), one.result.size) async for one in found]

    from .documents import ResultFetched, ResultsFetched

    fetched = ask(profile, url, work)

    def told() -> Iterator[object]:
        yield from (path for _, path, _ in fetched)
        if not fetched:
            yield "There are no results yet."

    document = ResultsFetched(results=[ResultFetched(job=job, path=path, size=size) for job, path, size in fetched])
    output.document(document, told)


async def _finished(grid: BitDew, array: str, output: Output) -> None:
    """Wait for an array, and say why nothing moves if nothing does."""

    async def why() -> list[str]:
        async for job in grid.jobs(prefix=array, states=[JobState.QUEUED]):
            told = await grid.explain_job(job.uid)
            return [f"{job.uid[: job_views.SHORT]} waits:", *(f"  {line}" for line in [*told.why, *told.hosts])]
        return []

    async with saying_why(output, why) as moved:
        with output.counting("jobs") as report:

            def progress(counts: dict[JobState, int]) -> None:
                moved()
                over = sum(number for state, number in counts.items() if state in JOB.ends())
                report(over, sum(counts.values()))

            await grid.finished(array, progress=progress)


def _exit_with(jobs: list[JobView]) -> None:
    failed = [job for job in jobs if job.state in {JobState.FAILED, JobState.CANCELLED}]
    if failed:
        reason = failed[0].reason
        raise typer.Exit(ERRORS[reason.key].exit_code if reason and reason.key in ERRORS else 1)


async def _input(grid: BitDew, text: str, output: Output) -> tuple[str, str]:
    """A datum and its path in the job, as `--in` says. A file that is no datum is put first, once for its bytes."""
    source, _, path = text.partition("=")
    try:
        await grid.datum(source)
    except BitDewError as fault:
        if fault.key not in {"data.not-found", "input.invalid"} or not await asyncio.to_thread(Path(source).is_file):
            raise
    else:
        return source, path
    with output.progress(f"putting {source}") as report:
        name = await grid.put_input(Path(source), sending=report)
    return name, path or Path(source).name


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise error("input.invalid", f"{text[:80]!r} sets no variable", do="Write it like NAME=VALUE.", field="env")
    return name, value


def _values(count: int | None, array: Path | None) -> list[str]:
    if count is not None and array is not None:
        raise error("input.invalid", "Give --count or --array, not both")
    if count is not None:
        return [str(number) for number in range(count)]
    if array is None:
        return []
    try:
        lines = array.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "it is no text in UTF-8"
        raise error("input.invalid", f"{array} can't be read", why=why or "", path=str(array)) from None
    if not (values := [line for line in lines if line]):
        raise error("input.invalid", f"{array} has no lines")
    return values
