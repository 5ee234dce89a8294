"""What the commands of the volunteer's side print with `--json`, beyond the worker's own views: see `documents`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from bitdew.wire.draining import LeftCopy
from bitdew.wire.model import Model
from bitdew.worker.activity.rules import Rules


class WorkerJoined(Model):
    """A host has joined, and its worker does not run yet."""

    joined: Literal[True] = True
    host: str
    name: str
    url: str


class WorkerReady(Model):
    """A worker runs: its first line."""

    ready: Literal[True] = True
    host: str
    name: str
    url: str
    swarm: str
    home: str
    pid: int


class WorkerEvent(Model):
    """What a worker does: one of its lines."""

    time: datetime
    event: str
    subject: str
    text: str
    fields: dict[str, Any]


class WorkerRules(Model):
    """When a host works."""

    running: bool
    name: str
    home: str
    rules: Rules


class WorkerLeft(Model):
    """A host has left its service."""

    left: Literal[True] = True
    name: str
    known: bool
    """Whether the service knew the host."""
    lost: list[LeftCopy]
    """Copies that were nowhere else, where nothing was handed over."""
    revoked: bool
    freed: int
    kept: list[str]
    unheard: list[str]


class WorkerStays(Model):
    """A leaving was taken back."""

    stays: bool
    name: str


class UnitText(Model):
    """A unit of systemd, as it would be written."""

    unit: str


class UnitInstalled(Model):
    """systemd runs the worker."""

    unit: str
    scope: str
    home: str
    started: bool


class UnitRemoved(Model):
    """systemd runs it no more."""

    removed: str | None


class KnownSharing(Model):
    """Something that can be shared by its name alone."""

    name: str
    kind: str
    tried: str
    programs: list[str]
    source: str


class KnownSharings(Model):
    """All that can be shared by its name alone."""

    known: list[KnownSharing]
