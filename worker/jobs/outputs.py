"""The files that a job leaves for its submitter: found by patterns in its folder, after all its processes have ended.

Owns what counts as an output: a regular file with one name, inside the folder, reached without any link. Everything
else that a pattern matches is refused with a reason. The folder is untrusted: it is walked from descriptor to
descriptor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from bitdew.core.errors import error
from bitdew.core.job import Limit
from bitdew.core.job_path import ANY_DEPTH, DEPTH, pattern_parts, why_no_path

PATTERNS: Final = 64
_REFUSED: Final = 100
"""Refusals that are told."""


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """What all outputs of a run may be together. `size` in bytes."""

    files: int = 1000
    size: int = 1024 * 2**20


@dataclass(frozen=True, slots=True)
class Output:
    """One file. `name`: its path inside the job's folder. `size` in bytes."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Refused:
    """What was matched and is no output, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Outputs:
    """What was found, in the order of the names.

    Attributes:
        missing: Patterns that matched no output.
        refused: The first hundred matches that are no outputs.
    """

    found: tuple[Output, ...]
    missing: tuple[str, ...]
    refused: tuple[Refused, ...] = ()


def collect(
    work: Path, patterns: Sequence[str], limits: OutputLimits = OutputLimits(), exclude: Collection[str] = ()
) -> Outputs:
    """Find the outputs. A pattern that names a folder means all files below it. Blocks while it looks.

    Args:
        work: The job's folder, in which nothing runs any more.
        patterns: What the submitter asks for.
        limits: How much that may be.
        exclude: Names that are no outputs: the inputs'.

    Raises:
        UserError: `input.invalid`, for a pattern; `job.over-limit`, if they are more, or larger, than they may be.
        HostError: `storage.failed`.
    """
    if len(patterns) > PATTERNS:
        raise error("input.invalid", f"A job has {PATTERNS} patterns of outputs at most", field="out")
    wanted = {pattern: pattern_parts(pattern) for pattern in patterns}
    hits: set[str] = set()
    found: list[Output] = []
    refused: list[Refused] = []
    size = 0
    try:
        for parts, entry in _walk(work):
            matching = [pattern for pattern, parts_of in wanted.items() if matches(parts, parts_of)]
            name = "/".join(parts)
            if not matching or name in exclude:
                continue
            if why := _refusal(name, entry):
                refused.append(Refused(ascii(name)[1:-1][:200], why))
                continue
            hits.update(matching)
            size += entry.st_size
            found.append(Output(name, work.joinpath(*parts), entry.st_size))
            if len(found) > limits.files:
                told = f"The job left more than {limits.files} outputs"
                raise error("job.over-limit", told, why="that is its limit", limit=Limit.FILES)
            if size > limits.size:
                told = f"The job's outputs have more than {limits.size} bytes"
                raise error("job.over-limit", told, why="that is its limit", limit=Limit.DISK)
    except OSError as problem:
        raise error("storage.failed", "The outputs of a job could not be read", why=str(problem)) from problem
    found.sort(key=lambda output: output.name)
    refused.sort(key=lambda one: one.name)
    missing = tuple(pattern for pattern in wanted if pattern not in hits)
    return Outputs(tuple(found), missing, tuple(refused[:_REFUSED]))


def _refusal(name: str, entry: os.stat_result) -> str:
    """Why a file is no output; "" if it is one."""
    if stat.S_ISLNK(entry.st_mode):
        return "it is a link"
    if not stat.S_ISREG(entry.st_mode):
        return "it is no regular file"
    if entry.st_nlink != 1:
        return "it has more than one name"
    return why_no_path(name)


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path is what a pattern stands for, or lies below it."""
    if not pattern:
        return True
    if pattern[0] == ANY_DEPTH:
        rest = pattern[1:]
        if not rest:
            return bool(parts)
        return any(
            matches(parts[at:], rest) and not any(part.startswith(".") for part in parts[:at])
            for at in range(len(parts))
        )
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def _walk(work: Path) -> Iterator[tuple[tuple[str, ...], os.stat_result]]:
    """Everything below `work` that is no folder, by its path's parts. No link is followed, no deep folder entered."""
    root = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield from _walk_below(root, ())
    finally:
        os.close(root)


def _walk_below(folder: int, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            parts, found = (*above, entry.name), entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode) or len(parts) >= DEPTH:
                yield parts, found
                continue
            below = _open_below(folder, entry.name)
            try:
                yield from _walk_below(below, parts)
            finally:
                os.close(below)


def _open_below(folder: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=folder)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=folder)
        return os.open(name, flags, dir_fd=folder)
