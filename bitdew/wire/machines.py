"""Models of deployments and their machines."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from bitdew.core.restarting import Restart
from bitdew.core.states import HostState, MachineState

from . import limits
from .errands import SnapshotModel
from .model import LOOPBACK, AddressText, ErrorView, Model, NameText, Sentence, UidText

Network = Literal["none", "user"]
"""What machines reach: nothing; or what their host reaches, behind its address."""


class PortModel(Model):
    """A TCP port of a machine's host, and the machine's port that it leads to."""

    host: Annotated[int, Field(ge=0, le=65535)] = 0
    """0 for any that is free there."""
    guest: Annotated[int, Field(ge=1, le=65535)]
    address: AddressText = LOOPBACK
    """The host's address where it can be reached, as its volunteer says; what a user asks for has no part in it."""


class DeployRequest(Model):
    """Run machines from a disk."""

    disk: NameText
    count: Annotated[int, Field(ge=1, le=limits.MACHINES_PER_DEPLOYMENT)] = 1
    memory: Annotated[int, Field(ge=16 * 2**20, le=2**40)] = 256 * 2**20
    cpus: Annotated[int, Field(ge=1, le=256)] = 1
    restart: Restart = Restart.ON_FAILURE
    network: Network = "none"
    user_data: Annotated[str, Field(max_length=limits.USER_DATA, pattern=r"^[^\x00]*$")] = ""
    requires: Annotated[str, Field(max_length=limits.TEXT)] = ""
    """What the machines' hosts have to be, in the language of attributes."""
    ports: list[PortModel] = Field(default_factory=list, max_length=limits.PORTS)
    lifetime: Annotated[str, Field(max_length=64)] = ""
    """How long the deployment lives: a time span, a date or a moment; "" for as long as its disk does."""


class MachineSeed(Model):
    """What a machine is told when it begins: for the worker that boots it, and for nobody else."""

    token: Annotated[str, Field(max_length=512)] | None = None
    """Lets the worker inside join the service, once and soon. None for a machine without a network."""
    user_data: Annotated[str, Field(max_length=limits.USER_DATA)] = ""


class ScaleRequest(Model):
    """Have a deployment be of so many machines."""

    count: Annotated[int, Field(ge=0, le=limits.MACHINES_PER_DEPLOYMENT)]


class MachineView(Model):
    """A machine as users see it."""

    uid: UidText
    deployment: UidText
    disk: str
    deprecated: str = ""
    """Why no more machines are to run from its disk."""
    host: UidText | None
    host_name: str
    state: MachineState
    since: datetime
    hypervisor: str
    reason: ErrorView | None = None
    cause: str = ""
    console: int = 0
    """Characters that its console has written."""
    attempt: int = 1
    """Its number among those in a row of which none ran for long."""
    draining: bool = False
    """Whether it ends once the jobs in it are done, and none takes its place."""
    successor: UidText | None = None
    """The machine that took its place."""
    continues: UidText | None = None
    """The machine from whose snapshot it goes on."""
    inner: UidText | None = None
    """The host that it is itself, if a worker runs in it."""
    inner_state: HostState | None = None
    ports: list[PortModel] = Field(default_factory=list)
    """Where on the loopback of its host it can be reached."""
    snapshots: list[SnapshotModel] = Field(default_factory=list)
    """What can be gone back to, on its host."""


class DeploymentSummary(Model):
    """A deployment as users see it in a list."""

    uid: UidText
    disk: str
    count: int
    created: datetime
    states: dict[MachineState, int] = Field(default_factory=dict)
    """How many of its machines that no other took the place of are in each state."""
    restart: Restart = Restart.NEVER
    network: Network = "none"
    memory: int = 0
    cpus: int = 1
    requires: str = ""
    ports: list[PortModel] = Field(default_factory=list)
    ends: datetime | None = None
    """When its life ends, and its machines with it."""
    version: int = 0
    """Grows with every change of it or of its machines: what to wait beyond."""


class DeploymentView(DeploymentSummary):
    """A deployment as users see it, with its machines."""

    machines: list[MachineView]
    """All that are known, oldest first; of very many those are left out that ended longest ago."""
    left_out: int = 0
    """How many that is: see the list of machines for all."""


class DeploymentList(Model):
    """A page of the deployments, oldest first."""

    deployments: list[DeploymentSummary]
    next: str | None = None
    """What to hand as `after` for the next page; None on the last one."""


class DeploymentExplanation(Model):
    """Why a deployment is as it is."""

    deployment: DeploymentView
    running: int
    missing: int
    """Machines of the wanted number that neither run nor ended as they should."""
    machines: list[Sentence]
    """For each machine that is wanted: where it is, or why nowhere."""
    next: list[Sentence]
    """What happens next, about its disk and its machines."""


class MachineList(Model):
    """A page of machines, those of the oldest deployment first."""

    machines: list[MachineView]
    next: str | None = None
    """What to hand as `after` for the next page; None on the last one."""


class ConsoleReply(Model):
    """A part of a machine's console, from `offset` on."""

    offset: int
    text: str
    end: int
    """Characters written so far: the offset to ask for next."""
    state: MachineState
