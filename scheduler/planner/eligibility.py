"""Which host may take a copy, which holder may run a machine, and why the others may not.

Owns the sentences about hosts. Policies, the arbiter and `explain` all ask here, so that they can't disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import INTENDED, HostState, PlacementState
from bitdew.core.units import format_size

from .counting import held_counts, lease_end, lease_runs, retry_time
from .ledger import Ledger
from .snapshot import HostRow, MachineRow, PlacementRow

HYPERVISORS: Final = ("qemu", "virtualbox", "mock")
"""The sharings that can run a machine."""

Standing = Literal["holds", "intended", "chosen", "eligible", "refused"]


@dataclass(frozen=True, slots=True)
class HostJudgement:
    """What a host is to a datum, and why."""

    host_id: HostId
    name: str
    verdict: Standing
    reason: str


def judge(ledger: Ledger, uid: Uid, host: HostRow) -> HostJudgement:
    """What `host` is to the datum: "eligible" alone lets a copy be placed there now."""
    verdict, reason = _standing(ledger, uid, host)
    return HostJudgement(host.facts.host_id, host.facts.name, verdict, reason)


def _standing(ledger: Ledger, uid: Uid, host: HostRow) -> tuple[Standing, str]:
    row = ledger.copies(uid).get(host.facts.host_id)
    if row is not None and (verdict := _standing_by_copy(ledger, row, host)):
        return verdict
    datum = ledger.snapshot.data[uid]
    if host.state is not HostState.ALIVE:
        return "refused", f"it is {host.state} since {instant(host.state_since)}"
    if not datum.alive:
        return "refused", "the datum was removed"
    if not ledger.has_source(uid):
        return (
            "refused",
            "there is nothing to fetch: the repository's copy is damaged and no host that answers holds one",
        )
    if not (match := ledger.matches(datum.attribute.requires, host)).matches:
        return "refused", match.reason
    size = datum.data.size
    if (left := ledger.quota_left(host)) < size:
        return "refused", f"its quota has {format_size(left)} left, {format_size(size)} needed"
    to_come = size - min(row.done, size) if row else size
    if (left := ledger.disk_left(host)) < to_come:
        return "refused", f"its file system has {format_size(left)} to spare, {format_size(to_come)} needed"
    again = f", after {_times(row)}" if row and row.failures else ""
    return "eligible", f"its quota has {format_size(ledger.quota_left(host))} left{again}"


def _standing_by_copy(ledger: Ledger, row: PlacementRow, host: HostRow) -> tuple[Standing, str] | None:
    """What follows from the copy alone, or None if it stands in no way of a new one."""
    settings = ledger.settings
    if row.state is PlacementState.HELD:
        counts = held_counts(host, ledger.snapshot.data[row.uid], settings, ledger.now)
        where = "" if host.state is HostState.ALIVE else f"; the host is {host.state} since {instant(host.state_since)}"
        return "holds", f"verified at {instant(row.since)}{where}{'' if counts else ', so it no longer counts'}"
    if row.state in INTENDED:
        end = lease_end(row, settings)
        if lease_runs(row, host, settings, ledger.now):
            return "intended", f"{row.state}, {format_size(row.done)} arrived, its lease runs until {instant(end)}"
        return "refused", f"{row.state} without progress: its lease ran out at {instant(end)}"
    if row.state is PlacementState.DROPPING:
        return "refused", f"it is dropping its copy since {instant(row.since)}"
    if row.state is PlacementState.FAILED and (due := retry_time(row, settings)) > ledger.now:
        return "refused", f"it {_times(row)}, next try at {instant(due)}"
    return None


def _times(row: PlacementRow) -> str:
    times = "once" if row.failures <= 1 else f"{row.failures} times"
    return f"failed {times}{f' ({row.reason})' if row.reason else ''}"


def fullness(ledger: Ledger, host: HostRow) -> int:
    """How full the quota is, to the nearest twentieth: a small copy more or less makes no host the better one."""
    quota = max(host.facts.resources.quota, 1)
    return 20 - (40 * ledger.quota_left(host) + quota) // (2 * quota)


def unfit_to_run(ledger: Ledger, machine: MachineRow, host: HostRow) -> str:
    """Why a holder may not run `machine` now, or ""."""
    resources = host.facts.resources
    if host.state is not HostState.ALIVE:
        return f"it is {host.state} since {instant(host.state_since)}"
    if not any(sharing.name in HYPERVISORS for sharing in host.facts.sharings):
        return "it shares no hypervisor"
    if machine.cpus > resources.cpus:
        return f"it lends {resources.cpus} processors, {machine.cpus} needed"
    if (left := ledger.memory_left(host)) < machine.memory:
        return f"its memory has {format_size(left)} left, {format_size(machine.memory)} needed"
    return ""


def instant(at: datetime) -> str:
    """An instant for people."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
