"""Attributes: the wishes attached to data, checked, and never silently ignored."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .errors import error
from .requirement import Requirement

EVERYWHERE: Final = -1
MOST_REPLICAS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Attribute:
    """What should be true of a datum.

    Attributes:
        replica: Verified copies wanted, on distinct hosts; -1 for every eligible host; 0 for none.
        fault_tolerance: Whether copies on lost hosts stop counting and are made again elsewhere.
        requires: Which hosts are eligible.
        priority: Which deficit is served first: the higher.
    """

    replica: int = 1
    fault_tolerance: bool = False
    requires: Requirement = field(default_factory=Requirement)
    priority: int = 0

    def __post_init__(self) -> None:
        if not EVERYWHERE <= self.replica <= MOST_REPLICAS:
            raise _impossible("replica", self.replica, f"it is -1 (everywhere) or from 0 to {MOST_REPLICAS}")
        if not -1000 <= self.priority <= 1000:
            raise _impossible("priority", self.priority, "it is from -1000 to 1000")

    def to_dict(self) -> dict[str, Any]:
        """The attribute under the keys of the command line and the wire."""
        return {
            "replica": self.replica,
            "ft": self.fault_tolerance,
            "requires": self.requires.text,
            "priority": self.priority,
        }

    @classmethod
    def from_dict(cls, wishes: Mapping[str, Any]) -> Attribute:
        """The attribute that `wishes` spell.

        Raises:
            UserError: `attribute.invalid` for an unknown key or an impossible value, `attribute.requires`.
        """
        known = {"replica": int, "ft": bool, "requires": str, "priority": int}
        for key, value in wishes.items():
            if key not in known:
                near = difflib.get_close_matches(key[:40], known, n=1)
                raise error(
                    "attribute.invalid",
                    f"{key[:40]!r} is not a key of an attribute",
                    do=f"Did you mean {near[0]!r}?" if near else f"The keys are {', '.join(known)}.",
                    attribute=key[:40],
                )
            if type(value) is not known[key]:
                raise _impossible(key, value, f"it is of type {known[key].__name__}")
        return cls(
            replica=wishes.get("replica", 1),
            fault_tolerance=wishes.get("ft", False),
            requires=Requirement(wishes.get("requires", "")),
            priority=wishes.get("priority", 0),
        )


def _impossible(key: str, value: object, why: str) -> Exception:
    return error("attribute.invalid", f"{key} can't be {str(value)[:80]!r}", why=why, attribute=key)
