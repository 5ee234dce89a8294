"""What the kernel offers and Python has no name for: process control, namespaces, mounts and Landlock.

Owns the system calls, by their numbers, which are the same on every architecture from 424 on. It decides nothing:
`confine` says what is asked of the kernel. Sources: prctl(2), unshare(2), mount_setattr(2), landlock(7), ioprio_set(2).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` adds takes as long to import as Python to start
import ctypes
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Final

NEW_MOUNTS: Final = 0x00020000
NEW_IPC: Final = 0x08000000
NEW_USER: Final = 0x10000000
NEW_PIDS: Final = 0x20000000
NEW_NETWORK: Final = 0x40000000

NOSUID: Final = 2
NODEV: Final = 4
NOEXEC: Final = 8
BIND: Final = 4096
RECURSIVE: Final = 16384
PRIVATE: Final = 1 << 18

_SET_PDEATHSIG: Final = 1
_SET_DUMPABLE: Final = 4
_SET_SECCOMP: Final = 22
_SET_CHILD_SUBREAPER: Final = 36
_SET_NO_NEW_PRIVS: Final = 38
_MOUNT_SETATTR: Final = 442
_LANDLOCK_CREATE: Final = 444
_LANDLOCK_ADD: Final = 445
_LANDLOCK_RESTRICT: Final = 446
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30}
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
_DETACH: Final = 2
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_READ_ONLY: Final = 1

# Rights of Landlock, by the bit, and the version of its interface that knows each.
EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
MAKE_CHAR: Final = 1 << 6
MAKE_BLOCK: Final = 1 << 11
TRUNCATE: Final = 1 << 14
IOCTL_DEV: Final = 1 << 15
_OF_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""What may be said of a file; the others are rights in a folder."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(option: int, value: int, more: int = 0) -> None:
    long = ctypes.c_ulong
    _checked(_libc.prctl(option, long(value), long(more), long(0), long(0)), "prctl")


def on_signal(number: int, do: Callable[[], object] | None) -> None:
    """Have `do` done when a signal comes; without it, what the system does by default."""
    _signal.signal(number, _signal.SIG_DFL if do is None else lambda *_: do())


def ignore_signal(number: int) -> None:
    """Do nothing when it comes."""
    _signal.signal(number, _signal.SIG_IGN)


def signal_by(process: int, number: int) -> None:
    """Send a signal to the process of this pidfd, if it has not ended."""
    try:
        _signal.pidfd_send_signal(process, number)
    except (ProcessLookupError, PermissionError):
        pass  # a program that runs by another's right can't be one of ours: none gains any


def wake_by_signals(descriptor: int) -> None:
    """Write a byte there for every signal that is handled."""
    _signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)


def die_with_parent(signal: int) -> None:
    """Have the kernel send this process `signal` when its parent ends. A change of user undoes it."""
    _prctl(_SET_PDEATHSIG, signal)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def gain_nothing() -> None:
    """No program that this process or a descendant starts gets rights that it has not now."""
    _prctl(_SET_NO_NEW_PRIVS, 1)


def hide_from_debuggers() -> None:
    """Processes of the same user can neither trace this one nor read its memory."""
    _prctl(_SET_DUMPABLE, 0)


def disk_when_idle() -> None:
    """Have the disk only when nobody else wants it, where the system knows of such a thing."""
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        _libc.syscall(number, 1, 0, 3 << 13)


def widen_pipe(descriptor: int, size: int) -> None:
    """Let a pipe hold `size` bytes, if the system allows so many."""
    try:
        fcntl.fcntl(descriptor, 1031, size)
    except OSError:
        pass


def unshare(what: int) -> None:
    """Enter namespaces of one's own."""
    _checked(_libc.unshare(what), "unshare")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount something, in this process's own view."""
    texts = [text.encode() if text else None for text in (source, target, kind)]
    result = _libc.mount(*texts, ctypes.c_ulong(flags), options.encode() if options else None)
    _checked(result, f"mount {target}")


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user")]


def change_root(new: str, old: str) -> None:
    """Make `new` the root, and mount the one that was there at `old`, inside it.

    Raises:
        OSError: If it is refused, or nobody knows the call's number on this architecture.
    """
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError("this architecture's number of pivot_root is not known")
    _checked(_libc.syscall(number, new.encode(), old.encode()), "pivot_root")


def unmount(path: str) -> None:
    """Take away what is mounted there, and below it."""
    _checked(_libc.umount2(path.encode(), _DETACH), f"umount {path}")


def make_read_only(path: str, *, recursive: bool) -> None:
    """Nothing can be changed through the mount at `path`, nor, if so asked, through any below it."""
    _set_attributes(path, _MountAttributes(set=_READ_ONLY), _AT_RECURSIVE if recursive else 0)


def make_writable(path: str) -> None:
    """Undo that for the one mount at `path`."""
    _set_attributes(path, _MountAttributes(clear=_READ_ONLY), 0)


def _set_attributes(path: str, attributes: _MountAttributes, flags: int) -> None:
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    result = _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, ctypes.byref(attributes), size)
    _checked(result, f"mount_setattr {path}")


class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def filter_calls(length: int, instructions: int) -> None:
    """Have the kernel ask a filter of so many instructions, which lie at that address, before each system call."""
    told = _Filter(length, instructions)  # which has to be there as long as the call takes
    _prctl(_SET_SECCOMP, 2, ctypes.addressof(told))


# Landlock -------------------------------------------------------------------------------------------------------------


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("files", "network", "scoped")]


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def landlock_version() -> int:
    """The version of Landlock's interface that this kernel speaks; 0 for none."""
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)))


def rights_known(version: int) -> int:
    """Every right about files that this version of the interface knows."""
    return (1 << (13 + (version >= 2) + (version >= 3) + (version >= 5))) - 1


def landlock(rules: Iterable[tuple[str, int]], *, network: bool) -> None:
    """Allow this process, and all that it starts, nothing but `rules`: paths, each with the rights below it.

    Where the kernel knows how, it can signal only what itself started, and speak to nobody's abstract sockets; without
    `network`, TCP is refused too. A path that does not exist is left out.
    """
    version = landlock_version()
    known = rights_known(version)
    wanted = _Ruleset(files=known, network=0 if network or version < 4 else 3, scoped=3 if version >= 6 else 0)
    size = ctypes.c_size_t(8 if version < 4 else 16 if version < 6 else 24)
    ruleset = _checked(_libc.syscall(_LANDLOCK_CREATE, ctypes.byref(wanted), size, 0), "landlock")
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & known)
        _checked(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0), "landlock")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        is_folder = os.fstat(place).st_mode & 0o170000 == 0o040000
        rule = _Rule(allowed=rights if is_folder else rights & _OF_FILES, parent=place)
        _checked(_libc.syscall(_LANDLOCK_ADD, ruleset, 1, ctypes.byref(rule), 0), f"landlock {path}")
    finally:
        os.close(place)
