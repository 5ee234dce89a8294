"""The books of one round: the snapshot, indexed, and what was committed since the round began.

Policies read it, the arbiter alone writes it. It lives for one call of `plan` and judges nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from bitdew.core.ids import HostId, Uid
from bitdew.core.requirement import Requirement, Verdict
from bitdew.core.states import HostState, PlacementState

from .actions import Action, Drop, Halt, Launch, Place
from .counting import Tally, tally
from .snapshot import DatumRow, HostRow, MachineRow, PlacementRow, Snapshot


class Ledger:
    """What is true now: the facts, and on top of them the actions committed in this round."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.snapshot = snapshot
        self.settings = snapshot.settings
        self.now = now
        self.actions: list[Action] = []
        self.repairs = 0
        self._copies = {uid: self._index(uid) for uid in sorted(snapshot.data)}
        self._tallies: dict[Uid, Tally] = {}
        self._sources: dict[Uid, bool] = {}
        self._matches: dict[tuple[str, HostId], Verdict] = {}
        self._touched: set[tuple[Uid, HostId]] = set()
        self._ordered_machines: set[Uid] = set()
        self._promised: Counter[HostId] = Counter()
        self._transfers = Counter(
            row.host_id for uid in self._copies for row in (*self.tally(uid).intended, *self.tally(uid).stalled)
        )
        self.machines = {row.uid: row for row in sorted(snapshot.machines, key=lambda row: row.uid)}
        living = [row for row in self.machines.values() if row.host_id is not None and not row.ended]
        self._in_use = {(row.data_uid, row.host_id) for row in living}
        self._memory: Counter[HostId] = Counter()
        known: Counter[HostId] = Counter()
        for row in living:
            if row.host_id is not None:
                known[row.host_id] += 1
                self._memory[row.host_id] += row.memory
        # The count of running machines may or may not include those that were only just launched: take the larger.
        self._machines_on = Counter(
            {host: max(known[host], snapshot.machines_on.get(host, 0)) for host in snapshot.hosts}
        )

    def _index(self, uid: Uid) -> dict[HostId, PlacementRow]:
        rows = sorted(self.snapshot.placements.get(uid, ()), key=lambda row: (row.host_id, row.since, row.state))
        return {row.host_id: row for row in rows if row.host_id in self.snapshot.hosts}

    def data_in_order(self) -> list[tuple[Uid, DatumRow]]:
        """The data, whose deficit is served first standing first: by priority, then age, then uid."""
        return sorted(
            self.snapshot.data.items(), key=lambda item: (-item[1].attribute.priority, item[1].data.created, item[0])
        )

    def copies(self, uid: Uid) -> Mapping[HostId, PlacementRow]:
        """The placements of a datum by host, as they were when the round began."""
        return self._copies.get(uid, {})

    def tally(self, uid: Uid) -> Tally:
        """What the copies of a datum count for, as it was when the round began."""
        if uid not in self._tallies:
            datum, rows = self.snapshot.data[uid], self._copies[uid].values()
            self._tallies[uid] = tally(datum, rows, self.snapshot.hosts, self.settings, self.now)
        return self._tallies[uid]

    def matches(self, requires: Requirement, host: HostRow) -> Verdict:
        """Whether `host` matches, found out once a round for equal expressions."""
        key = (requires.text, host.facts.host_id)
        if key not in self._matches:
            self._matches[key] = requires.check(host.facts)
        return self._matches[key]

    def touched(self, uid: Uid, host_id: HostId) -> bool:
        """Whether an action about this datum on this host was committed."""
        return (uid, host_id) in self._touched

    def ordered(self, machine_uid: Uid) -> bool:
        """Whether an action about this machine was committed."""
        return machine_uid in self._ordered_machines

    def in_use(self, uid: Uid, host_id: HostId) -> bool:
        """Whether a machine that has not ended runs from this copy, or was just told to."""
        return (uid, host_id) in self._in_use

    def verified(self, uid: Uid) -> Iterator[HostId]:
        """The living hosts that hold a verified copy and were not told to drop it."""
        return (host_id for host_id in self.copies(uid) if self.holds_verified(uid, host_id))

    def holds_verified(self, uid: Uid, host_id: HostId) -> bool:
        """Whether this host is one of `verified`."""
        row = self.copies(uid).get(host_id)
        held = row is not None and row.state is PlacementState.HELD and (uid, host_id) not in self._touched
        return held and self.snapshot.hosts[host_id].state is HostState.ALIVE

    def has_source(self, uid: Uid) -> bool:
        """Whether a new copy could be fetched from anywhere."""
        if uid not in self._sources:
            hosts, copies = self.snapshot.hosts, self.copies(uid)
            self._sources[uid] = not self.snapshot.data[uid].damaged or any(
                row.state is PlacementState.HELD and hosts[host_id].reachable for host_id, row in copies.items()
            )
        return self._sources[uid]

    def quota_left(self, host: HostRow) -> int:
        """Bytes of the quota that nobody was promised."""
        return max(0, host.facts.resources.quota - host.committed - self._promised[host.facts.host_id])

    def disk_left(self, host: HostRow) -> int:
        """Bytes that the file system could take beyond what was promised and not begun, and the reserve."""
        resources = host.facts.resources
        outstanding = max(0, host.committed - resources.used) + self._promised[host.facts.host_id]
        return max(0, resources.free - outstanding - self.settings.reserve)

    def transfers(self, host_id: HostId) -> int:
        """Copies known to be on their way to a host."""
        return self._transfers[host_id]

    def machines_on(self, host_id: HostId) -> int:
        """Machines that a host has to run."""
        return self._machines_on[host_id]

    def memory_left(self, host: HostRow) -> int:
        """Bytes of memory that no known machine takes."""
        return max(0, host.facts.resources.memory - self._memory[host.facts.host_id])

    def commit(self, action: Action) -> None:
        """Book an action. For the arbiter, once it found it right."""
        self.actions.append(action)
        match action:
            case Place():
                self._touched.add((action.uid, action.host_id))
                self._promised[action.host_id] += self.snapshot.data[action.uid].data.size
                self._transfers[action.host_id] += 1
                self.repairs += action.repair
            case Drop():
                self._touched.add((action.uid, action.host_id))
            case Launch():
                self._launch(self.machines[action.machine_uid], action.host_id)
            case Halt():
                self._ordered_machines.add(action.machine_uid)

    def _launch(self, machine: MachineRow, host_id: HostId) -> None:
        self._ordered_machines.add(machine.uid)
        self._in_use.add((machine.data_uid, host_id))
        self._machines_on[host_id] += 1
        self._memory[host_id] += machine.memory


def tie_break(subject: Uid, host_id: HostId) -> bytes:
    """A number that orders hosts differently for each subject, but always the same: equals share the load evenly."""
    return hashlib.blake2b(f"{subject}:{host_id}".encode(), digest_size=8).digest()
