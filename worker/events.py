"""What the daemon tells whoever started it: one line for each thing that a volunteer may want to see.

Owns the shape of an event. It must not be used to steer anything: an observer that fails or lags changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class EventKind(StrEnum):
    """What happened."""

    STARTED = "started"
    JOINED = "joined"
    SERVICE_LOST = "service-lost"
    ORDER = "order"
    PLACEMENT = "placement"
    PROGRESS = "progress"
    MACHINE = "machine"
    JOB = "job"
    UNKNOWN_FILE = "unknown-file"
    EVICTED = "evicted"
    RENEWED = "renewed"
    LIMITS = "limits"
    ACTIVITY = "activity"
    SHARING = "sharing"
    TROUBLE = "trouble"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: What happened.
        subject: The uid of the datum or machine, a file's path, or "".
        text: A sentence for people.
        fields: The names and figures in it.
    """

    kind: EventKind
    subject: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


Observer = Callable[[Event], None]


class Announcer:
    """Hands events to an observer and to the log."""

    def __init__(self, observer: Observer | None = None) -> None:
        self._observer = observer

    def tell(self, kind: EventKind, subject: str, text: str, **fields: Any) -> None:
        """Tell that something happened. Progress goes to the observer alone: it would flood a log."""
        if kind is not EventKind.PROGRESS:
            log.info(text, kind=str(kind), subject=subject, **fields)
        if self._observer is None:
            return
        try:
            self._observer(Event(kind, subject, text, fields))
        except Exception:
            log.exception("an observer of the worker failed", kind=str(kind))
