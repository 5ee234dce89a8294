"""The policies about machines: where those that wait are launched, and which are halted."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from bitdew.core.draining import Drain
from bitdew.core.ids import HostId, Uid
from bitdew.core.restarting import MOST_ATTEMPTS, Restart, next_attempt, pause
from bitdew.core.states import HostState, MachineState

from .actions import Fate, Halt, Launch, Renew
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
        if machine.over(ledger.now) and not machine.ended and machine.state is not MachineState.STOPPING:
            yield Halt(machine.uid, machine.host_id, "the life of its deployment has ended")
            continue
        if machine.stop_wanted and not machine.ended and machine.state is not MachineState.STOPPING:
            cause = "its user asked it to stop" if machine.host_id else "its user asked it to stop before it had a host"
            yield Halt(machine.uid, machine.host_id, cause)
            continue
        if machine.draining and machine.host_id is None and not machine.ended:
            yield Halt(machine.uid, None, "it was drained before it had a host")


@dataclass(frozen=True, slots=True)
class Renewal:
    """That another machine takes a machine's place.

    Attributes:
        at: When.
        attempt: The number of the other.
        halt_on: The host that has to end the machine, should it come back.
        why: As a sentence for people.
        fate: What becomes of the machine itself.
    """

    at: datetime
    attempt: int
    halt_on: HostId | None
    why: str
    fate: Fate = Fate.OVER


def renew_machines(ledger: Ledger) -> Iterator[Renew]:
    """Have another machine take the place of each that should have one by now."""
    for machine in ledger.machines.values():
        found = renewal(ledger, machine)
        if found is not None and found.at <= ledger.now:
            successor = Uid(hashlib.blake2b(f"after {machine.uid}".encode(), digest_size=16).hexdigest())
            yield Renew(machine.uid, successor, found.attempt, found.halt_on, found.why, found.fate)


def renewal(ledger: Ledger, machine: MachineRow) -> Renewal | None:
    """When and why another machine takes this one's place; None if none does as things are."""
    datum = ledger.snapshot.data.get(machine.data_uid)
    unwanted = machine.unwanted or machine.over(ledger.now) or machine.restart is Restart.NEVER
    if unwanted or datum is None or not ledger.launches(machine.data_uid):
        return None
    if machine.successor is not None:
        return None
    if machine.ended:
        attempt = next_attempt(machine.attempt, machine.ran)
        if attempt > MOST_ATTEMPTS or not machine.restart.replaces(machine.state):
            return None
        ended = machine.since or ledger.now
        return Renewal(ended + pause(attempt - 1 or 1), attempt, None, f"machine {machine.uid[:8]} {machine.state}")
    host = ledger.snapshot.hosts.get(machine.host_id) if machine.host_id is not None else None
    if host is None or machine.state is MachineState.STOPPING:
        return None
    if host.state is HostState.BANNED:
        return Renewal(ledger.now, machine.attempt, None, f"{host.facts.name} is banned")
    if host.state is HostState.LOST:
        return Renewal(ledger.now, machine.attempt, host.facts.host_id, f"{host.facts.name} is lost")
    why = f"{host.facts.name} is drained"
    if host.drain is Drain.STOP:
        return Renewal(ledger.now, machine.attempt, host.facts.host_id, why, Fate.STOPS)
    if host.drained and could_run_elsewhere(ledger, machine):
        return Renewal(ledger.now, machine.attempt, None, why, Fate.RUNS_ON)
    return None


def could_run_elsewhere(ledger: Ledger, machine: MachineRow) -> bool:
    """Whether a host that holds a machine's disk could run another like it now."""
    holders = (ledger.snapshot.hosts[host_id] for host_id in ledger.verified(machine.data_uid))
    other = replace(machine, bound=None)
    return any(not unfit_to_run(ledger, other, host) for host in holders)


def launch_machines(ledger: Ledger) -> Iterator[Launch]:
    """Give each machine without a host the holder of its disk that has the fewest machines; oldest deployment first."""
    created = {row.uid: row.created for row in ledger.snapshot.deployments}
    latest = datetime.max.replace(tzinfo=ledger.now.tzinfo)

    def turn(row: MachineRow) -> tuple[datetime, Uid, Uid, int, int, str]:
        made = created.get(row.deployment_uid, latest)
        return made, row.deployment_uid, row.data_uid, row.memory, row.cpus, row.bound or ""

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
                chosen = f"it holds the disk; chosen for the fewest machines ({rank[0]} there)"
                cause = "it has the snapshot that the machine goes on from" if machine.bound else chosen
                yield Launch(machine.uid, host.facts.host_id, cause)
                break


def waits_for_host(ledger: Ledger, machine: MachineRow) -> bool:
    """Whether a machine should be launched as soon as a host can run it."""
    datum = ledger.snapshot.data.get(machine.data_uid)
    unplaced = machine.host_id is None and machine.state in {MachineState.REQUESTED, MachineState.WAITING}
    wanted = not machine.unwanted and not machine.over(ledger.now)
    return unplaced and wanted and datum is not None and ledger.launches(machine.data_uid)


def _launch_order(ledger: Ledger, machine: MachineRow, host: HostRow) -> tuple[int, int, bytes]:
    host_id = host.facts.host_id
    return ledger.machines_on(host), -ledger.memory_left(host), tie_break(machine.deployment_uid, host_id)
