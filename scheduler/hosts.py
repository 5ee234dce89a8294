"""The hosts, in memory: what each last said, the orders that wait for it, and who holds its poll open.

Owns host records between the store and everyone else: read at start, kept current by syncs, written when they change.
Being heard is only noted here and flushed in bulk; what other processes of the database heard is learnt from there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from bitdew.core.clock import Clock
from bitdew.core.draining import Drain
from bitdew.core.errors import error
from bitdew.core.host import Endpoint
from bitdew.core.ids import HostId
from bitdew.core.states import HOST, HostState
from bitdew.wire.models import HostReport

from .host_store import Check
from .liveness import Liveness
from .peers import Sites
from .records import HostRecord
from .store import SchedulerStore

FREE_STEP: Final = 64 * 2**20
"""Bytes by which a host's free space must change to be worth another look: it moves a little all the time."""


LEAST_STEP: Final = 2**20
"""The same for a host that has little: a sixteenth of that, but no less than this."""


_AT_WORK: Final = frozenset({HostState.ALIVE, HostState.DRAINED})
"""What a host is while its syncs come."""


@dataclass(frozen=True, slots=True)
class HostChange:
    """A host that is worth another look: as it was, if it was known, and as it is."""

    old: HostRecord | None
    new: HostRecord


@dataclass(slots=True)
class _Entry:
    record: HostRecord
    mattered: HostRecord | None
    """What it was when that last was worth another look by the planner."""
    boot: str = ""
    waiting: int = 0
    unknown: frozenset[str] = field(default_factory=frozenset)


class Hosts:
    """All hosts that ever synced."""

    def __init__(self, store: SchedulerStore, liveness: Liveness, clock: Clock) -> None:
        self._store = store
        self._liveness = liveness
        self._clock = clock
        self._entries: dict[HostId, _Entry] = {}
        self._sites = Sites()
        self._heard: dict[HostId, datetime] = {}
        self._unsaved: set[HostId] = set()
        self._learnt = clock.now()

    async def load(self) -> None:
        """Read what is stored; what was heard by this process itself stays known."""
        newest = await self._store.newest_open()
        for record in await self._store.hosts():
            self._enter(record, newest.get(record.host, 0))
        self._learnt = self._clock.now()
        states = {host: entry.record.state for host, entry in self._entries.items()}
        drained = [host for host, entry in self._entries.items() if entry.record.drain is not None]
        self._liveness.load(states, self._clock.monotonic(), drained)

    def _enter(self, record: HostRecord, waiting: int = 0) -> HostChange | None:
        """Take in a stored record; the change, if it is worth another look."""
        self._sites.put(record.host, record.report.labels)
        entry = self._entries.get(record.host)
        if entry is None:
            self._entries[record.host] = _Entry(record, record, waiting=waiting)
            return HostChange(None, record)
        old, entry.waiting = entry.record, max(entry.waiting, waiting)
        entry.record = replace(record, generation=max(old.generation, record.generation))
        said = (old.state, old.drain) == (record.state, record.drain)
        if said and not _matters(old.report, record.report):
            return None
        entry.mattered = entry.record
        return HostChange(old, entry.record)

    async def reload(self, hosts: Collection[HostId]) -> list[HostChange]:
        """Take in what another process stored of these hosts."""
        records = await self._store.hosts(hosts)
        changes = [change for record in records if (change := self._enter(record)) is not None]
        for change in changes:
            new = change.new
            self._liveness.learn(new.host, new.state, self._clock.monotonic(), drained=new.drain is not None)
        return changes

    def __len__(self) -> int:
        return len(self._entries)

    def records(self) -> dict[HostId, HostRecord]:
        """All hosts as they are now."""
        return {host: entry.record for host, entry in self._entries.items()}

    def get(self, host: HostId) -> HostRecord | None:
        """One host, if it ever synced."""
        entry = self._entries.get(host)
        return entry.record if entry else None

    def name(self, host: HostId | None) -> str:
        """What people call it."""
        entry = self._entries.get(host) if host else None
        return entry.record.name if entry else ""

    def ids_by_name(self) -> dict[str, list[HostId]]:
        """The hosts, by what they are called: a name may be that of several."""
        found: dict[str, list[HostId]] = {}
        for host, entry in self._entries.items():
            found.setdefault(entry.record.name, []).append(host)
        return found

    def endpoint(self, host: HostId) -> Endpoint | None:
        """Where its swarm listens, if it can be expected to answer."""
        entry = self._entries.get(host)
        if entry is None or entry.record.state in {HostState.LOST, HostState.BANNED}:
            return None
        return entry.record.report.to_endpoint()

    def near(self, host: HostId, most: int) -> list[HostId]:
        """Others at its site, `most` of them at most."""
        return self._sites.beside(host, most)

    # Being heard --------------------------------------------------------------------------------------------------

    def hear(self, host: HostId, generation: int) -> bool:
        """A host that says nothing new synced. Whether that is all there is to it: else `take_in` has to be asked."""
        entry = self._entries.get(host)
        if entry is None or entry.record.state not in _AT_WORK or generation > entry.record.generation:
            return False
        if host in self._unsaved or entry.mattered is None or entry.mattered.state not in _AT_WORK:
            return False  # what it said before could not be stored, and nobody knows of it yet
        self._heard[host] = self._clock.now()
        self._liveness.heard(host, self._clock.monotonic())
        return True

    def take_in(self, host: HostId, generation: int, report: HostReport | None) -> HostChange | None:
        """A host synced; the change, if the planner should look at it again.

        What is to be stored of it is among `unsaved` from now on.

        Raises:
            UserError: `host.banned`; `input.invalid` for the first sync ever without a report.
        """
        now = self._clock.now()
        entry = self._entries.get(host)
        if entry is None:
            if report is None:
                raise error("input.invalid", "The first sync of a host says what the host is", field="host")
            record = HostRecord(host, report.name, HostState.JOINING, now, now, report, generation)
            entry = self._entries[host] = _Entry(record, None)
        if self.is_banned(host):
            raise error("host.banned", f"The host {entry.record.name} was banned")
        old, report = entry.record, report or entry.record.report
        self._sites.put(host, report.labels)
        self._liveness.heard(host, self._clock.monotonic())
        # Not what it became by that: it may have been judged, and heard again before the judgement was stored.
        state = HostState.ALIVE if old.drain is None else HostState.DRAINED
        entry.record = replace(
            old,
            name=report.name,
            report=report,
            state=state,
            state_since=now if state is not old.state else old.state_since,
            last_seen=now,
            # A catalog restored from an old backup may be behind its hosts: orders go on above what they applied.
            generation=max(old.generation, generation),
        )
        self._heard[host] = now
        before = entry.mattered
        changed = before is None or state is not before.state or _matters(before.report, report)
        if changed or entry.record.generation != old.generation:
            self._unsaved.add(host)
        if not changed:
            return None
        entry.mattered = entry.record
        return HostChange(before, entry.record)

    def is_banned(self, host: HostId) -> bool:
        """Whether the host was shut out."""
        record = self.get(host)
        return record is not None and record.state is HostState.BANNED

    def take_back(self, change: HostChange) -> None:
        """The change could not be stored: whatever the host says next is taken for that change again."""
        self._entries[change.new.host].mattered = change.old

    def unsaved(self, among: Collection[HostId]) -> list[HostRecord]:
        """Those of some hosts whose records are newer than what is stored."""
        return [self._entries[host].record for host in self._unsaved.intersection(among)]

    def saved(self, records: Iterable[HostRecord]) -> None:
        """These records are stored now."""
        for record in records:
            if self._entries[record.host].record is record:
                self._unsaved.discard(record.host)
                self._heard.pop(record.host, None)

    async def ban(self, host: HostId) -> HostChange | None:
        """Shut `host` out: its copies no longer count, and it is given nothing; None if it was not known, or was so."""
        entry = self._entries.get(host)
        if entry is None or entry.record.state is HostState.BANNED:
            return None
        old = entry.record
        banned = replace(old, state=HostState.BANNED, state_since=self._clock.now())
        await self._store.save_hosts([banned])
        self._liveness.ban(host)
        entry.record = entry.mattered = banned
        return HostChange(old, banned)

    async def drain(self, host: HostId, drain: Drain | None) -> HostChange | None:
        """Say that `host` is to be emptied, or no more; None if it is not known, is shut out, or was so already."""
        entry = self._entries.get(host)
        if entry is None or entry.record.state is HostState.BANNED or entry.record.drain is drain:
            return None
        old = entry.record
        state = old.state
        if drain is not None and state in {HostState.ALIVE, HostState.SUSPECT}:
            state = HOST.check(state, HostState.DRAINED, of=host)
        elif drain is None and state is HostState.DRAINED:
            state = HOST.check(state, HostState.ALIVE, of=host)
        since = old.state_since if state is old.state else self._clock.now()
        fresh = replace(old, drain=drain, state=state, state_since=since)
        await self._store.save_drain(fresh)
        self._liveness.drain(host, state, drained=drain is not None)
        entry.record = entry.mattered = fresh
        return HostChange(old, fresh)

    def told_all(self, host: HostId, boot: str) -> None:
        """This start of the worker has told its whole inventory."""
        self._entries[host].boot = boot

    def is_known_boot(self, host: HostId, boot: str) -> bool:
        """Whether this start of the worker has told its whole inventory since the service started."""
        entry = self._entries.get(host)
        return entry is not None and entry.boot == boot

    # Orders -------------------------------------------------------------------------------------------------------

    def next_generation(self, host: HostId) -> int:
        """The generation of a new order to `host`."""
        entry = self._entries[host]
        entry.record = replace(entry.record, generation=entry.record.generation + 1)
        return entry.record.generation

    def waiting(self, host: HostId) -> int:
        """The highest generation of an order that waits for `host`."""
        return self._entries[host].waiting

    def order_waits(self, host: HostId, generation: int) -> None:
        """An order of this generation was stored for `host`."""
        entry = self._entries.get(host)
        if entry is not None:
            entry.waiting = max(entry.waiting, generation)

    def unknown(self, host: HostId) -> frozenset[str]:
        """Copies that it reported and the catalog does not know."""
        return self._entries[host].unknown

    def set_unknown(self, host: HostId, uids: frozenset[str]) -> None:
        """Remember the copies that no datum accounts for."""
        self._entries[host].unknown = uids

    # Falling silent -----------------------------------------------------------------------------------------------

    async def learn_heard(self) -> None:
        """Learn whom the other processes heard."""
        # They tell late, and in bulk: what was told meanwhile may have been heard before the last time of asking.
        since, self._learnt = self._learnt - timedelta(seconds=self._liveness.period), self._clock.now()
        for host, moment in (await self._store.heard_since(since)).items():
            if host in self._entries:
                ago = max(0.0, (self._learnt - moment).total_seconds())
                self._liveness.heard_before(host, self._clock.monotonic() - ago)

    async def judge(self, check: Check | None = None) -> list[HostChange]:
        """Let silence change states; the hosts that changed. None does if `check` raises, or it can't be stored."""
        silences = self._liveness.judge(self._clock.monotonic())
        now, changes = self._clock.now(), []
        for silence in silences:
            old = self._entries[silence.host].record
            changes.append(HostChange(old, replace(old, state=silence.new, state_since=now)))
        if changes:
            try:
                await self._store.save_states({change.new.host: change.new.state for change in changes}, now, check)
            except BaseException:
                for silence in silences:
                    self._liveness.learn(silence.host, silence.old, self._clock.monotonic())
                raise
        for change in changes:
            entry = self._entries[change.new.host]
            entry.record = entry.mattered = change.new
        return changes

    async def flush(self) -> None:
        """Store when hosts were last heard."""
        heard, self._heard = self._heard, {}
        if heard:
            await self._store.save_heard(heard)


def _matters(old: HostReport, new: HostReport) -> bool:
    """Whether the planner may decide otherwise by what a host says now."""
    if abs(old.free - new.free) >= min(FREE_STEP, max(LEAST_STEP, old.free // 16)):
        return True
    return old.model_copy(update={"free": new.free, "used": new.used}) != new
