"""Orders: what the scheduler tells one host to do with one subject."""

from __future__ import annotations

from enum import StrEnum


class OrderKind(StrEnum):
    """The instructions that a host understands."""

    PLACE = "place"
    DROP = "drop"
    LAUNCH = "launch"
    HALT = "halt"
    RUN = "run"
    CANCEL = "cancel"
    ERRAND = "errand"


class ErrandKind(StrEnum):
    """What a machine's host is asked to do with it once, beside running and ending it."""

    PAUSE = "pause"
    RESUME = "resume"
    SCREENSHOT = "screenshot"
    SNAPSHOT = "snapshot"
    RESTORE = "restore"
    CLEAR = "clear"
    """Remove what is left of a machine that has ended: its disk, with its snapshots."""


class ErrandState(StrEnum):
    """How far an errand is."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
