"""The facts that a plan is made from, as one frozen picture.

Owns the rows that the planner reads and the figures that tune it. It must not know where the facts come from.
All instants are UTC, all sizes bytes. No row is ever changed: a new fact is a new snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.host import Endpoint, HostFacts
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import MACHINE, HostState, MachineState, PlacementState


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host as the scheduler knows it.

    Attributes:
        facts: What it says of itself.
        state: Its liveness, or the operator's word about it.
        state_since: When it entered that state.
        endpoint: Where its swarm listens, if it said so.
        committed: Bytes of its quota that are promised: copies held and copies on their way, at full size.
    """

    facts: HostFacts
    state: HostState
    state_since: datetime
    endpoint: Endpoint | None = None
    committed: int = 0

    @property
    def reachable(self) -> bool:
        """Whether a copy there may be fetched from: it is neither lost nor banned."""
        return self.state not in {HostState.LOST, HostState.BANNED}


@dataclass(frozen=True, slots=True)
class DatumRow:
    """A datum and its wishes.

    Attributes:
        data: The datum.
        attribute: What should be true of it.
        alive: False once its owner removed it: every copy is to be dropped.
        damaged: Whether the repository's own copy is unusable, so that only holders can seed.
    """

    data: Data
    attribute: Attribute
    alive: bool = True
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class PlacementRow:
    """One datum on one host.

    A copy on a host that is lost stays `held` here; the planner decides how long it counts. `lost` is said of a copy
    that the host itself no longer has.

    Attributes:
        uid: The datum.
        host_id: The host.
        state: Where the copy is on its way.
        since: When it entered that state.
        done: Bytes that have arrived.
        lease_until: Until when a copy on its way counts as intended; progress prolongs it.
        retry_at: When a failed one may be tried again; None leaves it to the settings and `failures`.
        failures: How often it failed in a row.
        reason: The error key or sentence of the last failure.
    """

    uid: Uid
    host_id: HostId
    state: PlacementState
    since: datetime
    done: int = 0
    lease_until: datetime | None = None
    retry_at: datetime | None = None
    failures: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    """A wish for `count` machines from one disk, `memory` bytes and `cpus` each."""

    uid: Uid
    data_uid: Uid
    count: int
    memory: int
    cpus: int
    created: datetime


@dataclass(frozen=True, slots=True)
class MachineRow:
    """One machine of a deployment.

    Attributes:
        uid: The machine.
        deployment_uid: Its deployment.
        data_uid: The disk that it boots.
        host_id: Where it was launched, or None while it waits for a host.
        state: What is known of it.
        stop_wanted: Whether its user asked it to end.
        memory: Bytes.
        cpus: Processors.
    """

    uid: Uid
    deployment_uid: Uid
    data_uid: Uid
    host_id: HostId | None
    state: MachineState
    stop_wanted: bool = False
    memory: int = 0
    cpus: int = 1

    @property
    def ended(self) -> bool:
        """Whether it is over: stopped or failed."""
        return self.state in MACHINE.ends()


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """The figures that an operator may tune.

    Attributes:
        lease: How long a copy on its way counts without progress.
        grace: How long a lost host's copies keep counting with fault tolerance: a blip moves nothing.
        settle: How long a copy is held by a host that is alive before it may be trimmed as surplus.
        retry_first: The wait after a first failure; it doubles with each further one.
        retry_most: The longest wait after a failure.
        repairs_per_round: Copies that one plan may make again for lost ones: a mass loss is no stampede.
        repair_pause: How soon the planner looks again for the repairs that it held back.
        reserve: Bytes of a host's file system that are always left free.
    """

    lease: timedelta = timedelta(seconds=120)
    grace: timedelta = timedelta(minutes=5)
    settle: timedelta = timedelta(minutes=1)
    retry_first: timedelta = timedelta(seconds=10)
    retry_most: timedelta = timedelta(minutes=10)
    repairs_per_round: int = 20
    repair_pause: timedelta = timedelta(seconds=10)
    reserve: int = 16 * 1024**2

    def retry_delay(self, failures: int) -> timedelta:
        """How long a host waits after its `failures`-th failure in a row with a datum."""
        doublings = min(max(failures, 1) - 1, 16)  # more would only risk an overflow
        return min(self.retry_first * (1 << doublings), self.retry_most)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one plan may look at.

    Attributes:
        hosts: Every host that the scheduler knows.
        data: The data whose facts changed; only they are planned for.
        placements: The placements of those data. One on a host that is not in `hosts` is passed over.
        deployments: The deployments of those data.
        machines: The machines of those data.
        machines_on: How many machines run on each host, of whatever data.
        settings: The figures to plan by.
    """

    hosts: Mapping[HostId, HostRow]
    data: Mapping[Uid, DatumRow]
    placements: Mapping[Uid, tuple[PlacementRow, ...]] = field(default_factory=dict)
    deployments: tuple[DeploymentRow, ...] = ()
    machines: tuple[MachineRow, ...] = ()
    machines_on: Mapping[HostId, int] = field(default_factory=dict)
    settings: PlannerSettings = field(default_factory=PlannerSettings)
