"""The hosts, in memory: what each last said, the orders that wait for it, and who holds its poll open.

Owns host records between the store and everyone else: read at start, kept current by syncs, written when they change.
Being heard is only noted here and flushed in bulk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from bitdew.core.clock import Clock
from bitdew.core.errors import error
from bitdew.core.host import Endpoint
from bitdew.core.ids import HostId
from bitdew.core.states import HostState
from bitdew.wire.models import HostReport

from .liveness import Liveness
from .records import HostRecord
from .store import SchedulerStore

FREE_STEP: Final = 64 * 2**20
"""Bytes by which a host's free space must change to be worth another look: it moves a little all the time."""


@dataclass(slots=True)
class _Entry:
    record: HostRecord
    mattered: HostReport
    """What it said when that last was worth another look by the planner."""
    unsaved: bool = False
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
        self._heard: dict[HostId, datetime] = {}
        self._locks: dict[HostId, asyncio.Lock] = {}

    async def load(self) -> None:
        """Read what is stored."""
        newest = await self._store.newest_open()
        for record in await self._store.hosts():
            self._entries[record.host] = _Entry(record, record.report, waiting=newest.get(record.host, 0))
        self._liveness.load({h: e.record.state for h, e in self._entries.items()}, self._clock.monotonic())

    def lock(self, host: HostId) -> asyncio.Lock:
        """Held while one sync of a host is taken in."""
        return self._locks.setdefault(host, asyncio.Lock())

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

    def endpoint(self, host: HostId) -> Endpoint | None:
        """Where its swarm listens, if it can be expected to answer."""
        entry = self._entries.get(host)
        if entry is None or entry.record.state in {HostState.LOST, HostState.BANNED}:
            return None
        return entry.record.report.to_endpoint()

    async def take_in(self, host: HostId, generation: int, report: HostReport | None) -> bool:
        """A host synced; whether the planner should look at it again.

        Raises:
            UserError: `host.banned`; `input.invalid` for the first sync ever without a report.
        """
        now = self._clock.now()
        entry = self._entries.get(host)
        if entry is None:
            if report is None:
                raise error("input.invalid", "The first sync of a host says what the host is", field="host")
            record = HostRecord(host, report.name, HostState.JOINING, now, now, report, generation)
            entry = self._entries[host] = _Entry(record, report)
        if entry.record.state is HostState.BANNED:
            raise error("host.banned", f"The host {entry.record.name} was banned")
        old = entry.record
        state = self._liveness.heard(host, self._clock.monotonic()) or old.state
        report = report or old.report
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
        changed = state is not old.state or _matters(entry.mattered, report) or old.state is HostState.JOINING
        if changed:
            entry.mattered = report
        entry.unsaved = entry.unsaved or changed or entry.record.generation != old.generation
        if entry.unsaved:
            await self._store.save_host(entry.record)
            entry.unsaved = False
            self._heard.pop(host, None)
        return changed

    async def ban(self, host: HostId) -> bool:
        """Shut `host` out: its copies no longer count, and it is given nothing; whether it was known."""
        entry = self._entries.get(host)
        if entry is None or entry.record.state is HostState.BANNED:
            return False
        self._liveness.ban(host)
        entry.record = replace(entry.record, state=HostState.BANNED, state_since=self._clock.now())
        await self._store.save_host(entry.record)
        return True

    def told_all(self, host: HostId, boot: str) -> None:
        """This start of the worker has told its whole inventory."""
        self._entries[host].boot = boot

    def is_known_boot(self, host: HostId, boot: str) -> bool:
        """Whether this start of the worker has told its whole inventory since the service started."""
        entry = self._entries.get(host)
        return entry is not None and entry.boot == boot

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
        self._entries[host].waiting = generation

    def unknown(self, host: HostId) -> frozenset[str]:
        """Copies that it reported and the catalog does not know."""
        return self._entries[host].unknown

    def set_unknown(self, host: HostId, uids: frozenset[str]) -> None:
        """Remember the copies that no datum accounts for."""
        self._entries[host].unknown = uids

    async def judge(self) -> Mapping[HostId, HostState]:
        """Let silence change states; the hosts that changed."""
        changed = {silence.host: silence.new for silence in self._liveness.judge(self._clock.monotonic())}
        now = self._clock.now()
        for host, state in changed.items():
            entry = self._entries[host]
            entry.record = replace(entry.record, state=state, state_since=now)
        if changed:
            await self._store.save_states(changed, now)
        return changed

    async def flush(self) -> None:
        """Store when hosts were last heard."""
        heard, self._heard = self._heard, {}
        if heard:
            await self._store.save_heard(heard)


def _matters(old: HostReport, new: HostReport) -> bool:
    """Whether the planner may decide otherwise by what a host says now."""
    if abs(old.free - new.free) >= FREE_STEP:
        return True
    return old.model_copy(update={"free": new.free, "used": new.used}) != new
