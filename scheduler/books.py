"""What the hosts hold in sum, in memory: bytes promised, copies on their way, machines, copies of each attribute.

Owns the planner's index of hosts and its census, and keeps both in step with every placement and machine that is
stored, so that no plan has to count. Changed under the facts lock alone.
"""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import INTENDED, MACHINE, PlacementState

from .planner.census import Census
from .planner.host_index import HostIndex
from .planner.snapshot import HostRow
from .records import DeploymentRecord, HostRecord, MachineRecord, Totals
from .store import SchedulerStore

TAKEN: Final = INTENDED | {PlacementState.HELD}
"""A copy that is there or to come."""
TAKES_SPACE: Final = TAKEN | {PlacementState.DROPPING}


@dataclass(slots=True)
class _Sum:
    committed: int = 0
    transfers: int = 0
    machines: int = 0
    memory: int = 0
    cpus: int = 0


@dataclass(frozen=True, slots=True)
class _Counted:
    totals: Mapping[HostId, Totals]
    running: Mapping[HostId, tuple[int, int, int]]
    census: Sequence[tuple[Uid, HostId, int, int]]


Working = Callable[[Collection[HostId] | None], Awaitable[Mapping[HostId, tuple[int, int]]]]


class Books:
    """The sums of all hosts.

    Attributes:
        working: Says how many bytes of memory and how many processors the runs of jobs have, which have not ended, on
            each of these hosts, or on all.
    """

    def __init__(self, store: SchedulerStore, reserve: int) -> None:
        """`reserve` is what is always left free of a host's file system, in bytes."""
        self._store = store
        self._sums: dict[HostId, _Sum] = {}
        self._stale: dict[HostId, int] = {}
        self._marks = 0
        self._jobs: dict[HostId, tuple[int, int]] = {}
        self._jobs_stale: set[HostId] = set()
        self._records: dict[HostId, HostRecord] = {}
        self._reserve = reserve
        self.working: Working = _nobody_works
        self.index = HostIndex(reserve=reserve)
        self.census = Census()

    async def load(self, hosts: Iterable[HostRecord]) -> None:
        """Count everything."""
        counted = await self._count(None)
        self._records = {record.host: record for record in hosts}
        self._sums, self._stale, self.census, self.index = {}, {}, Census(), HostIndex(reserve=self._reserve)
        self._take_over(counted)
        self._jobs, self._jobs_stale = dict(await self.working(None)), set()
        for record in self._records.values():
            self._put(record.host)

    async def _count(self, hosts: Collection[HostId] | None) -> _Counted:
        totals, running = await self._store.host_totals(hosts), await self._store.machines_on(hosts)
        return _Counted(totals, running, await self._store.census(hosts=hosts))

    def _take_over(self, counted: _Counted) -> None:
        for host, totals in counted.totals.items():
            sums = self._sums.setdefault(host, _Sum())
            sums.committed, sums.transfers = totals.committed, totals.transfers
        for host, (machines, memory, cpus) in counted.running.items():
            sums = self._sums.setdefault(host, _Sum())
            sums.machines, sums.memory, sums.cpus = machines, memory, cpus
        for attribute, host, taken, held in counted.census:
            self.census.add(attribute, host, taken=taken, held=held)

    def mark_stale(self, hosts: Iterable[HostId]) -> int:
        """What these hosts hold was changed by another process, or it is not known whether a change was stored.

        Returns:
            The number of this mark, for `mark_true`.
        """
        self._marks += 1
        self._stale.update(dict.fromkeys(hosts, self._marks))
        return self._marks

    @property
    def stale(self) -> bool:
        """Whether something is to be counted anew."""
        return bool(self._stale)

    def mark_true(self, hosts: Iterable[HostId], mark: int) -> None:
        """What these hosts hold is counted after all, unless they were marked again after `mark`."""
        for host in hosts:
            if self._stale.get(host) == mark:
                del self._stale[host]

    async def refresh(self) -> set[HostId]:
        """Count anew what may be wrong; the hosts that have more room than was counted before."""
        stale = dict(self._stale)
        if not stale:
            return set()
        counted = await self._count(list(stale))
        before = {host: self._room_taken(host) for host in stale}
        for host, mark in stale.items():
            self.mark_true([host], mark)
            self._sums.pop(host, None)
            self.census.forget(host)
        self._take_over(counted)
        for host in stale:
            self._put(host)
        return {host for host in stale if any(map(operator.lt, self._room_taken(host), before[host]))}

    def jobs_changed(self, hosts: Iterable[HostId]) -> None:
        """Runs of jobs began or ended on these hosts, or may have."""
        self._jobs_stale.update(hosts)

    @property
    def jobs_stale(self) -> bool:
        """Whether what jobs take is to be counted anew."""
        return bool(self._jobs_stale)

    async def recount_jobs(self) -> set[HostId]:
        """Count anew what jobs take where that may have changed; the hosts where it is less now."""
        if not self._jobs_stale:
            return set()
        stale = set(self._jobs_stale)
        counted = await self.working(stale)
        before = {host: self._jobs.pop(host, (0, 0)) for host in stale}
        self._jobs.update(counted)
        self._jobs_stale -= stale
        for host in stale:
            self._put(host)
        return {host for host in stale if any(map(operator.lt, self._jobs.get(host, (0, 0)), before[host]))}

    def _room_taken(self, host: HostId) -> tuple[int, ...]:
        sums = self._sums.get(host) or _Sum()
        return sums.committed, sums.transfers, sums.memory, sums.machines, sums.cpus

    async def recount(self, attributes: Collection[Uid]) -> None:
        """Count the copies of these attributes anew: data were given others."""
        counted = await self._store.census(attributes=attributes)
        for attribute in attributes:
            for host in list(self.census.hosts(attribute)):
                taken, held = self.census.taken(attribute, host), self.census.held(attribute, host)
                self.census.add(attribute, host, taken=-taken, held=-held)
        for attribute, host, taken, held in counted:
            self.census.add(attribute, host, taken=taken, held=held)

    def host_changed(self, record: HostRecord) -> None:
        """A host said something new, or its state changed."""
        self._records[record.host] = record
        self._put(record.host, anew=True)

    def placement_changed(
        self, host: HostId, old: PlacementState | None, new: PlacementState, *, size: int, attribute: Uid
    ) -> None:
        """A copy of a datum of `size` bytes went from one state to another."""
        sums = self._sums.setdefault(host, _Sum())
        sums.committed += size * ((new in TAKES_SPACE) - (old in TAKES_SPACE))
        sums.transfers += (new in INTENDED) - (old in INTENDED)
        taken = (new in TAKEN) - (old in TAKEN)
        held = (new is PlacementState.HELD) - (old is PlacementState.HELD)
        if taken or held:
            self.census.add(attribute, host, taken=taken, held=held)
        self._put(host)

    def machine_changed(self, old: MachineRecord, new: MachineRecord, given: DeploymentRecord) -> None:
        """A machine, which was `given` memory and processors, went to a host, or ended."""
        for record, sign in ((old, -1), (new, 1)):
            if record.host is None or record.state in MACHINE.ends():
                continue
            sums = self._sums.setdefault(record.host, _Sum())
            sums.machines += sign
            sums.memory += sign * given.memory
            sums.cpus += sign * given.cpus
        for host in {old.host, new.host} - {None}:
            self._put(host)

    def _put(self, host: HostId | None, *, anew: bool = False) -> None:
        record = self._records.get(host) if host is not None else None
        if record is None:
            return
        sums = self._sums.get(record.host) or _Sum()
        known = None if anew else self.index.get(record.host)
        row = known or HostRow(
            record.report.to_facts(record.host),
            record.state,
            record.state_since,
            record.report.to_endpoint(),
            drain=record.drain,
        )
        jobs_memory, jobs_cpus = self._jobs.get(record.host, (0, 0))
        fresh = replace(
            row,
            committed=sums.committed,
            transfers=sums.transfers,
            machines=sums.machines,
            memory_taken=sums.memory,
            cpus_taken=sums.cpus,
            jobs_memory=jobs_memory,
            jobs_cpus=jobs_cpus,
        )
        if fresh != known:
            self.index.put(fresh)


async def _nobody_works(_hosts: Collection[HostId] | None) -> Mapping[HostId, tuple[int, int]]:
    """Without jobs, nothing is taken by them."""
    return {}
