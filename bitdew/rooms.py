"""The rooms of a service, built and connected: who hands what to whom, and who hears of what.

Owns the wiring and the loops that turn while the service runs. It decides nothing and opens nothing of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web

from bitdew.catalog.announce import Announce
from bitdew.catalog.attribute_http import attribute_routes
from bitdew.catalog.attributes import Attributes
from bitdew.catalog.contents import Contents
from bitdew.catalog.data import DataRoom
from bitdew.catalog.data_http import datum_routes
from bitdew.catalog.data_store import DataStore
from bitdew.catalog.database import Database
from bitdew.catalog.disks import Disks
from bitdew.catalog.feed import Told, new_feed, together
from bitdew.catalog.http import data_routes, identity_routes
from bitdew.catalog.identity_store import IdentityStore
from bitdew.catalog.leadership import Leadership
from bitdew.catalog.registry import Registry
from bitdew.catalog.repository import Repository
from bitdew.core.clock import Clock
from bitdew.core.host import Endpoint
from bitdew.core.ids import Uid
from bitdew.scheduler.changes import Changes
from bitdew.scheduler.deployments import Deployments
from bitdew.scheduler.engine import Engine
from bitdew.scheduler.hosts import Hosts
from bitdew.scheduler.http import host_routes, machine_routes, shown_data_routes
from bitdew.scheduler.intake import Intake
from bitdew.scheduler.known import Known
from bitdew.scheduler.liveness import Liveness
from bitdew.scheduler.planner import PlannerSettings
from bitdew.scheduler.progress import ProgressBook
from bitdew.scheduler.sharing import share_progress
from bitdew.scheduler.store import SchedulerStore
from bitdew.scheduler.sync import Sync
from bitdew.scheduler.views import Views
from bitdew.scheduler.wishes import Wishes
from bitdew.swarm.session import Swarm
from bitdew.trust.authority import Authority
from bitdew.wire.server import Route, Routes

log = structlog.get_logger(__name__)
HEARING_PAUSE: Final = 1.0
"""Seconds before what could not be taken in is tried again."""
TIDY_EVERY: Final = 3600.0
"""Seconds between two looks for what is old."""
KEPT: Final = timedelta(days=7)
"""How long orders that were carried out are kept."""
RepositoryAddress = Callable[[web.Request], Endpoint]


class Rooms:
    """Catalog and scheduler of one service."""

    def __init__(
        self,
        *,
        name: str,
        repository: Path,
        uploads: Path,
        period: float,
        planner: PlannerSettings,
        clock: Clock,
        database: Database,
        authority: Authority,
        swarm: Swarm,
        address: RepositoryAddress,
    ) -> None:
        """Nothing here waits for anything, and nothing is read before `open`."""
        self._period = period
        self._clock = clock
        data, store = DataStore(database), SchedulerStore(database)
        self.registry = Registry(authority, IdentityStore(database), clock)
        self.hosts = Hosts(store, Liveness(period), clock)
        self.attributes = Attributes(data, self.hosts.ids_by_name, clock)
        self.contents = Contents(data, Repository(repository, swarm, clock, uploads=uploads), clock)
        self.data = DataRoom(data, self.attributes, self.contents, clock)
        self.disks = Disks(data, self.data, self.attributes, self.contents, authority.certificate, clock)
        self.feed, self.leadership = new_feed(database), Leadership(database)
        self.changes = Changes(clock)
        self._known = Known(
            database=database,
            data=data,
            attributes=data.attributes,
            store=store,
            hosts=self.hosts,
            wishes=Wishes(),
            progress=ProgressBook(planner.lease),
            changes=self.changes,
            feed=self.feed,
            clock=clock,
        )
        self.engine = Engine(self._known, planner, self.leadership)
        self.intake = Intake(self._known, self.engine)
        self.sync = Sync(self._known, self.intake, self.contents.suspect, period)
        views = Views(self._known, self.engine, self.data, self.disks)
        deployments = Deployments(self._known, self.engine, self.disks)
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._listen()
        self.routes = [
            identity_routes(self.registry, name),
            data_routes(self.disks, Announce(self.sync.locators), address),
            datum_routes(self.data, self.attributes),
            attribute_routes(self.attributes),
            shown_data_routes(self.disks, views),
            host_routes(self.sync, views, address),
            machine_routes(deployments),
        ]

    def _listen(self) -> None:
        """Let those who decide hear of what changes; the other processes of the database hear with what is stored."""

        def data_changed(uids: Collection[Uid]) -> None:
            self.engine.lookout.data_changed(uids)
            self._known.tell(Told(topics=tuple(uids), data=tuple(uids)), stored=True)

        self.data.changed = self.contents.changed = data_changed
        self.data.reattached = self.engine.lookout.reattached
        self.attributes.changed = lambda uid: self.engine.lookout.attributes_changed([uid])
        self.registry.on_revoked = self.engine.shut_out
        self.engine.end = self.data.end
        self.feed.listen(self._told.put_nowait)

    async def open(self) -> None:
        """Read what is stored, and seed what is there."""
        await self.registry.load()
        await self.contents.open()
        await self.engine.open()
        for host in self.hosts.records():  # a process may have been killed between the two halves of a revocation
            if self.registry.is_revoked(host):
                await self.engine.shut_out(host)

    def loops(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What turns while the service runs, by name; each is to be cancelled in the end."""
        return {
            "feed": self.feed.run(),
            "leadership": self.leadership.run(),
            "hearing": self._hear(),
            "plan": self.engine.run(),
            "liveness": self.engine.watch_liveness(self._period),
            "progress": share_progress(self._known, self.engine.settings.lease, self._period / 4),
            "tidying": self._tidy(),
            "suspects": self.contents.check_suspects(),
        }

    async def _tidy(self) -> None:
        """Forget what nobody will ask for any more, once in a while, until cancelled."""
        while True:
            await self._clock.sleep(TIDY_EVERY)
            if not self.leadership.held:
                continue
            try:
                gone = await self._known.store.purge_orders(self._clock.now() - KEPT)
                log.info("orders that were carried out long ago are forgotten", orders=gone)
            except Exception:
                log.exception("what is old could not be forgotten; it is tried again")

    async def _hear(self) -> None:
        """Take in what other processes of the database tell, until cancelled."""
        while True:
            messages = [await self._told.get()]
            while not self._told.empty():
                messages.append(self._told.get_nowait())
            told = together(messages)
            try:
                if told.resync:
                    await self.registry.load()
                    await self.contents.catch_up()
                for subject in told.revoked:
                    self.registry.hear_revoked(subject)
                    await self.engine.shut_out(subject)
                await self.contents.follow(told.data)
                await self.engine.told(told)
            except Exception:
                log.exception("what another process told can't be taken in: everything is read again")
                await asyncio.sleep(HEARING_PAUSE)
                self._told.put_nowait(Told(resync=True))


def all_routes() -> list[Route]:
    """Every route of a service, for the reference in the docs."""
    nothing: Callable[[object], Endpoint] = lambda _request: Endpoint("127.0.0.1", 0)  # noqa: E731
    unused: object = None
    tables: list[Routes] = [
        identity_routes(unused, ""),  # type: ignore[arg-type]
        data_routes(unused, unused, nothing),  # type: ignore[arg-type]
        datum_routes(unused, unused),  # type: ignore[arg-type]
        attribute_routes(unused),  # type: ignore[arg-type]
        shown_data_routes(unused, unused),  # type: ignore[arg-type]
        host_routes(unused, unused, nothing),  # type: ignore[arg-type]
        machine_routes(unused),  # type: ignore[arg-type]
    ]
    return [route for table in tables for route in table.table]
