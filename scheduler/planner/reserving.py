"""Which hosts are kept free of further jobs for machines that have waited for long. Pure.

A machine that asks for much could wait for ever behind small jobs that fill every gap on the hosts that hold its disk.
Of each user the oldest machine that has waited for longer than `OVERDUE` therefore *reserves* a host: one that could
run it if no job were there. No job begins there until it is launched; those that run end in their time. This is what
the matching of jobs does for large jobs (backfilling with a reservation, after EASY, Lifka 1995).

One host for each user at a time: so whoever wants a thousand machines takes no more from the jobs of others than
whoever wants one. A machine that no host could run even without jobs reserves none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from bitdew.core.ids import HostId, Uid

from .eligibility import unfit_to_run
from .ledger import Ledger, tie_break
from .machines import waits_for_host
from .rows import HostRow, MachineRow
from .snapshot import Snapshot

OVERDUE: Final = timedelta(minutes=5)


def reserved(snapshot: Snapshot, owners: Mapping[Uid, str], now: datetime) -> dict[HostId, Uid]:
    """The hosts that are kept free, each with the machine that it is kept for.

    Args:
        snapshot: The disks of machines that wait, and what belongs to them.
        owners: Whose each deployment is.
        now: The moment, UTC.
    """
    ledger, found, served = Ledger(snapshot, now), dict[HostId, Uid](), set[str]()
    waiting = [row for row in ledger.machines.values() if waits_for_host(ledger, row) and _overdue(row, now)]
    for machine in sorted(waiting, key=lambda row: (row.since or now, row.uid)):
        owner = owners.get(machine.deployment_uid, machine.deployment_uid)
        if owner in served or (host := _host_for(ledger, machine, found)) is None:
            continue
        found[host] = machine.uid
        served.add(owner)
    return found


def _overdue(machine: MachineRow, now: datetime) -> bool:
    return machine.since is not None and now - machine.since > OVERDUE


def _host_for(ledger: Ledger, machine: MachineRow, kept: Mapping[HostId, Uid]) -> HostId | None:
    """A host that can run a machine now, or else always the same of those that could without jobs."""
    holders = [ledger.snapshot.hosts[host_id] for host_id in ledger.verified(machine.data_uid) if host_id not in kept]
    able = [host for host in holders if not unfit_to_run(ledger, machine, _without_jobs(host))]
    ready = [host for host in able if not unfit_to_run(ledger, machine, host)]
    chosen = min(ready or able, key=lambda host: tie_break(machine.uid, host.facts.host_id), default=None)
    return chosen.facts.host_id if chosen is not None else None


def _without_jobs(host: HostRow) -> HostRow:
    return replace(host, jobs_memory=0, jobs_cpus=0)
