"""The policies about machines on hosts that are drained: which of them end there, and what the others wait for.

Owns what a drain means for a machine that is there. That copies leave is said where misfits are judged.
"""

from __future__ import annotations

from collections.abc import Iterator

from bitdew.core.draining import Drain
from bitdew.core.restarting import Restart
from bitdew.core.states import HostState, MachineState

from .actions import Halt
from .ledger import Ledger
from .machines import renewal
from .rows import MachineRow


def halt_on_drained(ledger: Ledger) -> Iterator[Halt]:
    """End the machines whose place another has taken by now, and those on hosts where all are to stop."""
    for machine in ledger.machines.values():
        if machine.host_id is None or not _stands(machine) or ledger.ordered(machine.uid):
            continue
        if why := _taken_over(ledger, machine) or _to_stop(ledger, machine):
            yield Halt(machine.uid, machine.host_id, why)


def stays_for_now(ledger: Ledger, machine: MachineRow) -> str:
    """What a machine on a drained host waits for, or "" if it does not wait for anything, or is not on such a host."""
    host = ledger.snapshot.hosts.get(machine.host_id) if machine.host_id is not None else None
    if host is None or not _stands(machine) or ledger.ordered(machine.uid):
        return ""
    if machine.successor is not None:
        return f"it runs until machine {machine.successor[:8]}, which takes its place, does"
    if machine.draining:
        return "it is drained, and ends once its jobs are done"
    if not host.drained or host.state is HostState.LOST:
        return ""
    if machine.restart is Restart.NEVER:
        return "it runs to its end on a drained host, since none takes its place"
    return "it runs on on a drained host until another that holds its disk can run one in its place"


def waits_to_move(ledger: Ledger, machine: MachineRow) -> bool:
    """Whether a host that joins, changes or gets room could take a machine's place."""
    return machine.successor is None and machine.restart is not Restart.NEVER and bool(stays_for_now(ledger, machine))


def _stands(machine: MachineRow) -> bool:
    return not machine.ended and machine.state is not MachineState.STOPPING


def _taken_over(ledger: Ledger, machine: MachineRow) -> str:
    """Why the last of those that took a machine's place, one after the other, lets it end; or ""."""
    heir = machine
    while heir.successor is not None:
        following = ledger.machines.get(heir.successor)
        if following is None and machine.draining:
            return ""  # nobody took over what it does: it ends when that is done
        if following is None:
            return "the machine that took its place has ended, and none follows it"
        heir = following
    if heir is machine:
        return ""
    if heir.stop_wanted:
        return "its user asked the machine that takes its place to stop"
    return f"machine {heir.uid[:8]} runs in its place" if heir.state is MachineState.RUNNING else ""


def _to_stop(ledger: Ledger, machine: MachineRow) -> str:
    host = ledger.snapshot.hosts.get(machine.host_id) if machine.host_id is not None else None
    if host is None or host.drain is not Drain.STOP or host.state is not HostState.DRAINED:
        return ""
    return "" if renewal(ledger, machine) else f"{host.facts.name} is drained, and its machines are to stop"
