"""The grid at a glance, for whoever watches it.

Owns what that costs: a reading serves everyone until another one is due, and one is due no sooner than after twenty
times what the last one took. So a service spends a twentieth of its time on it at most, however many watch and however
large the grid is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from bitdew.core.ids import HostId
from bitdew.core.states import HostState, JobState, MachineState, PlacementState
from bitdew.wire import limits
from bitdew.wire.models import (
    HostSummary,
    JobSummary,
    MachineSummary,
    OwnerSummary,
    SummaryReply,
    SwarmSummary,
    Trouble,
)

from ..catalog.data_store import Datum
from ..catalog.leadership import Leadership
from ..catalog.repository import Repository
from .figure_store import Counted, FigureStore
from .known import Known
from .summary_store import Busiest, Failed, SummaryStore

SOONEST: Final = 2.0
"""Seconds for which a reading is given again, at least."""
REST: Final = 20
"""The same, as a multiple of what the reading took."""
LATELY: Final = timedelta(hours=1)
"""How long what failed, or was lost, is told of."""


class Summaries:
    """Reads summaries."""

    def __init__(
        self,
        known: Known,
        leadership: Leadership,
        repository: Repository,
        counts: FigureStore,
        store: SummaryStore,
        name: str,
    ) -> None:
        self._known = known
        self._leadership = leadership
        self._repository = repository
        self._counts = counts
        self._store = store
        self._name = name
        self._alone = asyncio.Lock()
        self._due = 0.0
        self._last: SummaryReply | None = None

    async def summary(self) -> SummaryReply:
        """The latest reading, or a new one where that is due.

        Raises:
            HostError: `storage.failed`.
        """
        async with self._alone:
            clock = self._known.clock
            begun = clock.monotonic()
            if self._last is None or begun >= self._due:
                reading = await self._read()
                ended = clock.monotonic()
                self._due = ended + max(SOONEST, REST * (ended - begun))
                self._last = reading
            return self._last.model_copy(update={"again": round(max(0.0, self._due - clock.monotonic()), 3)})

    async def _read(self) -> SummaryReply:
        now = self._known.clock.now()
        counted = await self._counts.count()
        busiest = await self._store.busiest(limits.SUMMARY, now - LATELY)
        wanted = {one.data for one in busiest.filling}
        wanted |= {one.disk for one in busiest.machines} | {one.uid for one in busiest.copies_failed}
        data = await self._known.data.get(wanted)
        names: dict[str, str] = {uid: datum.data.name for uid, datum in data.items()}
        owners = sorted(busiest.owners, key=lambda one: (-sum(busiest.owners[one].values()), one))[: limits.SUMMARY]
        called = await self._store.names({*owners, *(one.owner for one in busiest.runs)})
        hosts = self._known.hosts
        states = Counter(record.state for record in hosts.records().values())
        return SummaryReply(
            at=now,
            again=0.0,
            name=self._name,
            leads=self._leadership.held,
            hosts={state: states[state] for state in HostState},
            copies={PlacementState(state): number for state, number in counted.copies.items()},
            machines={MachineState(state): number for state, number in counted.machines.items()},
            jobs={JobState(state): number for state, number in counted.jobs.items()},
            data=counted.data,
            data_bytes=counted.size,
            swarms_filling=busiest.swarms,
            repository_sent=self._repository.sent,
            repository_free=await self._repository.free(),
            repository_peers=self._repository.peers,
            swarms=list(self._swarms(busiest, data)),
            busy_hosts=list(self._hosts(busiest)),
            live_machines=[
                MachineSummary(
                    uid=one.uid,
                    disk=names.get(one.disk, ""),
                    host_name=hosts.name(one.host),
                    state=one.state,
                    since=one.since,
                )
                for one in busiest.machines
            ],
            live_jobs=[
                JobSummary(
                    uid=one.job,
                    name=one.name,
                    owner=one.owner,
                    owner_name=called.get(one.owner, ""),
                    host_name=hosts.name(one.host),
                    since=one.since,
                )
                for one in busiest.runs
            ],
            owners=[
                OwnerSummary(owner=one, owner_name=called.get(one, ""), jobs=busiest.owners[one]) for one in owners
            ],
            troubles=self._troubles(now, counted, busiest, names),
        )

    def _swarms(self, busiest: Busiest, data: dict[Any, Datum]) -> Iterator[SwarmSummary]:
        moved = self._known.progress.moved({one.data for one in busiest.filling})
        for one in busiest.filling:
            if one.data not in data:
                continue
            datum = data[one.data]
            size = datum.data.size
            yield SwarmSummary(
                data=one.data,
                name=datum.data.name,
                size=size,
                held=one.held,
                intended=one.intended,
                wanted=datum.attribute.attribute.replicas,
                # What other services heard is stored; what this one heard is fresher.
                done=min(max(one.done, moved[one.data]), size * one.intended),
            )

    def _hosts(self, busiest: Busiest) -> Iterator[HostSummary]:
        load: Counter[HostId] = busiest.transfers + busiest.machines_on + busiest.runs_on
        for host, _ in sorted(load.items(), key=lambda one: (-one[1], one[0]))[: limits.SUMMARY]:
            if (record := self._known.hosts.get(host)) is not None:
                yield HostSummary(
                    host=host,
                    name=record.name,
                    state=record.state,
                    cpus=record.report.cpus,
                    transfers=busiest.transfers[host],
                    machines=busiest.machines_on[host],
                    jobs=busiest.runs_on[host],
                )

    def _troubles(self, now: datetime, counted: Counted, busiest: Busiest, names: dict[str, str]) -> list[Trouble]:
        found: list[Trouble] = []
        for record in self._known.hosts.records().values():
            is_new = record.state is HostState.LOST and record.state_since > now - LATELY
            if record.state is HostState.SUSPECT or is_new:
                what = f"the host {record.name} is {record.state}"
                found.append(Trouble(kind="host", subject=record.host, what=what, since=record.state_since))
        hosts = self._known.hosts
        for kind, failed in (
            ("copy", busiest.copies_failed),
            ("machine", busiest.machines_failed),
            ("job", busiest.jobs_failed),
        ):
            for one in failed:
                called = {"copy": names.get(one.uid, one.uid[:8]), "machine": one.uid[:8], "job": one.name}[kind]
                where = f" on {hosts.name(one.host)}" if one.host is not None else ""
                what = f"the {kind} {called}{where} failed{_why(one)}"
                found.append(Trouble(kind=kind, subject=one.uid, what=what[: limits.TEXT], since=one.since))
        found.sort(key=lambda one: one.since or now, reverse=True)
        if counted.damaged:
            what = f"{counted.damaged} data are damaged in the repository"
            found.insert(0, Trouble(kind="data", subject="", what=what))
        return found[: limits.SUMMARY]


def _why(failed: Failed) -> str:
    reason = failed.reason or {}
    said = ": ".join(str(reason[part]) for part in ("message", "why") if reason.get(part))
    return f": {said}" if said else ""
