"""The loop around the planner: gathers facts for what changed, asks for a plan, stores it, and wakes the hosts.

Owns the moment of decision. Facts change and plans are stored under the database's facts lock, so that no plan is made
from facts that are gone when it is stored; of several processes on one database only the leader plans. It decides
nothing: that is the planner's. What is to be looked at stands on the agenda; the cost of a round follows what changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from typing import Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.draining import Drain
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import MACHINE, PlacementState
from bitdew.tasks import first_of, to_the_end

from ..catalog.data_store import Datum
from ..catalog.faults import is_nobodys
from ..catalog.feed import Told
from ..catalog.leadership import Leadership
from .agenda import Agenda, Standing
from .books import Books
from .decisions import Decisions, decide
from .gathering import Gathered, Gathering
from .hosts import HostChange
from .known import Known
from .lookout import HOSTS, ROOM, Lookout
from .planner import Outlook, Place, Plan, plan
from .planner.snapshot import PlannerSettings, Snapshot

log = structlog.get_logger(__name__)
BATCH: Final = 200
"""Data that are planned in one round: few enough that the loop never stops for long."""
LONGEST_NAP: Final = 3600.0
SURVEY_EVERY: Final = 6 * 3600.0
"""Seconds between two looks at every datum where several processes share the database: only a defect needs it."""
DEFECT_PAUSE: Final = 5.0

Ending = tuple[Datum, str]
"""A datum whose life ends, as it was when that was decided, and why."""
End = Callable[[Datum, str], Awaitable[bool]]
Changed = tuple[Uid, Uid, PlacementState | None, PlacementState]
"""A datum of which a copy went from one state to another, and its attribute."""


class Engine:
    """Turns changed facts into stored orders.

    Attributes:
        lookout: Knows what is to be planned, and when.
        books: What the hosts hold in sum.
        settings: The planner's figures.
        end: Ends the life of a datum, for a reason, and frees its bytes: the catalog's part.
    """

    def __init__(self, known: Known, settings: PlannerSettings, leadership: Leadership) -> None:
        self._known = known
        self._leadership = leadership
        self.settings = settings
        self.books = Books(known.store, settings.reserve)
        self.lookout = Lookout(known, self.books, leadership)
        self.gathering = Gathering(known, self.books, settings, known.clock.now())
        self.end: End = _nobody_ends
        self._survey: Uid | None = None
        self._surveying = False
        self._surveyed = 0.0
        """When the last survey ended."""
        self._epoch: int | None = None
        self._repairs: list[float] = []

    @property
    def agenda(self) -> Agenda:
        """What is to be planned, and when."""
        return self.lookout.agenda

    async def open(self) -> None:
        """Read what is stored; everything is looked at once, since no one knows what happened while no one looked."""
        known = self._known
        async with known.database.facts():
            known.wishes.learn((await known.attributes.all()).values())
            await known.hosts.load()
            await self.books.load(known.hosts.records().values())
            self._epoch = self._leadership.epoch
            self.lookout.begin()
            # Those of the highest priority come first, as they would have if it had been known all the time.
            for attribute in known.wishes.by_priority():
                self.lookout.look_at(await known.data.with_attribute([attribute]))
        self.look_at_all()

    def look_at_all(self) -> None:
        """Nobody knows what changed: every datum is looked at, after those that are known to have changed."""
        self._survey, self._surveying = None, True
        self.lookout.work.set()

    def look_at(self, *data: Uid) -> None:
        """Something changed about these data."""
        self.lookout.look_at(data)

    async def host_changed(self, change: HostChange) -> None:
        """A host joined, fell silent, came back, or said something new. Under the facts lock."""
        self.books.host_changed(change.new)
        await self.lookout.host_changed(change)

    async def shut_out(self, subject_id: str) -> None:
        """A certificate was revoked: if it was a host's, the host is banned, and its poll ends."""
        host = HostId(subject_id)
        async with self._known.database.facts():
            if (change := await self._known.hosts.ban(host)) is not None:
                await self.host_changed(change)
                self._known.tell(Told(topics=(host,), hosts=(host,)), stored=True)

    async def drain(self, host: HostId, drain: Drain | None) -> None:
        """A host is to be emptied, or no more: its data and machines are looked at."""
        async with self._known.database.facts():
            if (change := await self._known.hosts.drain(host, drain)) is not None:
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
                        await self.lookout.host_changed(change)
        for host, generation in told.waiting.items():
            known.hosts.order_waits(host, generation)
        self.lookout.data_changed(told.data)
        self.lookout.attributes_changed(told.attributes)
        self.lookout.reattached(told.attributes)
        self.lookout.jobs_changed(HostId(one.removeprefix(ROOM)) for one in told.topics if one.startswith(ROOM))
        self.lookout.work.set()
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
                    # What is done while the lead is lost is not on the agenda.
                    woken = first_of(self.lookout.work.wait(), self._leadership.lost.wait())
                    await wait_at_most(self._known.clock, self._nap(), woken)
            except Exception:
                log.exception("the facts can't be read or the plan can't be stored")
                await self._known.clock.sleep(DEFECT_PAUSE)
                await self._recover()

    async def _recover(self) -> None:
        """Orders may have been stored though their storing was told to have failed: those who wait are told now."""
        self.look_at_all()
        try:
            newest = await self._known.store.newest_open()
        except Exception:
            log.exception("the orders can't be read")
            return
        for host, generation in newest.items():
            self._known.hosts.order_waits(host, generation)
            self._known.changes.bump(host)

    def is_due(self) -> bool:
        """Whether there is something to plan for at this moment."""
        wake_at = self.agenda.wake_at
        if self._surveying or self.lookout.busy or self.books.stale:
            return True
        if self.agenda.held_back and self._repairs_left():
            return True
        if self._known.database.shared and self._known.clock.monotonic() - self._surveyed > SURVEY_EVERY:
            self.look_at_all()
            return True
        return wake_at is not None and wake_at <= self._known.clock.now()

    def _nap(self) -> float:
        self.lookout.work.clear()
        longest = SURVEY_EVERY if self._known.database.shared else LONGEST_NAP
        if self.agenda.held_back and self._repairs:  # the first of the latest repairs is forgotten then
            next_one = self._repairs[0] + self.settings.repair_pause.total_seconds() - self._known.clock.monotonic()
            longest = min(longest, max(next_one, 0.01))
        wake_at = self.agenda.wake_at
        if wake_at is None:
            return longest
        seconds = (wake_at - self._known.clock.now()).total_seconds()
        return min(max(seconds, 0.01), longest)

    async def step(self) -> None:
        """Plan once, for a batch of what changed."""
        async with self._known.database.facts():
            await self.lookout.follow_up()
            batch = self.agenda.take(BATCH, self._known.clock.now(), self._repairs_left())
            if self._surveying and len(batch) < BATCH:
                batch = list(dict.fromkeys([*batch, *await self._survey_more(BATCH - len(batch))]))
            try:
                ended = await self._plan(batch)
            except Exception as fault:
                if is_nobodys(fault):
                    raise
                log.exception("planning failed", data=len(batch))
                ended = await self._plan_each(batch)
        for ending in ended:
            await self.end(*ending)

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
            self.lookout.wants_to_run(uid, wants=False)
            return
        row = snapshot.data[uid]
        standing = Standing(row.attribute_uid, row.attribute.priority, row.data.created)
        self.lookout.wants_to_run(uid, wants=outlook.machines)
        self.agenda.settle(uid, outlook.wake_at, standing, is_open=outlook.open, held_back=outlook.held_back)

    async def _plan_each(self, batch: Collection[Uid]) -> list[Ending]:
        """A defect in planning one datum must not end the planning of the others: it alone is set aside for a while."""
        ended: list[Ending] = []
        for uid in sorted(batch):
            try:
                ended += await self._plan([uid])
            except Exception as fault:
                if is_nobodys(fault):
                    raise
                log.error("a datum can't be planned", data=uid, why=repr(fault))  # noqa: TRY400
                self.agenda.look_later(uid, self._known.clock.now() + timedelta(seconds=DEFECT_PAUSE))
        return ended

    async def snapshot(self, data: Collection[Uid]) -> Snapshot:
        """The facts about these data, for who explains them. Takes the facts lock."""
        async with self._known.database.facts():
            return await self.facts_of(data)

    async def facts_of(self, data: Collection[Uid]) -> Snapshot:
        """The facts about these data. Under the facts lock."""
        await self.lookout.has_room(await self.books.refresh())
        await self.lookout.recount_jobs()
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
        hosts = {order.host for order in decided.orders}
        hosts |= {machine.host for machine in decided.machines if machine.host is not None}
        mark = self.books.mark_stale(hosts)
        told = decided.told()
        await self._known.store.record(
            now=now,
            placements=decided.placements,
            machines=decided.machines,
            requested=decided.requested,
            orders=decided.orders,
            check=self._leadership.check,
            told=told,
        )
        repairs = sum(isinstance(action, Place) and action.repair for action in planned.actions)
        self._repairs += [self._known.clock.monotonic()] * repairs
        for order in decided.orders:
            self._known.hosts.order_waits(order.host, order.generation)
        for placement in decided.placements:
            self._known.progress.forget(placement.data, placement.host)
        left = self._book(decided, gathered)
        self.books.mark_true(hosts, mark)
        self.lookout.look_at([machine.data for machine in decided.requested])
        self._known.tell(told, stored=True)
        await self.lookout.copies_changed(left)
        return [(gathered.data[uid], why) for uid, why in decided.ended.items()]

    def _book(self, decided: Decisions, gathered: Gathered) -> list[Changed]:
        """Count what was decided; the copies that no longer count as held."""
        changed: list[Changed] = []
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
            given = gathered.deployments[machine.deployment]
            self.books.machine_changed(gathered.machines[machine.uid], machine, given)
        if any(machine.state in MACHINE.ends() for machine in decided.machines):
            self._known.changes.bump(HOSTS)
        return changed

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
        if self._known.database.shared:
            await self._known.hosts.learn_heard()
        async with self._known.database.facts():
            changed = await self._known.hosts.judge(self._leadership.check)
            for change in changed:
                await self.host_changed(change)
        if changed:
            states = {change.new.name: str(change.new.state) for change in changed}
            log.info("hosts changed", states=states)


async def _nobody_ends(_datum: Datum, _why: str) -> bool:
    """Without a catalog behind it, nothing ends."""
    return False
