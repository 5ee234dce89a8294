"""Locks that end with their process at the latest: one process per home, and files that a process claims.

Owns `<home>/<who>.lock`. The file stays when the lock is given back: removing it would let two processes lock two
files of the same name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from bitdew.core.errors import error


class HomeLock:
    """The exclusive right to a home. Its methods block for a moment; call them in a thread."""

    def __init__(self, home: Path, who: str) -> None:
        """`who` runs there: `worker` or `service`."""
        self.path = home / f"{who}.lock"
        self._who = who
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or say who has it.

        Raises:
            HostError: `storage.locked`, if another process has it; `storage.failed`.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as cause:
            do = "Choose another --home, or make that folder yours."
            raise error("storage.failed", f"{self.path} can't be opened", why=str(cause.strerror), do=do) from cause
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            home, who = self.path.parent, self._who
            why = f"the {who} with process id {holder} runs there" if holder.isdecimal() else f"a {who} runs there"
            raise error("storage.locked", f"{home} is in use", why=why, path=str(home)) from cause
        with contextlib.suppress(OSError):  # a full disk: the lock holds, and only its holder's name is lost
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back, if it was taken."""
        if self._descriptor is not None:
            # A process that is being started at this moment has all descriptors until it has become another program:
            # the lock would last as long as that.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def claim(path: Path) -> Iterator[int | None]:
    """Hold the lock that is the file at `path`: its file descriptor, or None if another process holds it.

    A process that inherits the descriptor keeps the lock after the block. It blocks for a moment. Raises `OSError`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def is_claimed(path: Path) -> bool:
    """Whether a process holds the lock that is the file at `path`, or is about to. It blocks for a moment."""
    try:
        with claim(path) as descriptor:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # as in `HomeLock.release`
            return descriptor is None
    except OSError:
        return False
