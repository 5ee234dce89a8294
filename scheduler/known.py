"""What is known of the grid: stored, in memory, and on its way to whoever waits for it."""

from __future__ import annotations

from dataclasses import dataclass

from bitdew.core.clock import Clock

from ..catalog.attribute_store import AttributeStore
from ..catalog.data_store import DataStore
from ..catalog.database import Database
from ..catalog.feed import Feed, Told
from .changes import Changes
from .hosts import Hosts
from .progress import ProgressBook
from .store import SchedulerStore
from .wishes import Wishes


@dataclass(frozen=True, slots=True)
class Known:
    """The parts that those who take in facts, decide and show have in common.

    Attributes:
        database: Where all of it is stored; its facts lock is held while facts change and plans are made.
        data: Stored data: the catalog's.
        attributes: Stored attributes: the catalog's.
        store: Stored placements, orders, deployments and machines.
        hosts: The hosts as they last were.
        wishes: The attributes in use.
        progress: How far copies on their way are.
        changes: Who waits for what in this process.
        feed: Tells the other processes of this database.
        clock: Everyone's.
    """

    database: Database
    data: DataStore
    attributes: AttributeStore
    store: SchedulerStore
    hosts: Hosts
    wishes: Wishes
    progress: ProgressBook
    changes: Changes
    feed: Feed
    clock: Clock

    def tell(self, told: Told, *, stored: bool) -> None:
        """Wake whoever waits for these topics, here and in the other processes, and let those look at the rest.

        Args:
            told: What changed.
            stored: Whether the other processes were told along with what was stored.
        """
        for topic in told.topics:
            self.changes.bump(topic)
        self.feed.publish(told, stored=stored)
