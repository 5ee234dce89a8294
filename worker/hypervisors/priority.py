"""How far machines step back for the volunteer's own programs: the lowest priority for processors and disks.

Owns the words that begin a program so, and what has to be said of its session. Where a system has no such thing, the
program runs without it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

LOWEST: Final = 19
"""The niceness of a program that everybody else goes before."""
VARIABLE: Final = "BITDEW_MACHINE_NICENESS"


def niceness() -> int:
    """How far machines step back: what the environment says, from 0 to 19, else 19."""
    said = os.environ.get(VARIABLE, "")
    return min(int(said), LOWEST) if said.isascii() and said.isdecimal() else LOWEST


def idle_disk() -> tuple[str, ...]:
    """The words by which a program has the disk only when nobody else wants it; none without `ionice`."""
    found = shutil.which("ionice")
    return (found, "-c", "3", "-t") if found else ()


def step_back(pid: int, niceness: int, proc: Path = Path("/proc")) -> None:
    """Have niceness mean something for a process that leads a session.

    Where the kernel groups processes by session (autogroup, as on most desktops), niceness tells them apart within
    their session only, and a machine's process has one of its own: the session itself has to be nice.
    """
    with contextlib.suppress(OSError):
        path = proc / str(pid) / "autogroup"
        if path.exists():
            path.write_text(f"{niceness}\n")
