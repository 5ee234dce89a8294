"""What a job sees of the system: a root of its own, with the system's programs, what it is to read, and its folders.

Owns that view. Nothing else is there: no home, no socket that a program of the volunteer's listens at, no other mount.
All of it but the job's own folders is read-only, whatever rights the job has. In a machine of the grid the view has all
that the machine has, but for folders that jobs share.
"""

from __future__ import annotations

import os

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/etc", "/sys/devices/system", "/nix/store", "/gnu/store"),
)
"""Where every system has its programs, and what they need to know of it."""
RESOLVERS: Final = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager/resolv.conf")
"""Where /etc/resolv.conf leads on some systems."""
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - each job has its own
HOME: Final = "/job"
SCRATCH: Final = "/tmp"  # noqa: S108 - each job has its own
_LINKS: Final = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/var/tmp": "/tmp",  # noqa: S108
}
_BASES: Final = ("/tmp", "/mnt", "/media", "/srv", "/opt")  # noqa: S108
"""Folders that every system has: the new root is built in the first under which nothing lies that goes into it."""
_OLD: Final = "/.old"


class View:
    """What goes into the view.

    Args:
        work: The job's folder.
        scratch: Its folder for what it needs while it runs only.
        readable: What it may read beside the system's.
        inputs: What is shown in its folder: a name there, which is that of an empty file, and a file.
        memory: Bytes that its shared memory may have.
        pids: Whether it is in a namespace of processes, and so has to be shown that one's.
        user: Whom the job runs by.
        whole: Whether all of the system is shown.
        network: Whether it may use the network.
    """

    def __init__(
        self,
        work: str,
        scratch: str,
        *,
        readable: Sequence[str] = (),
        inputs: Sequence[Sequence[str]] = (),
        memory: int = 2**20,
        pids: bool,
        user: int,
        whole: bool = False,
        network: bool = False,
    ) -> None:
        self._work = work
        self._scratch = scratch
        self._readable = readable
        self._inputs = inputs
        self._memory = memory
        self._pids = pids
        self._user = user
        self._whole = whole
        self._network = network
        self._base = ""

    def enter(self) -> None:
        """Make it this process's root, in a namespace of mounts that is left with it.

        Raises:
            OSError: If the system refuses.
        """
        kernel.unshare(kernel.NEW_MOUNTS)
        kernel.mount("none", "/", "", kernel.RECURSIVE | kernel.PRIVATE)
        before = os.umask(0o022)
        self._base = self._free_base()
        kernel.mount("tmpfs", self._base, "tmpfs", kernel.NOSUID | kernel.NODEV, "size=4m,mode=755")
        self._fill()
        os.mkdir(self._base + _OLD)
        kernel.change_root(self._base, self._base + _OLD)
        os.chdir("/")
        kernel.unmount(_OLD)
        os.rmdir(_OLD)
        kernel.make_read_only("/", recursive=True)
        for own in (HOME, SCRATCH, SHARED_MEMORY):
            kernel.make_writable(own)
        os.umask(before)

    def _free_base(self) -> str:
        needed = [self._work, self._scratch, *self._readable, *(source for _, source in self._inputs)]
        for base in _BASES:
            if os.path.isdir(base) and not any(path == base or path.startswith(base + "/") for path in needed):
                return base
        raise OSError("there is no folder to build a job's view of the system in")

    def _fill(self) -> None:
        self._bind(self._scratch, SCRATCH)  # first, since what may be read can lie below it
        if self._whole:
            taken = {"/proc", SCRATCH, HOME, self._base}
            self._bind_all([path for name in os.listdir("/") if (path := f"/{name}") not in taken])
        else:
            self._bind_all([*SYSTEM, *DEVICES, *self._readable, *(RESOLVERS if self._network else ())])
            for link, target in _LINKS.items():
                os.makedirs(os.path.dirname(self._base + link), exist_ok=True)
                os.symlink(target, self._base + link)
            self._name_user()
        if self._pids:
            self._mount("proc", "/proc", kernel.NOEXEC)
        else:
            self._bind("/proc", "/proc")
        self._mount("tmpfs", SHARED_MEMORY, kernel.NOEXEC, f"size={max(self._memory // 2, 4096)},mode=1777")
        self._bind(self._work, HOME)
        for name, source in self._inputs:
            kernel.mount(source, f"{self._base}{HOME}/{name}", "", kernel.BIND)

    def _name_user(self) -> None:
        """Have the job's user be called `job`, and nobody else be known: programs want a name, and need no others."""
        shown = {
            "/etc/passwd": f"root:x:0:0::/:/bin/false\njob:x:{self._user}:{self._user}::{HOME}:/bin/sh\n",
            "/etc/group": f"root:x:0:\njob:x:{self._user}:\n",
        }
        for path, text in shown.items():
            if not os.path.isfile(self._base + path):
                continue
            source = self._base + "/." + os.path.basename(path)
            descriptor = os.open(source, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.write(descriptor, text.encode())
            os.close(descriptor)
            kernel.mount(source, self._base + path, "", kernel.BIND)
            os.unlink(source)

    def _mount(self, kind: str, path: str, flags: int, options: str = "") -> None:
        os.makedirs(self._base + path, exist_ok=True)
        kernel.mount(kind, self._base + path, kind, kernel.NOSUID | kernel.NODEV | flags, options)

    def _bind_all(self, paths: Iterable[str]) -> None:
        """Show each where it is; the higher ones first, since they show what is below them too."""
        shown: list[str] = []
        for path in sorted(set(paths), key=len):
            if not os.path.lexists(path) or any(path.startswith(above + "/") for above in shown):
                continue
            if os.path.islink(path):
                os.makedirs(os.path.dirname(self._base + path), exist_ok=True)
                os.symlink(os.readlink(path), self._base + path)
            else:
                self._bind(path, path)
                shown.append(path)

    def _bind(self, source: str, path: str) -> None:
        target = self._base + path
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
            kernel.mount(source, target, "", kernel.BIND | kernel.RECURSIVE)
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        kernel.mount(source, target, "", kernel.BIND)
