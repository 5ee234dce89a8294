"""What a worker made in its home, and its removal.

Owns the list: whatever a worker writes into its home is named here, and nothing else there is ever touched. It follows
no link. What it removes last is what a removal that was cut off is known again by.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bitdew.core.errors import error

from ..enrol import IDENTITY
from ..settings import FILE

FIRST: Final = (
    "control.sock",
    "swarm.port",
    "paused.json",
    "machines",
    "virtualbox",
    "jobs",
    "copies",
    "journal.db",
    "journal.db-wal",
    "journal.db-shm",
)
LAST: Final = (IDENTITY, FILE, "worker.lock")
_VARIED: Final = ("journal.db.*", f".{FILE}.*", f"{FILE}.*", ".*.tmp")
"""What parts of the worker set aside, or were killed while they wrote: a spoilt journal, half a file."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What came of a removal.

    Attributes:
        freed: Bytes that were taken on the disk.
        kept: What lies in the home and is not the worker's, or belongs to nobody that is known here.
    """

    freed: int
    kept: tuple[Path, ...]


def has_any(home: Path) -> bool:
    """Whether anything of a worker is there. Blocks."""
    return any(path.is_symlink() or path.exists() for path in (home / name for name in (*FIRST, *LAST)))


def remove(home: Path, *, parent: Path | None = None) -> Removed:
    """Remove all that a worker made in `home`, and `home` itself if nothing else is there. Blocks.

    `parent`, if it is given, goes with it when that leaves it empty. It can be repeated.

    Raises:
        HostError: `storage.failed`; what was removed until then is gone.
    """
    freed = 0
    varied = [path for pattern in _VARIED for path in sorted(home.glob(pattern))]
    for path in (*(home / name for name in FIRST), *varied, *(home / name for name in LAST)):
        freed += _remove(path)
    kept = tuple(sorted(home.iterdir())) if home.is_dir() else ()
    if not kept:
        _remove_empty(home)
        if parent is not None and parent.is_dir() and not any(parent.iterdir()):
            _remove_empty(parent)
    return Removed(freed, kept)


def _remove(path: Path) -> int:
    try:
        if path.is_dir() and not path.is_symlink():
            size = sum(_taken(inner) for inner in path.rglob("*"))
            shutil.rmtree(path)
        else:
            size = _taken(path)
            path.unlink(missing_ok=True)
    except OSError as cause:
        raise _failed(path, cause) from cause
    return size


def _taken(path: Path) -> int:
    """Bytes that a file takes of the disk; holes are none."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_blocks * 512


def _remove_empty(folder: Path) -> None:
    try:
        if folder.is_dir() and not folder.is_symlink():
            folder.rmdir()
    except OSError as cause:
        raise _failed(folder, cause) from cause


def _failed(path: Path, cause: OSError) -> Exception:
    why = f"{cause.filename or path}: {cause.strerror or cause}"
    do = "Make it yours, and run the same command again: it goes on."
    return error("storage.failed", f"{path} can't be removed", why=why, do=do, path=str(path))
