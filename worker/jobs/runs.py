"""One run of a job's command on this host: what is run, within which limits, and how it ended.

Owns these words, and the bounds on what a caller may ask for. It starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from bitdew.core.errors import error

from .environment import checked_environment
from .warden import plan

ARGUMENTS: Final = 4096
"""Words of a command at most."""
ARGUMENT_BYTES: Final = 100 * 1024
"""Bytes of one word at most; the kernel takes 128 KiB."""
COMMAND_BYTES: Final = 1024 * 1024
"""Bytes of all words together; the kernel takes a quarter of the stack's size, which is 2 MiB nearly everywhere."""
READABLE: Final = 64
"""Folders that a run may be allowed to read beside the system's."""

Outcome = Literal["exited", "signalled", "over-limit", "stopped", "not-started", "lost"]
"""exited: by itself, with a code. signalled: by a signal that nobody here sent. over-limit: ended, for the limit that
the report names. stopped: ended, as was ordered, or because the worker did not come back, or the system goes down.
not-started: the command could not begin. lost: its warden was killed, and the command with it."""

MEGABYTE: Final = 2**20


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What all processes of a run may use together. Sizes in bytes, times in seconds.

    Attributes:
        runtime: How long it may run; time in which it was paused does not count.
        memory: Memory at a time. What is shared between its processes counts once.
        cpus: Processors at a time, and so processor time: `runtime` on each. Jobs share none while some are free.
        processes: Processes and threads at a time.
        disk: What its folder may take on the disk, its inputs included.
        files: Files and folders in its folder.
        log_bytes: What is kept of what it prints: half of it the first bytes, half the last ones.
    """

    runtime: float = 3600.0
    memory: int = 1024 * MEGABYTE
    cpus: int = 1
    processes: int = 256
    disk: int = 4096 * MEGABYTE
    files: int = 10_000
    log_bytes: int = MEGABYTE

    def __post_init__(self) -> None:
        """Refuse what can't be.

        Raises:
            UserError: `input.invalid`.
        """
        bounds = {
            "runtime": (0.05, 366 * 86400.0),
            "memory": (MEGABYTE, 2**50),
            "cpus": (1, 4096),
            "processes": (1, 100_000),
            "disk": (4096, 2**60),
            "files": (1, 10_000_000),
            "log_bytes": (4096, 1024 * MEGABYTE),
        }
        for name, (least, most) in bounds.items():
            if not least <= getattr(self, name) <= most:
                raise error("input.invalid", f"A job's {name} can't be {getattr(self, name)}", field=name)


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt to run a job's command.

    Attributes:
        uid: The job's.
        attempt: Which attempt it is, from 1.
        argv: The command's words; the first one is only its name, `program` is what is started.
        program: The program, by its absolute path; in a machine it may also lie in the job's folder, by a relative one.
        directory: A folder of this run's own, on a local disk. The job sees only the folder `work` in it.
        env: What the command finds in its environment beside the few things that every one finds.
        readable: Folders or files that it may read beside the system's: where its program is installed.
    """

    uid: str
    attempt: int
    argv: tuple[str, ...]
    program: Path
    directory: Path
    env: Mapping[str, str] = field(default_factory=dict)
    limits: RunLimits = field(default_factory=RunLimits)
    readable: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what the system could not start, or could take for something else.

        Raises:
            UserError: `input.invalid`.
        """
        words = [word.encode("utf-8", "surrogateescape") for word in self.argv]
        if not words or len(words) > ARGUMENTS or sum(map(len, words)) > COMMAND_BYTES:
            raise error("input.invalid", "The command has no words, or too many", field="argv")
        if any(b"\0" in word or len(word) > ARGUMENT_BYTES for word in words):
            raise error("input.invalid", "A word of the command is too long or has a zero byte", field="argv")
        if len(self.readable) > READABLE:
            raise error("input.invalid", "Too many folders are to be readable", field="readable")
        if ".." in self.program.parts or "\0" in str(self.program):
            raise error("input.invalid", f"{self.program} is no program", field="program")
        for path in (self.directory, *self.readable):
            if not path.is_absolute() or "\0" in str(path):
                raise error("input.invalid", f"{path} is no absolute path", field="path")
        checked_environment(self.env)

    @property
    def work(self) -> Path:
        """The job's own folder: inputs are put there before the start, and outputs are found there after the end."""
        return self.directory / plan.WORK


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended, and what it took.

    Attributes:
        limit: The limit that was passed: a field of `RunLimits`, or `cpu` for processor time. "" for other outcomes.
        why: One sentence for people, or "".
        code: The exit code; for `signalled` the signal's number; else 0.
        wall: Seconds that it ran.
        cpu: Seconds of processors of all its processes.
        memory: Bytes of memory that were seen in use at most: runs that are shorter than a look, about 0.1 s, show 0.
        printed: Bytes that it printed.
        tail: The last of them.
    """

    outcome: Outcome
    limit: str = ""
    why: str = ""
    code: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    printed: int = 0
    tail: bytes = b""

    @property
    def succeeded(self) -> bool:
        """Whether the command ended by itself and said that all is well."""
        return self.outcome == "exited" and self.code == 0


@dataclass(frozen=True, slots=True)
class Isolation:
    """What holds between a job and this host, as it was tried.

    Attributes:
        means: The means that are taken, of `user-namespace`, `own-user`, `pids`, `mounts`, `network`, `landlock` and
            `filter`.
        landlock: The version of Landlock that the kernel speaks; 0 for none.
        why: What the system said to the first means that it refused, or "".
        root: Whether the worker is root, so that a job has to become somebody else.
    """

    means: frozenset[str]
    landlock: int = 0
    why: str = ""
    root: bool = False

    @property
    def lacks(self) -> tuple[str, ...]:
        """What does not hold, of what has to hold for jobs beside a volunteer's own files and programs."""
        lock = self.landlock if plan.LANDLOCK in self.means else 0
        own_user, mounts, pids, filtered = (
            means in self.means for means in (plan.OWN_USER, plan.MOUNTS, plan.PIDS, plan.FILTER)
        )
        holds = {
            "it could read the volunteer's files": lock >= 1 or mounts or own_user,
            "it could change the volunteer's files": lock >= 3 or own_user or mounts,
            "it would be root": own_user or not self.root,
            "it could speak to the volunteer's programs": own_user or mounts or filtered,
            "it could end the volunteer's programs": lock >= 6 or own_user or pids,
        }
        return tuple(what for what, held in holds.items() if not held)
