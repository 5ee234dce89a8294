"""Asking another program of this host for a fact, within bounds.

Owns the bounds: no shell, seconds, kilobytes. A program that is missing, fails or hangs has said nothing.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Final

ANSWER_SECONDS: Final = 2.0
LONGEST_ANSWER: Final = 4096


def ask_program(name: str, *arguments: str) -> str | None:
    """What it prints, or None. Blocks."""
    found = shutil.which(name)
    if found is None:
        return None
    try:
        run = subprocess.run(
            [found, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if run.returncode != 0:
        return None
    return run.stdout[:LONGEST_ANSWER].decode("utf-8", "replace")
