"""Facts for a plan: what is stored and known in memory about the data that are to be planned, as one snapshot.

Owns the reading for the planner; its cost follows those data alone. It decides nothing and stores nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bitdew.core.ids import HostId, Uid
from bitdew.core.requirement import Requirement
from bitdew.core.states import INTENDED, HostState, PlacementState

from ..catalog.data_store import Datum, Disk
from .books import TAKEN, Books
from .known import Known
from .planner.snapshot import (
    DatumRow,
    DeploymentRow,
    MachineRow,
    PlacementRow,
    PlannerSettings,
    Snapshot,
    TargetRow,
)
from .records import DeploymentRecord, MachineRecord, PlacementRecord


@dataclass(frozen=True, slots=True)
class Gathered:
    """A snapshot, and the records that it was made from."""

    snapshot: Snapshot
    data: Mapping[Uid, Datum]
    placements: Mapping[tuple[Uid, HostId], PlacementRecord]
    machines: Mapping[Uid, MachineRecord]
    deployments: Mapping[Uid, DeploymentRecord]


Reading = Callable[[Collection[Uid]], Awaitable[Mapping[Uid, Collection[HostId]]]]


class Gathering:
    """Reads what a plan needs.

    Attributes:
        began: When this process began to hear of copies on their way.
        reading: Says for some data where a job reads them: there they are wanted, whatever else is wished.
    """

    def __init__(self, known: Known, books: Books, settings: PlannerSettings, began: datetime) -> None:
        """`began` is when this process began to hear of copies on their way: silence before that means nothing."""
        self._known = known
        self._books = books
        self._settings = settings
        self.began = began
        self.reading: Reading = _nobody_reads

    async def gather(self, uids: Collection[Uid], repairs: int) -> Gathered:
        """The facts about the data `uids`; as many as `repairs` may be begun. To be called under the facts lock."""
        known = self._known
        data = await known.data.get(uids)
        known.wishes.learn(datum.attribute for datum in data.values())
        targets = _targets_of(data.values())
        placements = await known.store.placements_of({*data, *targets})
        machines = await known.store.machines(data=list(data), standing=True)
        deployments = await known.store.deployments({machine.deployment for machine in machines})
        seeded = await known.store.seeded(list(deployments)) if deployments else set()
        reading = await self.reading(list(data))
        snapshot = Snapshot(
            hosts=self._books.index,
            data={uid: _datum_row(datum, reading.get(uid, ())) for uid, datum in data.items()},
            placements={uid: tuple(map(self._placement_row, placements[uid])) for uid in data},
            targets=await self._target_rows(data, targets, placements),
            census=self._books.census,
            excess=await self._excess(data, placements),
            deployments=tuple(_deployment_row(d) for d in deployments.values()),
            machines=tuple(_machine_row(m, deployments[m.deployment], seeded) for m in machines),
            settings=replace(self._settings, repairs_per_round=repairs),
        )
        return Gathered(
            snapshot,
            data,
            {(p.data, p.host): p for uid in data for p in placements[uid]},
            {machine.uid: machine for machine in machines},
            deployments,
        )

    async def _target_rows(
        self, data: Mapping[Uid, Datum], targets: Collection[Uid], placements: Mapping[Uid, list[PlacementRecord]]
    ) -> dict[Uid, TargetRow]:
        unread = await self._known.data.get([uid for uid in targets if uid not in data])
        rows = {}
        for uid in targets:
            datum = data.get(uid) or unread.get(uid)
            if datum is None:
                continue
            holders = frozenset(p.host for p in placements[uid] if p.state is PlacementState.HELD)
            rows[uid] = TargetRow(uid, datum.data.name, alive=datum.alive, holders=self._standing(holders))
        for datum in data.values():
            attribute = datum.attribute.affinity_attribute
            if attribute is not None and attribute not in rows:
                record = self._known.wishes.get(attribute)
                name = (record.name if record else None) or attribute
                holders = frozenset(self._books.census.holders(attribute))
                rows[attribute] = TargetRow(attribute, name, alive=True, holders=self._standing(holders))
        return rows

    def _standing(self, holders: frozenset[HostId]) -> frozenset[HostId]:
        """Those of `holders` that are not shut out: a copy there serves no one."""
        index = self._books.index
        return frozenset(h for h in holders if h in index and index[h].state is not HostState.BANNED)

    async def _excess(
        self, data: Mapping[Uid, Datum], placements: Mapping[Uid, list[PlacementRecord]]
    ) -> dict[tuple[Uid, HostId], frozenset[Uid]]:
        """For each attribute and host with more of its data than `distrib` allows, those beyond."""
        found: dict[tuple[Uid, HostId], frozenset[Uid]] = {}
        for uid, datum in data.items():
            cap, attribute = datum.attribute.attribute.distrib, datum.attribute.uid
            if cap < 0:
                continue
            for row in placements[uid]:
                pair = (attribute, row.host)
                if pair in found or row.state not in TAKEN or self._books.census.taken(*pair) <= cap:
                    continue
                found[pair] = frozenset(await self._known.store.excess(attribute, row.host, cap))
        return found

    def _placement_row(self, record: PlacementRecord) -> PlacementRow:
        step = self._known.progress.of(record.data, record.host, record.generation)
        lease = record.lease_until
        if lease is not None and record.state in INTENDED:
            lease = max(lease, self.began + self._settings.lease)
        if step is not None and record.state in INTENDED and (lease is None or step.lease_until > lease):
            lease = step.lease_until
        return PlacementRow(
            record.data,
            record.host,
            record.state,
            record.since,
            step.done if step else record.done,
            lease,
            record.retry_at,
            record.failures,
            str(record.reason["key"]) if record.reason else "",
        )


def _targets_of(data: Iterable[Datum]) -> set[Uid]:
    named = ((datum.attribute.affinity_data, datum.attribute.lifetime_data) for datum in data)
    return {uid for pair in named for uid in pair if uid is not None}


async def _nobody_reads(_data: Collection[Uid]) -> Mapping[Uid, Collection[HostId]]:
    """Without jobs, nothing is read."""
    return {}


def _datum_row(datum: Datum, reading: Collection[HostId]) -> DatumRow:
    record = datum.attribute
    return DatumRow(
        datum.data,
        record.attribute,
        record.uid,
        alive=datum.alive,
        damaged=datum.damaged,
        awaited=datum.awaited and datum.origin is None,
        seeded=datum.seeded,
        ends=datum.ends,
        affinity=record.affinity_data or record.affinity_attribute,
        lifetime_of=record.lifetime_data,
        pins=frozenset(record.pins).union(reading),  # what a run reads stays there as long as it does
        deprecated=datum.deprecated if isinstance(datum, Disk) else "",
    )


def _deployment_row(record: DeploymentRecord) -> DeploymentRow:
    return DeploymentRow(record.uid, record.data, record.count, record.memory, record.cpus, record.created)


@functools.lru_cache(maxsize=256)
def _requirement(text: str) -> Requirement:
    """The requirement of a deployment, read once for all of its machines."""
    return Requirement(text)


def _machine_row(record: MachineRecord, deployment: DeploymentRecord, seeded: Collection[Uid]) -> MachineRow:
    return MachineRow(
        record.uid,
        record.deployment,
        record.data,
        record.host,
        record.state,
        record.stop_wanted,
        deployment.memory,
        deployment.cpus,
        record.since,
        deployment.restart,
        record.attempt,
        timedelta(seconds=record.ran),
        bound=record.bound,
        successor=record.successor,
        requires=_requirement(deployment.requires),
        network=deployment.network,
        seeded=deployment.network != "none" or deployment.uid in seeded,
        ports=tuple((port.host, port.guest) for port in deployment.ports),
        ends=deployment.ends,
        draining=record.draining,
    )
