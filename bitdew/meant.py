"""Paths as people write them: `~` for a home, relative to the folder where they are.

Owns that reading alone; whether anything is there is for whoever asked.
"""

from __future__ import annotations

from pathlib import Path

from bitdew.core.errors import error


def path_meant(written: str | Path) -> Path:
    """The absolute path that is meant.

    Raises:
        UserError: `input.invalid`, if it can't be found out.
    """
    try:
        return Path(written).expanduser().absolute()
    except RuntimeError:
        why, do = "the home of that user is not known", "Write the whole path."
    except FileNotFoundError:
        why, do = "the current folder is gone", "Write the whole path, or go to a folder that is there."
    raise error("input.invalid", f"{str(written)[:200]!r} leads nowhere", why=why, do=do, path=str(written))
