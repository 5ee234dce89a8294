"""Jobs and hosts that do harm, with real processes: what passes a limit, who lies, what is cancelled, who is killed."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from bitdew.worker.adjusting import change_limits
from bitdew.worker.jobs.running import Runner
from bitdew.worker.limits import LimitsChange, LimitsView
from forked import ForkedCommands

from bitdew.client.grid import BitDew
from bitdew.core.job import Caps, JobSpec
from bitdew.core.states import JobState

from .conftest import Daemon, Site

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]
PYTHON = Path(sys.executable).name
IMPORTS = "import os, signal, sys, time\n"
SMALL = ["--memory", "64MB", "--needs", "python3"]
LARGE = "open('small', 'wb').write(b'small'); open('zlarge', 'wb').write(os.urandom(3_000_000))"
HAZARDS = {
    "disk": (["--output", "2MB"], "n = 0\nwhile True: open(f'd{n}', 'wb').write(os.urandom(300_000)); n += 1"),
    "files": (["--files", "50"], "n = 0\nwhile True: open(f'f{n}', 'w').close(); n += 1"),
    "time": (
        ["--timeout", "2s"],
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork() or os.setsid(); os.fork(); time.sleep(600)",
    ),
    "memory": ([], "kept = []\nwhile True: kept.append(b'x' * 2**22); time.sleep(0.01)"),
    "processes": (
        ["--processes", "16"],
        "while True:\n try: os.fork()\n except OSError: time.sleep(0.01)",
    ),
}


def ask(site: Site, work: Callable[[BitDew], Awaitable[Any]]) -> Any:
    """What the service answers the operator."""

    async def asked() -> Any:
        async with BitDew.connect(site.folder / "home" / "profiles" / "default") as grid:
            return await work(grid)

    return asyncio.run(asked())


def submit(site: Site, code: str, *, mark: str = "", inputs: Sequence[Path] = (), **says: Any) -> str:
    """A job of some Python; its uid. `mark` stands among its words, as the system lists them."""
    words = (PYTHON, "-c", f"{IMPORTS}{code}", *([mark] if mark else []))
    spec = JobSpec(words, needs=("python3",), caps=Caps(memory=64 * 2**20, log=64 * 1024), **says)

    async def submitted(grid: BitDew) -> str:
        given = [(await grid.put_input(path), path.name) for path in inputs]
        return (await grid.submit(spec, inputs=given))[0].uid

    return ask(site, submitted)


def show(site: Site, uid: str) -> dict[str, Any]:
    return ask(site, lambda grid: grid.job(uid)).model_dump(mode="json")


def reached(site: Site, uid: str, *states: str, seconds: float = 90) -> dict[str, Any]:
    """The job once it is in one of these states."""

    async def wait(grid: BitDew) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            async for job in grid.watch_job(uid):
                if job.state in states:
                    return job.model_dump(mode="json")
        raise AssertionError(f"it ended otherwise: {job}")

    return ask(site, wait)


def marked(mark: str) -> list[psutil.Process]:
    """The processes that have this word."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if mark in process.cmdline():
                found.append(process)
    return found


def folders(site: Site, number: int = 1) -> list[Path]:
    """What there is of runs on a host."""
    return list((site.folder / f"host{number}" / "jobs").iterdir())


def uploads(site: Site) -> list[Path]:
    """What there is of uploads under way, at the service."""
    return list((site.folder / "home").rglob("*.upload"))


def data(site: Site) -> list[str]:
    async def names(grid: BitDew) -> list[str]:
        return sorted([datum.name async for datum in grid.data()])

    return ask(site, names)


def solver(folder: Path, answer: str) -> Path:
    """An application that gives this answer."""
    folder.mkdir()
    program = folder / "solver"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo solver 1.0 || echo {answer} > answer\n')
    program.chmod(0o755)
    return program


def share_python(site: Site, number: int) -> None:
    home, line = site.folder / f"host{number}", f"{shlex.quote(sys.executable)} --version"
    said = ["--command", line, "--program", sys.executable]
    (shared,) = site.run("worker", "share", "add", "python3", *said, "--home", home)["sharings"]
    assert shared["offered"], shared


def share_solver(site: Site, number: int, answer: str) -> None:
    program = solver(site.folder / f"solver{number}", answer)
    said = ["--command", f"{program} --version", "--program", program]
    site.run("worker", "share", "add", "solver", *said, "--home", site.folder / f"host{number}")


def lend(site: Site, **change: int) -> LimitsView:
    """Change what a running worker lends."""
    return asyncio.run(change_limits(site.folder / "host1", LimitsChange(**change)))


def limits(site: Site, *options: object) -> dict[str, Any]:
    return site.run("worker", "limits", "--home", site.folder / "host1", *options)


def require_confined(folder: Path) -> None:
    if lacks := asyncio.run(Runner().isolation(folder)).lacks:
        pytest.skip(f"this system can't confine jobs: {lacks}")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, commands: ForkedCommands) -> Iterator[Site]:
    """A service; a host that shares Python, and two that share nothing yet."""
    site = Site(tmp_path_factory.mktemp("hazards"), commands)
    require_confined(site.folder)
    try:
        site.serve()
        with ThreadPoolExecutor() as together:
            list(together.map(site.worker, (1, 2, 3)))
        share_python(site, 1)
        lend(site, memory=2**31, cpus=16)
        yield site
    finally:
        site.end()


@pytest.fixture(scope="module")
def hazards(grid: Site) -> dict[str, str]:
    """A job for each limit, all of them at once; their uids."""

    def submitted(limit: str, options: list[str], code: str) -> str:
        words = ["--", PYTHON, "-c", IMPORTS + code, f"hazard-{limit}"]
        return grid.run("job", "submit", *SMALL, "--attempts", 1, *options, *words)["jobs"][0]["uid"]

    with ThreadPoolExecutor() as together:
        uids = together.map(lambda one: submitted(one[0], *one[1]), HAZARDS.items())
        return dict(zip(HAZARDS, uids, strict=True))


@pytest.mark.parametrize("limit", HAZARDS)
def test_a_job_that_passes_a_limit_fails_for_it_and_nothing_of_it_goes_on(
    grid: Site, hazards: dict[str, str], limit: str
) -> None:
    ended = grid.run("job", "wait", hazards[limit], code=7)["jobs"][0]
    assert (ended["state"], ended["reason"]["key"], ended["limit"]) == ("failed", "job.over-limit", limit)
    (run,) = ended["runs"]
    assert (run["state"], run["limit"], run["exit_code"]) == ("failed", limit, None)
    assert marked(f"hazard-{limit}") == []
    grid.until(lambda: not (grid.folder / "host1" / "jobs" / run["uid"]).exists())


def test_a_log_without_end_is_kept_by_its_beginning_and_its_end_and_the_host_takes_the_next_job(grid: Site) -> None:
    code = "print('first'); end = time.monotonic() + 1.5\nwhile time.monotonic() < end: print('x' * 999)\nprint('last')"
    uid = submit(grid, code)
    reached(grid, uid, "done")
    text = grid.run("job", "logs", uid)["text"]
    assert text.startswith("first\n")
    assert "bytes left out" in text
    assert text.endswith("x\nlast\n")
    assert len(text) < 2 * 64 * 1024
    assert reached(grid, submit(grid, "pass"), "done")["runs"][0]["host_name"] == "host1"


def test_a_host_that_lies_is_outvoted_and_told_so(grid: Site) -> None:
    share_solver(grid, 3, "41")
    (job,) = grid.run("job", "submit", "--needs", "solver", "--out", "answer", "--replica", 3, "--", "solver")["jobs"]

    def claimed() -> bool:
        return [run["state"] for run in show(grid, job["uid"])["runs"]] == ["storing"]

    grid.until(claimed)
    with ThreadPoolExecutor() as together:
        list(together.map(lambda number: share_solver(grid, number, "42"), (1, 2)))
    done = reached(grid, job["uid"], "done")
    results = grid.run("job", "results", job["uid"], "-o", grid.folder / "answers")["results"]
    assert [Path(one["path"]).read_text() for one in results] == ["42\n"]
    runs = {run["host_name"]: run for run in done["runs"]}
    assert (runs["host3"]["state"], runs["host3"]["reason"]["key"]) == ("failed", "job.disagreement")
    assert {runs[name]["state"] for name in ("host1", "host2")} <= {"done", "storing"}
    told = grid.run("job", "explain", job["uid"])["why"]
    (line,) = [line for line in told if "on host3 is failed" in line]
    assert "came to another result" in line


# Cancelled ------------------------------------------------------------------------------------------------------------


def cancelled(site: Site, uid: str, mark: str) -> None:
    """Cancel it, and see that it is gone."""
    began = time.monotonic()
    (job,) = site.run("job", "cancel", uid)["jobs"]
    assert (job["state"], {run["state"] for run in job["runs"]}) == ("cancelled", {"cancelled"})
    site.until(lambda: not marked(mark) and not folders(site) and not uploads(site))
    assert time.monotonic() - began < 60


def test_a_job_is_cancelled_while_its_input_comes(grid: Site) -> None:
    file = grid.folder / "events"
    file.write_bytes(bytes(range(256)) * 8000)
    lend(grid, download=20 * 1024)
    uid = submit(grid, "time.sleep(600)", inputs=[file], mark="staged")
    reached(grid, uid, "staging")
    cancelled(grid, uid, "staged")
    lend(grid, download=0)


def test_a_job_is_cancelled_while_it_runs(grid: Site) -> None:
    uid = submit(grid, "os.fork(); print('up', flush=True); time.sleep(600)", mark="runs")
    grid.until(lambda: len(marked("runs")) >= 2)
    reached(grid, uid, "running")
    cancelled(grid, uid, "runs")


def test_a_job_is_cancelled_while_its_results_leave_under_the_volunteers_cap(grid: Site) -> None:
    before = data(grid)
    lend(grid, upload=50 * 1024)
    uid = submit(grid, LARGE, outputs=("small", "zlarge"), mark="stores")
    grid.until(lambda: uploads(grid) and len(data(grid)) > len(before))
    grid.until(lambda: 0 < (lend(grid).upload.now or 0) < 150 * 1024)
    assert show(grid, uid)["state"] == "storing"
    cancelled(grid, uid, "stores")
    grid.until(lambda: data(grid) == before)

    # What is changed while they leave holds at once.
    uid = submit(grid, LARGE, outputs=("small", "zlarge"))
    grid.until(lambda: uploads(grid))
    began = time.monotonic()
    lend(grid, upload=0)
    done = reached(grid, uid, "done")
    assert time.monotonic() - began < 50  # at the cap it would have taken a minute
    assert [(one["path"], one["size"]) for one in done["results"]] == [("small", 5), ("zlarge", 3_000_000)]
    gone = grid.run("job", "rm", uid)
    assert (gone["jobs"], gone["results"]) == (1, 2)
    assert data(grid) == before
    assert grid.run("job", "show", uid, code=3)["error"]["key"] == "job.not-found"


# By the command line --------------------------------------------------------------------------------------------------


def test_a_standing_job_makes_one_for_each_datum_and_goes_with_all_of_them(grid: Site) -> None:
    grid.run("attr", "set", "runs", "--replica", 0)
    for name, text in (("run-1", "1 2"), ("run-2", "3 4")):
        (grid.folder / name).write_text(text)
    grid.run("data", "put", grid.folder / "run-1", "--name", "run-1", "--attr", "runs")
    words = ["-c", "import sys; open('sum', 'w').write(str(sum(map(int, open(sys.argv[1]).read().split()))))", "{}"]
    submitted = grid.run("job", "submit", "--each", "attr=runs", *SMALL, "--out", "sum", "--", PYTHON, *words)
    grid.run("data", "put", grid.folder / "run-2", "--name", "run-2", "--attr", "runs")
    uid = submitted["uid"]

    def both() -> bool:
        return ask(grid, lambda service: service.count_jobs(uid)).counts == {JobState.DONE: 2}

    grid.until(both)
    jobs = grid.run("job", "ls", "--array", uid)["jobs"]
    assert sorted((one["datum"], one["state"]) for one in jobs) == [("run-1", "done"), ("run-2", "done")]
    got = grid.run("job", "results", uid, "-o", grid.folder / "sums")["results"]
    assert sorted(Path(one["path"]).read_text() for one in got) == ["3", "7"]
    assert grid.run("job", "cancel", uid)["ended"]
    gone = grid.run("job", "rm", uid)
    assert (gone["jobs"], gone["results"], gone["standing"]) == (2, 2, 1)


def test_a_volunteer_says_how_many_jobs_run_and_whether_any_do(grid: Site) -> None:
    assert limits(grid, "--jobs-at-once", 1)["jobs_at_once"]["cap"] == 1
    one, two = (submit(grid, "time.sleep(600)", mark=f"one-of-two-{number}") for number in range(2))
    reached(grid, one, "running")
    hosts = grid.run("job", "explain", two)["hosts"]
    assert any(line.startswith("host1: ") and "1" in line for line in hosts), hosts
    assert limits(grid)["jobs_at_once"]["now"] == 1
    limits(grid, "--jobs-at-once", 0)
    reached(grid, two, "running")
    for uid in (one, two):
        ask(grid, lambda service, uid=uid: service.cancel_job(uid))
    assert limits(grid, "--jobs", "none")["jobs"] == "none"
    three = submit(grid, "pass")
    assert grid.run("job", "explain", three)["job"]["state"] == "queued"
    limits(grid, "--jobs", "shared")
    reached(grid, three, "done")


# Killed ---------------------------------------------------------------------------------------------------------------


def test_when_service_and_worker_are_killed_every_job_ends_once_and_no_result_is_lost_or_doubled(site: Site) -> None:
    require_confined(site.folder)
    service: Daemon = site.serve()
    worker = site.worker(1)
    share_python(site, 1)
    lend(site, memory=2**31, cpus=16, upload=100 * 1024)
    waiting = "open('ticked', 'w').write('x')\nwhile not os.path.exists('enough'): time.sleep(0.1)"
    runs = submit(site, waiting, outputs=("ticked",), mark="ticks")
    stores = submit(site, LARGE, outputs=("small", "zlarge"))
    site.until(lambda: marked("ticks") and uploads(site))

    service.kill()
    assert marked("ticks")
    service = site.serve()
    assert reached(site, runs, "running")["runs"][0]["number"] == 1
    worker.kill()
    assert marked("ticks")  # its warden outlives the worker
    worker = site.worker(1)
    worker.kill()
    service.kill()
    site.serve()
    site.worker(1)
    assert marked("ticks")
    (site.folder / "host1" / "jobs" / show(site, runs)["runs"][-1]["uid"] / "work" / "enough").touch()
    lend(site, upload=0)
    done = {uid: reached(site, uid, "done") for uid in (runs, stores)}
    for job in done.values():
        assert [run["state"] for run in job["runs"]].count("done") == 1
    assert {one["path"]: one["size"] for one in done[stores]["results"]} == {"small": 5, "zlarge": 3_000_000}
    results = sorted(one["name"] for job in done.values() for one in job["results"])
    site.until(lambda: data(site) == results and not uploads(site) and not folders(site))


def test_a_host_that_was_thought_lost_comes_back_with_a_result_that_nobody_takes(site: Site) -> None:
    require_confined(site.folder)
    site.serve("--period", 1)
    first = site.worker(1)
    share_solver(site, 1, "$(sleep 1; echo late)")
    (job,) = site.run("job", "submit", "--needs", "solver", "--out", "answer", "--", "solver")["jobs"]
    reached(site, job["uid"], "running")
    first.process.send_signal(signal.SIGSTOP)  # its warden goes on, and the job in it
    try:
        site.worker(2)
        share_solver(site, 2, "right")
        done = reached(site, job["uid"], "done")
    finally:
        first.process.send_signal(signal.SIGCONT)
    site.until(lambda: not folders(site, 1) and not folders(site, 2))
    again = show(site, job["uid"])
    assert again["since"] == done["since"]
    (late, *_), (kept,) = again["runs"], [run for run in again["runs"] if run["state"] == "done"]
    assert (late["state"], late["host_name"], kept["host_name"]) == ("lost", "host1", "host2")
    (result,) = site.run("job", "results", job["uid"], "-o", site.folder / "answers")["results"]
    assert Path(result["path"]).read_text() == "right\n"
    assert data(site) == [again["results"][0]["name"]]
