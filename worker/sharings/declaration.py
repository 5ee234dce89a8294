"""What a volunteer declares of one sharing, as the settings keep it, and what is to be tried for it.

Owns the shape and its bounds. It must not look at the host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .known import HYPERVISORS, KNOWN, Kind

MOST: Final = 64
"""Sharings that one host declares: with its hypervisors they fit into its report."""
MOST_WORDS: Final = 32
NAME: Final = "[A-Za-z_][A-Za-z0-9_]*"
"""Spelled out: `\\w` knows the letters of all languages, which takes pydantic half a megabyte a time."""
Word = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]

_MODULE_PROBE: Final = """
import importlib, importlib.metadata, sys
name = sys.argv[1]
module = importlib.import_module(name)
version = getattr(module, "__version__", None) or importlib.metadata.version(name.partition(".")[0])
print("\\nbitdew-version:", version)
print("bitdew-file:", getattr(module, "__file__", None) or "")
"""
_MODULE_PATTERN: Final = re.compile(r"^bitdew-version: ([^\s]{1,64})$", re.MULTILINE)


class Declaration(BaseModel):
    """How one sharing is tried, and what jobs may run of it. Empty, its name says all that."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Annotated[tuple[Word, ...], Field(max_length=MOST_WORDS)] = ()
    """What prints its version: a program, by its path or its name, and its arguments. No shell reads it."""
    python: Annotated[str, Field(max_length=200, pattern=rf"^({NAME}(\.{NAME})*)?$")] = ""
    """The Python module that it is, imported by the `python3` on the path."""
    pkg_config: Annotated[str, Field(max_length=200, pattern=r"^([A-Za-z0-9][A-Za-z0-9_.+-]*)?$")] = ""
    """Its name for pkg-config."""
    programs: Annotated[tuple[Word, ...], Field(max_length=MOST_WORDS)] = ()
    """Programs that jobs may run, by their paths or names; all of them have to be there. None named means those that
    the table of known sharings says, or else the one that is called like the sharing."""

    @model_validator(mode="after")
    def _one_way(self) -> Declaration:
        if sum(map(bool, (self.command, self.python, self.pkg_config))) > 1:
            raise ValueError("it is tried in one way: by a command, by Python or by pkg-config")
        return self

    @field_validator("command")
    @classmethod
    def _runnable(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if words:
            _check_program(words[0])
        return words

    @field_validator("programs")
    @classmethod
    def _all_runnable(cls, programs: tuple[str, ...]) -> tuple[str, ...]:
        for program in programs:
            _check_program(program)
        names = [PurePosixPath(program).name for program in programs]
        if len(set(names)) < len(names):
            raise ValueError("two programs have the same name")
        return programs


@dataclass(frozen=True, slots=True)
class Trial:
    """What is to be tried for one sharing.

    Attributes:
        command: The program that is asked for the version, and its arguments.
        programs: What jobs may run, by paths or names.
        all_needed: Whether every one of `programs` has to be there, not only some.
        kind: What it is.
        pattern: Where the version stands in what is printed; None for the first that looks like one.
    """

    command: tuple[str, ...]
    programs: tuple[str, ...]
    all_needed: bool
    kind: Kind
    pattern: re.Pattern[str] | None = None


def trial_of(name: str, declared: Declaration) -> Trial:
    """What is to be tried for the sharing `name`.

    Raises:
        ValueError: If nothing says how, or the name is a hypervisor's.
    """
    if name in HYPERVISORS:
        raise ValueError(f"the worker tries {name} by itself, and announces it if it runs machines")
    known = KNOWN.get(name)
    way = declared if declared.command or declared.python or declared.pkg_config else known
    if way is None:
        meant = _near(name)
        did_you = f"did you mean {meant}? " if meant else ""
        raise ValueError(
            f"nothing tells how {name[:80]} is asked for its version; {did_you}known are {', '.join(KNOWN)}"
        )
    kind: Kind = "library" if way.python or way.pkg_config else "application"
    command, pattern = way.command, known.pattern if known is not None and way is known else None
    if way.python:
        command, pattern = ("python3", "-c", _MODULE_PROBE, way.python), _MODULE_PATTERN
    elif way.pkg_config:
        command = ("pkg-config", "--modversion", way.pkg_config)
    if known is not None:
        return Trial(command, declared.programs or known.programs, bool(declared.programs), known.kind, pattern)
    by_itself = () if kind == "library" else (name,)
    return Trial(command, declared.programs or by_itself, bool(declared.programs), kind, pattern)


def _near(name: str) -> str:
    """The known name that `name` may stand for, or ""."""
    lower = {key.lower(): key for key in KNOWN}
    close = get_close_matches(name.lower(), lower, n=1)
    return lower[close[0]] if close else ""


def checked(declared: Mapping[str, Declaration]) -> None:
    """Refuse declarations that nothing can be tried for.

    Raises:
        ValueError: With the first reason.
    """
    for name, one in declared.items():
        trial_of(name, one)


def _check_program(word: str) -> None:
    if (
        word.startswith("-")
        or ("/" in word and not word.startswith("/"))
        or PurePosixPath(word).name in {"", "..", "."}
    ):
        raise ValueError(f"{word[:80]!r} is neither the name of a program nor its whole path")
