"""The loop around the planner: gathers facts for what changed, asks for a plan, stores it, and wakes the hosts.

Owns the moment of decision. Facts change and plans are stored under one lock, so that no plan is made from facts that
are gone when it is stored. It decides nothing: that is the planner's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import INTENDED
from bitdew.tasks import to_the_end

from .decisions import decide
from .known import Known
from .planner import Drop, Halt, Launch, Place, Plan, plan
from .planner.snapshot import DatumRow, DeploymentRow, HostRow, MachineRow, PlacementRow, PlannerSettings, Snapshot
from .records import PlacementRecord

log = structlog.get_logger(__name__)
LONGEST_NAP: Final = 3600.0
DEFECT_PAUSE: Final = 5.0


class Engine:
    """Turns changed facts into stored orders."""

    def __init__(self, known: Known, settings: PlannerSettings) -> None:
        self._known = known
        self.facts = asyncio.Lock()
        self.settings = settings
        self._dirty: set[Uid] = set()
        self._all_dirty = False
        self._wakes: dict[Uid, datetime] = {}
        self._work = asyncio.Event()
        self._repairs: list[float] = []
        self._began = known.clock.now()

    def look_at(self, *data: Uid) -> None:
        """Something changed about these data."""
        self._dirty.update(data)
        self._work.set()

    def look_at_all(self) -> None:
        """Something changed that may matter to any datum: a host came, went, or changed what it offers."""
        self._all_dirty = True
        self._work.set()

    async def shut_out(self, subject_id: str) -> None:
        """A certificate was revoked: if it was a host's, the host is banned, and its poll ends."""
        host = HostId(subject_id)
        async with self.facts:
            known = await self._known.hosts.ban(host)
        if known:
            self._known.changes.bump(host)
            self.look_at_all()

    async def run(self) -> None:
        """Plan whenever there is something to plan for, until cancelled."""
        while True:
            self._collect_due()
            if self._dirty or self._all_dirty:
                try:
                    await to_the_end(self.step())
                except Exception:
                    log.exception("the facts can't be read")
                    await self._known.clock.sleep(DEFECT_PAUSE)
                    self.look_at_all()
            else:
                await wait_at_most(self._known.clock, self._nap(), self._work.wait())

    def _nap(self) -> float:
        if not self._wakes:
            return LONGEST_NAP
        seconds = (min(self._wakes.values()) - self._known.clock.now()).total_seconds()
        return min(max(seconds, 0.01), LONGEST_NAP)

    def _collect_due(self) -> None:
        now = self._known.clock.now()
        due = {uid for uid, at in self._wakes.items() if at <= now}
        for uid in due:
            del self._wakes[uid]
        self._dirty |= due

    async def step(self) -> None:
        """Plan once, for everything that changed until now."""
        async with self.facts:
            everything, self._all_dirty = self._all_dirty, False
            dirty, self._dirty = self._dirty, set()
            self._work.clear()
            if everything:
                dirty |= await self._all_data()
            try:
                await self._plan(dirty)
            except Exception:
                log.exception("planning failed", data=sorted(dirty))
                await self._plan_each(dirty)

    async def _all_data(self) -> set[Uid]:
        """The data that are alive, and the removed ones of which there is still something on a host."""
        machines = await self._known.store.machines(unfinished=True)
        living = {disk.data.uid for disk in await self._known.data.living()}
        return living | await self._known.store.placed() | {machine.data for machine in machines}

    async def _plan(self, dirty: set[Uid]) -> None:
        if not dirty:
            return
        snapshot = await self.snapshot(dirty)
        now = self._known.clock.now()
        planned = plan(snapshot, now)
        for uid in dirty:
            self._wakes.pop(uid, None)
        self._wakes.update({wake.uid: wake.at for wake in planned.wakes})
        await self._commit(planned, now)

    async def _plan_each(self, dirty: set[Uid]) -> None:
        """A defect in planning one datum must not end the planning of the others: it alone is set aside for a while."""
        for uid in sorted(dirty):
            try:
                await self._plan({uid})
            except Exception as fault:  # noqa: BLE001
                log.error("a datum can't be planned", data=uid, why=repr(fault))  # noqa: TRY400
                self._wakes[uid] = self._known.clock.now() + timedelta(seconds=DEFECT_PAUSE)

    async def snapshot(self, dirty: Collection[Uid]) -> Snapshot:
        """The facts about these data and about all hosts."""
        disks = await self._known.data.get(dirty)
        placements = await self._known.store.placements_of(disks)
        committed = await self._known.store.committed()
        running = await self._known.store.machines(unfinished=True)
        # All of them, whatever their disk: they share the memory of the hosts.
        deployments = await self._known.store.deployments({machine.deployment for machine in running})
        counts: dict[HostId, int] = {}
        for machine in running:
            if machine.host is not None:
                counts[machine.host] = counts.get(machine.host, 0) + 1
        return Snapshot(
            hosts={
                host: HostRow(
                    record.report.to_facts(host),
                    record.state,
                    record.state_since,
                    record.report.to_endpoint(),
                    committed.get(host, 0),
                )
                for host, record in self._known.hosts.records().items()
            },
            data={uid: DatumRow(d.data, d.attribute, d.alive, d.damaged) for uid, d in disks.items()},
            placements={uid: tuple(map(self._placement_row, found)) for uid, found in placements.items()},
            deployments=tuple(
                DeploymentRow(d.uid, d.data, d.count, d.memory, d.cpus, d.created) for d in deployments.values()
            ),
            machines=tuple(
                MachineRow(
                    m.uid,
                    m.deployment,
                    m.data,
                    m.host,
                    m.state,
                    m.stop_wanted,
                    deployments[m.deployment].memory,
                    deployments[m.deployment].cpus,
                )
                for m in running
            ),
            machines_on=counts,
            settings=replace(self.settings, repairs_per_round=self._repairs_left()),
        )

    def _repairs_left(self) -> int:
        """How many repairs may begin now: the cap is one of a pause, however many rounds fall into it."""
        since = self._known.clock.monotonic() - self.settings.repair_pause.total_seconds()
        self._repairs = [moment for moment in self._repairs if moment > since]
        return max(0, self.settings.repairs_per_round - len(self._repairs))

    def _placement_row(self, record: PlacementRecord) -> PlacementRow:
        step = self._known.progress.of(record.data, record.host)
        lease = record.lease_until
        if lease is not None and record.state in INTENDED:
            lease = max(lease, self._began + self.settings.lease)  # nothing was heard while the service was away
        if step is not None and record.state in INTENDED and (lease is None or step.lease_until > lease):
            lease = step.lease_until
        reason = str(record.reason["key"]) if record.reason else ""
        done = step.done if step else record.done
        return PlacementRow(
            record.data, record.host, record.state, record.since, done, lease, record.retry_at, record.failures, reason
        )

    async def _commit(self, planned: Plan, now: datetime) -> None:
        """Store the plan's placements, machines and orders together, then tell those who wait."""
        if not planned.actions:
            return
        for action in planned.actions:
            log.info("planned", action=type(action).__name__.lower(), cause=action.cause)
        data = {action.uid for action in planned.actions if isinstance(action, Place | Drop)}
        placements = {
            (p.data, p.host): p for found in (await self._known.store.placements_of(data)).values() for p in found
        }
        touched = [action.machine_uid for action in planned.actions if isinstance(action, Launch | Halt)]
        machines = {machine.uid: machine for machine in await self._known.store.machines(uids=touched)}
        decided = decide(planned.actions, placements, machines, self._known.hosts.next_generation, now)
        await self._known.store.record(
            now=now, placements=decided.placements, machines=decided.machines, orders=decided.orders
        )
        repairs = sum(isinstance(action, Place) and action.repair for action in planned.actions)
        self._repairs += [self._known.clock.monotonic()] * repairs
        for order in decided.orders:
            self._known.hosts.order_waits(order.host, order.generation)
        for placement in decided.placements:
            self._known.progress.forget(placement.data, placement.host)
        topics: list[str] = [order.host for order in decided.orders]
        topics += [p.data for p in decided.placements] + [machine.uid for machine in decided.machines]
        for topic in dict.fromkeys(topics):
            self._known.changes.bump(topic)

    async def watch_liveness(self, period: float) -> None:
        """Let silence change hosts' states, twice a period, until cancelled."""
        while True:
            await self._known.clock.sleep(period / 2)
            try:
                await to_the_end(self._judge_hosts())
            except Exception:
                log.exception("the hosts' liveness could not be stored")

    async def _judge_hosts(self) -> None:
        async with self.facts:
            changed = await self._known.hosts.judge()
        if changed:
            log.info("hosts changed", states={self._known.hosts.name(h): str(s) for h, s in changed.items()})
            self.look_at_all()
        await self._known.hosts.flush()
