"""The policies about machines: where those that wait are launched, and which are halted."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from datetime import datetime

from bitdew.core.ids import Uid
from bitdew.core.states import MachineState

from .actions import Halt, Launch
from .eligibility import unfit_to_run
from .ledger import Ledger, tie_break
from .rows import HostRow, MachineRow


def halt_unwanted_machines(ledger: Ledger) -> Iterator[Halt]:
    """End, once, the machines that their user no longer wants, and those whose disk went before they had a host."""
    for machine in ledger.machines.values():
        datum = ledger.snapshot.data.get(machine.data_uid)
        if machine.host_id is None and not machine.ended and datum is not None and not datum.alive:
            over = ledger.over(machine.data_uid)
            end = f"ended, since {over}," if over else "was removed"
            yield Halt(machine.uid, None, f"its disk {datum.data.name} {end} before it had a host")
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
    return unplaced and not machine.stop_wanted and datum is not None and ledger.thrives(machine.data_uid)


def _launch_order(ledger: Ledger, machine: MachineRow, host: HostRow) -> tuple[int, int, bytes]:
    host_id = host.facts.host_id
    return ledger.machines_on(host), -ledger.memory_left(host), tie_break(machine.deployment_uid, host_id)
