"""The facts that a plan is made from, as one picture that stands still while it is looked at.

Owns the figures that tune the planner and gathers the rows. It must not know where the facts come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from bitdew.core.ids import HostId, Uid

from .census import Census
from .host_index import HostIndex
from .rows import RESERVE, DatumRow, DeploymentRow, HostRow, MachineRow, PlacementRow, TargetRow

__all__ = [
    "DatumRow",
    "DeploymentRow",
    "HostRow",
    "MachineRow",
    "PlacementRow",
    "PlannerSettings",
    "Snapshot",
    "TargetRow",
]


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
    reserve: int = RESERVE

    def retry_delay(self, failures: int) -> timedelta:
        """How long a host waits after its `failures`-th failure in a row with a datum."""
        doublings = min(max(failures, 1) - 1, 16)  # more would only risk an overflow
        return min(self.retry_first * (1 << doublings), self.retry_most)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one plan may look at.

    Attributes:
        hosts: Every host that the scheduler knows. Its owner changes it between plans only.
        data: The data whose facts changed; only they are planned for.
        placements: The placements of those data. One on a host that is not in `hosts` is passed over.
        targets: What those data depend on, by affinity or lifetime. One that is missing here is unknown: it moves
            nothing and ends nothing.
        census: How many copies of each attribute's data each host has.
        excess: For an attribute with `distrib`, the data on a host beyond those that may be there. Needed only for
            hosts where the data in `data` have copies.
        deployments: The deployments of those data.
        machines: The machines of those data.
        settings: The figures to plan by.
    """

    hosts: HostIndex
    data: Mapping[Uid, DatumRow]
    placements: Mapping[Uid, tuple[PlacementRow, ...]] = field(default_factory=dict)
    targets: Mapping[Uid, TargetRow] = field(default_factory=dict)
    census: Census = field(default_factory=Census)
    excess: Mapping[tuple[Uid, HostId], frozenset[Uid]] = field(default_factory=dict)
    deployments: tuple[DeploymentRow, ...] = ()
    machines: tuple[MachineRow, ...] = ()
    settings: PlannerSettings = field(default_factory=PlannerSettings)
