"""Models of errands: what a machine's user asks of its host once, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from bitdew.core.orders import ErrandKind, ErrandState

from . import limits
from .model import ErrorView, Instant, Model, NameText, UidText

Picture = Annotated[bytes, Field(max_length=limits.PICTURE)]
"""A machine's screen, as PNG."""


class ErrandRequest(Model):
    """Ask something of a machine's host."""

    kind: ErrandKind
    name: NameText | None = None
    """The snapshot to make or to go back to; the service finds a name for one to be made."""


class ErrandOrder(Model):
    """What a host is to do with a machine of its own."""

    machine: UidText
    kind: ErrandKind
    name: NameText | None = None


class ErrandReport(Model):
    """What came of an errand, as the host says."""

    reason: ErrorView | None = None
    """Why nothing came of it."""
    picture: Picture | None = None


class ErrandView(Model):
    """An errand as whoever asked sees it."""

    uid: UidText
    machine: UidText
    """The machine that it is about, or that goes on from a snapshot of one that ended."""
    kind: ErrandKind
    name: str | None
    state: ErrandState
    asked: datetime
    reason: ErrorView | None = None
    picture: bytes | None = None
    """There for some minutes, and only in the answer about this one errand."""


class SnapshotModel(Model):
    """A machine's state that was saved on its host."""

    name: NameText
    at: Instant
