"""What the scheduler knows, as the rooms pass it around: hosts, placements, orders and machines without their rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from bitdew.core.draining import Drain
from bitdew.core.ids import HostId, Uid
from bitdew.core.orders import ErrandKind, ErrandState, OrderKind
from bitdew.core.restarting import Restart
from bitdew.core.states import MACHINE, HostState, MachineState, PlacementState
from bitdew.wire.models import HostReport, Network, PortModel, SnapshotModel


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host, as it last said and was last seen."""

    host: HostId
    name: str
    state: HostState
    state_since: datetime
    last_seen: datetime
    report: HostReport
    generation: int
    drain: Drain | None = None
    """Whether it is to be emptied, and what is to become of its machines."""


@dataclass(frozen=True, slots=True)
class PlacementRecord:
    """One datum on one host. Figures in bytes and seconds."""

    data: Uid
    host: HostId
    state: PlacementState
    since: datetime
    assigned: datetime
    generation: int
    lease_until: datetime | None
    retry_at: datetime | None
    failures: int
    reason: dict[str, Any] | None
    cause: str
    done: int
    seconds: float | None
    from_repository: int
    from_peers: int
    history: list[str] = field(default_factory=list, hash=False)
    freed: int = 0
    reused: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """What a host's copies amount to.

    Attributes:
        committed: Bytes of quota that copies take or were promised.
        transfers: Copies on their way.
    """

    committed: int = 0
    transfers: int = 0


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An open order."""

    uid: Uid
    host: HostId
    generation: int
    kind: OrderKind
    subject: Uid
    cause: str


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """A wish: run so many machines from this disk. Memory in bytes. What its machines are told is read by itself."""

    uid: Uid
    data: Uid
    count: int
    memory: int
    cpus: int
    created: datetime
    owner: str
    restart: Restart = Restart.NEVER
    network: Network = "none"
    requires: str = ""
    ports: tuple[PortModel, ...] = field(default=(), hash=False)
    ends: datetime | None = None


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """One VM of a deployment.

    Attributes:
        draining: Whether it is to end once the jobs in it are done; none takes its place.
        attempt: Its number among those in a row of which none ran for long.
        ran: Seconds that it ran, if it has ended.
        successor: The machine that took its place.
        continues: The machine that ended, and from whose `snapshot` it goes on.
        bound: The only host that it may run on.
        snapshots: What its host has kept of it.
        ports: The ports of its host that lead to ports of its own.
    """

    uid: Uid
    deployment: Uid
    data: Uid
    host: HostId | None
    state: MachineState
    since: datetime
    generation: int
    stop_wanted: bool
    hypervisor: str
    reason: dict[str, Any] | None
    cause: str
    console_end: int
    attempt: int = 1
    ran: float = 0.0
    successor: Uid | None = None
    continues: Uid | None = None
    snapshot: str | None = None
    bound: HostId | None = None
    snapshots: tuple[SnapshotModel, ...] = field(default=(), hash=False)
    ports: tuple[PortModel, ...] = field(default=(), hash=False)
    draining: bool = False

    @classmethod
    def requested(cls, uid: Uid, deployment: Uid, data: Uid, now: datetime, cause: str, **more: Any) -> Self:
        """A machine that is wanted, and of which nothing is known yet. `more` sets what is not as for any other."""
        blank: dict[str, Any] = {"host": None, "generation": 0, "stop_wanted": False, "hypervisor": ""}
        blank |= {"state": MACHINE.initial, "since": now, "reason": None, "console_end": 0, "cause": cause}
        return cls(uid=uid, deployment=deployment, data=data, **blank, **more)


@dataclass(frozen=True, slots=True)
class ErrandRecord:
    """What a machine's host was asked to do once. Its picture is read by itself."""

    uid: Uid
    machine: Uid
    host: HostId
    kind: ErrandKind
    name: str | None
    state: ErrandState
    asked: datetime
    sent: bool = False
    reason: dict[str, Any] | None = None
