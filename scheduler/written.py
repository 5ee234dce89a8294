"""What a machine or a run writes, part by part: only the end of it is kept, and offsets count all of its characters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Part(Protocol):
    """A part of what was written."""

    @property
    def offset(self) -> int:
        """Characters before this part."""

    @property
    def text(self) -> str:
        """The part."""


@dataclass(frozen=True, slots=True)
class Written:
    """The kept end, and how many characters were written in all."""

    kept: str
    end: int

    def after(self, part: Part, most: int) -> Written:
        """With `part` behind it, at most `most` characters kept. What was said before is not repeated."""
        missing = part.offset - self.end
        text = part.text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # PostgreSQL keeps no NUL in a text
        fresh = _gap(missing, most) + text if missing > 0 else text[-missing:]
        if not fresh:
            return self
        return Written((self.kept + fresh)[-most:], part.offset + len(part.text))

    def beyond(self, offset: int) -> tuple[int, str]:
        """What is kept from `offset` on, and where that begins."""
        start = max(offset, self.end - len(self.kept))
        return start, self.kept[len(self.kept) - (self.end - start) :]


def _gap(missing: int, most: int) -> str:
    """A note in place of what is missing, as long as that: offsets count characters."""
    note, width = f"\n[{missing} characters are missing]\n", min(missing, most)
    return note.ljust(width) if len(note) <= width else "?" * width
