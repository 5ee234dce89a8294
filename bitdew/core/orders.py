"""Orders: what the scheduler tells one host to do with one subject."""

from __future__ import annotations

from enum import StrEnum


class OrderKind(StrEnum):
    """The instructions that a host understands."""

    PLACE = "place"
    DROP = "drop"
    LAUNCH = "launch"
    HALT = "halt"
