"""The loop around the planner: gathers facts for what changed, asks for a plan, stores it, and wakes the hosts.

Owns the moment of decision. Facts change and plans are stored under the database's facts lock, so that no plan is made
from facts that are gone when it is stored; of several processes on one database only the leader plans. It decides
nothing: that is the planner's. What is to be looked at stands on the agenda; the cost of a round follows what changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.states import HostState, PlacementState
from bitdew.tasks import to_the_end

from ..catalog.feed import Told
from ..catalog.leadership import Leadership
from .agenda import Agenda, Standing
from .books import Books
from .decisions import Decisions, decide
from .gathering import Gathered, Gathering
from .hosts import HostChange
from .known import Known
from .planner import Outlook, Place, Plan, plan
from .planner.snapshot import PlannerSettings, Snapshot

log = structlog.get_logger(__name__)
BATCH: Final = 200
"""Data that are planned in one round: few enough that the loop never stops for long."""
LONGEST_NAP: Final = 3600.0
SURVEY_EVERY: Final = 600.0
"""Seconds between two looks at every datum where several processes share the database."""
DEFECT_PAUSE: Final = 5.0

Ending = tuple[Uid, ContentRoot, str]
"""A datum whose life ends, what it is, and why."""


class Engine:
    """Turns changed facts into stored orders.

    Attributes:
        agenda: What is to be planned, and when.
        books: What the hosts hold in sum.
        settings: The planner's figures.
        end: Ends the life of a datum, for a reason, and frees its bytes: the catalog's part.
    """

    def __init__(self, known: Known, settings: PlannerSettings, leadership: Leadership) -> None:
        self._known = known
        self._leadership = leadership
        self.settings = settings
        self.agenda = Agenda()
        self.books = Books(known.store, settings.reserve)
        self.gathering = Gathering(known, self.books, settings, known.clock.now())
        self.end: Callable[[Uid, ContentRoot, str], Awaitable[bool]] = _nobody_ends
        self._work = asyncio.Event()
        self._survey: Uid | None = None
        self._surveying = False
        self._surveyed = 0.0
        """When the last survey ended."""
        self._rewritten: set[Uid] = set()
        self._recounted: set[Uid] = set()
        self._touched: set[Uid] = set()
        self._epoch: int | None = None
        self._repairs: list[float] = []

    async def open(self) -> None:
        """Read what is stored; everything is looked at once, since no one knows what happened while no one looked."""
        async with self._known.database.facts():
            self._known.wishes.learn((await self._known.attributes.all()).values())
            await self._known.hosts.load()
            await self.books.load(self._known.hosts.records().values())
        self._epoch, self.agenda = self._leadership.epoch, Agenda()
        self.look_at_all()

    # What happened ------------------------------------------------------------------------------------------------

    def look_at(self, *data: Uid) -> None:
        """Something changed about these data. Who does not lead need not remember: who takes the lead looks at all."""
        if self._leadership.held:
            self.agenda.look_at(data)
            self._work.set()

    def look_at_all(self) -> None:
        """Nobody knows what changed: every datum is looked at, after those that are known to have changed."""
        self._survey, self._surveying = None, True
        self._work.set()

    def attribute_changed(self, *attributes: Uid) -> None:
        """Attributes have other wishes now: every datum that has them is looked at."""
        self._rewritten.update(attributes)
        self._work.set()

    def reattached(self, *attributes: Uid) -> None:
        """Data were taken from some of these attributes and given to others."""
        self._recounted.update(attributes)
        self._work.set()

    async def _learn_attributes(self) -> None:
        rewritten, self._rewritten = self._rewritten, set()
        if rewritten:
            found = await self._known.attributes.get(rewritten)
            self._known.wishes.learn(found.values())
            for gone in rewritten - found.keys():
                self._known.wishes.forget(gone)
            self.look_at(*await self._known.data.with_attribute(rewritten))
        recounted, self._recounted = self._recounted, set()
        if recounted:
            await self.books.recount(recounted)

    async def host_changed(self, change: HostChange) -> None:
        """A host joined, fell silent, came back, or said something new. Under the facts lock."""
        old, new = change.old, change.new
        host, store = new.host, self._known.store
        self.books.host_changed(new)
        facts = new.report.to_facts(host)
        moved = old is None or old.state is not new.state
        if moved and old is not None:
            on_host = await store.data_on(host)
            blip = {old.state, new.state} == {HostState.ALIVE, HostState.SUSPECT}
            self.look_at(*(uid for uid in on_host if not blip or self.agenda.watches(uid)))
        if old is not None and (otherwise := self._known.wishes.judging_otherwise(old.report.to_facts(host), facts)):
            self.look_at(*await store.data_on(host, otherwise))
        if new.state is HostState.ALIVE:
            await self.has_room([host])

    async def has_room(self, hosts: Collection[HostId]) -> None:
        """These hosts joined, changed or have room: what waits for such hosts is looked at. Under the facts lock."""
        wishes, agenda = self._known.wishes, self.agenda
        for host in hosts:
            record = self._known.hosts.get(host)
            if record is None or record.state is not HostState.ALIVE:
                continue
            facts = record.report.to_facts(host)
            agenda.offer(list(wishes.admitting(agenda.open_attributes, facts)))
            if agenda.open_attributes:
                self.look_at(*(uid for uid in await self._known.store.data_on(host) if agenda.is_open(uid)))
            if calling := list(wishes.admitting(wishes.calling, facts)):
                self.look_at(*await self._known.store.lacking(host, calling))
        self._work.set()

    async def copies_changed(self, changed: Iterable[tuple[Uid, Uid, PlacementState | None, PlacementState]]) -> None:
        """Copies went from one state to another: `(datum, its attribute, old, new)`. Under the facts lock.

        Data that go where these are held, or may not, are looked at with them.
        """
        following = set[Uid]()
        for uid, attribute, old, new in changed:
            self.look_at(uid)
            if (old is PlacementState.HELD) != (new is PlacementState.HELD):
                following |= self._known.wishes.following(uid, attribute)
        if following:
            self.look_at(*await self._known.data.with_attribute(following))

    def data_changed(self, *data: Uid) -> None:
        """Data were added, ended, damaged or mended: they are looked at, and those that live or go with them."""
        if self._leadership.held:
            self._touched.update(data)
        self.look_at(*data)

    async def _look_at_relatives(self) -> None:
        touched, self._touched = self._touched, set()
        concerned = {attribute for uid in touched for attribute in self._known.wishes.tied_to(uid)}
        if concerned:
            self.look_at(*await self._known.data.with_attribute(concerned))

    async def shut_out(self, subject_id: str) -> None:
        """A certificate was revoked: if it was a host's, the host is banned, and its poll ends."""
        host = HostId(subject_id)
        async with self._known.database.facts():
            if (change := await self._known.hosts.ban(host)) is not None:
                await self.host_changed(change)
                self._known.tell(Told(topics=(host,), hosts=(host,)), stored=True)

    async def told(self, told: Told) -> None:
        """Take in what another process of this database did."""
        known = self._known
        if told.resync:
            log.info("other processes may have done what was not heard: everything is read again")
            await self.open()
            known.changes.bump_all()
            return
        self.books.mark_stale(told.hosts)
        if told.hosts:
            async with known.database.facts():
                changes = await known.hosts.reload(told.hosts)
                for change in changes:
                    self.books.host_changed(change.new)
                if self._leadership.held:
                    for change in changes:
                        await self.host_changed(change)
                    await self.has_room(told.hosts)
        for host, generation in told.waiting.items():
            known.hosts.order_waits(host, generation)
        self.data_changed(*told.data)
        self.attribute_changed(*told.attributes)
        self.reattached(*told.attributes)
        for topic in told.topics:
            known.changes.bump(topic)

    # Deciding -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Plan whenever there is something to plan for and this process leads, until cancelled."""
        while True:
            await self._leadership.gained()
            try:
                if self._epoch != self._leadership.epoch:  # another process led before: it knew what this one does not
                    await self.open()
                if self.is_due():
                    await to_the_end(self.step())
                else:
                    await wait_at_most(self._known.clock, self._nap(), self._woken())
            except Exception:
                log.exception("the facts can't be read or the plan can't be stored")
                await self._known.clock.sleep(DEFECT_PAUSE)
                self.look_at_all()

    def is_due(self) -> bool:
        """Whether there is something to plan for at this moment."""
        wake_at = self.agenda.wake_at
        if self._surveying or self.agenda.busy or self._rewritten or self._recounted or self._touched:
            return True
        if self._known.database.shared and self._known.clock.monotonic() - self._surveyed > SURVEY_EVERY:
            self.look_at_all()  # a process may have been killed between storing a fact and telling of it
            return True
        return wake_at is not None and wake_at <= self._known.clock.now()

    def _nap(self) -> float:
        self._work.clear()
        longest = SURVEY_EVERY if self._known.database.shared else LONGEST_NAP
        wake_at = self.agenda.wake_at
        if wake_at is None:
            return longest
        seconds = (wake_at - self._known.clock.now()).total_seconds()
        return min(max(seconds, 0.01), longest)

    async def _woken(self) -> None:
        """Return once there is work, or the lead is lost: what is done until it is had again is not on the agenda."""
        waits = [asyncio.ensure_future(self._work.wait()), asyncio.ensure_future(self._leadership.lost.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)

    async def step(self) -> None:
        """Plan once, for a batch of what changed."""
        async with self._known.database.facts():
            await self.books.refresh()
            await self._learn_attributes()
            await self._look_at_relatives()
            batch = self.agenda.take(BATCH, self._known.clock.now())
            if self._surveying and len(batch) < BATCH:
                batch = list(dict.fromkeys([*batch, *await self._survey_more(BATCH - len(batch))]))
            try:
                ended = await self._plan(batch)
            except Exception as fault:
                if _is_no_datums(fault):
                    raise
                log.exception("planning failed", data=len(batch))
                ended = await self._plan_each(batch)
        for uid, root, why in ended:
            await self.end(uid, root, why)

    async def _survey_more(self, most: int) -> list[Uid]:
        page = await self._known.store.page(self._survey, most)
        if len(page) < most:
            self._survey, self._surveying = None, False
            self._surveyed = self._known.clock.monotonic()
        else:
            self._survey = page[-1]
        return page

    async def _plan(self, batch: Collection[Uid]) -> list[Ending]:
        """Plan these data and store what was decided; the data whose life ends."""
        if not batch:
            return []
        gathered = await self.gathering.gather(batch, self._repairs_left())
        now = self._known.clock.now()
        planned = plan(gathered.snapshot, now)
        ended = await self._commit(planned, gathered, now)
        for uid in batch:
            self._settle(uid, planned.outlooks.get(uid), gathered.snapshot)
        return ended

    def _settle(self, uid: Uid, outlook: Outlook | None, snapshot: Snapshot) -> None:
        if outlook is None:
            self.agenda.forget(uid)
            return
        row = snapshot.data[uid]
        standing = Standing(row.attribute_uid, row.attribute.priority, row.data.created) if outlook.open else None
        self.agenda.settle(uid, outlook.wake_at, standing)

    async def _plan_each(self, batch: Collection[Uid]) -> list[Ending]:
        """A defect in planning one datum must not end the planning of the others: it alone is set aside for a while."""
        ended: list[Ending] = []
        for uid in sorted(batch):
            try:
                ended += await self._plan([uid])
            except Exception as fault:
                if _is_no_datums(fault):
                    raise
                log.error("a datum can't be planned", data=uid, why=repr(fault))  # noqa: TRY400
                self.agenda.settle(uid, self._known.clock.now() + timedelta(seconds=DEFECT_PAUSE), None)
        return ended

    async def snapshot(self, data: Collection[Uid]) -> Snapshot:
        """The facts about these data, for who explains them. Takes the facts lock."""
        async with self._known.database.facts():
            await self.books.refresh()
            return (await self.gathering.gather(data, self._repairs_left())).snapshot

    def _repairs_left(self) -> int:
        """How many repairs may begin now: the cap is one of a pause, however many rounds fall into it."""
        since = self._known.clock.monotonic() - self.settings.repair_pause.total_seconds()
        self._repairs = [moment for moment in self._repairs if moment > since]
        return max(0, self.settings.repairs_per_round - len(self._repairs))

    async def _commit(self, planned: Plan, gathered: Gathered, now: datetime) -> list[Ending]:
        """Store the plan's placements, machines and orders together, then tell those who wait."""
        if not planned.actions:
            return []
        for action in planned.actions:
            log.info("planned", action=type(action).__name__.lower(), cause=action.cause)
        decided = decide(
            planned.actions, gathered.placements, gathered.machines, self._known.hosts.next_generation, now
        )
        # Should anything below fail, what was stored of it is counted anew rather than guessed.
        self.books.mark_stale({order.host for order in decided.orders})
        told = decided.told()
        await self._known.store.record(
            now=now,
            placements=decided.placements,
            machines=decided.machines,
            orders=decided.orders,
            check=self._leadership.check,
            told=told,
        )
        repairs = sum(isinstance(action, Place) and action.repair for action in planned.actions)
        self._repairs += [self._known.clock.monotonic()] * repairs
        await self._book(decided, gathered)
        self.books.mark_true({order.host for order in decided.orders})
        for order in decided.orders:
            self._known.hosts.order_waits(order.host, order.generation)
        for placement in decided.placements:
            self._known.progress.forget(placement.data, placement.host)
        self._known.tell(told, stored=True)
        return [(uid, gathered.data[uid].data.root, why) for uid, why in decided.ended.items()]

    async def _book(self, decided: Decisions, gathered: Gathered) -> None:
        changed = []
        for placement in decided.placements:
            datum = gathered.data[placement.data]
            known = gathered.placements.get((placement.data, placement.host))
            old, attribute = known.state if known else None, datum.attribute.uid
            self.books.placement_changed(
                placement.host, old, placement.state, size=datum.data.size, attribute=attribute
            )
            if old is PlacementState.HELD:
                changed.append((placement.data, attribute, old, placement.state))
        for machine in decided.machines:
            memory = gathered.memory[machine.uid]
            self.books.machine_changed(gathered.machines[machine.uid], machine, memory=memory)
        if changed:
            await self.copies_changed(changed)

    # Watching -----------------------------------------------------------------------------------------------------

    async def watch_liveness(self, period: float) -> None:
        """Let silence change hosts' states, four times a period, until cancelled."""
        while True:
            await self._known.clock.sleep(period / 4)
            try:
                await to_the_end(self.judge_hosts())
            except Exception:
                log.exception("the hosts' liveness could not be stored")

    async def judge_hosts(self) -> None:
        """Let silence change hosts' states, once."""
        await self._known.hosts.flush()
        if not self._leadership.held:
            return
        await self._known.hosts.learn_heard()
        async with self._known.database.facts():
            changed = await self._known.hosts.judge(self._leadership.check)
            for change in changed:
                await self.host_changed(change)
        if changed:
            states = {change.new.name: str(change.new.state) for change in changed}
            log.info("hosts changed", states=states)


def _is_no_datums(fault: Exception) -> bool:
    """Whether nothing can be planned now: the database is away, or another process leads."""
    return isinstance(fault, BitDewError) and fault.key in {"storage.failed", "storage.full", "leadership.lost"}


async def _nobody_ends(_uid: Uid, _root: ContentRoot, _why: str) -> bool:
    """Without a catalog behind it, nothing ends."""
    return False
