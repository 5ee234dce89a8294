"""Models of the log of events: what happened to data and to their copies, in order."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from . import limits
from .model import Model, NameText, Sentence, UidText

CursorText = Annotated[str, Field(max_length=40)]
Happening = Literal[
    "created",
    "arrived",
    "changed",
    "damaged",
    "mended",
    "ended",
    "assigned",
    "fetching",
    "verifying",
    "held",
    "dropping",
    "gone",
    "lost",
    "failed",
]
"""What happened: to a datum, or to its copy on one host. The copy's are the states of a placement.
`damaged` and `mended` are said of the repository's own."""


class EventView(Model):
    """One thing that happened."""

    cursor: CursorText
    """The place behind it in the log."""
    kind: Happening
    data: UidText
    name: NameText
    size: int
    at: datetime
    host: UidText | None = None
    host_name: str = ""
    why: Sentence = ""


class EventsReply(Model):
    """A page of events. Hand back `next` as `after`: nothing that comes behind it is left out."""

    events: Annotated[list[EventView], Field(max_length=limits.PAGE)]
    next: CursorText
    missed: bool = False
    """Whether events after the cursor are not kept any more, or it is of another log: what is so is to be looked at."""
