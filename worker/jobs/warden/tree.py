"""All the processes that descend from one, whatever they did to get away: what they use, and their end.

Owns the look at /proc. Who adopts orphans has every descendant below itself: a process that forks twice, or begins a
session of its own, is found by its parents all the same.
"""

from __future__ import annotations

import os
import time

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

KILL: Final = 9
TERMINATE: Final = 15
HANG_UP: Final = 1
INTERRUPT: Final = 2
CONTINUE: Final = 18
STOP: Final = 19
_LOOK_ALL: Final = 16
"""Looks after which processes that were seen to be others' are looked at again: their pids may have new owners."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICK: Final = os.sysconf("SC_CLK_TCK")


class Process:
    """What /proc tells of a process. `cpu`: seconds of its own and of children that ended."""

    __slots__ = ("cpu", "parent", "pid", "started", "state", "threads")

    def __init__(self, pid: int, text: str) -> None:
        words = text[text.rindex(")") + 2 :].split()
        self.pid = pid
        self.state = words[0]
        self.parent = int(words[1])
        self.cpu = sum(map(int, words[11:15])) / _TICK
        self.threads = int(words[17])
        self.started = int(words[19])


def look_at(pid: int) -> Process | None:
    """The process with this pid, if there is one."""
    try:
        return Process(pid, _text(f"/proc/{pid}/stat"))
    except (OSError, ValueError, IndexError):
        return None


def _text(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 8192).decode("ascii", "replace")
    finally:
        os.close(descriptor)


class Tree:
    """The descendants of one process.

    A look costs one listing of /proc and a small file for each process that is the tree's own or new: what was seen to
    be another's is not looked at again until some looks later.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._others: set[int] = set()
        self._looks = 0

    def processes(self, *, all_anew: bool = False) -> list[Process]:
        """Every descendant now, but for those that have ended and wait for their parent."""
        self._looks += 1
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        if all_anew or self._looks % _LOOK_ALL == 0:
            self._others = set()
        self._others &= pids
        found = [process for pid in pids - self._others if (process := look_at(pid))]
        children: dict[int, list[Process]] = {}
        for process in found:
            children.setdefault(process.parent, []).append(process)
        mine: list[Process] = []
        todo = [self._root]
        while todo:
            below = children.pop(todo.pop(), [])
            mine += below
            todo += [process.pid for process in below]
        self._others |= pids - {process.pid for process in mine}
        return [process for process in mine if process.state not in "ZX"]

    def signal(self, number: int) -> int:
        """Send `number` to every descendant; how many there were."""
        processes = self.processes(all_anew=True)
        for process in processes:
            send(process, number)
        return len(processes)


def send(process: Process, number: int) -> None:
    """Send a signal to a process that may have ended, and to nobody who has its pid now."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        found = look_at(process.pid)  # looked at after the pid was pinned
        if found is not None and found.started == process.started:
            kernel.signal_by(descriptor, number)
    finally:
        os.close(descriptor)


def memory_of(processes: Iterable[Process], bound: int) -> int:
    """Bytes of memory that they have together.

    Pages that several of them share count in each, which is quick to tell; only when that is over `bound` each page is
    counted once, which takes milliseconds for large processes.
    """
    processes = list(processes)
    total = sum(_resident(process.pid) for process in processes)
    return total if total <= bound else sum(_proportional(process.pid) for process in processes)


def _resident(pid: int) -> int:
    try:
        return int(_text(f"/proc/{pid}/statm").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    """Its share of each page, and what is swapped out; where that can't be read, what is resident."""
    try:
        lines = _text(f"/proc/{pid}/smaps_rollup").splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss:", "SwapPss:")))
    except (OSError, ValueError, IndexError):
        return _resident(pid)


def _reap() -> bool:
    """Let go of children that have ended; whether any is left."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return True
        except ChildProcessError:
            return False


def reap_others(first: int) -> None:
    """Let go of orphans that have ended, but not of the process `first`: its pid must stay its own."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == first:
                return
            os.waitpid(ended.si_pid, 0)
        except ChildProcessError:
            return


def end_all(tree: Tree, *, within: float) -> bool:
    """Kill every descendant of this process; whether all have ended within so many seconds.

    First they are all stopped, so that none forks faster than it is killed. Orphans become this process's children:
    none is left when it has no child any more.
    """
    until = time.monotonic() + within
    while time.monotonic() < until:
        tree.signal(STOP)
        tree.signal(KILL)
        for _ in range(20):
            if not _reap():
                return True
            time.sleep(0.002)
    return False
