"""Where a program stands in the log of events, kept over its restarts under a name of its own choice.

Owns the files in the profile's `cursors` folder. One process at a time follows a name.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import error
from bitdew.core.ids import checked_name
from bitdew.lock import HomeLock

if TYPE_CHECKING:
    from pathlib import Path

LARGEST: Final = 4096
"""Bytes of a file that are read."""
_CURSOR: Final = re.compile(r"\d{1,18}-\d{1,15}")


class CursorFile:
    """One named place. Its methods block: call them in a thread."""

    def __init__(self, profile: Path, name: str) -> None:
        """Nothing is touched yet. Raises UserError `input.invalid`, for what can't be a name."""
        self.path = profile / "cursors" / f"{checked_name(name, 'cursor')}.json"
        self._lock = HomeLock(self.path.parent, name)

    def open(self) -> str | None:
        """Take the name for this process; the place, if there is one.

        Raises:
            HostError: `storage.locked`, if another program follows it; `storage.failed`.
        """
        self._lock.acquire()
        try:
            with self.path.open("rb") as file:
                place = json.loads(file.read(LARGEST))["next"]
            if isinstance(place, str) and _CURSOR.fullmatch(place):
                return place
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as fault:
            why = str(fault)
        else:
            why = "it says no place"
        self._lock.release()
        do = "Remove it: the program then begins as if it had never followed anything."
        raise error("storage.failed", f"{self.path} can't be read", why=why, do=do, path=str(self.path))

    def save(self, place: str) -> None:
        """Keep the place: all of it or, if this machine dies now, the one before.

        Raises:
            HostError: `storage.failed`.
        """
        fresh = self.path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps({"next": place}) + "\n")
            os.replace(fresh, self.path)  # noqa: PTH105 (the same, and one call)
        except OSError as fault:
            why = fault.strerror or str(fault)
            raise error("storage.failed", f"{self.path} could not be written", why=why) from fault

    def close(self) -> None:
        """Give the name back. This alone does not block."""
        self._lock.release()
