"""What a job may reach: the steps between the warden and the command, in the one order in which they can be taken.

Owns that order. `enter` is done by the warden itself, before it forks; `settle` by the job's first process; `become` by
the process that then is the command. Which means there are is for `probe` to say.
"""

from __future__ import annotations

import os
import resource

from . import kernel, syscalls, tree
from .plan import FILTER, LANDLOCK, MOUNTS, NETWORK, OWN_USER, PIDS, USER_NAMESPACE
from .view import DEVICES, SCRATCH, SHARED_MEMORY, SYSTEM, View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from .plan import Spec

_READ: Final = kernel.READ_FILE | kernel.READ_DIR
_RUN: Final = _READ | kernel.EXECUTE
_ANY: Final = 1 << 62
_FIRST_USER: Final = 61184
_USERS: Final = 4336
"""The users that systemd too takes only while something runs: nobody's account is among them."""
_OPEN_FILES: Final = 4096
_ROOM_OF_ADDRESSES: Final = 512 * 2**20
"""Bytes that a process may reserve beyond its memory: what threads and allocators reserve is mostly never touched."""
_BEYOND: Final = 2**20
"""Bytes by which one file may pass the limit of all, so that the watch finds that it did: the kernel's refusal to write
is told to the job alone, which may make a failure of any kind of it."""
_COUNTED_BY_NAMESPACE: Final = (5, 14)
"""The release of Linux from which a user's processes are counted for each user namespace."""


def enter(means: frozenset[str]) -> None:
    """Enter the namespaces that this process's children then begin in.

    Raises:
        OSError: If the system refuses.
    """
    user, group = os.getuid(), os.getgid()
    wanted = 0
    if USER_NAMESPACE in means:
        wanted |= kernel.NEW_USER
    if PIDS in means:
        wanted |= kernel.NEW_PIDS
    if wanted:
        kernel.unshare(wanted)
    if USER_NAMESPACE in means:
        _tell("/proc/self/setgroups", "deny")
        _tell("/proc/self/uid_map", f"{user} {user} 1")
        _tell("/proc/self/gid_map", f"{group} {group} 1")


def _tell(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def settle(means: frozenset[str], view: View) -> None:
    """Enter what the job's processes share, in the first of them.

    Raises:
        OSError: If the system refuses.
    """
    try:
        _tell("/proc/self/oom_score_adj", "1000")  # where memory runs out, the job goes first
    except OSError:
        pass
    if NETWORK in means:
        kernel.unshare(kernel.NEW_NETWORK | kernel.NEW_IPC)
        _loopback_up()
    if MOUNTS in means:
        view.enter()


def view_of(spec: Spec, work: str, scratch: str, user: int) -> View:
    """What the job of `spec` is to see."""
    return View(
        work,
        scratch,
        readable=spec.readable,
        inputs=spec.inputs,
        memory=spec.memory,
        pids=PIDS in spec.means,
        user=user,
        whole=spec.anything,
        network=spec.network,
    )


def _loopback_up() -> None:
    """Bring up the loopback of the network namespace: programs talk to themselves over it."""
    import _socket  # `socket` takes milliseconds
    import fcntl

    with_flags = b"lo".ljust(16, b"\0") + (0x1 | 0x40).to_bytes(2, "little") + bytes(22)
    made = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM, 0)
    try:
        fcntl.ioctl(made.fileno(), 0x8914, with_flags)
    except OSError:
        pass  # it stays without
    finally:
        made.close()


def become(spec: Spec, home: str, user: int) -> None:
    """Turn this process into what may do no more than the command: the last steps before it is started.

    `user`: whom to become, or the user that this process is.

    Raises:
        OSError: If the system refuses.
    """
    _limit(spec, user)
    if user != os.getuid():
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    kernel.gain_nothing()
    os.umask(0o077)
    os.chdir(home)
    if LANDLOCK in spec.means:
        kernel.landlock(_rules(spec, home), network=spec.network or NETWORK in spec.means)
    if FILTER in spec.means:
        syscalls.refuse(local_sockets=MOUNTS in spec.means or OWN_USER in spec.means)


def _rules(spec: Spec, home: str) -> list[tuple[str, int]]:
    own = _ANY - 1 & ~(kernel.MAKE_CHAR | kernel.MAKE_BLOCK | kernel.EXECUTE)
    rules = [(path, _RUN) for path in (*SYSTEM, *spec.readable)]
    rules += [(path, _READ | kernel.WRITE_FILE) for path in DEVICES]
    rules += [(home, own), ("/proc", _READ)]
    if MOUNTS in spec.means:
        rules += [("/", _READ), (SCRATCH, own), (SHARED_MEMORY, own)]
    return rules


def _limit(spec: Spec, user: int) -> None:
    """The limits that the kernel itself holds for each process; those of them all together are watched."""
    cpu = int(spec.runtime * spec.cpus) + 60  # the watch is stricter, and holds for all together
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_DATA: spec.memory + max(spec.memory, _ROOM_OF_ADDRESSES),
        resource.RLIMIT_FSIZE: spec.disk + _BEYOND,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_MEMLOCK: 64 * 1024,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NPROC: _tasks(spec, user),
    }
    for what, most in wanted.items():
        hard = resource.getrlimit(what)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def _tasks(spec: Spec, user: int) -> int:
    """How many processes and threads the job's user may have.

    The kernel counts all of a user's, so that the volunteer's own have to be allowed for where the job runs by the
    same user, and the watch alone is exact.
    """
    few = 8  # the warden's own
    if user != os.getuid() or (USER_NAMESPACE in spec.means and _release() >= _COUNTED_BY_NAMESPACE):
        return spec.processes + few
    mine = [p for p in os.listdir("/proc") if p.isdigit() and _owner(p) == user]
    return sum(found.threads for p in mine if (found := tree.look_at(int(p)))) + spec.processes + few


def _owner(pid: str) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def _release() -> tuple[int, ...]:
    words = os.uname().release.split(".")
    return tuple(int("".join(c for c in word if c.isdigit()) or 0) for word in words[:2])


def free_user() -> tuple[int, object]:
    """A user that no other job has, and what keeps others from taking it while that is held."""
    for at in range(_USERS):
        user = _FIRST_USER + (os.getpid() + at) % _USERS
        if claim := _claimed(f"user-{user}"):
            return user, claim
    raise OSError("no user is free")


def take_processors(count: int, turn: int) -> list[object]:
    """Run on `count` processors from now on, as far as possible on some that no other job has.

    Args:
        count: How many; all, if there are no more.
        turn: Any number: with which one to begin.

    Returns:
        What keeps others from choosing the same while it is held.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    mine = sorted(os.sched_getaffinity(0))
    if count >= len(mine):
        return []
    begin = turn % len(mine)
    order = mine[begin:] + mine[:begin]
    claims: dict[int, object] = {}
    for processor in order:
        if len(claims) < count and (claim := _claimed(f"processor-{processor}")):
            claims[processor] = claim
    others = [processor for processor in order if processor not in claims]
    os.sched_setaffinity(0, [*claims, *others[: count - len(claims)]])
    return list(claims.values())


def _claimed(what: str) -> object | None:
    """A claim that ends with this process at the latest; None if another has it."""
    import _socket  # `socket` takes milliseconds

    claim = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0)
    try:
        claim.bind(f"\0bitdew-job-{what}")
    except OSError:
        claim.close()
        return None
    return claim
