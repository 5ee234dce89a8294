"""Which copies somebody wants to be told of.

Owns the choice by the data's names, their attributes and this host's labels. It is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bitdew.wire import limits

from .contract import Replica

Pattern = Annotated[str, Field(min_length=1, max_length=limits.NAME, pattern=r"^[A-Za-z0-9._*?\[\]!-]+$")]
"""A name, or a pattern of names in the manner of a shell: `hep-*`."""


class Selection(BaseModel):
    """Every copy, or those that fulfil all that is said here.

    Attributes:
        data: The data's names or patterns of them; any if there are none.
        attributes: The names of their attributes, or patterns of them; any, also none, if there are none.
        labels: What this host must have for anything to be told, as its own labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: tuple[Pattern, ...] = Field(default=(), max_length=limits.PATTERNS)
    attributes: tuple[Pattern, ...] = Field(default=(), max_length=limits.PATTERNS)
    labels: dict[str, Annotated[str, Field(max_length=200)]] = Field(default_factory=dict, max_length=limits.LABELS)

    def takes(self, replica: Replica, labels: Mapping[str, str]) -> bool:
        """Whether `replica` is among what is wanted, on a host with `labels`."""
        return (
            all(labels.get(key) == value for key, value in self.labels.items())
            and _matches(replica.name, self.data)
            and _matches(replica.attribute, self.attributes)
        )


class PluginWish(BaseModel):
    """What the host's owner says of one plug-in that is installed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on: bool = True
    """Whether it is loaded and told anything."""
    only: Selection = Field(default_factory=Selection)
    """Which copies it is told of."""


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
