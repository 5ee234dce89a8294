"""A place for runs, and a runner whose jobs end with the test."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from bitdew.worker.jobs.running import Runner, RunningJob
from bitdew.worker.jobs.runs import Run, RunLimits, RunReport

PYTHON = Path("/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable).resolve()
"""The system's own, which a job's user can reach wherever this one lies."""
SHELL = Path("/bin/sh").resolve()
MB = 2**20


def shell(folder: Path, script: str, **limits: float) -> Run:
    """A run of a shell script: what a shared program could do."""
    return run_of(folder, SHELL, ("sh", "-c", script), **limits)


def python(folder: Path, script: str, *words: str, **limits: float) -> Run:
    """A run of a Python script."""
    return run_of(folder, PYTHON, ("python3", "-I", "-S", "-c", script, *words), **limits)


def run_of(folder: Path, program: Path, argv: tuple[str, ...], **limits: float) -> Run:
    bounds = {"runtime": 20.0, "memory": 256 * MB, "processes": 64, "disk": 64 * MB, **limits}
    number = len(list(folder.glob("run-*")))
    directory = folder / f"run-{number}"
    directory.mkdir(mode=0o700)
    return Run("f" * 32, 1, argv, program, directory, limits=RunLimits(**bounds), readable=(Path(sys.base_prefix),))  # type: ignore[arg-type]


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    runner = Runner(grace=0.3)
    yield runner
    for job in list(runner._started):
        with contextlib.suppress(Exception):
            await job.stop("the test is over", kindly=False)
    await runner.close()


@pytest.fixture
def start(runner: Runner, tmp_path: Path) -> Callable[[Run], Awaitable[RunningJob]]:
    return runner.start


@pytest.fixture
def report_of(runner: Runner) -> Callable[[Run], Awaitable[RunReport]]:
    async def run_to_its_end(run: Run) -> RunReport:
        return await (await runner.start(run)).wait()

    return run_to_its_end
