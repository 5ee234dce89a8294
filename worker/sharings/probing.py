"""Trying one sharing on this host: its version, and where the programs are that jobs may run.

Owns what counts as being there. It blocks, and keeps nothing: when to try again is the offers' matter.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..stamps import Signature, program_path, signature
from .asking import SECONDS, ask
from .declaration import Declaration, Trial, trial_of
from .known import Kind
from .version import version_in

SCANNED: Final = 4096
"""Characters of what is printed in which a version is looked for."""
_FILE: Final = re.compile(r"^bitdew-file: (/.{1,4000})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sharing:
    """An application or library that was found on this host, as its jobs need it.

    Attributes:
        name: What it is called in requirements.
        version: As its programs say, with dots between the numbers.
        kind: An application has programs that jobs may run; a library need not.
        programs: What jobs may run of it: whole paths by the programs' names. Symbolic links are not followed.
    """

    name: str
    version: str
    kind: Kind = "application"
    programs: Mapping[str, Path] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one trial came to.

    Attributes:
        sharing: What was found; None if it is not offered.
        why: Why not; "" if it is.
        passing: Whether the same trial may well succeed a moment later: it took too long.
        files: What the trial depends on, as it was then: see `signature`.
    """

    sharing: Sharing | None
    why: str
    passing: bool
    files: tuple[str, ...]
    signature: Signature


def probe(
    name: str, declared: Declaration, *, seconds: float = SECONDS, given_up: threading.Event | None = None
) -> Finding:
    """Try the sharing `name`. Blocks for as long as its program takes, at most `seconds`.

    Raises:
        ValueError: If nothing says how, or the name is a hypervisor's.
    """
    trial = trial_of(name, declared)
    asked = program_path(trial.command[0])
    programs, absent = _programs(trial)
    files = tuple(dict.fromkeys([trial.command[0], *trial.programs, *(w for w in trial.command[1:] if w[0] == "/")]))
    before = signature(files)

    def refused(why: str, *, passing: bool = False) -> Finding:
        return Finding(None, why, passing, files, before)

    if asked is None:
        return refused(f"{trial.command[0]} is not there, or can't be run")
    if absent and (trial.all_needed or not programs):
        return refused(f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not there, or can't be run")
    answer = ask([str(asked), *trial.command[1:]], seconds=seconds, given_up=given_up)
    if answer.fault:
        return refused(f"{trial.command[0]}: {answer.fault}", passing=answer.hung)
    version = version_in(answer.text[:SCANNED], trial.pattern)
    if not version:
        return refused(f"{trial.command[0]} tells no version: {' '.join(answer.text.split())[:120] or 'it is silent'}")
    if module := _FILE.search(answer.text[:SCANNED]):
        files = (*files, module[1])
    sharing = Sharing(name, version, trial.kind, MappingProxyType(programs))
    return Finding(sharing, "", passing=False, files=files, signature=signature(files) if module else before)


def _programs(trial: Trial) -> tuple[dict[str, Path], list[str]]:
    """The programs that are there, by name, and those that are not."""
    found: dict[str, Path] = {}
    absent: list[str] = []
    for wanted in trial.programs:
        path = program_path(wanted)
        if path is None:
            absent.append(wanted)
        else:
            found[Path(wanted).name] = path
    if not trial.all_needed and trial.kind == "library":
        absent.clear()
    return found, absent
