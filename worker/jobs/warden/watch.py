"""What all of a job's processes use together, against what they may.

Owns the measuring and its pace: a look every half second, and ten in a second while something is near its limit. It
ends nothing: it says which limit was passed.
"""

from __future__ import annotations

import os
import resource
import time

from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from .plan import Spec

_PACE: Final = 0.5
_QUICK: Final = 0.1
_SHARE: Final = 20
"""Looking at the folder takes at most one part in so many of the time."""
_DEPTH: Final = 64
"""Folders within folders at most."""


class Excess(Exception):  # noqa: N818 - it is no error of this program's
    """A limit was passed: which, and how."""

    def __init__(self, which: str, why: str) -> None:
        super().__init__(why)
        self.which = which
        self.why = why


class Watch:
    """What one job uses.

    Attributes:
        peak: Bytes of memory that were seen at most.
        first: The job's first process, which is none of its own.
        runtime: Seconds that it has run so far, without those in which it was paused.
    """

    def __init__(self, spec: Spec, folders: Iterable[str], processes: tree.Tree) -> None:
        self.peak = 0
        self.first = 0
        self.runtime = 0.0
        self._spec = spec
        self._folders = folders
        self._processes: list[tree.Process] = []
        self._tree = processes
        self._begin = self._last = time.monotonic()
        self._next = self._last + _QUICK
        self._next_folder = self._last
        self._paused = False

    def due(self) -> float:
        """Seconds until the next look."""
        return max(0.0, self._next - time.monotonic())

    def pause(self, paused: bool) -> None:
        """Say whether the time counts."""
        self.passed()
        self._paused = paused

    def passed(self) -> None:
        """Count the time until now."""
        now = time.monotonic()
        if not self._paused:
            self.runtime += now - self._last
        self._last = now

    def look(self) -> None:
        """Look, if it is time.

        Raises:
            Excess: If a limit was passed.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self.passed()
        if self.runtime >= self._spec.runtime:
            raise Excess("runtime", f"it ran for {self.runtime:.1f} s; allowed are {self._spec.runtime:g}")
        used = self._look_at_processes()
        if now >= self._next_folder:
            begun = time.monotonic()
            used = max(used, self.look_at_folder())
            now = time.monotonic()
            self._next_folder = now + max(_QUICK, (now - begun) * _SHARE)
        young = now - self._begin < 2 * _PACE
        left = max(0.001, self._spec.runtime - self.runtime)
        self._next = now + min(_QUICK if used > 0.5 or young else _PACE, left)

    def _look_at_processes(self) -> float:
        """How much of what they may have they have together."""
        spec = self._spec
        everything = self._tree.processes()
        self._processes = processes = [process for process in everything if process.pid != self.first]
        tasks = sum(process.threads for process in processes)
        if tasks > spec.processes:
            raise Excess("processes", f"it had {tasks} processes and threads; allowed are {spec.processes}")
        memory = tree.memory_of(processes, spec.memory)
        self.peak = max(self.peak, memory)
        if memory > spec.memory:
            raise Excess("memory", f"it had {memory} bytes of memory; allowed are {spec.memory}")
        allowed = spec.runtime * spec.cpus * 1.05 + 1
        if (cpu := cpu_of_the_ended() + sum(process.cpu for process in everything)) > allowed:
            raise Excess("cpu", f"it took {cpu:.1f} s of processors; allowed are {allowed:.1f}")
        return max(memory / spec.memory, tasks / spec.processes)

    def look_at_folder(self) -> float:
        """How much of what the folder may have it has.

        Raises:
            Excess: If it has more.
        """
        spec = self._spec
        files = 0
        size = unnamed([process.pid for process in self._processes])
        for folder in self._folders:
            more = measure(folder, spec.disk - size, spec.files - files)
            size, files = size + more[0], files + more[1]
        if size > spec.disk:
            raise Excess("disk", f"its folders had {size} bytes or more; allowed are {spec.disk}")
        if files > spec.files:
            raise Excess("files", f"its folders had {files} files or more; allowed are {spec.files}")
        return max(size / spec.disk, files / spec.files)


def cpu_of_the_ended() -> float:
    """Seconds of processors of all descendants that ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def unnamed(pids: Iterable[int]) -> int:
    """Bytes of files that these processes have open and that no folder has any more: they take room all the same."""
    sizes: dict[tuple[int, int], int] = {}
    for pid in pids:
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it ended
        for name in names:
            try:
                found = os.stat(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if found.st_nlink == 0 and found.st_mode & 0o170000 == 0o100000:
                sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(sizes.values())


def measure(folder: str, bytes_bound: int, files_bound: int) -> tuple[int, int]:
    """Bytes that `folder` takes on the disk, and files and folders in it; counting ends where a bound is passed.

    No link is followed. Folders that are too deep count as too many files: nobody can reach them by a path.
    """
    size = files = 0
    linked: set[int] = set()
    stack = []
    try:
        stack.append(_Level(folder, None))
        while stack and size <= bytes_bound and files <= files_bound:
            entry = next(stack[-1].entries, None)
            if entry is None:
                stack.pop().close()
                continue
            files += 1
            try:
                found = entry.stat(follow_symlinks=False)
                if found.st_nlink == 1 or found.st_ino not in linked:
                    size += found.st_blocks * 512
                if found.st_nlink > 1:
                    linked.add(found.st_ino)
                if entry.is_dir(follow_symlinks=False):
                    if len(stack) >= _DEPTH:
                        return size, files_bound + 1
                    stack.append(_Level(entry.name, stack[-1].descriptor))
            except OSError:
                continue  # it went meanwhile
    except OSError:
        pass
    finally:
        for level in stack:
            level.close()
    return size, files


class _Level:
    """One folder that is being looked through."""

    def __init__(self, name: str, parent: int | None) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.descriptor = os.open(name, flags, dir_fd=parent)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=parent)
            self.descriptor = os.open(name, flags, dir_fd=parent)
        try:
            self.entries = os.scandir(self.descriptor)
        except OSError:
            os.close(self.descriptor)
            raise

    def close(self) -> None:
        """Close it."""
        self.entries.close()
        os.close(self.descriptor)
