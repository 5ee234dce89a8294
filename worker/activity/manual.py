"""The owner's own word, kept over restarts: `<home>/paused.json`.

Owns that file. A file that can't be understood counts as a pause without an end: what the owner asked for is not undone
by an accident.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bitdew.core.errors import error

from .rules import Pause

FILE: Final = "paused.json"
_LONGEST: Final = 4096


def read_pause(home: Path) -> Pause | None:
    """What the owner said last, or None. Blocks."""
    try:
        with (home / FILE).open("rb") as file:
            until = json.loads(file.read(_LONGEST))["until"]
        found = None if until is None else datetime.fromisoformat(until)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError):
        return Pause()
    return Pause(found if found is None or found.tzinfo else found.replace(tzinfo=UTC))


def write_pause(home: Path, pause: Pause | None) -> None:
    """Keep what the owner says, so that a crash leaves the old word or this one. Blocks.

    Raises:
        HostError: `storage.failed`.
    """
    path = home / FILE
    try:
        if pause is None:
            path.unlink(missing_ok=True)
            return
        unfinished = path.with_name(f".{FILE}")
        unfinished.write_text(json.dumps({"until": pause.until.isoformat() if pause.until else None}))
        unfinished.replace(path)
    except OSError as cause:
        raise error("storage.failed", f"{path} can't be written", why=str(cause.strerror)) from cause
