"""What an event means for the agenda: which data to look at when a host, a copy, a datum or an attribute changed.

Owns the way from what happened to what may be decided otherwise now. It decides nothing, and it leaves out nothing that
may be decided otherwise: a datum that is not looked at stays as it is for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Final

from bitdew.core.host import HostFacts
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import HostState, PlacementState

from ..catalog.leadership import Leadership
from .agenda import Agenda
from .books import Books
from .hosts import HostChange
from .known import Known

HOSTS: Final = "hosts"
"""The topic of all hosts: whoever waits for any of them to change, or to have room."""
ROOM: Final = "room of "
"""With a host behind it, the topic of what jobs take there."""
FEW: Final = 1000
"""Data that are looked up one by one rather than among all that a host has."""


class Lookout:
    """Fills the agenda.

    Who does not lead need not remember anything: who takes the lead looks at all.

    Attributes:
        agenda: What is to be planned.
        work: Set when there is something new on it.
    """

    def __init__(self, known: Known, books: Books, leadership: Leadership) -> None:
        self._known = known
        self._books = books
        self._leadership = leadership
        self.agenda = Agenda()
        self.work = asyncio.Event()
        self._rewritten: set[Uid] = set()
        self._recounted: set[Uid] = set()
        self._touched: set[Uid] = set()
        self._to_run: set[Uid] = set()
        """Data with machines that wait for a host."""

    def begin(self) -> None:
        """Begin anew: everything is going to be looked at."""
        self.agenda = Agenda()
        self._to_run = set()

    @property
    def busy(self) -> bool:
        """Whether something is to be looked at now."""
        freed = self._to_run and self._books.jobs_stale
        return bool(self.agenda.busy or self._rewritten or self._recounted or self._touched or freed)

    def look_at(self, data: Iterable[Uid]) -> None:
        """Something changed about these data."""
        if self._leadership.held:
            self.agenda.look_at(data)
            self.work.set()

    # Noted at any time, followed up before the next plan ------------------------------------------------------------

    def data_changed(self, data: Iterable[Uid]) -> None:
        """Data were added, ended, damaged or mended, or copies changed elsewhere: they, and what is tied to them."""
        changed = set(data)
        if self._leadership.held:
            self._touched |= changed
        self.look_at(changed)

    def attributes_changed(self, attributes: Iterable[Uid]) -> None:
        """Attributes have other wishes now: every datum that has them is looked at."""
        self._rewritten.update(attributes)
        self.work.set()

    def reattached(self, attributes: Iterable[Uid]) -> None:
        """Data were taken from some of these attributes and given to others."""
        self._recounted.update(attributes)
        self.work.set()

    def jobs_changed(self, hosts: Iterable[HostId]) -> None:
        """Runs of jobs began or ended on these hosts."""
        self._books.jobs_changed(hosts)
        self.work.set()

    def wants_to_run(self, uid: Uid, *, wants: bool) -> None:
        """Whether machines of a disk wait for a host, as they may for the room that jobs have."""
        if wants:
            self._to_run.add(uid)
        else:
            self._to_run.discard(uid)

    async def recount_jobs(self) -> None:
        """Count what jobs take where that changed; where it is less now, machines that wait are looked at."""
        freed = await self._books.recount_jobs()
        for host in freed if self._to_run else ():
            self.look_at(await self._known.store.data_on(host, among_data=list(self._to_run)))

    async def follow_up(self) -> None:
        """Bring the books and the agenda up to what was noted. Under the facts lock."""
        if roomy := await self._books.refresh():
            await self.has_room(roomy)
        await self.recount_jobs()
        rewritten, recounted, touched = self._rewritten, self._recounted, self._touched
        self._rewritten, self._recounted, self._touched = set(), set(), set()
        try:
            if rewritten:
                await self._learn(rewritten)
            if recounted:
                await self._recount(recounted)
            if touched:
                await self._look_at_relatives(touched)
        except BaseException:  # none of it may be forgotten
            self._rewritten |= rewritten
            self._recounted |= recounted
            self._touched |= touched
            raise

    async def _learn(self, attributes: set[Uid]) -> None:
        wishes = self._known.wishes
        found = await self._known.attributes.get(attributes)
        wishes.learn(found.values())
        for gone in attributes - found.keys():
            wishes.forget(gone)
        self.look_at(await self._known.data.with_attribute(attributes))

    async def _recount(self, attributes: set[Uid]) -> None:
        """Data changed their attribute: who follows either, who may have room now, and who is one too many."""
        known, census = self._known, self._books.census
        await self._books.recount(attributes)
        self.agenda.offer(attributes)
        following = {other for uid in attributes for other in known.wishes.following(uid, uid)}
        if following:
            self.look_at(await known.data.with_attribute(following))
        for uid in attributes:
            record = known.wishes.get(uid)
            cap = record.attribute.distrib if record else -1
            for host in list(census.hosts(uid)) if cap >= 0 else ():
                if census.taken(uid, host) > cap:
                    self.look_at(await known.store.data_on(host, [uid]))

    async def _look_at_relatives(self, touched: set[Uid]) -> None:
        wishes = self._known.wishes
        concerned = {attribute for uid in touched for attribute in wishes.tied_to(uid)}
        if wishes.attributes_are_followed:
            for uid, datum in (await self._known.data.get(touched)).items():
                concerned |= wishes.following(uid, datum.attribute.uid)
        if concerned:
            self.look_at(await self._known.data.with_attribute(concerned))

    # Followed up at once, under the facts lock -----------------------------------------------------------------------

    async def host_changed(self, change: HostChange) -> None:
        """A host joined, fell silent, came back, or said something new."""
        old, new = change.old, change.new
        host, store, agenda = new.host, self._known.store, self.agenda
        self._known.changes.bump(HOSTS)
        facts = new.report.to_facts(host)
        before = old.report.to_facts(host) if old is not None else None
        if old is not None and (old.state, old.drain) != (new.state, new.drain):
            on_host = await store.data_on(host)
            blip = {old.state, new.state} == {HostState.ALIVE, HostState.SUSPECT}
            self.look_at([uid for uid in on_host if not blip or agenda.watches(uid)])
        if before is not None and (otherwise := self._known.wishes.judging_otherwise(before, facts)):
            self.look_at(await store.data_on(host, otherwise))
        if old is None or old.state is not new.state or before is None or _offers_more(before, facts):
            await self.has_room([host])

    async def has_room(self, hosts: Collection[HostId]) -> None:
        """These hosts joined, changed or have room: what waits for such hosts is looked at."""
        wishes, agenda, store = self._known.wishes, self.agenda, self._known.store
        if hosts:
            self._known.changes.bump(HOSTS)
        for host in hosts:
            record = self._known.hosts.get(host)
            if record is None or record.state is not HostState.ALIVE:
                continue
            facts = record.report.to_facts(host)
            agenda.offer(list(wishes.admitting(agenda.open_attributes, facts)))
            if agenda.open_attributes:
                self.look_at(await self._open_on(host))
            calling = list(wishes.admitting(wishes.calling, facts))
            calling += await self._clinging_to(host, facts)
            if calling:
                self.look_at(await store.lacking(host, calling))
        self.work.set()

    async def _open_on(self, host: HostId) -> list[Uid]:
        """The data that wait for a host and of which this one has something, looked up from the shorter side."""
        agenda, store = self.agenda, self._known.store
        if len(agenda) <= FEW:
            return await store.data_on(host, among_data=list(agenda.open_data()))
        return [uid for uid in await store.data_on(host) if agenda.is_open(uid)]

    async def _clinging_to(self, host: HostId, facts: HostFacts) -> list[Uid]:
        """The attributes whose data are wanted wherever a target is, and a target of which is on this host."""
        wishes = self._known.wishes
        near = []
        admitted = list(wishes.admitting(wishes.clinging, facts))
        targets = {uid: wishes.target_of(uid) for uid in admitted}
        held = await self._known.store.placements_at([(target, host) for target in targets.values() if target])
        for uid in admitted:
            target = targets[uid]
            copy = held.get((target, host)) if target else None
            here = copy is not None and copy.state is PlacementState.HELD
            if here or (target and self._books.census.held(target, host)):
                near.append(uid)
        return near

    async def copies_changed(self, changed: Iterable[tuple[Uid, Uid, PlacementState | None, PlacementState]]) -> None:
        """Copies went from one state to another: `(datum, its attribute, old, new)`.

        Data that go where these are held, or may not, are looked at with them.
        """
        following = set[Uid]()
        for uid, attribute, old, new in changed:
            self.look_at([uid])
            if (old is PlacementState.HELD) != (new is PlacementState.HELD):
                following |= self._known.wishes.following(uid, attribute)
        if following:
            self.look_at(await self._known.data.with_attribute(following))


def _offers_more(old: HostFacts, new: HostFacts) -> bool:
    """Whether a host may take now what it could not take before."""
    lent, before = new.resources, old.resources
    caps = (lent.machines, lent.all_cpus, new.abilities) == (before.machines, before.all_cpus, old.abilities)
    same = caps and (old.labels, old.sharings, before.cpus, before.memory, before.quota, old.name) == (
        new.labels,
        new.sharings,
        lent.cpus,
        lent.memory,
        lent.quota,
        new.name,
    )
    return not same or lent.free > before.free
