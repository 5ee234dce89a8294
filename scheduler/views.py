"""What people see: data with their copies, where they are, why, and the hosts. Reads; never decides."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from bitdew.core.errors import error
from bitdew.core.ids import Uid
from bitdew.core.states import INTENDED, PlacementState
from bitdew.trust.roles import Role, Subject
from bitdew.wire.models import (
    DataList,
    DataView,
    DiskList,
    DiskView,
    ErrorView,
    ExplainReply,
    HostList,
    HostVerdict,
    HostView,
    PlacementView,
    WhereReply,
)

from ..catalog.data import DataRoom
from ..catalog.data_store import Datum, Disk
from ..catalog.disks import Disks
from ..catalog.references import MOST_LIKE, suggestion
from .engine import Engine
from .inner_hosts import InnerHosts
from .known import Known
from .planner import explain
from .records import HostRecord, PlacementRecord

_SHOWN = frozenset(PlacementState) - {PlacementState.GONE}


class Views:
    """Answers questions about data, disks among them, and hosts."""

    def __init__(self, known: Known, engine: Engine, data: DataRoom, disks: Disks, inner: InnerHosts) -> None:
        self._known = known
        self._data = data
        self._disks = disks
        self._engine = engine
        self._inner = inner

    # Data ---------------------------------------------------------------------------------------------------------

    async def data(self, prefix: str, after: str | None, limit: int, caller: Subject) -> DataList:
        """A page of the living data, by name; of those that were put for jobs the caller's own."""
        viewer = None if caller.role is Role.OPERATOR else caller.subject_id
        found = await self._known.data.search(prefix, after, limit + 1, viewer=viewer)
        page, more = found[:limit], len(found) > limit
        placements = await self._known.store.placements_of([datum.data.uid for datum in page])
        views = [self.data_view(datum, placements[datum.data.uid]) for datum in page]
        return DataList(data=views, next=page[-1].data.name if more else None)

    async def disks(self, prefix: str, after: str | None, limit: int) -> DiskList:
        """A page of the living disks, by name."""
        found = await self._known.data.disks(prefix, after, limit + 1)
        page, more = found[:limit], len(found) > limit
        placements = await self._known.store.placements_of([disk.data.uid for disk in page])
        views = [self.disk_view(disk, placements[disk.data.uid]) for disk in page]
        return DiskList(disks=views, next=page[-1].data.name if more else None)

    async def disk(self, name: str) -> DiskView:
        """One disk.

        Raises:
            UserError: `data.not-found`.
        """
        disk = await self._disks.find(name)
        return self.disk_view(disk, await self._placements(disk.data.uid))

    async def datum(self, name: str, caller: Subject) -> DataView:
        """One datum.

        Raises:
            UserError: `data.not-found`.
        """
        datum = await self._data.shown(name, caller)
        return self.data_view(datum, await self._placements(datum.data.uid))

    async def where(self, name: str, since: int, seconds: float, caller: Subject) -> WhereReply:
        """Where a datum is, held open until that is newer than version `since`.

        Raises:
            UserError: `data.not-found`, also if its life ends meanwhile.
        """
        datum = await self._data.shown(name, caller)
        uid = datum.data.uid
        await self._known.changes.wait(uid, since, seconds)
        version = self._known.changes.version(uid)
        datum = await self._data.find(uid)
        placements = await self._placements(uid)
        shown = [self._placement_view(p, datum) for p in placements if p.state in _SHOWN or p.freed]
        return WhereReply(version=version, data=self.data_view(datum, placements), placements=shown)

    async def explain(self, name: str, caller: Subject) -> ExplainReply:
        """Why a datum is where it is, and what happens next.

        Raises:
            UserError: `data.not-found`.
        """
        uid = (await self._data.shown(name, caller)).data.uid
        snapshot = await self._engine.snapshot([uid])
        told = explain(snapshot, uid, self._known.clock.now())
        return ExplainReply(
            data=await self.datum(uid, caller),
            wanted=told.wanted,
            held=told.held,
            intended=told.intended,
            missing=told.missing,
            attribute=list(told.effects),
            lifetime=told.lifetime,
            hosts=[
                HostVerdict(host=h.host_id, host_name=h.name, verdict=h.verdict, reason=h.reason) for h in told.hosts
            ],
            next=list(told.next),
            when=told.wake_at,
        )

    async def _placements(self, uid: Uid) -> list[PlacementRecord]:
        return (await self._known.store.placements_of([uid]))[uid]

    def data_view(self, datum: Datum, placements: Sequence[PlacementRecord]) -> DataView:
        """A datum with the figures of its copies; a disk as one."""
        if isinstance(datum, Disk):
            return self.disk_view(datum, placements)
        return DataView(**self._figures(datum, placements))

    def disk_view(self, disk: Disk, placements: Sequence[PlacementRecord]) -> DiskView:
        """A disk with the figures of its copies."""
        record = disk.record
        return DiskView(
            **self._figures(disk, placements),
            format=record.format,
            os=record.os,
            arch=record.arch,
            version=record.version,
            publisher=record.publisher,
            expires=record.expires,
            deprecated=disk.deprecated,
        )

    def _figures(self, datum: Datum, placements: Sequence[PlacementRecord]) -> dict[str, Any]:
        data, states = datum.data, [placement.state for placement in placements]
        return {
            "uid": data.uid,
            "name": data.name,
            "root": data.root,
            "info_hash": datum.info_hash,
            "size": data.size,
            "created": data.created,
            "owner": data.owner,
            "kind": data.kind,
            "alive": datum.alive,
            "died": datum.died,
            "died_because": datum.died_because,
            "ends": datum.ends,
            "awaited": datum.awaited,
            "damaged": datum.damaged,
            "damage": ErrorView.of(fault) if datum.damaged and (fault := self._disks.damage_of(data.root)) else None,
            "seeded": datum.seeded,
            "origin": None if datum.origin is None else str(datum.origin),
            "attribute": datum.attribute.attribute.to_dict(),
            "attribute_name": datum.attribute.name,
            "wanted": datum.attribute.attribute.replicas,
            "held": states.count(PlacementState.HELD),
            "intended": sum(state in INTENDED for state in states),
            "egress": self._disks.repository.egress(data.root),
        }

    def _placement_view(self, placement: PlacementRecord, datum: Datum) -> PlacementView:
        step = self._known.progress.of(placement.data, placement.host, placement.generation)
        latest = step if step is not None and placement.state in INTENDED else placement
        return PlacementView(
            host=placement.host,
            host_name=self._known.hosts.name(placement.host),
            state=placement.state,
            since=placement.since,
            done=datum.data.size if placement.state is PlacementState.HELD else latest.done,
            size=datum.data.size,
            seconds=placement.seconds,
            from_repository=latest.from_repository,
            from_peers=latest.from_peers,
            reused=placement.reused,
            freed=placement.freed,
            reason=ErrorView.model_validate(placement.reason) if placement.reason else None,
            retry_at=placement.retry_at,
            cause=placement.cause,
            history=[*placement.history, str(placement.state)],
        )

    # Hosts --------------------------------------------------------------------------------------------------------

    async def hosts(self, after: str = "", limit: int | None = None) -> HostList:
        """Hosts, by name, but for machines that have ended: at most `limit` behind `after`, which a page gave.

        A name alone will do for `after`, also of a host that is gone.
        """
        name, _, host = after.partition("@")
        behind = (name, host or "~")  # behind all of that name: no id begins so
        records = [r for r in await self._there() if not after or (r.name, r.host) > behind]
        page = records[:limit]
        return HostList(
            hosts=await self._host_views(page),
            next=f"{page[-1].name}@{page[-1].host}" if len(page) < len(records) else None,
        )

    async def _there(self) -> list[HostRecord]:
        gone = await self._inner.gone()
        there = (record for record in self._known.hosts.records().values() if record.host not in gone)
        return sorted(there, key=lambda record: (record.name, record.host))

    async def _host_views(self, records: list[HostRecord]) -> list[HostView]:
        hosts = [record.host for record in records]
        held, machines = await self._known.store.held_counts(hosts), await self._known.store.machines_on(hosts)
        return [self._host_view(r, held.get(r.host, 0), machines.get(r.host, (0, 0, 0))[0]) for r in records]

    async def host(self, text: str) -> HostView:
        """The host of this name or uid.

        Raises:
            UserError: `host.not-found`; `input.invalid`, if several have that name.
        """
        found = await self._host_views([one for one in await self._there() if text in {one.name, one.host}])
        if len(found) > 1:
            do = f"Give one's id: {', '.join(view.host for view in found)}"
            raise error("input.invalid", f"{len(found)} hosts are called {text[:140]!r}", do=do)
        if not found:
            names = {record.name for record in self._known.hosts.records().values()}
            alike = islice((name for name in names if name[:2] == text[:2]), MOST_LIKE)
            do = suggestion(text, {*alike, *islice(names, MOST_LIKE)})
            raise error("host.not-found", f"There is no host {text[:140]!r}", do=do, name=text[:140])
        return found[0]

    def _host_view(self, record: HostRecord, held: int, machines: int) -> HostView:
        report = record.report
        return HostView(
            host=record.host,
            name=record.name,
            state=record.state,
            last_seen=record.last_seen,
            swarm=report.swarm,
            cpus=report.cpus,
            memory=report.memory,
            quota=report.quota,
            used=report.used,
            free=report.free,
            labels=dict(report.labels),
            sharings=list(report.sharings),
            held=held,
            machines=machines,
            drain=record.drain,
            unknown=sorted(self._known.hosts.unknown(record.host)),
        )
