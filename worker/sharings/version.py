"""Finding a version in what a program prints, in the form that requirements compare.

Pure. Requirements compare versions number by number (`bitdew.core.requirement`), so that all that matters is which
characters belong to the version: `6.30/04` and `1.8.0_392` become `6.30.04` and `1.8.0.392`.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 64
"""Characters of a version on the wire."""
_SUFFIX: Final = r"(?:[-.~]?(?:alpha|beta|dev|post|rc|pre|a|b|p)[.-]?\d{1,6})?"
_DOTTED: Final = rf"\d{{1,9}}(?:[./_]\d{{1,9}}){{1,7}}{_SUFFIX}"
_ANYWHERE: Final = re.compile(rf"(?<![\w.])v?({_DOTTED})(?![\w])", re.IGNORECASE | re.ASCII)
_NUMBER: Final = re.compile(r"(?<![\w.])v?(\d{1,9})(?![\w.])", re.IGNORECASE | re.ASCII)
_WHOLE: Final = re.compile(rf"v?({_DOTTED}|\d{{1,9}}{_SUFFIX})", re.IGNORECASE | re.ASCII)


def version_in(text: str, pattern: re.Pattern[str] | None = None) -> str:
    """The version that `text` tells, or "" if it tells none.

    Args:
        text: What a program printed, bounded by who asked it.
        pattern: Where the version stands, as its first group; otherwise the first dotted number counts, or else the
            first whole one.
    """
    if pattern is not None:
        found = pattern.search(text)
        return normalised(found[1]) if found else ""
    found = _ANYWHERE.search(text) or _NUMBER.search(text)
    return normalised(found[1]) if found else ""


def normalised(version: str) -> str:
    """`version` with dots between its numbers and in lower case, or "" if it is none."""
    match = _WHOLE.fullmatch(version.strip())
    if match is None:
        return ""
    return re.sub(r"[/_~-]", ".", match[1].lower())[:LONGEST].rstrip(".")
