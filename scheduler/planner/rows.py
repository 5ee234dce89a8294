"""The rows that a plan is made from: hosts, data, what they depend on, copies, deployments and machines.

All instants are UTC, all sizes bytes. No row is ever changed: a new fact is a new row. It must not know where the
facts come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.draining import Drain
from bitdew.core.host import Endpoint, HostFacts
from bitdew.core.ids import HostId, Uid
from bitdew.core.requirement import Requirement
from bitdew.core.restarting import Restart
from bitdew.core.states import MACHINE, HostState, MachineState, PlacementState

RESERVE: Final = 16 * 1024**2
"""Bytes of a host's file system that are always left free, unless an operator says otherwise."""


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host as the scheduler knows it.

    Attributes:
        facts: What it says of itself.
        state: Its liveness, or the operator's word about it.
        state_since: When it entered that state.
        endpoint: Where its swarm listens, if it said so.
        committed: Bytes of its quota that are promised: copies held and copies on their way, at full size.
        transfers: Copies of whatever data on their way to it.
        machines: Machines of whatever disk that were launched there and have not ended.
        memory_taken: Bytes of memory that those machines take.
        jobs_memory: Bytes of memory that runs of jobs take, which have not ended.
        jobs_cpus: Processors that they have.
        drain: Whether it is to be emptied, in whatever state it is, and what becomes of its machines.
        cpus_taken: Processors that they have.
    """

    facts: HostFacts
    state: HostState
    state_since: datetime
    endpoint: Endpoint | None = None
    committed: int = 0
    transfers: int = 0
    machines: int = 0
    memory_taken: int = 0
    cpus_taken: int = 0
    jobs_memory: int = 0
    jobs_cpus: int = 0
    drain: Drain | None = None

    @property
    def drained(self) -> bool:
        """Whether no copy may stay there."""
        return self.drain is not None or self.state is HostState.DRAINED

    @property
    def reachable(self) -> bool:
        """Whether a copy there may be fetched from: it is neither lost nor banned."""
        return self.state not in {HostState.LOST, HostState.BANNED}


@dataclass(frozen=True, slots=True)
class DatumRow:
    """A datum and its wishes, the names in them resolved.

    Attributes:
        data: The datum.
        attribute: What should be true of it.
        attribute_uid: The stored attribute, which other data may share: the key of the census and of `excess`.
        alive: False once its life ended: every copy is to be dropped.
        damaged: Whether the repository's own copy is unusable, so that only holders can seed.
        awaited: Whether its bytes have not come yet, nor are offered by its publisher: there is nothing to place.
        ends: When its life ends, for a lifetime that is a date or a duration.
        affinity: Where to find the target of its affinity in the snapshot's targets.
        lifetime_of: Where to find there the datum that it dies with.
        pins: The hosts where a copy is to stay.
        seeded: Whether its publisher offers its bytes itself, or did, so that it waits for nobody else.
        deprecated: Why no more machines are to run from it; "" if they may.
    """

    data: Data
    attribute: Attribute
    attribute_uid: Uid
    alive: bool = True
    damaged: bool = False
    awaited: bool = False
    ends: datetime | None = None
    affinity: Uid | None = None
    lifetime_of: Uid | None = None
    pins: frozenset[HostId] = frozenset()
    seeded: bool = False
    deprecated: str = ""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """What another datum depends on: a datum, or an attribute, which stands for all its living data.

    Attributes:
        uid: The datum or the attribute.
        name: What people call it.
        alive: Whether it lives; an attribute does as long as it is there.
        holders: The hosts with a verified copy of it, in whatever state they are.
    """

    uid: Uid
    name: str
    alive: bool
    holders: frozenset[HostId] = frozenset()


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
        since: When it entered that state, if that is known.
        restart: When another takes its place.
        attempt: Its number among those in a row of which none ran for long.
        ran: How long it ran, if it has ended.
        bound: The only host that it may run on: what it goes on from is there.
        successor: The machine that took its place, or is to take it once it runs.
        requires: What its host has to be.
        network: What it reaches: "none" is nothing.
        seeded: Whether it is told something.
        ports: The ports of its host that lead to ports of its own; 0 for any that is free.
        ends: When its deployment's life ends.
        draining: Whether it is to end once the jobs in it are done: none takes its place, and it is launched no more.
    """

    uid: Uid
    deployment_uid: Uid
    data_uid: Uid
    host_id: HostId | None
    state: MachineState
    stop_wanted: bool = False
    memory: int = 0
    cpus: int = 1
    since: datetime | None = None
    restart: Restart = Restart.NEVER
    attempt: int = 1
    ran: timedelta = timedelta(0)
    bound: HostId | None = None
    successor: Uid | None = None
    requires: Requirement = field(default_factory=Requirement, hash=False)
    network: str = "none"
    seeded: bool = False
    ports: tuple[tuple[int, int], ...] = ()
    ends: datetime | None = None
    draining: bool = False

    @property
    def unwanted(self) -> bool:
        """Whether its user wants neither it nor another in its place any more."""
        return self.stop_wanted or self.draining

    @property
    def needs(self) -> frozenset[str]:
        """What its hypervisor has to be able to give it, of `ABILITIES`."""
        wanted = {"network": self.network != "none", "ports": bool(self.ports), "seed": self.seeded}
        return frozenset(name for name, asked in wanted.items() if asked)

    def over(self, now: datetime) -> bool:
        """Whether the life of its deployment has ended."""
        return self.ends is not None and self.ends <= now

    @property
    def ended(self) -> bool:
        """Whether it is over: stopped or failed."""
        return self.state in MACHINE.ends()
