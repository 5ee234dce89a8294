"""What a job is: one command with its needs, inputs and outputs, its caps, and the bounds of all of these.

Owns what may be asked for. Where a job runs is decided by the scheduler; how, by the worker.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from .errors import BitDewError, error
from .requirement import Requirement

ANYTHING: Final = "*"
"""What a host says whose jobs may run any program: a machine of the grid."""
MOST_WORDS: Final = 256
"""How many words a command has at most."""
MOST_COMMAND: Final = 32 * 1024
"""How many bytes all of them have at most."""
MOST_ITEMS: Final = 64
"""How many needs, outputs and variables of the environment a job has at most, of each."""
MOST_TEXT: Final = 4096
MOST_ATTEMPTS: Final = 20
MOST_PRIORITY: Final = 100
MOST_REPLICAS: Final = 9

_KIB, _GIB, _DAY = 1024, 1024**3, 24 * 3600
_TEST: Final = r"(?:<=|>=|==|!=|=|<|>)\s*[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}"
_NEED: Final = re.compile(rf"\s*([A-Za-z0-9][A-Za-z0-9._+-]{{0,63}})\s*((?:{_TEST}\s*(?:,\s*{_TEST}\s*)*)?)", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_OURS: Final = frozenset({"HOME", "PATH", "TMPDIR", "PWD"})
"""What the worker alone says, since it tells the job where its own directory is."""
_LOADERS: Final = ("LD_", "DYLD_")
"""What makes another program of the one that the volunteer shares."""


class JobsAllowed(StrEnum):
    """What jobs may run on this host."""

    NONE = "none"
    SHARED = "shared"
    """The programs of its sharings, confined."""
    ANYTHING = "anything"
    """Any command: for machines of the grid, which hold nothing of anybody's."""


class Limit(StrEnum):
    """Which of its caps an attempt passed: the field `limit` of `job.over-limit`."""

    TIME = "time"
    """`runtime`, as a clock on the wall goes."""
    CPU = "cpu"
    """`runtime` on each of its `cpus`: time of processors."""
    MEMORY = "memory"
    PROCESSES = "processes"
    DISK = "disk"
    """`output`, in all files together, its inputs not counted."""
    FILES = "files"


@dataclass(frozen=True, slots=True)
class Caps:
    """How much one attempt of a job may take. What takes more is ended, with all its processes.

    Attributes:
        runtime: Seconds.
        memory: Bytes, of all its processes together.
        cpus: Processors that are kept for it.
        processes: At once.
        output: Bytes that it may leave in its directory, in all files together.
        files: How many files and folders it may leave there.
        log: Bytes of its log that are kept; of more than that, the beginning and the end.
    """

    runtime: int = 3600
    memory: int = _GIB
    cpus: int = 1
    processes: int = 64
    output: int = _GIB
    files: int = 1000
    log: int = 1024 * _KIB

    def __post_init__(self) -> None:
        """Refuse what is out of bounds. Raises UserError: `input.invalid`."""
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise _invalid(f"A job's {name} can't be {getattr(self, name)}", f"it goes from 1 to {most}", name)


_MOST: Final = {
    "runtime": 30 * _DAY,
    "memory": 1024 * _GIB,
    "cpus": 1024,
    "processes": 4096,
    "output": 1024 * _GIB,
    "files": 100_000,
    "log": 64 * 1024 * _KIB,
}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One command, and what it needs, takes and leaves.

    Attributes:
        command: The program's name and its arguments. No shell reads them.
        needs: Applications and libraries with ranges of versions: `root>=6.30,<7`.
        requires: A requirement expression on the host, as for data.
        outputs: Patterns of the files in its directory that are its results.
        environment: Variables that are set for it.
        caps: How much an attempt may take.
        attempts: How often it is tried at most; with several replicas, each of them so often.
        priority: Which of its user's own jobs goes first: the higher.
        replicas: On how many distinct hosts it runs. Of several, what the greater part of them agrees on is its result.
    """

    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    requires: str = ""
    outputs: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    caps: Caps = Caps()
    attempts: int = 3
    priority: int = 0
    replicas: int = 1

    def __post_init__(self) -> None:
        """Refuse what is out of bounds. Raises UserError: `input.invalid`, `attribute.requires`."""
        self._check_command()
        for name in ("needs", "outputs", "environment"):
            if len(getattr(self, name)) > MOST_ITEMS:
                raise _invalid(f"A job can't have {len(getattr(self, name))} {name}", f"at most {MOST_ITEMS}", name)
        for pattern in self.outputs:
            _check_output(pattern)
        for name, value in self.environment.items():
            _check_variable(name, value)
        if not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise _invalid(f"A job can't be tried {self.attempts} times", f"1 to {MOST_ATTEMPTS}", "attempts")
        if abs(self.priority) > MOST_PRIORITY:
            raise _invalid(f"A priority can't be {self.priority}", f"-{MOST_PRIORITY} to {MOST_PRIORITY}", "priority")
        if not 1 <= self.replicas <= MOST_REPLICAS:
            raise _invalid(f"A job can't have {self.replicas} replicas", f"1 to {MOST_REPLICAS}", "replicas")
        self.requirements()

    @property
    def quorum(self) -> int:
        """How many replicas must agree."""
        return self.replicas // 2 + 1

    @property
    def most_runs(self) -> int:
        """How many runs it may have in all."""
        return self.attempts * self.replicas

    def requirements(self) -> tuple[Requirement, ...]:
        """What a host must fulfil, each of them: the needs, one by one, and what is required.

        Raises:
            UserError: `input.invalid`, `attribute.requires`.
        """
        return (*map(need, self.needs), *([Requirement(self.requires)] if self.requires else []))

    def _check_command(self) -> None:
        if not self.command or not self.command[0]:
            raise _invalid("A job without a command can't run", "its first word names the program", "command")
        if len(self.command) > MOST_WORDS or sum(len(_bytes(word)) for word in self.command) > MOST_COMMAND:
            raise _invalid(
                "This command is too long", f"{MOST_WORDS} words with {MOST_COMMAND} bytes at most", "command"
            )
        if any("\0" in word for word in self.command):
            raise _invalid("A command can't hold a zero byte", "no system passes it on", "command")


def need(text: str) -> Requirement:
    """The requirement that a need stands for: `root>=6.30,<7` is `sharing.root >= 6.30, sharing.root < 7`.

    Raises:
        UserError: `input.invalid`.
    """
    match = _NEED.fullmatch(text) if len(text) <= MOST_TEXT else None
    if not match:
        raise _invalid(
            f"{text[:80]!r} is not a need",
            "it is a name, alone or with versions: root, root>=6.30, root>=6,<7",
            "needs",
        )
    name, tests = match[1], match[2].strip()
    return Requirement(", ".join(f"sharing.{name} {test.strip()}".strip() for test in tests.split(",")))


def _check_output(pattern: str) -> None:
    parts = pattern.split("/")
    if not pattern or len(_bytes(pattern)) > MOST_TEXT or "\0" in pattern or not set(parts).isdisjoint({"", ".", ".."}):
        raise _invalid(
            f"{pattern[:80]!r} can't be an output", "it is a pattern of names below the job's own directory", "outputs"
        )


def _check_variable(name: str, value: str) -> None:
    if not _VARIABLE.fullmatch(name) or len(_bytes(value)) > MOST_TEXT or "\0" in value:
        raise _invalid(f"The variable {name[:80]!r} can't be set", "its name or its value is not one", "environment")
    if name in _OURS or name.startswith(_LOADERS):
        raise _invalid(f"The variable {name} can't be set", "the worker alone says it", "environment")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _invalid(message: str, why: str, part: str) -> BitDewError:
    return error("input.invalid", message, why=why, field=part)
