"""Control groups of Linux, by which a machine's memory and processors are held whatever its hypervisor does.

Owns where they can be made and what is written into them. A group is used only where it was given to the worker: of
version 1, below its own groups of the controllers memory and cpu, where nobody else is in those; of version 2, beside
its own group, where that is the subgroup `worker` of a delegated one, as `DelegateSubgroup=worker` in a unit makes it.
Whoever else is in a group may be watched by it, and would be taken for ours. Nothing is moved but a machine's own
process. A machine's group stays with its process when the worker ends, and goes when it is empty.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import psutil

from bitdew.core.ids import Uid
from bitdew.hypervisor import is_uid

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")
SUBGROUP: Final = "worker"
PERIOD: Final = 100_000
"""Microseconds within which a machine has its share of the processors."""
SPARE: Final = 512 * 2**20
"""Bytes that a hypervisor may take beyond the memory of its machine: 256 MiB of translated code in QEMU without KVM,
and what its devices need."""
LOWEST: Final = 15
"""The weight of a process with niceness 19, where one without any has 1024."""
_CONTROLLERS: Final = ("memory", "cpu")


@dataclass(frozen=True, slots=True)
class Groups:
    """Where machines' groups are made.

    Attributes:
        version: Of the control groups.
        parents: For each controller, the folder in which a machine's group is made; one for both with version 2.
    """

    version: Literal[1, 2]
    parents: Mapping[str, Path]

    def __str__(self) -> str:
        return f"memory and processors are held by control groups (version {self.version})"

    def confine(self, uid: Uid, pid: int, *, memory: int, cpus: int) -> str:
        """Hold a process, and all that it starts, to so many bytes beside `SPARE` and so many processors.

        Returns:
            Why that could not be done, or "". What was made then is removed again as far as that is possible.
        """
        try:
            for folder in self._folders(uid):
                folder.mkdir(exist_ok=True)
            for path, value in self._values(uid, memory + SPARE, cpus):
                path.write_text(value)
            for folder in self._folders(uid):
                (folder / "cgroup.procs").write_text(f"{pid}\n")
        except OSError as problem:
            self.forget(uid)
            return f"{problem.filename or 'its control group'}: {problem.strerror or problem}"
        return ""

    def forget(self, uid: Uid) -> None:
        """Remove a machine's group, if nothing is in it any more."""
        if not is_uid(uid):
            return
        for folder in self._folders(uid):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def ran_out(self, uid: Uid) -> bool:
        """Whether a process of the machine was killed because the group's memory was not enough."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        try:
            lines = (self.parents["memory"] / _name(uid) / name).read_text().splitlines()
        except OSError:
            return False
        return any(words[:1] == ["oom_kill"] and words[1:] != ["0"] for words in map(str.split, lines))

    def _folders(self, uid: Uid) -> list[Path]:
        return list(dict.fromkeys(parent / _name(uid) for parent in self.parents.values()))

    def _values(self, uid: Uid, memory: int, cpus: int) -> list[tuple[Path, str]]:
        space, time = (self.parents[name] / _name(uid) for name in _CONTROLLERS)
        if self.version == 2:
            return [
                (space / "memory.max", f"{memory}\n"),
                (space / "memory.oom.group", "1\n"),
                (time / "cpu.max", f"{cpus * PERIOD} {PERIOD}\n"),
                (time / "cpu.weight", "1\n"),
            ]
        return [
            (space / "memory.limit_in_bytes", f"{memory}\n"),
            (time / "cpu.cfs_period_us", f"{PERIOD}\n"),
            (time / "cpu.cfs_quota_us", f"{cpus * PERIOD}\n"),
            (time / "cpu.shares", f"{LOWEST}\n"),
        ]


def find_groups(root: Path = ROOT, own: Path = OWN) -> Groups | None:
    """Where this process may make groups for machines, the newer version first; None where it may not. Blocks.

    Args:
        root: Where control groups are mounted.
        own: What tells the groups of this process.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    places = {name: path for _, names, path in (line for line in lines if len(line) == 3) for name in names.split(",")}
    return _second(root, places.get("", "")) or _first(root, places)


def _second(root: Path, path: str) -> Groups | None:
    below = Path(path.lstrip("/"))
    mounted = root / "unified" if (root / "unified").is_dir() else root
    parent = mounted / below.parent
    if below.name != SUBGROUP or not _may_make(parent):
        return None
    try:
        offered = set((parent / "cgroup.controllers").read_text().split())
        passed_on = set((parent / "cgroup.subtree_control").read_text().split())
        if not offered.issuperset(_CONTROLLERS) or (parent / "cgroup.procs").read_text().strip():
            return None
        if not passed_on.issuperset(_CONTROLLERS):
            (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in _CONTROLLERS))
    except OSError:
        return None
    return Groups(2, dict.fromkeys(_CONTROLLERS, parent))


def _first(root: Path, places: Mapping[str, str]) -> Groups | None:
    parents = {}
    for name in _CONTROLLERS:
        mounted = next((path for path in (root / name, root / f"{name},cpuacct") if path.is_dir()), None)
        if mounted is None or name not in places:
            return None
        parents[name] = mounted / places[name].lstrip("/")
        if not _may_make(parents[name]) or not _alone(parents[name]):
            return None
    return Groups(1, parents)


def _alone(folder: Path) -> bool:
    """Whether nobody but this process, and what it started, is in a group."""
    try:
        there = {int(word) for word in (folder / "cgroup.procs").read_text().split()}
        ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    except (OSError, ValueError, psutil.Error):
        return False
    return there <= ours


def _may_make(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _name(uid: Uid) -> str:
    return f"bitdew-{uid}"
