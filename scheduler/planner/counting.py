"""What counts as a copy: held, on its way, or no longer.

Owns the arithmetic of replicas and the instants at which it changes by itself. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from bitdew.core.attribute import EVERYWHERE
from bitdew.core.ids import HostId
from bitdew.core.states import INTENDED, HostState, PlacementState

from .snapshot import DatumRow, HostRow, PlacementRow, PlannerSettings


@dataclass(frozen=True, slots=True)
class Tally:
    """The copies of one datum, by what they count for.

    Attributes:
        replica: Copies wanted; -1 for every eligible host.
        held: Verified copies that count, those on suspect or briefly lost hosts included.
        settled: Those of them on hosts that are alive, both for longer than the settling time.
        unsettled: Those of them on hosts that are alive that are not settled yet.
        away: Verified copies that stopped counting: their host is lost beyond the grace period, or banned.
        intended: Copies on their way whose lease runs.
        stalled: Copies on their way whose lease ran out.
        failed: Copies that wait to be tried again.
    """

    replica: int
    held: tuple[PlacementRow, ...] = ()
    settled: tuple[PlacementRow, ...] = ()
    unsettled: tuple[PlacementRow, ...] = ()
    away: tuple[PlacementRow, ...] = ()
    intended: tuple[PlacementRow, ...] = ()
    stalled: tuple[PlacementRow, ...] = ()
    failed: tuple[PlacementRow, ...] = ()

    @property
    def everywhere(self) -> bool:
        """Whether every eligible host is to hold it."""
        return self.replica == EVERYWHERE

    def missing(self, eligible: int) -> int:
        """Copies to be planned, if `eligible` hosts could take one."""
        return eligible if self.everywhere else max(0, self.replica - len(self.held) - len(self.intended))

    @property
    def keep(self) -> int:
        """Verified copies on living hosts below which nothing is trimmed: at least one, even where none is wanted."""
        return max(self.replica, 1)

    def figures(self, missing: int) -> str:
        """The tally as the beginning of a cause."""
        wanted = "everywhere" if self.everywhere else str(self.replica)
        lost = f", {len(self.away)} lost" if self.away else ""
        stalled = f", {len(self.stalled)} stalled" if self.stalled else ""
        counted = f"{len(self.held)} held, {len(self.intended)} on its way"
        return f"replica={wanted}: {counted}{stalled}{lost}, {missing} missing"


def tally(
    datum: DatumRow,
    rows: Iterable[PlacementRow],
    hosts: Mapping[HostId, HostRow],
    settings: PlannerSettings,
    now: datetime,
) -> Tally:
    """The copies of `datum` at `now`. Each row's host is in `hosts`."""
    held: list[PlacementRow] = []
    settled: list[PlacementRow] = []
    unsettled: list[PlacementRow] = []
    away: list[PlacementRow] = []
    intended: list[PlacementRow] = []
    stalled: list[PlacementRow] = []
    failed: list[PlacementRow] = []
    for row in rows:
        host = hosts[row.host_id]
        if row.state is PlacementState.HELD:
            (held if held_counts(host, datum, settings, now) else away).append(row)
            if host.state is HostState.ALIVE:
                (settled if settles_at(row, host, settings) <= now else unsettled).append(row)
        elif row.state in INTENDED:
            (intended if lease_runs(row, host, settings, now) else stalled).append(row)
        elif row.state is PlacementState.FAILED:
            failed.append(row)
    return Tally(
        replica=datum.attribute.replica if datum.alive else 0,
        held=tuple(held),
        settled=tuple(settled),
        unsettled=tuple(unsettled),
        away=tuple(away),
        intended=tuple(intended),
        stalled=tuple(stalled),
        failed=tuple(failed),
    )


def held_counts(host: HostRow, datum: DatumRow, settings: PlannerSettings, now: datetime) -> bool:
    """Whether a verified copy of `datum` on `host` counts as a replica."""
    end = grace_end(host, datum, settings)
    return host.state is not HostState.BANNED and (end is None or end > now)


def grace_end(host: HostRow, datum: DatumRow, settings: PlannerSettings) -> datetime | None:
    """When a verified copy of `datum` on `host` stops counting because the host is lost, or None if it doesn't."""
    forgotten = host.state is HostState.LOST and datum.attribute.fault_tolerance
    return host.state_since + settings.grace if forgotten else None


def lease_runs(row: PlacementRow, host: HostRow, settings: PlannerSettings, now: datetime) -> bool:
    """Whether a copy on its way to `host` still counts as intended."""
    return lease_end(row, settings) > now and host.state is not HostState.BANNED


def settles_at(row: PlacementRow, host: HostRow, settings: PlannerSettings) -> datetime:
    """When a held copy may be taken as there to stay: it and its host's return are both that old."""
    return max(row.since, host.state_since) + settings.settle


def lease_end(row: PlacementRow, settings: PlannerSettings) -> datetime:
    """When a copy on its way stops counting."""
    return row.lease_until or row.since + settings.lease


def retry_time(row: PlacementRow, settings: PlannerSettings) -> datetime:
    """When a failed copy may be tried again."""
    return row.retry_at or row.since + settings.retry_delay(row.failures)
