"""A job's inputs in its folder: there to be read, and never to be changed, since the host's copy serves others too.

Owns how they get there. Where the job has a view of the system of its own, its warden shows it the copy itself,
read-only, which takes neither time nor room. Elsewhere it gets bytes of its own: shared by the file system where that
can copy on write, or copied. A hard link would let the job change the copy.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from bitdew.core.errors import error
from bitdew.core.job_path import checked_path

_CLONE: Final = 0x40049409
_CHUNK: Final = 16 * 2**20

Way = Literal["shown", "cloned", "copied"]
"""How an input is in the folder."""


def place_for(work: Path, name: str) -> Path:
    """An empty file for the input `name`, in a folder in which nothing runs yet. Blocks for an instant.

    Raises:
        UserError: `input.invalid`; also if another input is in the way.
    """
    path = work / checked_path(name, field="input")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        for folder in list(path.relative_to(work).parents)[:-1]:
            (work / folder).chmod(0o755)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444))
    except (FileExistsError, NotADirectoryError):
        raise error(
            "input.invalid", f"The input {name[:140]!r} is in the way of another, or given twice", field="input"
        ) from None
    return path


def copy(source: Path, to: Path, given_up: Callable[[], bool] = lambda: False) -> Way:
    """Give the empty file `to` the bytes of `source`; holes stay holes. Blocks for as long as copying takes.

    Args:
        source: A copy that this host holds.
        to: As `place_for` made it.
        given_up: Asked now and then; true ends the copying, with half of it done.

    Raises:
        HostError: `storage.full`, `storage.failed`.
    """
    try:
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            to.chmod(0o600)
            writing = os.open(to, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                return _fill(reading, writing, given_up)
            finally:
                os.close(writing)
                to.chmod(0o444)
        finally:
            os.close(reading)
    except OSError as problem:
        key = "storage.full" if problem.errno in {errno.ENOSPC, errno.EDQUOT} else "storage.failed"
        raise error(key, f"{to.name} could not be put into a job's folder", why=str(problem)) from problem


def _fill(reading: int, writing: int, given_up: Callable[[], bool]) -> Way:
    try:
        fcntl.ioctl(writing, _CLONE, reading)
    except OSError:
        pass  # this file system can't, or they are on two
    else:
        return "cloned"
    size = os.fstat(reading).st_size
    os.ftruncate(writing, size)
    at = 0
    while at < size and not given_up():
        try:
            at = os.lseek(reading, at, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno == errno.ENXIO:  # nothing but a hole follows
                break
            raise
        end = os.lseek(reading, at, os.SEEK_HOLE)
        while at < end and not given_up():
            done = _copy_part(reading, writing, at, min(_CHUNK, end - at))
            if done == 0:
                break
            at += done
    return "copied"


def _copy_part(reading: int, writing: int, at: int, size: int) -> int:
    try:
        return os.copy_file_range(reading, writing, size, at, at)
    except OSError as problem:
        if problem.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise
    data = os.pread(reading, min(size, 2**20), at)
    return os.pwrite(writing, data, at)
