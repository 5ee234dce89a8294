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
from .host_index import twentieths
from .ledger import Ledger
from .rows import DatumRow, HostRow, MachineRow, PlacementRow

HYPERVISORS: Final = ("qemu", "virtualbox", "mock")
"""The sharings that can run a machine."""

Standing = Literal["holds", "displaced", "intended", "chosen", "eligible", "refused"]


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
    if why := _against(ledger, uid, host) or _without_room(ledger, uid, host, row):
        return "refused", why
    pinned = "it is pinned; " if host.facts.host_id in ledger.snapshot.data[uid].pins else ""
    again = f", after {_times(row)}" if row and row.failures else ""
    return "eligible", f"{pinned}its quota has {format_size(ledger.quota_left(host))} left{again}"


def _standing_by_copy(ledger: Ledger, row: PlacementRow, host: HostRow) -> tuple[Standing, str] | None:
    """What follows from the copy alone, or None if it stands in no way of a new one."""
    settings = ledger.settings
    if row.state is PlacementState.HELD:
        counts = held_counts(host, ledger.snapshot.data[row.uid], settings, ledger.now)
        if counts and (why := ledger.misfit(row.uid, row.host_id)):
            return "displaced", f"verified at {instant(row.since)}, but it may not stay: {why}"
        where = "" if host.state is HostState.ALIVE else f"; the host is {host.state} since {instant(host.state_since)}"
        return "holds", f"verified at {instant(row.since)}{where}{'' if counts else ', so it no longer counts'}"
    if row.state in INTENDED:
        end = lease_end(row, settings)
        if why := ledger.misfit(row.uid, row.host_id):
            return "refused", f"{row.state}, but it may not be there: {why}"
        if lease_runs(row, host, settings, ledger.now):
            waits = "it waits there for its turn, " if row.reason == "copy.waiting" else ""
            come = f"{waits}{format_size(row.done)} arrived"
            return "intended", f"{row.state}, {come}, its lease runs until {instant(end)}"
        return "refused", f"{row.state} without progress: its lease ran out at {instant(end)}"
    if row.state is PlacementState.DROPPING:
        return "refused", f"it is dropping its copy since {instant(row.since)}"
    if row.state is PlacementState.FAILED and (due := retry_time(row, settings)) > ledger.now:
        return "refused", f"it {_times(row)}, next try at {instant(due)}"
    return None


def _against(ledger: Ledger, uid: Uid, host: HostRow) -> str:
    """What but its room speaks against a new copy on `host`, or ""."""
    datum = ledger.snapshot.data[uid]
    if host.state is not HostState.ALIVE:
        return f"it is {host.state} since {instant(host.state_since)}"
    if not datum.alive:
        return "the datum was removed"
    if over := ledger.over(uid):
        return f"the datum's life is over: {over}"
    if not ledger.has_source(uid):
        return f"there is nothing to fetch: {without_source(datum)}"
    return "" if host.facts.host_id in datum.pins else _against_by_wish(ledger, uid, host)


def _against_by_wish(ledger: Ledger, uid: Uid, host: HostRow) -> str:
    """Why the wishes for a datum do not allow a copy on `host`, where it is not pinned to; or ""."""
    datum, host_id = ledger.snapshot.data[uid], host.facts.host_id
    if not (match := ledger.matches(datum.attribute.requires, host)).matches:
        return match.reason
    if adrift := ledger.adrift(uid):
        return f"no host may have a copy: {adrift}"
    if (target := ledger.target(uid)) and host_id not in target.holders:
        return f"{target.name}, the target of its affinity, is not held there"
    distrib = ledger.distrib(uid)
    if distrib and distrib.full(host_id, ledger.promised_of(distrib.attribute, host_id)):
        return f"it has as many data of this attribute as distrib={distrib.most} allows"
    return ""


def _without_room(ledger: Ledger, uid: Uid, host: HostRow, row: PlacementRow | None) -> str:
    size = ledger.snapshot.data[uid].data.size
    if (left := ledger.quota_left(host)) < size:
        return f"its quota has {format_size(left)} left, {format_size(size)} needed"
    to_come = size - min(row.done, size) if row else size
    if (left := ledger.disk_left(host)) < to_come:
        return f"its file system has {format_size(left)} to spare, {format_size(to_come)} needed"
    return ""


def without_source(datum: DatumRow) -> str:
    """Why there is nothing to fetch of a datum that has no source."""
    missing = "its publisher, who offers it, is away" if datum.seeded else "its bytes have not come yet"
    what = missing if datum.awaited else "the repository's copy is damaged"
    return f"{what} and no host that answers holds one"


def _times(row: PlacementRow) -> str:
    times = "once" if row.failures <= 1 else f"{row.failures} times"
    return f"failed {times}{f' ({row.reason})' if row.reason else ''}"


def fullness(ledger: Ledger, host: HostRow) -> int:
    """How full the quota is, to the nearest twentieth: a small copy more or less makes no host the better one."""
    return twentieths(ledger.quota_left(host), host.facts.resources.quota)


def unfit_to_run(ledger: Ledger, machine: MachineRow, host: HostRow) -> str:
    """Why a holder may not run `machine` now, or ""."""
    if host.state is not HostState.ALIVE:
        return f"it is {host.state} since {instant(host.state_since)}"
    if machine.bound is not None and machine.bound != host.facts.host_id:
        return "the snapshot that it goes on from is on another host"
    if why := ledger.misfit(machine.data_uid, host.facts.host_id):
        return f"its copy may not stay: {why}"
    if not (match := ledger.matches(machine.requires, host)).matches:
        return match.reason
    if why := _unable(machine, host):
        return why
    if why := _without_room_to_run(ledger, machine, host):
        return why
    if taken := ledger.port_taken(machine, host.facts.host_id):
        return f"its port {taken} leads to another machine"
    return ""


def _without_room_to_run(ledger: Ledger, machine: MachineRow, host: HostRow) -> str:
    resources = host.facts.resources
    if resources.machines and (there := ledger.machines_on(host)) >= resources.machines:
        return f"it runs {there} machine(s), as many as it lends room for"
    if machine.cpus > resources.cpus:
        return f"it lends {resources.cpus} processors, {machine.cpus} needed"
    if machine.cpus > (spare := max(0, resources.cpus - host.jobs_cpus)):
        return f"jobs leave {spare} of its {resources.cpus} processors, {machine.cpus} needed"
    if (left := ledger.cpus_left(host)) is not None and left < machine.cpus:
        return f"{left} of its {resources.all_cpus} processors for machines are left, {machine.cpus} needed"
    if (left := ledger.memory_left(host)) < machine.memory:
        beside = f" beside {format_size(host.jobs_memory)} for jobs" if host.jobs_memory else ""
        return f"its memory has {format_size(left)} left{beside}, {format_size(machine.memory)} needed"
    return ""


def _unable(machine: MachineRow, host: HostRow) -> str:
    """Why no hypervisor of `host` gives `machine` what it needs, or ""."""
    shared = sorted({sharing.name for sharing in host.facts.sharings if sharing.name in HYPERVISORS})
    if not shared:
        return "it shares no hypervisor"
    needs = machine.needs
    if any(needs <= host.facts.abilities.get(name, needs) for name in shared):
        return ""
    return f"{' and '.join(shared)} there can't give machines {_listed(needs)}"


def _listed(needs: frozenset[str]) -> str:
    return " and ".join({"network": "a network", "ports": "ports", "seed": "a seed"}[name] for name in sorted(needs))


def instant(at: datetime) -> str:
    """An instant for people."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
