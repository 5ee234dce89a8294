"""Files that hold keys: readable by their owner alone, and after a crash either whole or not there.

Owns how the trust room touches the file system. All of it blocks; callers run it in a thread.
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError, error

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_FILE: Final = 64 * 1024
"""Bytes that are read of a file at most; ours have a few KiB."""


@contextmanager
def _told_as_storage(path: Path, doing: str) -> Iterator[None]:
    """Turns the system's error into ours, with the path and the system's own words."""
    try:
        yield
    except OSError as cause:
        key = "storage.full" if cause.errno in {errno.ENOSPC, errno.EDQUOT} else "storage.failed"
        why = os.strerror(cause.errno) if cause.errno else str(cause)
        raise error(key, f"{doing} {path} failed", why=why, path=str(path)) from cause


def make_private_folder(folder: Path) -> None:
    """Make `folder` if need be, and close it to everyone but its owner.

    Raises:
        HostError: `storage.failed`, `storage.full`.
    """
    with _told_as_storage(folder, "Making the private folder"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Put `text` into `path`, mode 0600, so that a crash at any point leaves the old content or the new.

    Raises:
        HostError: `storage.failed`, `storage.full`.
    """
    with _told_as_storage(path, "Writing"):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def read_private(path: Path) -> str | None:
    """The text of `path`; None if there is no such file. Its mode is tightened to 0600.

    Raises:
        HostError: `storage.failed`, if it can't be read or is no text of a sensible size.
    """
    with _told_as_storage(path, "Reading"):
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    path.chmod(0o600)
                data = file.read(LARGEST_FILE + 1)
        except FileNotFoundError:
            return None
    if len(data) > LARGEST_FILE:
        raise damaged(path, f"it has more than {LARGEST_FILE} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise damaged(path, "it is not text") from cause


def is_there(path: Path) -> bool:
    """Whether `path` is a file.

    Raises:
        HostError: `storage.failed`, if the system won't tell.
    """
    with _told_as_storage(path, "Looking for"):
        return path.is_file()


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        HostError: `storage.failed`.
    """
    with _told_as_storage(path, "Removing"):
        path.unlink(missing_ok=True)


def sweep_unfinished(path: Path) -> None:
    """Remove what writers of `path` that were killed have left. Only for who knows that no other writer is alive."""
    for left in path.parent.glob(f".{path.name}.*.part"):
        remove(left)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Holds an exclusive lock on `folder`, and waits for it. It ends with the process at the latest."""
    import fcntl  # POSIX only: a worker elsewhere never needs it

    with _told_as_storage(folder, "Locking"):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with _told_as_storage(folder, "Locking"):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def damaged(path: Path, why: str, do: str = "") -> BitDewError:
    """The error for a file of ours whose content is not what we wrote."""
    return error("storage.failed", f"{path} is damaged", why=why, do=do, path=str(path))


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
