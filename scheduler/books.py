"""What the hosts hold in sum, in memory: bytes promised, copies on their way, machines, copies of each attribute.

Owns the planner's index of hosts and its census, and keeps both in step with every placement and machine that is
stored, so that no plan has to count. Changed under the facts lock alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import INTENDED, MACHINE, PlacementState

from .planner.census import Census
from .planner.host_index import HostIndex
from .planner.snapshot import HostRow
from .records import HostRecord, MachineRecord
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


class Books:
    """The sums of all hosts."""

    def __init__(self, store: SchedulerStore, reserve: int) -> None:
        """`reserve` is what is always left free of a host's file system, in bytes."""
        self._store = store
        self._sums: dict[HostId, _Sum] = {}
        self._stale: set[HostId] = set()
        self._records: dict[HostId, HostRecord] = {}
        self._reserve = reserve
        self.index = HostIndex(reserve=reserve)
        self.census = Census()

    async def load(self, hosts: Iterable[HostRecord]) -> None:
        """Count everything."""
        self._records = {record.host: record for record in hosts}
        self._sums, self._stale, self.census, self.index = {}, set(), Census(), HostIndex(reserve=self._reserve)
        await self._count(None)
        for record in self._records.values():
            self._put(record.host)

    async def _count(self, hosts: Collection[HostId] | None) -> None:
        for host, totals in (await self._store.host_totals(hosts)).items():
            sums = self._sums.setdefault(host, _Sum())
            sums.committed, sums.transfers = totals.committed, totals.transfers
        for host, (machines, memory) in (await self._store.memory_on(hosts)).items():
            sums = self._sums.setdefault(host, _Sum())
            sums.machines, sums.memory = machines, memory
        for attribute, host, taken, held in await self._store.census(hosts=hosts):
            self.census.add(attribute, host, taken=taken, held=held)

    def mark_stale(self, hosts: Iterable[HostId]) -> None:
        """What these hosts hold was changed by another process, or it is not known whether a change was stored."""
        self._stale.update(hosts)

    def mark_true(self, hosts: Iterable[HostId]) -> None:
        """What these hosts hold is counted after all."""
        self._stale.difference_update(hosts)

    async def refresh(self) -> None:
        """Count anew what another process changed."""
        stale, self._stale = self._stale, set()
        if not stale:
            return
        for host in stale:
            self._sums.pop(host, None)
            self.census.forget(host)
        await self._count(stale)
        for host in stale:
            self._put(host)

    async def recount(self, attributes: Collection[Uid]) -> None:
        """Count the copies of these attributes anew: data were given others."""
        for attribute in attributes:
            for host in list(self.census.hosts(attribute)):
                taken, held = self.census.taken(attribute, host), self.census.held(attribute, host)
                self.census.add(attribute, host, taken=-taken, held=-held)
        for attribute, host, taken, held in await self._store.census(attributes=attributes):
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

    def machine_changed(self, old: MachineRecord, new: MachineRecord, *, memory: int) -> None:
        """A machine that was given `memory` bytes went to a host, or ended."""
        for record, sign in ((old, -1), (new, 1)):
            if record.host is None or record.state in MACHINE.ends():
                continue
            sums = self._sums.setdefault(record.host, _Sum())
            sums.machines += sign
            sums.memory += sign * memory
        for host in {old.host, new.host} - {None}:
            self._put(host)

    def _put(self, host: HostId | None, *, anew: bool = False) -> None:
        record = self._records.get(host) if host is not None else None
        if record is None:
            return
        sums = self._sums.get(record.host) or _Sum()
        known = None if anew else self.index.get(record.host)
        row = known or HostRow(
            record.report.to_facts(record.host), record.state, record.state_since, record.report.to_endpoint()
        )
        figures = (sums.committed, sums.transfers, sums.machines, sums.memory)
        if known is None or figures != (known.committed, known.transfers, known.machines, known.memory_taken):
            committed, transfers, machines, memory = figures
            self.index.put(
                replace(row, committed=committed, transfers=transfers, machines=machines, memory_taken=memory)
            )
