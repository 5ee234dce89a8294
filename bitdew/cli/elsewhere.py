"""Commands that are there under another noun than the one that was written: `bitdew ls`, `bitdew worker ls`.

Owns the guess alone; a typo in a command's own name is typer's matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

_NEIGHBOURS: Final = {"worker": "host", "host": "worker", "disk": "data", "data": "disk"}
"""Nouns that people take for each other: what a volunteer runs and what a service sees of it; a disk is a datum."""


def elsewhere(context: Any, given: Sequence[str]) -> list[str]:
    """The commands that may be meant where `given` names one that is not in the group of `context`, a click context."""
    groups: Mapping[str, Any] = getattr(context.find_root().command, "commands", {})
    here = getattr(context.command, "commands", None)  # None of a command that is no group
    path = context.command_path.split()[1:]
    word = _first_unknown(given, path)
    if here is None or not word or word in here:
        return []
    nouns: Iterable[str] = groups if not path else filter(None, [_NEIGHBOURS.get(path[0])])
    return [f"bitdew {noun} {word}" for noun in nouns if word in getattr(groups[noun], "commands", {})]


def _first_unknown(given: Sequence[str], path: list[str]) -> str:
    """The first word behind those of `path` that is no option."""
    left = list(path)
    for word in given:
        if left and word == left[0]:
            left.pop(0)
        elif not left and not word.startswith("-"):
            return word
    return ""
