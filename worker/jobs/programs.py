"""Which program a job's first word stands for, and what of this host that program needs to read.

Owns the rule that a volunteer's host runs natively only programs that were shared, by their names; a machine of the
grid runs what it has. It must not run anything.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bitdew.core.errors import error

from .environment import SYSTEM_PATH
from .warden.view import SYSTEM

_OF_PROGRAMS = frozenset({"bin", "sbin", "libexec"})
_NEVER = frozenset({"/home", "/root", "/Users"})


@dataclass(frozen=True, slots=True)
class Program:
    """A program that a job may run.

    Attributes:
        path: Absolute; or, in a machine, relative to the job's folder.
        readable: Where it is installed, if it is not among the system's own.
    """

    path: Path
    readable: tuple[Path, ...] = ()


def resolve(
    word: str, programs: Mapping[str, Path], *, anything: bool = False, keep_out: Iterable[Path] = ()
) -> Program:
    """The program that `word` names. Looks at the disk for an instant.

    Args:
        word: A command's first word.
        programs: What the volunteer shares, by name.
        anything: This is a machine of the grid: a path, or any program on the path, may be named too.
        keep_out: Folders that no job may read, the worker's home among them.

    Raises:
        HostError: `job.not-shared`.
    """
    found = programs.get(word)
    if found is None and anything:
        found = _of_the_machine(word)
    if found is None:
        raise error(
            "job.not-shared",
            f"This host does not share a program {word[:80]!r}",
            why=f"shared are {', '.join(sorted(programs)[:20]) or 'none'}",
            program=word[:80],
        )
    if found.is_absolute() and not os.access(found, os.X_OK):
        raise error("job.not-shared", f"The program {word[:80]!r} is not there any more", why=f"{found} can't be run")
    return Program(found, tuple(installed_in(found, keep_out)) if found.is_absolute() else ())


def _of_the_machine(word: str) -> Path | None:
    if "/" not in word:
        place = shutil.which(word, path=":".join(SYSTEM_PATH))
        return Path(place) if place else None
    path = PurePosixPath(word)
    if path.is_absolute() or (".." not in path.parts and path.parts):
        return Path(path)
    return None


def installed_in(program: Path, keep_out: Iterable[Path] = ()) -> list[Path]:
    """The folders that `program` was installed in, by the path that it has and by where that leads.

    A program in `X/bin` has its libraries below X, unless X is somebody's home or holds what is to be kept out: then
    only the folder that it lies in is meant, and where that is no better, the file alone.
    """
    private = [Path.home(), *(path.resolve() for path in keep_out)]
    found: dict[Path, None] = {}
    for path in (program, program.resolve()):
        if any(path.is_relative_to(system) for system in SYSTEM):
            continue
        above = path.parent.parent if path.parent.name in _OF_PROGRAMS else path.parent
        choice = next((folder for folder in (above, path.parent) if _is_fit(folder, private)), path)
        found[choice] = None
    return list(found)


def _is_fit(folder: Path, private: Iterable[Path]) -> bool:
    """Whether a folder can be one program's own."""
    if len(folder.parts) < 3 or str(folder.parent) in _NEVER or folder.name == ".local":
        return False
    return not any(path.is_relative_to(folder) for path in private)
