"""Which means of confinement this system has: found out by taking them, in processes that end at once.

Owns the choice between them. It runs as a program of its own, since a process can't go back.
"""

from __future__ import annotations

import os
import sys

from . import confine, fields, kernel, syscalls
from .plan import FILTER, LANDLOCK, MOUNTS, NETWORK, OWN_USER, PIDS, USER_NAMESPACE
from .view import HOME, View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Tell on stdout. The folder that is named by the second argument is an empty one to try with."""
    folder = sys.argv[2]
    root = os.getuid() == 0
    own = frozenset([OWN_USER] if root else [USER_NAMESPACE])
    found: frozenset[str] = frozenset()
    why = ""
    for tried in ([PIDS, MOUNTS, NETWORK], [MOUNTS, NETWORK], [MOUNTS], [NETWORK], []):
        means = own | frozenset(tried)
        problem = _attempt(lambda means=means: _settle(folder, means))  # type: ignore[misc]
        if not problem:
            found = means
            break
        why = why or problem
    if found == {USER_NAMESPACE}:
        found = frozenset()
    version = kernel.landlock_version()
    if version and not _attempt(_restrict):
        found |= {LANDLOCK}
    if not _attempt(_filter):
        found |= {FILTER}
    told = [("means", name) for name in sorted(found)] + [("landlock", str(version)), ("why", why)]
    sys.stdout.buffer.write(fields.pack(told))
    sys.stdout.flush()


def _attempt(step: Callable[[], object]) -> str:
    """Do `step` in a child; why it failed, or nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            step()
            os._exit(0)
        except BaseException as problem:
            os.write(writing, str(problem).encode()[:500])
            os._exit(1)
    os.close(writing)
    why = os.read(reading, 500).decode(errors="replace")
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return why or ("" if status == 0 else f"it ended with status {status}")


def _filter() -> None:
    kernel.gain_nothing()
    if not syscalls.refuse(local_sockets=False):
        raise OSError("this architecture's calls are not known")


def _restrict() -> None:
    kernel.gain_nothing()
    kernel.landlock([("/", kernel.EXECUTE)], network=True)


def _settle(folder: str, means: frozenset[str]) -> None:
    """As a job is confined, up to the command."""
    user = confine.free_user()[0] if OWN_USER in means else os.getuid()
    confine.enter(means)
    problem = _attempt(lambda: _inside(folder, means, user))
    if problem:
        raise OSError(problem)


def _inside(folder: str, means: frozenset[str], user: int) -> None:
    if OWN_USER in means:
        os.chown(folder, user, user)
    confine.settle(means, View(folder, folder, pids=PIDS in means, user=user))
    if OWN_USER in means:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    os.chdir(HOME if MOUNTS in means else folder)
    os.close(os.open("tried", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
    os.unlink("tried")
    os.stat("/proc/self/stat")
