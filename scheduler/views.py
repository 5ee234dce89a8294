"""What people see: disks with their copies, where they are, why, and the hosts. Reads; never decides."""

from __future__ import annotations

from collections.abc import Sequence

from bitdew.core.errors import error
from bitdew.core.ids import HostId
from bitdew.core.states import INTENDED, PlacementState
from bitdew.wire.models import (
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

from ..catalog.data_store import Disk
from ..catalog.disks import Disks
from .engine import Engine
from .known import Known
from .planner import explain
from .records import HostRecord, PlacementRecord

_SHOWN = frozenset(PlacementState) - {PlacementState.GONE}


class Views:
    """Answers questions about disks and hosts."""

    def __init__(self, known: Known, engine: Engine, disks: Disks) -> None:
        self._known = known
        self._disks = disks
        self._engine = engine

    async def disks(self) -> DiskList:
        """All living disks, by name."""
        living = await self._known.data.living()
        placements = await self._known.store.placements_of([disk.data.uid for disk in living])
        return DiskList(disks=[self.disk_view(disk, placements[disk.data.uid]) for disk in living])

    async def disk(self, name: str) -> DiskView:
        """One disk.

        Raises:
            UserError: `data.not-found`.
        """
        disk = await self._disks.find(name)
        return self.disk_view(disk, (await self._known.store.placements_of([disk.data.uid]))[disk.data.uid])

    async def where(self, name: str, since: int, seconds: float) -> WhereReply:
        """Where a disk is, held open until that is newer than version `since`.

        Raises:
            UserError: `data.not-found`, also if it is removed meanwhile.
        """
        disk = await self._disks.find(name)
        await self._known.changes.wait(disk.data.uid, since, seconds)
        version = self._known.changes.version(disk.data.uid)
        disk = await self._disks.find(disk.data.uid)
        placements = (await self._known.store.placements_of([disk.data.uid]))[disk.data.uid]
        shown = [self._placement_view(p, disk) for p in placements if p.state in _SHOWN]
        return WhereReply(version=version, disk=self.disk_view(disk, placements), placements=shown)

    async def explain(self, name: str) -> ExplainReply:
        """Why a disk is where it is, and what happens next.

        Raises:
            UserError: `data.not-found`.
        """
        disk = await self._disks.find(name)
        async with self._engine.facts:
            snapshot = await self._engine.snapshot([disk.data.uid])
        told = explain(snapshot, disk.data.uid, self._known.clock.now())
        return ExplainReply(
            disk=await self.disk(disk.data.uid),
            wanted=told.wanted,
            held=told.held,
            intended=told.intended,
            missing=told.missing,
            hosts=[
                HostVerdict(host=h.host_id, host_name=h.name, verdict=h.verdict, reason=h.reason) for h in told.hosts
            ],
            next=list(told.next),
        )

    async def hosts(self) -> HostList:
        """All hosts, by name."""
        held = await self._known.store.held_counts()
        machines: dict[HostId | None, int] = {}
        for machine in await self._known.store.machines(unfinished=True):
            machines[machine.host] = machines.get(machine.host, 0) + 1
        records = sorted(self._known.hosts.records().values(), key=lambda record: (record.name, record.host))
        return HostList(hosts=[self._host_view(r, held.get(r.host, 0), machines.get(r.host, 0)) for r in records])

    async def host(self, text: str) -> HostView:
        """The host of this name or uid.

        Raises:
            UserError: `host.not-found`; `input.invalid`, if several have that name.
        """
        found = [view for view in (await self.hosts()).hosts if text in {view.name, view.host}]
        if len(found) > 1:
            do = f"Give one's id: {', '.join(view.host for view in found)}"
            raise error("input.invalid", f"{len(found)} hosts are called {text[:140]!r}", do=do)
        if not found:
            raise error("host.not-found", f"There is no host {text[:140]!r}", name=text[:140])
        return found[0]

    def disk_view(self, disk: Disk, placements: Sequence[PlacementRecord]) -> DiskView:
        """A disk with the figures of its copies."""
        data, record = disk.data, disk.record
        states = [placement.state for placement in placements]
        return DiskView(
            uid=data.uid,
            name=data.name,
            root=data.root,
            info_hash=disk.info_hash,
            size=data.size,
            format=record.format,
            os=record.os,
            arch=record.arch,
            version=record.version,
            publisher=record.publisher,
            created=data.created,
            expires=record.expires,
            damaged=disk.damaged,
            attribute=disk.attribute.to_dict(),
            wanted=disk.attribute.replica,
            held=states.count(PlacementState.HELD),
            intended=sum(state in INTENDED for state in states),
            egress=self._disks.repository.egress(data.root),
        )

    def _placement_view(self, placement: PlacementRecord, disk: Disk) -> PlacementView:
        step = self._known.progress.of(placement.data, placement.host)
        latest = step if step is not None and placement.state in INTENDED else placement
        return PlacementView(
            host=placement.host,
            host_name=self._known.hosts.name(placement.host),
            state=placement.state,
            since=placement.since,
            done=disk.data.size if placement.state is PlacementState.HELD else latest.done,
            size=disk.data.size,
            seconds=placement.seconds,
            from_repository=latest.from_repository,
            from_peers=latest.from_peers,
            reason=ErrorView.model_validate(placement.reason) if placement.reason else None,
            retry_at=placement.retry_at,
            cause=placement.cause,
            history=[*placement.history, str(placement.state)],
        )

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
            unknown=sorted(self._known.hosts.unknown(record.host)),
        )
