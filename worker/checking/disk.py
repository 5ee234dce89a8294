"""Where copies would lie: whether there is room, how fast it is, and whether it is closed to others.

Owns these checks. One writes a file for a moment, and removes it.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bitdew.core.units import format_size

from .findings import Finding, fine, problem, warning

if TYPE_CHECKING:
    from ..settings import WorkerSettings

LEAST: Final = 1024**3
"""Bytes below which there is room for no disk worth the name."""
WRITTEN: Final = 64 * 2**20
"""Bytes that are written to see how fast that is."""
SECONDS: Final = 5.0
"""How long that may take."""
SLOW: Final = 10 * 2**20
"""Bytes per second below which a copy is a burden to the host."""
_BLOCK: Final = 2**20
_OTHER: Final = "Choose another --home."


def room(settings: WorkerSettings) -> Iterator[Finding]:
    """Whether the quota is there. What is held already counts as there."""
    folder = _nearest(settings.home)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as fault:
        yield problem("disk", f"{folder} can't be looked at: {fault.strerror}", _OTHER)
        return
    taken = _taken(settings.home / "copies") + _taken(settings.home / "machines")
    found = f"{format_size(free)} are free, {format_size(taken)} of {format_size(settings.quota)} lent are taken"
    if settings.quota == 0:
        yield warning("disk", "nothing is lent", "Lend some: bitdew worker limits --quota 20GB")
    elif free + taken < min(LEAST, settings.quota):
        yield problem("disk", found, f"Free some space in {folder}, or choose another --home.")
    elif free + taken < settings.quota:
        less = format_size(free + taken).replace(" ", "")
        yield warning("disk", f"{found}: more is lent than there is", f"Lend less: bitdew worker limits --quota {less}")
    else:
        yield fine("disk", found)


def speed(settings: WorkerSettings, seconds: float = SECONDS) -> Iterator[Finding]:
    """How fast the disk takes what is written and synced. Blocks for some seconds."""
    folder = _nearest(settings.home)
    block, began, done = os.urandom(_BLOCK), time.monotonic(), 0
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".bitdew-check-") as file:
            while done < WRITTEN and time.monotonic() - began < seconds:
                file.write(block)
                file.flush()
                os.fsync(file.fileno())
                done += _BLOCK
    except OSError as fault:
        yield problem("disk speed", f"{folder} can't be written: {fault.strerror}", _OTHER)
        return
    rate = int(done / max(1e-3, time.monotonic() - began))
    found = f"{format_size(rate)}/s written and synced"
    if rate < SLOW:
        yield warning("disk speed", found, "Choose a --home on a faster disk: copies would keep this one busy.")
    else:
        yield fine("disk speed", found)


def closed(settings: WorkerSettings) -> Iterator[Finding]:
    """Whether the home is its owner's alone: keys are in it."""
    try:
        status = settings.home.stat()
    except FileNotFoundError:
        above = _nearest(settings.home)
        if os.access(above, os.W_OK | os.X_OK):
            yield fine("folder", f"{settings.home} is made when the host joins")
        else:
            yield problem("folder", f"{settings.home} can't be made: {above} can't be written by this user", _OTHER)
        return
    except OSError as fault:
        yield problem("folder", f"{settings.home} can't be looked at: {fault.strerror}", _OTHER)
        return
    if not stat.S_ISDIR(status.st_mode) or not os.access(settings.home, os.R_OK | os.W_OK | os.X_OK):
        yield problem(
            "folder", f"{settings.home} can't be used by this user", "Give it to this user, or choose another --home."
        )
    elif status.st_mode & 0o077:
        do = f"Close it: chmod 700 {settings.home}"
        yield warning("folder", f"{settings.home} is open to other users", do)
    else:
        yield fine("folder", f"{settings.home} is this user's alone")


def _nearest(path: Path) -> Path:
    """`path`, or the first folder above it that is there."""
    return next((one for one in (path, *path.parents) if one.is_dir()), Path("/"))


def _taken(folder: Path) -> int:
    """Bytes that the files below `folder` take of the disk."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118 (thousands of them)
            except OSError:
                continue
    return total
