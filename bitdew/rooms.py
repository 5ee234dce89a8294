"""The rooms of a service, built and connected: who hands what to whom, and who hears of what.

Owns the wiring and the loops that turn while the service runs. It decides nothing and opens nothing of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
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
from bitdew.catalog.doubts import Doubts
from bitdew.catalog.egress import Egress
from bitdew.catalog.events import EventLog, told_of
from bitdew.catalog.feed import Told, new_feed, together
from bitdew.catalog.holdings import Holdings
from bitdew.catalog.http import data_routes, identity_routes, revocation_routes
from bitdew.catalog.identity_store import IdentityStore
from bitdew.catalog.leadership import Leadership
from bitdew.catalog.mending import Mender
from bitdew.catalog.origin_http import origin_routes
from bitdew.catalog.origins import Origins
from bitdew.catalog.permits import Permits
from bitdew.catalog.publishing import Publishing
from bitdew.catalog.registry import Registry
from bitdew.catalog.repository import Repository
from bitdew.catalog.scrubbing import Scrubber
from bitdew.catalog.small import SmallData
from bitdew.catalog.tallies import Tallying
from bitdew.catalog.upload_http import upload_routes
from bitdew.core.clock import Clock
from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot, Uid
from bitdew.scheduler.changes import Changes
from bitdew.scheduler.clearing import Clearing
from bitdew.scheduler.deployments import Deployments
from bitdew.scheduler.draining import Draining
from bitdew.scheduler.engine import Engine
from bitdew.scheduler.errands import Errands
from bitdew.scheduler.figure_store import FigureStore
from bitdew.scheduler.figures import Figures
from bitdew.scheduler.health import Health
from bitdew.scheduler.hosts import Hosts
from bitdew.scheduler.http import (
    deployment_routes,
    deprecation_routes,
    draining_routes,
    errand_routes,
    event_routes,
    host_routes,
    machine_routes,
    shown_data_routes,
)
from bitdew.scheduler.inner_hosts import InnerHosts
from bitdew.scheduler.intake import Intake
from bitdew.scheduler.jobs.http import input_routes, job_routes, retiring_routes, run_routes
from bitdew.scheduler.jobs.inputs import QUOTA
from bitdew.scheduler.jobs.room import JobRoom
from bitdew.scheduler.jobs.standing_http import standing_routes
from bitdew.scheduler.known import Known
from bitdew.scheduler.liveness import Liveness
from bitdew.scheduler.planner import PlannerSettings
from bitdew.scheduler.progress import ProgressBook
from bitdew.scheduler.seeds import Seeds
from bitdew.scheduler.sharing import share_progress
from bitdew.scheduler.sought import Sought
from bitdew.scheduler.store import SchedulerStore
from bitdew.scheduler.summaries import Summaries
from bitdew.scheduler.summary_store import SummaryStore
from bitdew.scheduler.sync import Sync
from bitdew.scheduler.telling import Telling
from bitdew.scheduler.views import Views
from bitdew.scheduler.watching_http import watching_routes
from bitdew.scheduler.wishes import Wishes
from bitdew.swarm.seeder.seeder import Seeder
from bitdew.swarm.session import Swarm
from bitdew.trust.authority import Authority
from bitdew.wire.pacing import Pace
from bitdew.wire.server import Route, Routes

log = structlog.get_logger(__name__)
HEARING_PAUSE: Final = 1.0
"""Seconds before what could not be taken in is tried again."""
TIDY_EVERY: Final = 3600.0
"""Seconds between two looks for what is old."""
KEPT: Final = timedelta(days=7)
"""How long orders that were carried out are kept, and events."""
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
        swarm: Seeder,
        pace: Pace,
        address: RepositoryAddress,
        join: Callable[[], Awaitable[Swarm]],
        scrub_days: float,
        job_days: float = 30.0,
        input_quota: int = QUOTA,
        machines_idle: float,
    ) -> None:
        """Nothing here waits for anything, and nothing is read before `open`.

        `join` makes a node of the swarms, for the repository to be mended by.
        """
        self._period = period
        self._job_days = job_days
        self._clock = clock
        data, store = DataStore(database), SchedulerStore(database)
        identities = IdentityStore(database)
        self.registry = Registry(authority, identities, clock)
        self.hosts = Hosts(store, Liveness(period), clock)
        self.attributes = Attributes(data, self.hosts.ids_by_name, clock)
        self.contents = Contents(data, Repository(repository, swarm, clock, uploads=uploads), clock)
        swarm.on_fault = lambda offer: self.contents.suspect(offer.metainfo.content.root)
        self.data = DataRoom(data, self.attributes, self.contents, clock)
        holdings = Holdings(data, self.data, self.attributes, self.contents, clock)
        self.disks = Disks(holdings, authority.certificate)
        self.origins = Origins(database, self.data, self.contents, clock)
        self.publishing = Publishing(holdings)
        self._small = SmallData(holdings)
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
        self.inner = InnerHosts(self._known, identities, self.registry, self.leadership)
        self.errands = Errands(self._known, self.engine, self.leadership, self.inner)
        self._clearing = Clearing(self._known, self.errands)
        self.intake = Intake(self._known, self.engine)
        deployments = Deployments(self._known, self.engine, self.disks, self.inner)
        views = Views(self._known, self.engine, self.data, self.disks, self.inner)
        draining = Draining(self._known, self.engine, views)
        self.jobs = JobRoom(
            self._known,
            self.engine,
            self.leadership,
            data=self.data,
            attributes=self.attributes,
            publishing=self.publishing,
            small=self._small,
            disks=self.disks,
            deployments=deployments,
            inner=self.inner,
            draining=draining,
            machines_idle=machines_idle,
            input_quota=input_quota,
        )
        self.sync = Sync(self._known, self.intake, self.contents.suspect, period, runs=self.jobs.runs.orders)
        self.sought = Sought(self._known, self.sync.calls)
        self.egress = Egress(self.contents.repository, pace, Permits(clock), self.sync.require_entitled)
        self.scrubber = Scrubber(
            self.contents,
            clock,
            repository / "scrubbing.json",
            days=scrub_days,
            is_mine=lambda: self.leadership.held,
            is_busy=lambda: self.contents.repository.busy,
        )
        self.mender = Mender(
            self.contents, clock, holders=self._holders, join=join, is_mine=lambda: self.leadership.held
        )
        counts, repository_room = FigureStore(database), self.contents.repository
        figures = Figures(self._known, self.engine, self.leadership, repository_room, authority, counts)
        glances = SummaryStore(database)
        summaries = Summaries(self._known, self.leadership, repository_room, counts, glances, name)
        self._events = EventLog(database)
        self._tallying = Tallying(database, self.leadership, clock)
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._listen()
        self.routes = [
            identity_routes(self.registry, name),
            revocation_routes(self.registry),
            data_routes(self.disks, Announce(self.sync.locators), self.egress, address),
            upload_routes(self.publishing),
            datum_routes(self.data, self.attributes, Doubts(self.contents)),
            origin_routes(self.disks, self.origins),
            attribute_routes(self.attributes),
            shown_data_routes(self.disks, self._small, views),
            deprecation_routes(self.disks, views),
            host_routes(self.sync, self.sought, self.data, views, address),
            draining_routes(draining),
            event_routes(Telling(self._known, self.data)),
            deployment_routes(deployments, self._clearing),
            machine_routes(deployments, Seeds(self._known, self.registry), self._clearing),
            errand_routes(self.errands),
            watching_routes(Health(counts, repository_room, self.leadership, clock), figures, summaries),
            *self.jobs.routes,
        ]

    def _listen(self) -> None:
        """Let those who decide hear of what changes; the other processes of the database hear with what is stored."""

        def data_changed(uids: Collection[Uid]) -> None:
            self.engine.lookout.data_changed(uids)
            self.jobs.watch.look_at(uids)
            self._known.tell(Told(topics=told_of(uids), data=tuple(uids)), stored=True)

        self.data.changed = self.contents.changed = self.origins.changed = data_changed
        self.data.reattached = self.engine.lookout.reattached
        self.attributes.changed = lambda uid: self.engine.lookout.attributes_changed([uid])
        self.registry.on_revoked = self._shut_out
        self.engine.end = self.data.end
        self.feed.listen(self._told.put_nowait)

    async def _holders(self, root: ContentRoot) -> list[Endpoint]:
        """Where the repository may fetch `root` from; whoever is dialled learns that it is sought."""
        await self.sought.seek(root)
        return await self.sync.holders(root)

    async def _shut_out(self, subject: str) -> None:
        """Neither a host nor a publisher of this subject counts from now on."""
        await self.origins.shut_out(subject)
        await self.disks.shut_out(subject)
        await self.engine.shut_out(subject)

    async def open(self) -> None:
        """Read what is stored, and seed what is there."""
        await self.registry.load()
        await self.contents.open()
        await self.origins.open()
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
            "jobs": self.jobs.matchmaker.run(),
            "machines for jobs": self.jobs.provisioner.run(),
            "jobs for data": self.jobs.watch.run(),
            "leftovers of runs": self.jobs.leftovers.run(),
            "drained machines": self.jobs.retiring.run(),
            "liveness": self.engine.watch_liveness(self._period),
            "progress": share_progress(self._known, self.engine.settings.lease, self._period / 4),
            "errands": self.errands.run(),
            "inner hosts": self.inner.run(),
            "tidying": self._tidy(),
            "tallies": self._tallying.run(),
            "origins": self.origins.watch(),
            "suspects": self.contents.check_suspects(),
            "scrubbing": self.scrubber.run(),
            "mending": self.mender.run(),
            "blocks": self.contents.repository.blocks.run(),
        }

    async def _tidy(self) -> None:
        """Forget what nobody will ask for any more, once in a while, until cancelled."""
        while True:
            await self._clock.sleep(TIDY_EVERY)
            if not self.leadership.held:
                continue
            try:
                gone = await self._known.store.purge_orders(self._clock.now() - KEPT)
                events = await self._events.forget(self._clock.now() - KEPT)
                machines = await self._clearing.purge(self._clock.now() - KEPT)
                jobs = await self._forget_jobs()
                inputs = await self.jobs.inputs.tidy()
                told = {"orders": gone, "events": events, "machines": machines, "jobs": jobs, "inputs": inputs}
                log.info("what is old is forgotten", **told)
            except Exception:
                log.exception("what is old could not be forgotten; it is tried again")

    async def _forget_jobs(self) -> int:
        if not self._job_days:
            return 0
        return await self.jobs.remover.purge(self._clock.now() - timedelta(days=self._job_days))

    async def _hear(self) -> None:
        """Take in what other processes of the database tell, until cancelled."""
        while True:
            messages = [await self._told.get()]
            while not self._told.empty():
                messages.append(self._told.get_nowait())
            told = together(messages)
            try:
                self.jobs.watch.look_at(told.data)
                if told.resync:
                    self.jobs.watch.look_at_all()
                    await self.registry.load()
                    await self.contents.catch_up()
                for subject in told.revoked:
                    self.registry.hear_revoked(subject)
                    await self._shut_out(subject)
                self.sync.doubts.hear(told.doubted)
                self.sought.hear(told.sought)
                self.sync.calls.hear(told.calls)
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
        revocation_routes(unused),  # type: ignore[arg-type]
        data_routes(unused, unused, unused, nothing),  # type: ignore[arg-type]
        upload_routes(unused),  # type: ignore[arg-type]
        datum_routes(unused, unused, unused),  # type: ignore[arg-type]
        origin_routes(unused, unused),  # type: ignore[arg-type]
        attribute_routes(unused),  # type: ignore[arg-type]
        shown_data_routes(unused, unused, unused),  # type: ignore[arg-type]
        deprecation_routes(unused, unused),  # type: ignore[arg-type]
        host_routes(unused, unused, unused, unused, nothing),  # type: ignore[arg-type]
        draining_routes(unused),  # type: ignore[arg-type]
        event_routes(unused),  # type: ignore[arg-type]
        deployment_routes(unused, unused),  # type: ignore[arg-type]
        machine_routes(unused, unused, unused),  # type: ignore[arg-type]
        errand_routes(unused),  # type: ignore[arg-type]
        watching_routes(unused, unused, unused),  # type: ignore[arg-type]
        job_routes(unused, unused),  # type: ignore[arg-type]
        input_routes(unused),  # type: ignore[arg-type]
        standing_routes(unused),  # type: ignore[arg-type]
        run_routes(unused, unused),  # type: ignore[arg-type]
        retiring_routes(unused, unused),  # type: ignore[arg-type]
    ]
    return [route for table in tables for route in table.table]
