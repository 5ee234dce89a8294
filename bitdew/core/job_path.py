"""Paths inside a job's own folder: what its inputs, its outputs and the patterns of these may be called.

Owns the bounds, which are the same for whoever submits, for the service, and for the host. It touches no file.
"""

from __future__ import annotations

from typing import Final

from .errors import error

DEPTH: Final = 16
"""Names in a path: its folders and the file."""
PATH_BYTES: Final = 1024
NAME_BYTES: Final = 255
"""Of one name in a path: what file systems allow."""
ANY_DEPTH: Final = "**"
"""In a pattern, folders at any depth."""
MOST_ANY_DEPTH: Final = 2
"""How often a pattern may say so: each time multiplies what is to be tried."""


def why_no_path(path: str) -> str:
    """Why `path` can't be a file's inside a job's folder; "" if it can. With slashes, on every system."""
    if not path.isprintable():
        return "it has characters that can't be written"
    if "\\" in path:
        return "a backslash leads out of a folder on some systems"
    parts = path.split("/")
    if not set(parts).isdisjoint({"", ".", ".."}):
        return "it is a path below the job's own directory, without '.' and '..'"
    if len(parts) > DEPTH:
        return f"it is {len(parts)} names deep, and {DEPTH} are allowed"
    if len(path.encode()) > PATH_BYTES:
        return f"it has more than {PATH_BYTES} bytes"
    if max(len(part.encode()) for part in parts) > NAME_BYTES:
        return f"a name in it has more than {NAME_BYTES} bytes"
    return ""


def checked_path(path: str, what: str = "an input's path", *, field: str = "inputs") -> str:
    """`path`, if it can be a file's inside a job's folder; `what` it is to be, for the one who reads the refusal.

    Raises:
        UserError: `input.invalid`.
    """
    if why := why_no_path(path):
        raise error("input.invalid", f"{path[:140]!r} can't be {what}", why=why, field=field)
    return path


def pattern_parts(pattern: str) -> tuple[str, ...]:
    """The parts of a pattern of outputs: `*`, `?` and `[…]` stay within a name; `**` stands for folders at any depth.

    Raises:
        UserError: `input.invalid`.
    """
    checked_path(pattern, "a pattern of outputs", field="outputs")
    parts = tuple(pattern.split("/"))
    if parts.count(ANY_DEPTH) > MOST_ANY_DEPTH:
        why = f"{ANY_DEPTH!r} may stand in it {MOST_ANY_DEPTH} times at most"
        raise error("input.invalid", f"{pattern[:140]!r} can't be a pattern of outputs", why=why, field="outputs")
    return parts
