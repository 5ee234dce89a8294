"""What hosts report, taken in: judged against what is known, stored, and told to whoever waits for it.

Owns the way of a report into the store. Reports of many hosts that come at once are judged together, under one hold of
the facts lock, and stored in one transaction: a thousand hosts that report cost little more than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from bitdew.batching import Batcher
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.states import INTENDED, MACHINE, MachineState, PlacementState
from bitdew.wire.models import ConsoleChunk, PlacementReport, SyncRequest

from ..catalog.data_store import Datum
from ..catalog.events import told_of
from ..catalog.feed import Told
from .engine import Engine
from .hosts import HostChange
from .inner_hosts import ENDED
from .known import Known
from .records import DeploymentRecord, HostRecord, MachineRecord, PlacementRecord
from .reports import judge_machine, judge_placement, vanished_machine, vanished_placement

log = structlog.get_logger(__name__)
Suspects = set[ContentRoot]
"""Contents of which a host saw corrupt pieces."""
TOGETHER: Final = 64
"""Reports that are taken in at once, at most."""
_SETTLED: Final = frozenset({PlacementState.HELD, PlacementState.FAILED, PlacementState.GONE, PlacementState.LOST})
_GOING_ON: Final = frozenset({MachineState.RUNNING, MachineState.PAUSED})
_LAUNCHED: Final = _GOING_ON | MACHINE.ends()
_FREED: Final = frozenset({PlacementState.GONE, PlacementState.FAILED, PlacementState.LOST})


@dataclass(slots=True)
class _Said:
    """One sync that is to be taken in."""

    host: HostId
    request: SyncRequest


@dataclass(slots=True)
class _Facts:
    """What is known of everything that a batch of reports is about, kept current while it is judged."""

    placements: dict[tuple[Uid, HostId], PlacementRecord]
    data: dict[Uid, Datum]
    machines: dict[Uid, MachineRecord]
    deployments: dict[Uid, DeploymentRecord]


@dataclass(slots=True)
class _News:
    """What is to be stored and told after a batch was judged."""

    placements: dict[tuple[Uid, HostId], PlacementRecord] = field(default_factory=dict)
    machines: dict[Uid, MachineRecord] = field(default_factory=dict)
    done: list[tuple[HostId, Uid]] = field(default_factory=list)
    consoles: list[tuple[Uid, ConsoleChunk]] = field(default_factory=list)
    hosts: list[HostChange] = field(default_factory=list)
    topics: dict[str, None] = field(default_factory=dict)
    roomy: set[HostId] = field(default_factory=set)


class Intake:
    """Takes in syncs that say something."""

    def __init__(self, known: Known, engine: Engine) -> None:
        self._known = known
        self._engine = engine
        self._batcher: Batcher[_Said, Suspects] = Batcher(
            self._take,
            name="intake",
            most=TOGETHER,
            again_alone=lambda fault: not isinstance(fault, BitDewError),  # what one says must not harm the others
            within=known.database.facts,
        )

    async def take_in(self, host: HostId, request: SyncRequest) -> Suspects:
        """Store what `host` says; the contents of which it saw corrupt pieces. After a failure it says it again.

        Raises:
            UserError: `host.banned`, `input.invalid`.
            HostError: `storage.failed`, `storage.full`.
        """
        return await self._batcher.ask(_Said(host, request))

    async def close(self) -> None:
        """Return when all that came is taken in."""
        await self._batcher.close()

    async def _take(self, batch: Sequence[_Said]) -> list[Suspects | Exception]:
        now = self._known.clock.now()
        news = _News()
        refused = [self._hear(said, news) for said in batch]
        heard = [said for said, refusal in zip(batch, refused, strict=True) if refusal is None]
        facts = await self._facts(heard)
        judged = iter([await self._judged(said, facts, news, now) for said in heard])
        outcomes = [next(judged) if refusal is None else refusal for refusal in refused]
        unsaved = self._known.hosts.unsaved({said.host for said in heard})
        told = _told(news, unsaved)
        try:
            stored = await self._store(news, unsaved, told, now)
            self._book(news, facts)
            self._known.tell(told, stored=stored)
            await self._engine_learns(news, facts)
        except BaseException:
            # A shared database may have stored it though it was told to have failed; and what follows from it is not
            # told a second time, since it changes nothing then.
            for change in reversed(news.hosts):
                self._known.hosts.take_back(change)
            self._engine.books.mark_stale({said.host for said in heard})
            self._engine.look_at(*told.data)
            self._engine.look_at_all()
            raise
        for said, outcome in zip(batch, outcomes, strict=True):
            if said.request.full and not isinstance(outcome, Exception):
                self._known.hosts.told_all(said.host, said.request.boot)
        return outcomes

    def _hear(self, said: _Said, news: _News) -> BitDewError | None:
        """Why the host may say nothing; None if it may."""
        try:
            change = self._known.hosts.take_in(said.host, said.request.generation, said.request.host)
        except BitDewError as fault:
            return fault
        if change is not None:
            told = log.info if change.old is None or change.old.state is not change.new.state else log.debug
            told("host changed", host=change.new.name, state=str(change.new.state))
            news.hosts.append(change)
        return None

    async def _facts(self, batch: Sequence[_Said]) -> _Facts:
        store = self._known.store
        told = {Uid(report.uid) for said in batch for report in said.request.placements}
        pairs = [(Uid(report.uid), said.host) for said in batch for report in said.request.placements]
        known = await store.placements_at(pairs) if pairs else {}
        machines = {Uid(report.uid) for said in batch for report in said.request.machines}
        records = {m.uid: m for m in await store.machines(uids=machines)} if machines else {}
        for said in batch:
            if said.request.full:
                on_host = await store.placements_on(said.host)
                known |= {(uid, said.host): placement for uid, placement in on_host.items()}
                running = await store.machines(host=said.host, unfinished=True)
                records |= {machine.uid: machine for machine in running}
        told |= {uid for uid, _host in known}
        deployments = await store.deployments({m.deployment for m in records.values()}) if records else {}
        return _Facts(known, await self._known.data.get(told) if told else {}, records, deployments)

    # Judging ------------------------------------------------------------------------------------------------------

    async def _judged(self, said: _Said, facts: _Facts, news: _News, now: datetime) -> Suspects | Exception:
        try:
            return await self._judge(said, facts, news, now)
        except Exception as fault:  # a report that can't be judged must not hold up the others'
            log.exception("a report can't be judged", host=self._known.hosts.name(said.host))
            return fault

    async def _judge(self, said: _Said, facts: _Facts, news: _News, now: datetime) -> Suspects:
        host, request = said.host, said.request
        strangers = self._strangers(said, facts)
        reports = [report for report in request.placements if report.uid not in strangers]
        fresh = [placement for report in reports if (placement := self._judge_copy(host, report, facts, news, now))]
        if request.full:
            self._known.hosts.set_unknown(host, frozenset(strangers))
            fresh += await self._vanished(said, facts, now)
        for placement in fresh:
            news.placements[placement.data, host] = placement
            news.topics[placement.data] = None
            if placement.state in _SETTLED:
                news.done.append((host, placement.data))
            if placement.state in _FREED:
                news.roomy.add(host)
        self._judge_machines(said, facts, news, now)
        return {ContentRoot(r.root) for r in reports if r.reason is not None and r.reason.key == "swarm.corrupt"}

    def _judge_copy(
        self, host: HostId, report: PlacementReport, facts: _Facts, news: _News, now: datetime
    ) -> PlacementRecord | None:
        pair = Uid(report.uid), host
        known = news.placements.get(pair) or facts.placements.get(pair)
        coming = known is not None and report.state in INTENDED and report.generation >= known.generation
        if coming and self._known.progress.note(host, report, now):
            news.topics[report.uid] = None
        return judge_placement(known, report, host, now, self._engine.settings)

    def _strangers(self, said: _Said, facts: _Facts) -> set[str]:
        """The reported copies that no datum accounts for. Unknown is not delete: they stay where they are."""
        strangers = set()
        for report in said.request.placements:
            datum = facts.data.get(Uid(report.uid))
            other = datum is not None and report.root != datum.data.root and report.state is not PlacementState.GONE
            if datum is None or other:  # other bytes are no copy, whatever they are called
                strangers.add(report.uid)
        if strangers:
            name = self._known.hosts.name(said.host)
            log.warning("copies of unknown data are kept", host=name, data=sorted(strangers))
        return strangers

    async def _vanished(self, said: _Said, facts: _Facts, now: datetime) -> list[PlacementRecord]:
        shown = {Uid(report.uid) for report in said.request.placements}
        ordered = await self._known.store.ordered(said.host)
        missing = [known for (uid, host), known in facts.placements.items() if host == said.host and uid not in shown]
        gone = [vanished_placement(known, now, ordered=known.data in ordered) for known in missing]
        return [placement for placement in gone if placement is not None]

    def _judge_machines(self, said: _Said, facts: _Facts, news: _News, now: datetime) -> None:
        host, reports = said.host, {Uid(report.uid): report for report in said.request.machines}
        for uid, report in reports.items():
            record = news.machines.get(uid) or facts.machines.get(uid)
            if record is None or record.host != host:
                continue
            if report.console is not None:
                news.consoles.append((uid, report.console))
                news.topics[uid] = None
            if (fresh := judge_machine(record, report, host, now)) is not None:
                self._machine(fresh, news)
            if report.generation >= record.generation and report.state in _LAUNCHED:
                halting = record.state is MachineState.STOPPING and report.state in _GOING_ON
                news.done += [] if halting else [(host, uid)]
        if not said.request.full:
            return
        for machine in facts.machines.values():
            if machine.host == host and machine.uid not in reports and (lost := vanished_machine(machine, now)):
                self._machine(lost, news)
                news.done.append((host, machine.uid))

    @staticmethod
    def _machine(fresh: MachineRecord, news: _News) -> None:
        news.machines[fresh.uid] = fresh
        news.topics |= dict.fromkeys((fresh.uid, fresh.deployment))
        if fresh.state in MACHINE.ends() and fresh.host is not None:
            news.roomy.add(fresh.host)
        if fresh.state in MACHINE.ends():
            news.topics[ENDED] = None

    # Storing and telling ------------------------------------------------------------------------------------------

    async def _store(self, news: _News, records: Sequence[HostRecord], told: Told, now: datetime) -> bool:
        """Whether there was anything to store."""
        if not (records or news.placements or news.machines or news.done or news.consoles):
            return False
        await self._known.store.record(
            now=now,
            hosts=list(records),
            placements=list(news.placements.values()),
            machines=list(news.machines.values()),
            done=news.done,
            consoles=news.consoles,
            told=told,
        )
        self._known.hosts.saved(records)
        return True

    def _book(self, news: _News, facts: _Facts) -> None:
        """Count what was stored."""
        books = self._engine.books
        for change in news.hosts:
            books.host_changed(change.new)
        for (uid, host), placement in news.placements.items():
            known, datum = facts.placements.get((uid, host)), facts.data[uid]
            old, attribute = known.state if known else None, datum.attribute.uid
            books.placement_changed(host, old, placement.state, size=datum.data.size, attribute=attribute)
            if placement.state in _SETTLED:
                self._known.progress.forget(uid, host)
        for uid, machine in news.machines.items():
            books.machine_changed(facts.machines[uid], machine, facts.deployments[machine.deployment])

    async def _engine_learns(self, news: _News, facts: _Facts) -> None:
        """What may be decided otherwise now that all is stored and counted."""
        lookout, changed = self._engine.lookout, []
        for change in news.hosts:
            await lookout.host_changed(change)
        for (uid, host), placement in news.placements.items():
            known = facts.placements.get((uid, host))
            changed.append((uid, facts.data[uid].attribute.uid, known.state if known else None, placement.state))
        await lookout.copies_changed(changed)
        lookout.look_at(machine.data for machine in news.machines.values())
        if news.roomy:
            await lookout.has_room(news.roomy)  # what could not be served for want of room may be now


def _told(news: _News, unsaved: Sequence[HostRecord]) -> Told:
    hosts = {host for _uid, host in news.placements} | {record.host for record in unsaved}
    hosts |= {machine.host for machine in news.machines.values() if machine.host is not None}
    data = {uid for uid, _host in news.placements} | {machine.data for machine in news.machines.values()}
    topics = told_of(news.topics) if news.placements else tuple(news.topics)
    return Told(topics=topics, data=tuple(data), hosts=tuple(hosts))
