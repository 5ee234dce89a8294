"""The reckoning: what a grid at rest must look like, found out by looking at every host for every datum.

Owns the wishes' meaning a second time, written without regard to cost and without the planner's code: where the planner
looks at a few hosts, is woken by an agenda and reads sums, this asks everyone. It only reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bitdew.core.attribute import EVERYWHERE, Attribute
from bitdew.core.draining import Drain
from bitdew.core.ids import HostId, Uid
from bitdew.core.restarting import Restart
from bitdew.core.states import INTENDED, MACHINE, HostState, MachineState, PlacementState

from ...catalog.data_store import Datum
from ..planner import HYPERVISORS, explain, plan
from ..records import DeploymentRecord, HostRecord, MachineRecord, PlacementRecord
from .grid import SimulatedGrid

_S: Final = PlacementState
_TAKEN: Final = INTENDED | {_S.HELD}
_THERE: Final = _TAKEN | {_S.DROPPING}


@dataclass(frozen=True, slots=True)
class _World:
    """Everything that is stored, and the hosts as they last said."""

    data: Mapping[Uid, Datum]
    placements: Mapping[Uid, Mapping[HostId, PlacementRecord]]
    hosts: Mapping[HostId, HostRecord]
    machines: tuple[MachineRecord, ...]
    deployments: Mapping[Uid, DeploymentRecord]


async def shortcomings(grid: SimulatedGrid) -> list[str]:
    """What is not as it should be in a grid that had time to rest: for each the datum or host, and what is wrong."""
    world = await _look(grid)
    reckoning = _Reckoning(grid, world)
    found = [text for datum in world.data.values() for text in reckoning.of(datum)]
    found += reckoning.of_machines()
    found += reckoning.of_disks()
    found += [text for uid in world.data for text in await _of_planner(grid, uid)]
    return found


async def _look(grid: SimulatedGrid) -> _World:
    known = grid.service.known
    uids: list[Uid] = []
    while page := await known.store.page(uids[-1] if uids else None, 1000):
        uids += page
    machines = await known.store.machines(unfinished=True)
    placements = await known.store.placements_of(uids)
    return _World(
        await known.data.get(uids),
        {uid: {row.host: row for row in rows} for uid, rows in placements.items()},
        known.hosts.records(),
        tuple(machines),
        await known.store.deployments({machine.deployment for machine in machines}),
    )


async def _of_planner(grid: SimulatedGrid, uid: Uid) -> list[str]:
    """A plan made now changes nothing, and what is missing is told with a reason."""
    snapshot, now = await grid.service.engine.snapshot([uid]), grid.clock.now()
    planned = plan(snapshot, now)
    outlook, told = planned.outlooks[uid], explain(snapshot, uid, now)
    found = [f"{uid} is not at rest: {action}" for action in planned.actions]
    if outlook.missing and not outlook.reason:
        found.append(f"{uid} misses {outlook.missing} copies and nobody says why")
    if outlook.missing and told.held + told.intended >= max(told.wanted, 0) and not told.next:
        found.append(f"{uid} misses {outlook.missing} copies, and its explanation tells nothing of that")
    return found


class _Reckoning:
    def __init__(self, grid: SimulatedGrid, world: _World) -> None:
        self._grid = grid
        self._world = world
        self._now = grid.clock.now()
        self._settings = grid.planner
        self._on: dict[HostId, list[tuple[Datum, PlacementRecord]]] = {host: [] for host in world.hosts}
        for uid, rows in world.placements.items():
            for host, row in rows.items():
                self._on[host].append((world.data[uid], row))
        self._used = {(m.data, m.host) for m in world.machines if m.host is not None}
        self._memory: Counter[HostId] = Counter()
        for machine in world.machines:
            if machine.host is not None:
                self._memory[machine.host] += world.deployments[machine.deployment].memory

    # One datum ----------------------------------------------------------------------------------------------------

    def of(self, datum: Datum) -> Iterator[str]:
        """What is wrong with the copies of a datum."""
        name, rows = datum.data.name, self._world.placements[datum.data.uid]
        if not datum.alive:
            for host, row in rows.items():
                if self._obeys(host) and row.state != _S.GONE and not self._in_use(datum, host):
                    yield f"{name} is dead, and {self._name(host)} still has it ({row.state})"
            return
        if self._is_over(datum):  # nothing is done for it any more but to let it end
            if not any(uid == datum.data.uid for uid, _ in self._used):
                yield f"{name} lives on though its life is over"
            return
        for host, row in rows.items():
            ends = row.state is _S.DROPPING or (row.state in INTENDED and self._has_source(datum))
            if ends and self._obeys(host) and not self._in_use(datum, host):
                yield f"{name} is {row.state} at {self._name(host)} and stays so"
        if not self._is_adrift(datum):
            yield from self._of_number(datum)
        yield from self._of_pins(datum)

    def _of_number(self, datum: Datum) -> Iterator[str]:
        name, wanted = datum.data.name, self._wanted(datum)
        held = [host for host in self._held(datum) if self._fits(datum, host)]
        counted = [host for host in held if self._counts(datum, host)]
        open_to = (
            [host for host in self._world.hosts if self._is_eligible(datum, host)] if self._has_source(datum) else []
        )
        if open_to and (wanted == EVERYWHERE or len(counted) < wanted):
            yield f"{name} has {len(counted)} of {wanted} copies, and could have one at {self._names(open_to)}"
        alive = [host for host in held if self._alive(host)]
        loose = [host for host in alive if not self._is_bound(datum, host)]
        if wanted != EVERYWHERE and len(alive) > max(wanted, 1) and loose:
            yield f"{name} has {len(alive)} copies of {wanted}, and keeps one at {self._names(loose)}"
        displaced = [host for host in self._held(datum) if host not in held and self._obeys(host)]
        if alive and (stays := [host for host in displaced if not self._is_bound(datum, host)]):
            yield f"{name} may not stay at {self._names(stays)}, and does, though {self._names(alive)} holds it"
        yield from self._of_spread(datum, counted, open_to)

    def _of_spread(self, datum: Datum, counted: list[HostId], open_to: list[HostId]) -> Iterator[str]:
        label = self._wishes(datum).spread
        if not label or self._wishes(datum).replicas == EVERYWHERE:
            return
        values = Counter(self._value(host, label) for host in counted)
        better = [host for host in open_to if self._value(host, label) not in values]
        for host in counted:
            movable = self._alive(host) and not self._is_bound(datum, host)
            if better and movable and values[self._value(host, label)] > 1:
                yield f"{datum.data.name} shares {label} at {self._name(host)}, and could go to {self._names(better)}"

    def _of_pins(self, datum: Datum) -> Iterator[str]:
        for host in datum.attribute.pins:
            if self._has_source(datum) and self._is_eligible(datum, host):
                yield f"{datum.data.name} is pinned to {self._name(host)}, and has no copy there"

    # What wishes mean ---------------------------------------------------------------------------------------------

    @staticmethod
    def _wishes(datum: Datum) -> Attribute:
        return datum.attribute.attribute

    def _wanted(self, datum: Datum) -> int:
        wanted, holders = self._wishes(datum).replicas, self._holders_of_target(datum)
        if holders is None or wanted == EVERYWHERE:
            return wanted
        return min(wanted, len(holders | {*datum.attribute.pins}))

    def _is_over(self, datum: Datum) -> bool:
        if datum.ends is not None and datum.ends <= self._now:
            return True
        target = datum.attribute.lifetime_data
        return target is not None and (target not in self._world.data or not self._world.data[target].alive)

    def _holders_of_target(self, datum: Datum) -> set[HostId] | None:
        record = datum.attribute
        if record.affinity_data is not None:
            targets = [record.affinity_data]
        elif record.affinity_attribute is not None:
            targets = [d.data.uid for d in self._world.data.values() if d.attribute.uid == record.affinity_attribute]
        else:
            return None
        living = [self._world.data[uid] for uid in targets if uid in self._world.data]
        if record.affinity_data is not None:
            living = [target for target in living if target.alive]
        return {host for target in living for host in self._held(target) if not self._is_banned(host)}

    def _is_adrift(self, datum: Datum) -> bool:
        return self._wishes(datum).affinity is not None and not self._holders_of_target(datum)

    def _fits(self, datum: Datum, host: HostId) -> bool:
        record = self._world.hosts[host]
        if record.drain is not None:
            return False
        if host in datum.attribute.pins:
            return True
        if not self._wishes(datum).requires.stays(record.report.to_facts(host)).matches:
            return False
        if (holders := self._holders_of_target(datum)) is not None and holders and host not in holders:
            return False
        most = self._wishes(datum).distrib
        first = sorted((other.data.created, other.data.uid) for other in self._alike(datum, host))[: max(most, 0)]
        return most < 0 or (datum.data.created, datum.data.uid) in first

    def _is_eligible(self, datum: Datum, host: HostId) -> bool:
        record, row = self._world.hosts.get(host), self._world.placements[datum.data.uid].get(host)
        if record is None or record.state is not HostState.ALIVE or (row is not None and row.state in _THERE):
            return False
        if host not in datum.attribute.pins and not self._may_have(datum, record):
            return False
        size, report = datum.data.size, record.report
        committed = sum(other.data.size for other, copy in self._on[host] if copy.state in _THERE)
        outstanding = max(0, committed - report.used)
        to_come = size - min(row.done, size) if row is not None else size
        return committed + size <= report.quota and to_come <= report.free - outstanding - self._settings.reserve

    def _may_have(self, datum: Datum, record: HostRecord) -> bool:
        if not self._wishes(datum).requires.check(record.report.to_facts(record.host)).matches:
            return False
        if self._wishes(datum).affinity is not None and record.host not in (self._holders_of_target(datum) or ()):
            return False
        most = self._wishes(datum).distrib
        return most < 0 or len(self._alike(datum, record.host)) < most

    def _alike(self, datum: Datum, host: HostId) -> list[Datum]:
        on, attribute = self._on[host], datum.attribute.uid
        return [other for other, row in on if other.attribute.uid == attribute and row.state in _TAKEN]

    def _has_source(self, datum: Datum) -> bool:
        if not (datum.damaged or datum.awaited):
            return True
        lost = {HostState.LOST, HostState.BANNED}
        return any(self._world.hosts[host].state not in lost for host in self._held(datum))

    def _held(self, datum: Datum) -> list[HostId]:
        return [host for host, row in self._world.placements[datum.data.uid].items() if row.state is _S.HELD]

    def _counts(self, datum: Datum, host: HostId) -> bool:
        record = self._world.hosts[host]
        if record.state is HostState.LOST and self._wishes(datum).fault_tolerance:
            return record.state_since + self._settings.grace > self._now
        return record.state is not HostState.BANNED

    def _is_bound(self, datum: Datum, host: HostId) -> bool:
        return host in datum.attribute.pins or self._in_use(datum, host)

    def _in_use(self, datum: Datum, host: HostId) -> bool:
        return (datum.data.uid, host) in self._used

    # Hosts --------------------------------------------------------------------------------------------------------

    def _alive(self, host: HostId) -> bool:
        return self._world.hosts[host].state is HostState.ALIVE

    def _obeys(self, host: HostId) -> bool:
        """Whether it carries out what it is told."""
        return self._world.hosts[host].state in {HostState.ALIVE, HostState.DRAINED}

    def _is_banned(self, host: HostId) -> bool:
        return self._world.hosts[host].state is HostState.BANNED

    def _value(self, host: HostId, label: str) -> str | None:
        return self._world.hosts[host].report.labels.get(label)

    def _name(self, host: HostId) -> str:
        return self._world.hosts[host].name

    def _names(self, hosts: list[HostId]) -> str:
        return ", ".join(sorted(map(self._name, hosts)))

    # Machines and disks -------------------------------------------------------------------------------------------

    def of_machines(self) -> Iterator[str]:
        """What is wrong with the machines."""
        for machine in self._world.machines:
            datum = self._world.data.get(machine.data)
            if machine.host is None:
                if datum is None or not datum.alive or machine.stop_wanted:
                    yield f"machine {machine.uid} waits for a host in vain"
                elif not self._is_over(datum) and (fit := [h for h in self._held(datum) if self._may_run(machine, h)]):
                    yield f"machine {machine.uid} waits for a host, and could run at {self._names(fit)}"
            elif self._obeys(machine.host) and (machine.stop_wanted or machine.state is MachineState.STOPPING):
                yield f"machine {machine.uid} was to stop, and is {machine.state} at {self._name(machine.host)}"
            elif datum is not None and (why := self._of_drained(machine, machine.host, datum)):
                yield f"machine {machine.uid} is at {self._name(machine.host)}, which is drained, and {why}"

    def _of_drained(self, machine: MachineRecord, host: HostId, datum: Datum) -> str:
        """What is wrong with a machine on a drained host, or ""."""
        if (drain := self._world.hosts[host].drain) is None or not self._obeys(host):
            return ""
        if drain is Drain.STOP:
            return "should have stopped"
        if machine.successor is not None:
            heir = next((other for other in self._world.machines if other.uid == machine.successor), None)
            return "was replaced" if heir is None or heir.state is MachineState.RUNNING else ""
        restarts = self._world.deployments[machine.deployment].restart is not Restart.NEVER
        fit = [other for other in self._held(datum) if self._may_run(machine, other)]
        moves = restarts and datum.alive and not self._is_over(datum) and not machine.stop_wanted
        return f"could run at {self._names(fit)}" if moves and fit else ""

    def _may_run(self, machine: MachineRecord, host: HostId) -> bool:
        record, wish = self._world.hosts[host], self._world.deployments[machine.deployment]
        if not self._alive(host) or not self._fits(self._world.data[machine.data], host):
            return False
        offers = any(sharing.name in HYPERVISORS for sharing in record.report.sharings)
        left = record.report.memory - self._memory[host]
        return offers and wish.cpus <= record.report.cpus and wish.memory <= left

    def of_disks(self) -> Iterator[str]:
        """Where hosts and what is stored of them do not agree."""
        for host in self._grid.hosts.values():
            if host.host not in self._world.hosts or not host.online or not self._obeys(host.host):
                continue
            stored = {d.data.uid for d, row in self._on[host.host] if row.state is _S.HELD}
            held = {uid for uid, copy in host.copies.items() if copy.state is _S.HELD and uid in self._world.data}
            if stored != held:
                yield f"{host.name} holds {sorted(held - stored)} in secret, and {sorted(stored - held)} only on paper"
            ends = MACHINE.ends()
            running = {uid for uid, machine in host.machines.items() if machine.state not in ends}
            launched = {m.uid for m in self._world.machines if m.host == host.host}
            if running != launched:
                yield f"{host.name} runs {sorted(running)}, and {sorted(launched)} are recorded"
