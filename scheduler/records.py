"""What the scheduler knows, as the rooms pass it around: hosts, placements, orders and machines without their rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bitdew.core.ids import HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import HostState, MachineState, PlacementState
from bitdew.wire.models import HostReport


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
    """A wish: run so many machines from this disk. Memory in bytes."""

    uid: Uid
    data: Uid
    count: int
    memory: int
    cpus: int
    created: datetime
    owner: str


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """One VM of a deployment."""

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
