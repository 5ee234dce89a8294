"""The policies: each looks at the books and suggests actions, best first. None of them is trusted.

A policy is a generator. The arbiter answers each suggestion before the next is asked for, so that a policy
always reads books that include what was committed before. Adding a policy means adding it to `POLICIES`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from bitdew.core.ids import Uid
from bitdew.core.states import INTENDED, HostState, MachineState, PlacementState
from bitdew.core.units import format_size

from .actions import Action, Drop, Halt, Launch, Place
from .counting import retry_time
from .eligibility import fullness, judge, unfit_to_run
from .ledger import Ledger, tie_break
from .snapshot import DatumRow, HostRow, MachineRow, PlacementRow

Policy = Callable[[Ledger], Iterator[Action]]

_DROPPABLE: Final = INTENDED | {PlacementState.HELD, PlacementState.FAILED, PlacementState.LOST}


def halt_unwanted_machines(ledger: Ledger) -> Iterator[Halt]:
    """End, once, the machines that their user no longer wants, and those whose disk went before they had a host."""
    for machine in ledger.machines.values():
        datum = ledger.snapshot.data.get(machine.data_uid)
        if machine.host_id is None and not machine.ended and datum is not None and not datum.alive:
            yield Halt(machine.uid, None, f"its disk {datum.data.name} was removed before it had a host")
            continue
        if machine.stop_wanted and not machine.ended and machine.state is not MachineState.STOPPING:
            cause = "its user asked it to stop" if machine.host_id else "its user asked it to stop before it had a host"
            yield Halt(machine.uid, machine.host_id, cause)


def launch_machines(ledger: Ledger) -> Iterator[Launch]:
    """Give each machine without a host the holder of its disk that has the fewest machines; oldest deployment first."""
    created = {row.uid: row.created for row in ledger.snapshot.deployments}
    latest = datetime.max.replace(tzinfo=ledger.now.tzinfo)

    def turn(row: MachineRow) -> tuple[datetime, Uid, Uid, int, int]:
        return created.get(row.deployment_uid, latest), row.deployment_uid, row.data_uid, row.memory, row.cpus

    waiting = [row for row in ledger.machines.values() if waits_for_host(ledger, row)]
    for _, alike in itertools.groupby(sorted(waiting, key=lambda row: (turn(row), row.uid)), key=turn):
        yield from _launch_alike(ledger, list(alike))


def _launch_alike(ledger: Ledger, machines: list[MachineRow]) -> Iterator[Launch]:
    """Launch machines that differ in nothing but their uid.

    A host only ever gets fuller in a round, so that a heap of the holders stays right if its top is looked at again.
    """
    model = machines[0]
    holders = [ledger.snapshot.hosts[host_id] for host_id in ledger.verified(model.data_uid)]
    heap = [(*_launch_order(ledger, model, host), host.facts.host_id) for host in holders]
    heapq.heapify(heap)
    for machine in machines:
        while heap:
            host = ledger.snapshot.hosts[heap[0][-1]]
            rank = (*_launch_order(ledger, model, host), host.facts.host_id)
            if unfit_to_run(ledger, machine, host):
                heapq.heappop(heap)
            elif rank != heap[0]:
                heapq.heapreplace(heap, rank)
            else:
                cause = f"it holds the disk; chosen for the fewest machines ({rank[0]} there)"
                yield Launch(machine.uid, host.facts.host_id, cause)
                break


def waits_for_host(ledger: Ledger, machine: MachineRow) -> bool:
    """Whether a machine should be launched as soon as a host can run it."""
    datum = ledger.snapshot.data.get(machine.data_uid)
    unplaced = machine.host_id is None and machine.state in {MachineState.REQUESTED, MachineState.WAITING}
    return unplaced and not machine.stop_wanted and datum is not None and datum.alive


def _launch_order(ledger: Ledger, machine: MachineRow, host: HostRow) -> tuple[int, int, bytes]:
    host_id = host.facts.host_id
    return ledger.machines_on(host_id), -ledger.memory_left(host), tie_break(machine.deployment_uid, host_id)


def drop_removed_data(ledger: Ledger) -> Iterator[Drop]:
    """Take data that its owner removed off every host, as soon as no machine runs from the copy."""
    for uid, datum in ledger.data_in_order():
        if datum.alive:
            continue
        for host_id, row in ledger.copies(uid).items():
            waits = row.state is PlacementState.FAILED and retry_time(row, ledger.settings) > ledger.now
            if row.state in _DROPPABLE and not waits and not ledger.in_use(uid, host_id):
                yield Drop(uid, host_id, f"{datum.data.name} was removed by its owner")


def trim_surplus(ledger: Ledger) -> Iterator[Drop]:
    """Drop settled copies beyond those wanted, and stop those on their way that nobody waits for.

    Hosts that no longer match go first, then the fullest.
    """
    for uid, datum in ledger.data_in_order():
        tally = ledger.tally(uid)
        if not datum.alive or tally.everywhere or len(tally.settled) < tally.replica:
            continue
        figures = f"replica={tally.replica}: {len(tally.settled)} held and settled on living hosts"
        for row in (*tally.stalled, *tally.intended):
            if row.since + ledger.settings.settle <= ledger.now and not ledger.in_use(uid, row.host_id):
                yield Drop(uid, row.host_id, f"{figures}; a copy on its way here is not needed")
        surplus = len(tally.settled) - tally.keep
        unused = [row for row in tally.settled if not ledger.in_use(uid, row.host_id)]
        for row in heapq.nsmallest(max(surplus, 0), unused, key=lambda row: _trim_order(ledger, datum, row)):
            verdict = ledger.matches(datum.attribute.requires, ledger.snapshot.hosts[row.host_id])
            chosen = "for the fullest quota" if verdict.matches else f"because it no longer matches: {verdict.reason}"
            yield Drop(uid, row.host_id, f"{figures}, {surplus} too many; chosen {chosen}")


def _trim_order(ledger: Ledger, datum: DatumRow, row: PlacementRow) -> tuple[bool, int, bytes]:
    host = ledger.snapshot.hosts[row.host_id]
    matches = ledger.matches(datum.attribute.requires, host).matches
    return matches, -fullness(ledger, host), tie_break(row.uid, row.host_id)


def fill_deficits(ledger: Ledger) -> Iterator[Place]:
    """Place the missing copies on the best eligible hosts, by priority; what makes up for lost copies comes last."""
    alive = [host for _, host in sorted(ledger.snapshot.hosts.items()) if host.state is HostState.ALIVE]
    for uid, datum in ledger.data_in_order():
        tally = ledger.tally(uid)
        if not datum.alive or not tally.missing(len(alive)) or not ledger.has_source(uid):
            continue
        eligible = [host for host in alive if judge(ledger, uid, host).verdict == "eligible"]
        missing = tally.missing(len(eligible))
        first_repair = missing if tally.everywhere else missing - len(tally.away)
        best = heapq.nsmallest(missing, eligible, key=lambda host: _place_order(ledger, uid, host))
        for number, host in enumerate(best):
            host_id = host.facts.host_id
            cause = f"{tally.figures(missing)}; {_merit(ledger, uid, host)}"
            yield Place(uid, host_id, ledger.now + ledger.settings.lease, cause, repair=number >= first_repair)


def _place_order(ledger: Ledger, uid: Uid, host: HostRow) -> tuple[int, int, int, bytes]:
    host_id = host.facts.host_id
    row = ledger.copies(uid).get(host_id)
    failures = row.failures if row else 0
    return failures, fullness(ledger, host), ledger.transfers(host_id), tie_break(uid, host_id)


def _merit(ledger: Ledger, uid: Uid, host: HostRow) -> str:
    row = ledger.copies(uid).get(host.facts.host_id)
    if row and row.failures:
        return f"tried again after it failed {row.failures} times ({row.reason or 'no reason given'})"
    quota = host.facts.resources.quota
    return f"chosen for its free quota ({format_size(ledger.quota_left(host))} of {format_size(quota)})"


# Launches come before drops, so that a copy that was just chosen to boot from is not trimmed.
POLICIES: Final[tuple[Policy, ...]] = (
    halt_unwanted_machines,
    launch_machines,
    drop_removed_data,
    trim_surplus,
    fill_deficits,
)
