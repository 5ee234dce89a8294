"""A run's log on its way to the service: text, part by part, each told until it was taken.

Owns how bytes become characters, which the service counts, and what stands for bytes that were overwritten before they
were told.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

from bitdew.wire import limits
from bitdew.wire.models import LogChunk

from .warden import plan
from .warden.log import LogReader

if TYPE_CHECKING:
    from pathlib import Path

_MOST: Final = limits.CONSOLE_CHUNK // 2
"""Bytes that are read at a time: with the note of a gap they fit into a part."""


class LogTeller:
    """What is still to be told of one run's log. Its methods block for an instant."""

    def __init__(self, directory: Path) -> None:
        """`directory` is the run's."""
        self._path = directory / plan.LOG
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._bytes = 0
        self._characters = 0
        self._part = ""

    def next(self, *, ended: bool = False) -> LogChunk | None:
        """The next part that was not taken yet, the same until `taken` says so; None if there is none now."""
        if not self._part:
            self._part = self._read(ended=ended)
        return LogChunk(offset=self._characters, text=self._part) if self._part else None

    def taken(self, part: LogChunk | None) -> None:
        """The service has this part."""
        if part is not None and part.offset == self._characters:
            self._characters += len(part.text)
            self._part = ""

    def _read(self, *, ended: bool) -> str:
        try:
            with LogReader(str(self._path)) as log:
                start, raw = log.read(self._bytes, _MOST)
        except (OSError, ValueError):
            return ""  # it has printed nothing yet
        gap = start - self._bytes
        self._bytes = start + len(raw)
        text = self._decoder.decode(raw, final=ended and not raw)
        return f"\n[{gap} bytes left out]\n{text}" if gap and raw else text
