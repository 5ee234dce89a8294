"""What is known of the grid: stored, in memory, and on its way to whoever waits for it."""

from __future__ import annotations

from dataclasses import dataclass

from bitdew.core.clock import Clock

from ..catalog.data_store import DataStore
from .changes import Changes
from .hosts import Hosts
from .progress import ProgressBook
from .store import SchedulerStore


@dataclass(frozen=True, slots=True)
class Known:
    """The parts that those who take in facts, decide and show have in common.

    Attributes:
        data: Stored data and disks: the catalog's.
        store: Stored placements, orders, deployments and machines.
        hosts: The hosts as they last were.
        progress: How far copies on their way are.
        changes: Who waits for what.
        clock: Everyone's.
    """

    data: DataStore
    store: SchedulerStore
    hosts: Hosts
    progress: ProgressBook
    changes: Changes
    clock: Clock
