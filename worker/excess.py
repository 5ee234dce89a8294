"""What a machine must not do to its host, whatever its guest wants: fill the disk, by its console or otherwise."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.units import format_size

from .storage import MARGIN

if TYPE_CHECKING:
    from pathlib import Path

CONSOLE_MOST: Final = 64 * 2**20
"""Bytes that a machine may write to its console: its guest decides how much that is, and the volunteer pays for it."""
FREE_LEAST: Final = MARGIN
"""Bytes of the volunteer's file system that machines leave free."""


def excess(written: int, folder: Path) -> BitDewError | None:
    """Why a machine whose console has `written` bytes must not go on in `folder`, or None. Blocks."""
    if written > CONSOLE_MOST:
        why = f"it wrote more than {format_size(CONSOLE_MOST)}"
        return error("hypervisor.failed", "The machine's console grew too large", why=why, do="Have it say less.")
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None  # whoever needs the folder next says what is wrong with it
    if free < FREE_LEAST:
        why = f"{format_size(free)} are free, and {format_size(FREE_LEAST)} are left to everybody else"
        return error("storage.full", "The host's disk is full, and so the machine was stopped", why=why, free=free)
    return None
