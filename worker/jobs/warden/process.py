"""The warden's life: start the command, keep its log, hold its limits and orders, end all of it, tell how it ended.

Owns that life and the report, which is written when nothing of the job is left. It lives on when the worker ends or is
killed, as long as the lease is renewed from time to time; it writes into the run's folder alone.
"""

from __future__ import annotations

import os
import select
import sys
import time

from . import confine, fields, first, kernel, plan, tree
from .log import LogWriter
from .watch import Excess, Watch, cpu_of_the_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_ENDING: Final = 20.0
"""Seconds in which all processes have to be gone that were killed."""
_BROKEN_PIPE: Final = 13
_FILE_TOO_LARGE: Final = 25
_PIPE: Final = 2**20
_FLOOD: Final = 4 * 2**20
"""Bytes that are taken of what is printed in each `_BREATH`: a job that prints more waits for a moment."""
_BREATH: Final = 0.05
_DRAINED: Final = 8 * 2**20
"""Bytes that are still taken after the end: what the pipe holds, and no more."""


class Ending:
    """How the run ends."""

    def __init__(self, outcome: str, *, which: str = "", why: str = "", code: int = 0) -> None:
        self.outcome = outcome
        self.which = which
        self.why = why
        self.code = code


def main() -> None:
    """Run what the folder named first tells to run. The descriptor named second holds the run's lock."""
    begun = time.time()
    os.umask(0o077)
    os.chdir(sys.argv[2])
    os.set_inheritable(int(sys.argv[3]), False)
    kernel.adopt_orphans()
    kernel.disk_when_idle()
    os.nice(19)
    for number in (tree.HANG_UP, tree.INTERRUPT, _BROKEN_PIPE):  # what is ordered before it can be heard is read later
        kernel.ignore_signal(number)
    mine = tree.look_at(os.getpid())
    started = str(mine.started if mine else 0)
    fields.write(plan.WARDEN, [("pid", str(os.getpid())), ("started", started)])
    used: fields.Fields = []
    try:
        warden = Warden(plan.read_spec(plan.SPEC))
        ending = warden.run()
        used = warden.used()
    except (OSError, KeyError, ValueError) as problem:
        ending = Ending(plan.NOT_STARTED, why=f"the warden could not begin: {problem}")
    how = [("outcome", ending.outcome), ("which", ending.which), ("why", ending.why), ("code", str(ending.code))]
    fields.write(plan.REPORT, [*how, ("begun", repr(begun)), ("ended", repr(time.time())), *used])


class Warden:
    """One run, from its start to its end."""

    def __init__(self, spec: plan.Spec) -> None:
        self._spec = spec
        self._work = os.path.abspath(plan.WORK)
        self._tree = tree.Tree(os.getpid())
        self._scratch = os.path.abspath(plan.SCRATCH)
        os.makedirs(self._scratch, 0o700, exist_ok=True)
        self._watch = Watch(spec, (self._work, self._scratch), self._tree)
        self._log = LogWriter(plan.LOG, spec.log)
        self._first = 0
        self._ending: Ending | None = None
        self._kill_at: float | None = None
        self._paused = False
        self._asked = False
        self._lease: tuple[int, float] = (0, time.monotonic())
        self._breath: tuple[float, int] = (0.0, 0)

    def run(self) -> Ending:
        """Start the command, and return when nothing of it is left.

        Raises:
            OSError: If the system lacks something that was believed to be there.
        """
        woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        kernel.wake_by_signals(wake)
        kernel.on_signal(tree.TERMINATE, self._asked_by_the_system)
        kernel.on_signal(tree.HANG_UP, _nothing)  # it wakes: there is an order
        printed, status, fault = self._start()
        code = None
        try:
            self._obey()  # what was ordered before this process could be told
            code = self._until_the_end(printed, status, woken)
        finally:
            if plan.PIDS in self._spec.means:
                os.kill(self._first, tree.KILL)  # the kernel then ends all the others, and lets none begin
            all_gone = tree.end_all(self._tree, within=_ENDING)
            self._drain(printed)
            self._log.close()
        self._watch.passed()
        if why := _rest(fault):
            return Ending(plan.NOT_STARTED, why=why)
        if not all_gone:
            return Ending(plan.OVER_LIMIT, which="ending", why="some of its processes could not be killed")
        return self._ending or self._by_itself(code)

    def used(self) -> fields.Fields:
        """What it took."""
        return [
            ("wall", f"{self._watch.runtime:.3f}"),
            ("cpu", f"{cpu_of_the_ended():.3f}"),
            ("memory", str(self._watch.peak)),
            ("printed", str(self._log.printed)),
        ]

    def _start(self) -> tuple[int, int, int]:
        """Start the job's first process; what it prints, its command's status, and what keeps it from beginning."""
        (printed, prints), (status, tells), (fault, fails) = (os.pipe2(os.O_CLOEXEC) for _ in range(3))
        for descriptor in (printed, status, fault):
            os.set_blocking(descriptor, False)
        kernel.widen_pipe(prints, _PIPE)
        self._claims = confine.take_processors(self._spec.cpus, os.getpid())
        user = os.getuid()
        if plan.OWN_USER in self._spec.means:
            user, claim = confine.free_user()
            self._claims.append(claim)
            for owned in (self._work, self._scratch, prints):
                os.chown(owned, user, user)
        confine.enter(self._spec.means)
        warden = os.pidfd_open(os.getpid())
        self._first = self._watch.first = os.fork()
        if self._first == 0:
            for descriptor in (printed, status, fault):
                os.close(descriptor)
            first.keep_together(self._spec, self._work, self._scratch, user, first.Pipes(prints, tells, fails), warden)
        for descriptor in (prints, tells, fails, warden):
            os.close(descriptor)
        kernel.hide_from_debuggers()
        return printed, status, fault

    def _until_the_end(self, printed: int, status: int, woken: int) -> int | None:
        """Return when the command has ended, with its status, or when it is to be killed."""
        poll = select.poll()
        for descriptor in (printed, status, woken):
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll(self._patience() * 1000):
                if descriptor == woken:
                    os.read(woken, 4096)
                    self._asked = True
                elif descriptor == status:
                    told = _rest(status)
                    return int(told) if told else None
                elif not self._take(printed):
                    poll.unregister(printed)  # it closed its output, and runs on
            tree.reap_others(self._first)
            if self._asked or self._ending is None:
                self._obey()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                return None
            self._hold()

    def _patience(self) -> float:
        """Seconds until something is to be done, if nothing happens before."""
        if self._kill_at is not None:
            return max(0.0, min(self._watch.due(), self._kill_at - time.monotonic()))
        return self._watch.due()

    def _hold(self) -> None:
        """Hold the limits and the lease."""
        try:
            self._watch.look()
        except Excess as excess:
            ending = Ending(plan.OVER_LIMIT, which=excess.which, why=excess.why)
            self._end(ending, kindly=excess.which == "runtime")
        now = time.monotonic()
        try:
            renewed = os.stat(plan.LEASE).st_mtime_ns
        except OSError:
            renewed = 0
        if renewed != self._lease[0]:
            self._lease = (renewed, now)
        elif now - self._lease[1] > self._spec.lease:
            self._end(Ending(plan.STOPPED, which="lease", why="its worker did not come back"), kindly=True)
        if self._paused:
            self._signal(tree.STOP)  # those too that were started meanwhile

    def _end(self, ending: Ending, *, kindly: bool) -> None:
        """Have it end: at once, or after it was asked to and had its time. The first reason is the one that counts."""
        self._ending = self._ending or ending
        if not kindly:
            self._kill_at = 0.0
        elif self._kill_at is None:
            self._kill_at = time.monotonic() + self._spec.grace
            self._signal(tree.TERMINATE)
            self._signal(tree.CONTINUE)
            self._paused = False

    def _obey(self) -> None:
        """Do what the order says, if there is one."""
        self._asked = False
        try:
            order = dict(fields.read(plan.ORDER))
        except (OSError, ValueError):
            return
        wanted = order.get("wanted", "")
        if wanted == "stop":
            self._end(Ending(plan.STOPPED, why=order.get("why", "")), kindly=order.get("kindly") == "yes")
        elif self._ending is None and (wanted == "pause") != self._paused:
            self._paused = wanted == "pause"
            self._watch.pause(self._paused)
            self._signal(tree.STOP if self._paused else tree.CONTINUE)

    def _asked_by_the_system(self) -> None:
        self._end(Ending(plan.STOPPED, which="system", why="the system is going down"), kindly=True)

    def _signal(self, number: int) -> None:
        """To all but the first process, which must be able to end the others if this one is killed."""
        for process in self._tree.processes(all_anew=True):
            if process.pid != self._first:
                tree.send(process, number)

    def _take(self, printed: int) -> bool:
        """Put into the log what was printed; whether more can come."""
        try:
            data = os.read(printed, _PIPE)
        except BlockingIOError:
            return True
        self._log.write(data)
        begun, taken = self._breath
        now = time.monotonic()
        if now - begun > _BREATH:
            self._breath = (now, len(data))
        elif taken + len(data) > _FLOOD:
            time.sleep(_BREATH - (now - begun))
        else:
            self._breath = (begun, taken + len(data))
        return bool(data)

    def _drain(self, printed: int) -> None:
        until = self._log.printed + _DRAINED
        try:
            while self._log.printed < until and (data := os.read(printed, _PIPE)):
                self._log.write(data)
        except OSError:
            pass  # there is no more

    def _by_itself(self, code: int | None) -> Ending:
        """How the command ended that nobody ended."""
        try:
            self._watch.look_at_folder()
        except Excess as excess:
            return Ending(plan.OVER_LIMIT, which=excess.which, why=excess.why)
        if code is None:
            return Ending(plan.SIGNALLED, code=tree.KILL, why="its first process was killed")
        if os.WIFSIGNALED(code) and os.WTERMSIG(code) == _FILE_TOO_LARGE:
            return Ending(plan.OVER_LIMIT, which="disk", why="it wanted to make a file larger than it may")
        if os.WIFSIGNALED(code):
            return Ending(plan.SIGNALLED, code=os.WTERMSIG(code))
        return Ending(plan.EXITED, code=os.WEXITSTATUS(code))


def _nothing() -> None:
    """A handler, so that a signal wakes instead of killing."""


def _rest(descriptor: int) -> str:
    """What was written to a pipe."""
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    except OSError:
        return ""
