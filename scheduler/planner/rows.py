"""The rows that a plan is made from: hosts, data, what they depend on, copies, deployments and machines.

All instants are UTC, all sizes bytes. No row is ever changed: a new fact is a new row. It must not know where the
facts come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.host import Endpoint, HostFacts
from bitdew.core.ids import HostId, Uid
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
    """

    facts: HostFacts
    state: HostState
    state_since: datetime
    endpoint: Endpoint | None = None
    committed: int = 0
    transfers: int = 0
    machines: int = 0
    memory_taken: int = 0

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
        awaited: Whether its bytes have not come yet: there is nothing to place.
        ends: When its life ends, for a lifetime that is a date or a duration.
        affinity: Where to find the target of its affinity in the snapshot's targets.
        lifetime_of: Where to find there the datum that it dies with.
        pins: The hosts where a copy is to stay.
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
