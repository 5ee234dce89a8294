"""Models of deployments and their machines."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from bitdew.core.states import MachineState

from . import limits
from .model import ErrorView, Model, NameText, UidText


class DeployRequest(Model):
    """Run machines from a disk."""

    disk: NameText
    count: Annotated[int, Field(ge=1, le=limits.MACHINES_PER_DEPLOYMENT)] = 1
    memory: Annotated[int, Field(ge=16 * 2**20, le=2**40)] = 256 * 2**20
    cpus: Annotated[int, Field(ge=1, le=256)] = 1


class MachineView(Model):
    """A machine as users see it."""

    uid: UidText
    deployment: UidText
    disk: str
    host: UidText | None
    host_name: str
    state: MachineState
    since: datetime
    hypervisor: str
    reason: ErrorView | None = None
    cause: str = ""
    console: int = 0
    """Characters that its console has written."""


class DeploymentView(Model):
    """A deployment as users see it."""

    uid: UidText
    disk: str
    count: int
    created: datetime
    machines: list[MachineView]


class MachineList(Model):
    """Machines."""

    machines: list[MachineView]


class ConsoleReply(Model):
    """A part of a machine's console, from `offset` on."""

    offset: int
    text: str
    end: int
    """Characters written so far: the offset to ask for next."""
    state: MachineState
