"""Models of hosts: what they say of themselves, and how people see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from bitdew.core.draining import Drain
from bitdew.core.host import Endpoint, HostFacts, Resources, Sharing
from bitdew.core.ids import HostId
from bitdew.core.states import HostState

from . import limits
from .model import Count, EndpointText, Model, NameText, UidText


class SharingModel(Model):
    """A sharing as announced."""

    name: NameText
    version: Annotated[str, Field(max_length=64)] = ""


class HostReport(Model):
    """What a host says of itself when it joins and when it changes."""

    name: NameText
    swarm: EndpointText
    cpus: Annotated[int, Field(ge=1, le=65536)]
    memory: Count
    quota: Count
    used: Count
    free: Count
    labels: dict[NameText, Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=limits.LABELS
    )
    sharings: list[SharingModel] = Field(default_factory=list, max_length=limits.LABELS)
    machines: Annotated[int, Field(ge=0, le=limits.MACHINES)] = 0
    """Machines that run at a time at most; 0 for no cap of their number."""
    all_cpus: Annotated[int, Field(ge=0, le=65536)] = 0
    """Processors that all machines together may have; 0 for no cap."""
    abilities: dict[NameText, Annotated[list[Literal["network", "ports", "seed"]], Field(max_length=3)]] = Field(
        default_factory=dict, max_length=limits.LABELS
    )
    """What each hypervisor gives machines."""
    programs: list[Annotated[str, Field(max_length=limits.NAME)]] = Field(
        default_factory=list, max_length=limits.PROGRAMS
    )
    """What jobs may run here: the programs of its sharings. `*` stands for any, where the host is a machine."""

    jobs_at_once: Annotated[int, Field(ge=0, le=limits.JOBS_AT_ONCE)] = 0
    """Jobs that run at a time at most; 0 for as many as its processors and its memory allow."""
    paused: bool = False
    """Whether its volunteer lets nothing run there now."""

    def to_facts(self, host_id: HostId) -> HostFacts:
        """The report as the planner sees it."""
        return HostFacts(
            host_id,
            self.name,
            Resources(
                cpus=self.cpus,
                memory=self.memory,
                quota=self.quota,
                used=self.used,
                free=self.free,
                machines=self.machines,
                all_cpus=self.all_cpus,
            ),
            dict(self.labels),
            tuple(sorted(Sharing(s.name, s.version) for s in self.sharings)),
            {name: frozenset(able) for name, able in self.abilities.items()},
        )

    def to_endpoint(self) -> Endpoint:
        """Where its swarm listens."""
        return Endpoint.parse(self.swarm)


class HostView(Model):
    """A host as users see it."""

    host: UidText
    name: str
    state: HostState
    last_seen: datetime | None
    swarm: str
    cpus: int
    memory: int
    quota: int
    used: int
    free: int
    labels: dict[str, str]
    sharings: list[SharingModel]
    held: int
    machines: int
    drain: Drain | None = None
    """Whether it is to be emptied, and what becomes of its machines."""
    unknown: list[str] = Field(default_factory=list)
    """Uids of copies that it reports and the catalog does not know: kept until the operator decides."""


class HostList(Model):
    """A page of hosts, by name."""

    hosts: list[HostView]
    next: str | None = None
    """What to give as `after` for the page behind this one; None if there is none."""
