"""One who is to be told of copies: a plug-in that is installed, or a bridge of the host's owner.

Owns the shape alone, so that who asks for one and who tells it can name it without knowing each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .selection import Selection


@dataclass(frozen=True, slots=True)
class Listener:
    """One who is to be told: what it is, what makes the plug-in, and what it wants to know."""

    kind: str
    name: str
    about: object
    selection: Selection
    make: Callable[[], Any] = field(compare=False)

    @property
    def key(self) -> str:
        """What it is known by on this host, also in the journal."""
        return f"{self.kind}/{self.name}"
