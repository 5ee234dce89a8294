"""The folder of one run, as the worker sees it: what it writes there for the warden, and what the warden left.

Owns the reading of these files: a warden that was killed may have left any of them unwritten. See `warden.plan` for
their names.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, get_args

from bitdew import lock
from bitdew.core.errors import error

from .environment import environment_of
from .runs import Outcome, Run, RunReport
from .warden import fields, plan, tree
from .warden.log import LogReader

TAIL: Final = 8192
"""Bytes of the log that a report carries at most."""
_WHY: Final = 1000
_OUTCOMES: Final[dict[str, Outcome]] = {outcome: outcome for outcome in get_args(Outcome)}


def write_spec(run: Run, means: frozenset[str], *, anything: bool, network: bool, lease: float, grace: float) -> None:
    """Tell the warden what to run."""
    limits = run.limits
    one = {
        "uid": run.uid,
        "attempt": run.attempt,
        "program": run.program,
        "anything": "yes" if anything else "no",
        "network": "yes" if network else "no",
        "runtime": limits.runtime,
        "memory": limits.memory,
        "cpus": limits.cpus,
        "processes": limits.processes,
        "disk": limits.disk,
        "files": limits.files,
        "log": limits.log_bytes,
        "lease": lease,
        "grace": grace,
    }
    told = [(name, str(value)) for name, value in one.items()]
    told += [("argument", word) for word in run.argv]
    told += [("env", f"{name}={value}") for name, value in environment_of(run.program, run.env, limits.cpus).items()]
    readable = dict.fromkeys(str(path) for given in run.readable for path in (given, given.resolve()))
    told += [("readable", path) for path in readable]
    told += [("input", "\n".join(shown)) for shown in shown_inputs(run.directory)]
    told += [("means", name) for name in sorted(means)]
    fields.write(str(run.directory / plan.SPEC), told)


def shown_inputs(directory: Path) -> list[tuple[str, str]]:
    """The inputs that are shown to the job where they are: their names in its folder, and where that is."""
    try:
        return fields.read(str(directory / plan.INPUTS))
    except FileNotFoundError:
        return []


def show_input(directory: Path, name: str, source: Path) -> None:
    """Have the warden show one."""
    fields.write(str(directory / plan.INPUTS), [*shown_inputs(directory), (name, str(source))])


def claim(directory: Path) -> AbstractContextManager[int | None]:
    """The run's lock, for a start; None if a warden has it. Who inherits the descriptor keeps the lock."""
    return lock.claim(directory / plan.LOCK)


def is_held(directory: Path) -> bool:
    """Whether a warden, or a process that has to end the job in its place, is alive."""
    return lock.is_claimed(directory / plan.LOCK)


def warden_of(directory: Path) -> int | None:
    """A pidfd of the run's warden, if it is alive and has told who it is."""
    try:
        told = dict(fields.read(str(directory / plan.WARDEN)))
        pid, started = int(told["pid"]), int(told["started"])
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError, KeyError):
        return None
    found = tree.look_at(pid)  # looked at after the pidfd pinned it
    if found is not None and found.started == started and found.state not in "ZX":
        return descriptor
    os.close(descriptor)
    return None


def remove(directory: Path) -> None:
    """Remove a run's folder with all that is in it, also what the job closed. Blocks while it does.

    Raises:
        HostError: `storage.locked`, while something of the run is alive; `storage.failed`.
    """
    if is_held(directory):
        raise error("storage.locked", f"The job in {directory.name} is not over", do="Stop it first.")
    try:
        for name in (plan.WORK, plan.SCRATCH):
            _open_up(directory / name)
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise error("storage.failed", f"The folder {directory.name} can't be removed", why=str(problem)) from problem


def _open_up(folder: Path) -> None:
    """Give the owner back the rights to every folder in it, top down; links are not followed."""
    if folder.is_symlink() or not folder.is_dir():
        return
    folder.chmod(0o700)
    for above, names, _, descriptor in os.fwalk(folder, follow_symlinks=False):
        del above
        for name in names:
            if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                os.chmod(name, 0o700, dir_fd=descriptor)


def read_report(directory: Path) -> RunReport:
    """How the run ended, when no warden is there any more."""
    tail = read_tail(directory)
    try:
        told = dict(fields.read(str(directory / plan.REPORT)))
        outcome = _OUTCOMES[told["outcome"]]
        return RunReport(
            outcome=outcome,
            limit=told["which"] if outcome == "over-limit" else "",
            why=told["why"][:_WHY],
            code=int(told["code"]),
            wall=float(told.get("wall", 0)),
            cpu=float(told.get("cpu", 0)),
            memory=int(told.get("memory", 0)),
            printed=int(told.get("printed", 0)),
            tail=tail,
        )
    except (OSError, ValueError, KeyError):
        return RunReport("lost", why="its warden was killed, or could not write its report", tail=tail)


def read_tail(directory: Path) -> bytes:
    """The last of what it printed; nothing if there is no log."""
    try:
        with LogReader(str(directory / plan.LOG)) as log:
            return log.tail(TAIL)
    except (OSError, ValueError):
        return b""
