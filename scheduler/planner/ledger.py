"""The books of one round: the snapshot, indexed, and what was committed since the round began.

Policies read it, the arbiter alone writes it, except that who gave up looking for hosts notes so. It lives for one call
of `plan` and judges nothing. Its cost follows the data of the snapshot, never the number of hosts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from bitdew.core.attribute import EVERYWHERE
from bitdew.core.ids import HostId, Uid
from bitdew.core.requirement import Requirement, Verdict
from bitdew.core.states import HostState, PlacementState

from .actions import Action, Drop, Expire, Halt, Launch, Place, Renew
from .census import Distrib
from .counting import Tally, tally
from .fitting import has_affinity, misfit, target_of, without_target
from .lifetimes import end_of_life
from .rows import DatumRow, HostRow, MachineRow, PlacementRow, TargetRow
from .snapshot import Snapshot


class Ledger:
    """What is true now: the facts, and on top of them the actions committed in this round."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.snapshot = snapshot
        self.settings = snapshot.settings
        self.now = now
        self.actions: list[Action] = []
        self.repairs = 0
        self.held_back: set[Uid] = set()
        """The data whose repairs wait because as many as one round may begin were begun."""
        self.cut_short: set[Uid] = set()
        """The data for which not all that the index offers was looked at, since much of it was promised to others."""
        self._in_order: list[tuple[Uid, DatumRow]] | None = None
        self._copies = {uid: self._index(uid) for uid in sorted(snapshot.data)}
        self._tallies: dict[Uid, Tally] = {}
        self._sources: dict[Uid, bool] = {}
        self._matches: dict[tuple[str, HostId], Verdict] = {}
        self._stays: dict[tuple[str, HostId], Verdict] = {}
        self._misfits: dict[tuple[Uid, HostId], str] = {}
        self._touched: set[tuple[Uid, HostId]] = set()
        self._placed: dict[Uid, list[HostId]] = {}
        self._expired: set[Uid] = set()
        self._ordered_machines: set[Uid] = set()
        self._promised: Counter[HostId] = Counter()
        self._promised_of: Counter[tuple[Uid, HostId]] = Counter()
        self._transfers: Counter[HostId] = Counter()
        self.machines = {row.uid: row for row in sorted(snapshot.machines, key=lambda row: row.uid)}
        self._in_use: set[tuple[Uid, HostId]] = set()
        self._machines_on: Counter[HostId] = Counter()
        self._machines_of: dict[Uid, list[MachineRow]] = {}
        for row in self.machines.values():
            self._machines_of.setdefault(row.data_uid, []).append(row)
        self._memory: Counter[HostId] = Counter()
        self._cpus: Counter[HostId] = Counter()
        self._ports: dict[HostId, set[int]] = {}
        for row in self.machines.values():
            host = snapshot.hosts.get(row.host_id) if row.host_id is not None else None
            shut_out = host is not None and host.state is HostState.BANNED  # nobody will ever hear how it ended
            if row.host_id is not None and not row.ended and not shut_out:
                self._in_use.add((row.data_uid, row.host_id))
                self._ports.setdefault(row.host_id, set()).update(outer for outer, _ in row.ports if outer)
        self._data_in_use = {uid for uid, _ in self._in_use}

    def _index(self, uid: Uid) -> dict[HostId, PlacementRow]:
        rows = sorted(self.snapshot.placements.get(uid, ()), key=lambda row: (row.host_id, row.since, row.state))
        return {row.host_id: row for row in rows if row.host_id in self.snapshot.hosts}

    # Data -------------------------------------------------------------------------------------------------------------

    def data_in_order(self) -> list[tuple[Uid, DatumRow]]:
        """The data, whose deficit is served first standing first: by priority, then age, then uid."""
        if self._in_order is None:
            self._in_order = sorted(
                self.snapshot.data.items(),
                key=lambda item: (-item[1].attribute.priority, item[1].data.created, item[0]),
            )
        return self._in_order

    def over(self, uid: Uid) -> str:
        """Why the lifetime of a datum is over, or ""."""
        return end_of_life(self.snapshot, self.snapshot.data[uid], self.now)

    def thrives(self, uid: Uid) -> bool:
        """Whether a datum lives and goes on living: only then is anything placed or launched for it."""
        return self.snapshot.data[uid].alive and not self.over(uid)

    def launches(self, uid: Uid) -> bool:
        """Whether machines may begin from a disk."""
        return self.thrives(uid) and not self.snapshot.data[uid].deprecated

    def expired(self, uid: Uid) -> bool:
        """Whether the end of a datum's life was committed."""
        return uid in self._expired

    def has_source(self, uid: Uid) -> bool:
        """Whether a new copy could be fetched from anywhere."""
        if uid not in self._sources:
            hosts, copies, datum = self.snapshot.hosts, self.copies(uid), self.snapshot.data[uid]
            self._sources[uid] = not (datum.damaged or datum.awaited) or any(
                row.state is PlacementState.HELD and hosts[host_id].reachable for host_id, row in copies.items()
            )
        return self._sources[uid]

    def target(self, uid: Uid) -> TargetRow | None:
        """What the copies of a datum follow: they may be only where it is held."""
        return target_of(self.snapshot, self.snapshot.data[uid])

    def adrift(self, uid: Uid) -> str:
        """Why the affinity of a datum can't be followed, or ""."""
        return without_target(self.snapshot, self.snapshot.data[uid])

    def distrib(self, uid: Uid) -> Distrib | None:
        """How many data of its attribute a host may have, if that is limited."""
        datum = self.snapshot.data[uid]
        most = datum.attribute.distrib
        return Distrib(self.snapshot.census, datum.attribute_uid, most) if most >= 0 else None

    # Copies -----------------------------------------------------------------------------------------------------------

    def copies(self, uid: Uid) -> Mapping[HostId, PlacementRow]:
        """The placements of a datum by host, as they were when the round began."""
        return self._copies.get(uid, {})

    def tally(self, uid: Uid) -> Tally:
        """What the copies of a datum count for, as it was when the round began."""
        if uid not in self._tallies:
            datum, rows = self.snapshot.data[uid], self._copies[uid].values()
            found = tally(
                self._wanted(datum),
                datum,
                rows,
                self.snapshot.hosts,
                lambda host_id: self.misfit(uid, host_id),
                self.settings,
                self.now,
            )
            if has_affinity(datum) and datum.alive and self.adrift(uid):
                found.replica = found.counted  # the copies stay as they are
            self._tallies[uid] = found
        return self._tallies[uid]

    def _wanted(self, datum: DatumRow) -> Tally:
        replica = datum.attribute.replicas if datum.alive else 0
        target = target_of(self.snapshot, datum)
        scope = "replica=everywhere" if replica == EVERYWHERE else f"replica={replica}"
        if target is None:
            return Tally(replica, scope)
        if replica == EVERYWHERE:
            return Tally(replica, f"affinity={target.name}")
        places = len(target.holders) + sum(host_id not in target.holders for host_id in datum.pins)
        return Tally(min(replica, places), f"{scope}, affinity={target.name}")

    def misfit(self, uid: Uid, host_id: HostId) -> str:
        """Why a copy of a datum may not stay on a known host, or ""."""
        key = (uid, host_id)
        if key not in self._misfits:
            datum, host = self.snapshot.data[uid], self.snapshot.hosts[host_id]
            self._misfits[key] = misfit(self.snapshot, datum, host, self._judge_stay) if datum.alive else ""
        return self._misfits[key]

    def matches(self, requires: Requirement, host: HostRow) -> Verdict:
        """Whether `host` matches, found out once a round for equal expressions."""
        key = (requires.text, host.facts.host_id)
        if key not in self._matches:
            self._matches[key] = requires.check(host.facts)
        return self._matches[key]

    def _judge_stay(self, requires: Requirement, host: HostRow) -> Verdict:
        key = (requires.text, host.facts.host_id)
        if key not in self._stays:
            self._stays[key] = requires.stays(host.facts)
        return self._stays[key]

    def touched(self, uid: Uid, host_id: HostId) -> bool:
        """Whether an action about this datum on this host was committed."""
        return (uid, host_id) in self._touched

    def placed(self, uid: Uid) -> int:
        """Copies of a datum placed in this round."""
        return len(self.placed_on(uid))

    def placed_on(self, uid: Uid) -> Sequence[HostId]:
        """Where copies of a datum were placed in this round."""
        return self._placed.get(uid, ())

    def in_use(self, uid: Uid, host_id: HostId) -> bool:
        """Whether a machine that has not ended runs from this copy, or was just told to."""
        return (uid, host_id) in self._in_use

    def machines_of(self, uid: Uid) -> Sequence[MachineRow]:
        """The machines of a disk."""
        return self._machines_of.get(uid, ())

    def runs_machines(self, uid: Uid) -> bool:
        """Whether a machine that has not ended runs from any copy of a datum."""
        return uid in self._data_in_use

    def verified(self, uid: Uid) -> Iterator[HostId]:
        """The living hosts that hold a verified copy and were not told to drop it."""
        return (host_id for host_id in self.copies(uid) if self.holds_verified(uid, host_id))

    def holds_verified(self, uid: Uid, host_id: HostId) -> bool:
        """Whether this host is one of `verified`."""
        row = self.copies(uid).get(host_id)
        held = row is not None and row.state is PlacementState.HELD and (uid, host_id) not in self._touched
        return held and self.snapshot.hosts[host_id].state is HostState.ALIVE

    # Hosts ------------------------------------------------------------------------------------------------------------

    def quota_left(self, host: HostRow) -> int:
        """Bytes of the quota that nobody was promised."""
        return max(0, host.facts.resources.quota - host.committed - self._promised[host.facts.host_id])

    def disk_left(self, host: HostRow) -> int:
        """Bytes that the file system could take beyond what was promised and not begun, and the reserve."""
        resources = host.facts.resources
        outstanding = max(0, host.committed - resources.used) + self._promised[host.facts.host_id]
        return max(0, resources.free - outstanding - self.settings.reserve)

    def transfers(self, host: HostRow) -> int:
        """Copies on their way to a host."""
        return host.transfers + self._transfers[host.facts.host_id]

    def promised_of(self, attribute: Uid, host_id: HostId) -> int:
        """Data of an attribute promised to a host in this round."""
        return self._promised_of[attribute, host_id]

    def machines_on(self, host: HostRow) -> int:
        """Machines that a host has to run."""
        return host.machines + self._machines_on[host.facts.host_id]

    def memory_left(self, host: HostRow) -> int:
        """Bytes of memory that neither machines nor jobs take."""
        taken = host.memory_taken + host.jobs_memory + self._memory[host.facts.host_id]
        return max(0, host.facts.resources.memory - taken)

    def cpus_left(self, host: HostRow) -> int | None:
        """Processors that neither machines nor jobs have, where machines together may have only so many."""
        most, taken = host.facts.resources.all_cpus, host.cpus_taken + self._cpus[host.facts.host_id]
        return max(0, most - taken - host.jobs_cpus) if most else None

    def port_taken(self, machine: MachineRow, host_id: HostId) -> int:
        """A port of the host that the machine wants and another of these data's machines has; 0 if there is none."""
        taken = self._ports.get(host_id, set())
        return next((outer for outer, _ in machine.ports if outer in taken), 0)

    # Committing -------------------------------------------------------------------------------------------------------

    def commit(self, action: Action) -> None:
        """Book an action. For the arbiter, once it found it right."""
        self.actions.append(action)
        match action:
            case Place():
                self._place(action)
            case Drop():
                self._touched.add((action.uid, action.host_id))
            case Launch():
                self._launch(self.machines[action.machine_uid], action.host_id)
            case Halt() | Renew():
                self._ordered_machines.add(action.machine_uid)
            case Expire():
                self._expired.add(action.uid)

    def _place(self, action: Place) -> None:
        datum = self.snapshot.data[action.uid]
        self._touched.add((action.uid, action.host_id))
        self._placed.setdefault(action.uid, []).append(action.host_id)
        self._promised[action.host_id] += datum.data.size
        self._promised_of[datum.attribute_uid, action.host_id] += 1
        self._transfers[action.host_id] += 1
        self.repairs += action.repair

    def _launch(self, machine: MachineRow, host_id: HostId) -> None:
        self._ordered_machines.add(machine.uid)
        self._in_use.add((machine.data_uid, host_id))
        self._data_in_use.add(machine.data_uid)
        self._machines_on[host_id] += 1
        self._memory[host_id] += machine.memory
        self._cpus[host_id] += machine.cpus
        self._ports.setdefault(host_id, set()).update(outer for outer, _ in machine.ports if outer)

    def ordered(self, machine_uid: Uid) -> bool:
        """Whether an action about this machine was committed."""
        return machine_uid in self._ordered_machines


def tie_break(subject: Uid, host_id: HostId) -> bytes:
    """A number that orders hosts differently for each subject, but always the same: equals share the load evenly."""
    return hashlib.blake2b(f"{subject}:{host_id}".encode(), digest_size=8).digest()
