"""BitDew: place whole VM disks on volunteers' PCs by BitTorrent swarm, and boot them there.

The names here are the developer's API; each is imported at its first use, so that `import bitdew` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bitdew.client.datum import Datum as Datum
    from bitdew.client.deployment import Deployment as Deployment
    from bitdew.client.deployment import Machine as Machine
    from bitdew.client.deployment import MachineEvent as MachineEvent
    from bitdew.client.dew import Dew as Dew
    from bitdew.client.dew import connect as connect
    from bitdew.client.events import Event as Event
    from bitdew.client.events import EventKind as EventKind
    from bitdew.client.grid import BitDew as BitDew
    from bitdew.client.job import Job as Job
    from bitdew.client.job import JobArray as JobArray
    from bitdew.client.job_events import JobEvent as JobEvent
    from bitdew.client.job_events import Outcome as Outcome
    from bitdew.client.transfers import Transfer as Transfer
    from bitdew.client.transfers import TransferState as TransferState
    from bitdew.core.attribute import Attribute as Attribute
    from bitdew.core.errors import BitDewError as BitDewError
    from bitdew.core.errors import HostError as HostError
    from bitdew.core.errors import PeerError as PeerError
    from bitdew.core.errors import ServiceError as ServiceError
    from bitdew.core.errors import UserError as UserError
    from bitdew.core.job import Caps as Caps
    from bitdew.core.job import JobSpec as JobSpec
    from bitdew.core.requirement import Requirement as Requirement
    from bitdew.core.states import JobState as JobState
    from bitdew.core.states import MachineState as MachineState
    from bitdew.worker.hosting import Host as Host
    from bitdew.worker.hosting import host as host

_HOMES: Final = {
    "Attribute": "bitdew.core.attribute",
    "BitDew": "bitdew.client.grid",
    "BitDewError": "bitdew.core.errors",
    "Caps": "bitdew.core.job",
    "Datum": "bitdew.client.datum",
    "Deployment": "bitdew.client.deployment",
    "Dew": "bitdew.client.dew",
    "Event": "bitdew.client.events",
    "EventKind": "bitdew.client.events",
    "Host": "bitdew.worker.hosting",
    "HostError": "bitdew.core.errors",
    "Job": "bitdew.client.job",
    "JobArray": "bitdew.client.job",
    "JobEvent": "bitdew.client.job_events",
    "JobSpec": "bitdew.core.job",
    "JobState": "bitdew.core.states",
    "Machine": "bitdew.client.deployment",
    "MachineEvent": "bitdew.client.deployment",
    "MachineState": "bitdew.core.states",
    "Outcome": "bitdew.client.job_events",
    "PeerError": "bitdew.core.errors",
    "Requirement": "bitdew.core.requirement",
    "ServiceError": "bitdew.core.errors",
    "Transfer": "bitdew.client.transfers",
    "TransferState": "bitdew.client.transfers",
    "UserError": "bitdew.core.errors",
    "connect": "bitdew.client.dew",
    "host": "bitdew.worker.hosting",
}
__all__ = [
    "Attribute",
    "BitDew",
    "BitDewError",
    "Caps",
    "Datum",
    "Deployment",
    "Dew",
    "Event",
    "EventKind",
    "Host",
    "HostError",
    "Job",
    "JobArray",
    "JobEvent",
    "JobSpec",
    "JobState",
    "Machine",
    "MachineEvent",
    "MachineState",
    "Outcome",
    "PeerError",
    "Requirement",
    "ServiceError",
    "Transfer",
    "TransferState",
    "UserError",
    "connect",
    "host",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("bitdew")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bitdew' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
