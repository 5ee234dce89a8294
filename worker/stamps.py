"""What tells whether a program, or another file, is still the one that it was, without opening it.

Owns the comparison: by path, device, inode, time of change and mode. It blocks for a moment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

Signature = tuple[tuple[str, int, int, int, int], ...]


def signature(files: Iterable[str]) -> Signature:
    """What tells whether `files`, by names or paths, are what they were: one that is not there is left out. Blocks."""
    found = []
    for name in files:
        path = program_path(name) if "/" not in name else Path(name)
        try:
            status = path.stat() if path is not None else None
        except OSError:
            continue
        if status is not None:
            found.append((str(path), status.st_dev, status.st_ino, status.st_mtime_ns, status.st_mode))
    return tuple(found)


def program_path(program: str) -> Path | None:
    """The whole path of a program that can be run, or None."""
    path = shutil.which(program, path=os.environ.get("PATH", os.defpath))
    return Path(path).absolute() if path is not None else None
