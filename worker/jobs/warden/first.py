"""The job's own first processes: the one that keeps the job together, and the one that becomes the command.

Owns what happens between the warden's fork and the command's first instruction, and the first process's wait for its
end. Whatever goes wrong here is told by a pipe, and no process comes back from here.
"""

from __future__ import annotations

import os
import select

from . import confine, kernel, tree
from .plan import MOUNTS, PIDS
from .view import HOME, SCRATCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

    from .plan import Spec

_QUIT: Final = 3
_BROKEN_PIPE: Final = 13
_FILE_TOO_LARGE: Final = 25
_ENDING: Final = 5.0


class Pipes:
    """The ends that the job's processes write to: what is printed, the command's status, and why it could not begin."""

    def __init__(self, printed: int, status: int, fault: int) -> None:
        self.printed = printed
        self.status = status
        self.fault = fault


def keep_together(spec: Spec, work: str, scratch: str, user: int, pipes: Pipes, warden: int) -> NoReturn:
    """Be the job's first process: start the command, adopt what it leaves, tell its status, and go.

    If the warden is killed, this process kills the job: by its own end where it is the first one of a namespace of
    processes, and else one by one. `warden` is a pidfd of it: from inside a namespace of processes nothing else tells
    whether it was killed before the kernel had been told what is to happen then.
    """
    try:
        os.setsid()
        kernel.wake_by_signals(-1)
        if PIDS not in spec.means:
            kernel.on_signal(tree.TERMINATE, _end_all)
        kernel.adopt_orphans()
        kernel.die_with_parent(tree.KILL if PIDS in spec.means else tree.TERMINATE)
        if select.select([warden], [], [], 0)[0]:
            os._exit(1)
        os.close(warden)
        confine.settle(spec.means, confine.view_of(spec, work, scratch, user))
        command = os.fork()
        if command == 0:
            _become(spec, work, user, pipes)
        kernel.hide_from_debuggers()
        os.close(pipes.printed)
        os.close(pipes.fault)
        null = os.open("/dev/null", os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        while True:
            pid, status = os.wait()
            if pid == command:
                os.write(pipes.status, b"%d\n" % status)
                os._exit(0)
    except BaseException as problem:
        _tell(pipes.fault, problem)
        os._exit(1)


def _end_all() -> None:
    tree.end_all(tree.Tree(os.getpid()), within=_ENDING)
    os._exit(1)


def _become(spec: Spec, work: str, user: int, pipes: Pipes) -> NoReturn:
    fault = pipes.fault
    try:
        for number in (tree.TERMINATE, tree.HANG_UP, tree.INTERRUPT, _QUIT, _BROKEN_PIPE, _FILE_TOO_LARGE):
            kernel.on_signal(number, None)
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(pipes.printed, 1)
        os.dup2(pipes.printed, 2)
        fault = os.dup2(pipes.fault, 3, inheritable=False)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        home, scratch = (HOME, SCRATCH) if MOUNTS in spec.means else (work, work)
        confine.become(spec, home, user)
        kernel.die_with_parent(tree.KILL)
        environment = {**spec.environment, "HOME": home, "PWD": home, "TMPDIR": scratch}
        os.execve(spec.program, spec.arguments, environment)  # noqa: S606 - no shell is what is wanted
    except BaseException as problem:
        _tell(fault, problem)
        os._exit(127)


def _tell(descriptor: int, problem: BaseException) -> None:
    try:
        os.write(descriptor, str(problem).encode(errors="replace")[:500] or b"it failed")
    except OSError:
        pass
