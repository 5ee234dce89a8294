"""The service of a simulated grid: the real rooms on a real database, without a web, a swarm, certificates or tasks.

Owns their wiring, which follows that of a service, and one life of them: a service that is started again is a new one
on the same database, and knows only what is stored. Time, orders and reports are carried by the grid.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from bitdew.core.clock import Clock
from bitdew.core.host import Endpoint
from bitdew.core.ids import HostId, Uid

from ...catalog.attributes import Attributes
from ...catalog.contents import Contents
from ...catalog.data import DataRoom
from ...catalog.data_store import DataStore, Datum
from ...catalog.database import Database
from ...catalog.feed import Told
from ...catalog.leadership import Leadership
from ..changes import Changes
from ..engine import Engine
from ..hosts import Hosts
from ..intake import Intake
from ..known import Known
from ..liveness import Liveness
from ..planner import PlannerSettings
from ..progress import ProgressBook
from ..store import SchedulerStore
from ..sync import Sync
from ..wishes import Wishes
from .repository import SimulatedRepository

REPOSITORY: Final = Endpoint("127.0.0.1", 6881)

Ending = Callable[[Uid, str], Awaitable[None]]
"""Is told each datum whose life the engine is about to end, and why."""


class Ears:
    """A feed that nobody else listens to: the grid hears by it which hosts have new orders."""

    def __init__(self) -> None:
        self.called: dict[HostId, int] = {}

    def publish(self, told: Told, *, stored: bool = False) -> None:  # noqa: ARG002
        """Note whom orders wait for."""
        self.called.update(told.waiting)

    def listen(self, callback: Callable[[Told], None]) -> None:
        """Nobody else says anything."""

    async def run(self) -> None:
        """Wait, until cancelled."""
        await asyncio.Event().wait()


class SimulatedService:
    """One life of a service.

    Attributes:
        known: What its parts have in common.
        data: The catalog's data.
        attributes: The catalog's attributes.
        contents: What the repository has.
        hosts: The hosts as it knows them.
        engine: What plans.
        sync: What hosts talk to.
        ears: Whom orders wait for.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: Callable[[Database], SchedulerStore],
        repository: SimulatedRepository,
        period: float,
        planner: PlannerSettings,
        clock: Clock,
        ending: Ending,
    ) -> None:
        """Nothing is read before `open`. `store` makes the scheduler's store, which may be one that is watched."""
        self._database = database
        self._ending = ending
        data, scheduled = DataStore(database), store(database)
        self.hosts = Hosts(scheduled, Liveness(period), clock)
        self.attributes = Attributes(data, self.hosts.ids_by_name, clock)
        self.contents = Contents(data, repository, clock)
        self.data = DataRoom(data, self.attributes, self.contents, clock)
        self.ears = Ears()
        self.known = Known(
            database=database,
            data=data,
            attributes=data.attributes,
            store=scheduled,
            hosts=self.hosts,
            wishes=Wishes(),
            progress=ProgressBook(planner.lease),
            changes=Changes(clock),
            feed=self.ears,
            clock=clock,
        )
        self.engine = Engine(self.known, planner, Leadership(database))
        self.intake = Intake(self.known, self.engine)
        chance = random.Random(0)  # noqa: S311 (the same run is to go the same way again)
        self.sync = Sync(self.known, self.intake, self.contents.suspect, period, chance)
        self._listen()

    def _listen(self) -> None:
        async def end(datum: Datum, because: str) -> bool:
            await self._ending(datum.data.uid, because)
            return await self.data.end(datum, because)

        lookout = self.engine.lookout
        self.data.changed = self.contents.changed = lookout.data_changed
        self.data.reattached = lookout.reattached
        self.attributes.changed = lambda uid: lookout.attributes_changed([uid])
        self.engine.end = end

    async def open(self) -> None:
        """Read what is stored."""
        await self.contents.open()
        await self.engine.open()

    async def close(self) -> None:
        """Forget everything that is not stored."""
        await self.intake.close()
        await self._database.close()
