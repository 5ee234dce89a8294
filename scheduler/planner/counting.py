"""What counts as a copy: held, on its way, or no longer.

Owns the arithmetic of replicas and the instants at which it changes by itself. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bitdew.core.attribute import EVERYWHERE
from bitdew.core.ids import HostId
from bitdew.core.states import INTENDED, HostState, PlacementState

from .rows import DatumRow, HostRow, PlacementRow
from .snapshot import PlannerSettings

Rows = list[PlacementRow]


@dataclass(slots=True)
class Tally:
    """The copies of one datum, by what they count for. To be read only, once it is made.

    Attributes:
        replica: Copies wanted; -1 for every host that could have one.
        scope: The wish behind that figure, for people: "replica=3", "affinity=hep-inputs".
        held: Verified copies that count, those on suspect or briefly lost hosts included.
        settled: Those of them on hosts that are alive, both for longer than the settling time.
        unsettled: Those of them on hosts that are alive that are not settled yet.
        displaced: Verified copies where they may not stay; they do not count.
        away: Verified copies that stopped counting: their host is lost beyond the grace period, or banned.
        intended: Copies on their way whose lease runs.
        stray: Copies on their way to where they may not be; they do not count.
        stalled: Copies on their way whose lease ran out.
        failed: Copies that wait to be tried again.
    """

    replica: int
    scope: str
    held: Rows = field(default_factory=list)
    settled: Rows = field(default_factory=list)
    unsettled: Rows = field(default_factory=list)
    displaced: Rows = field(default_factory=list)
    away: Rows = field(default_factory=list)
    intended: Rows = field(default_factory=list)
    stray: Rows = field(default_factory=list)
    stalled: Rows = field(default_factory=list)
    failed: Rows = field(default_factory=list)

    @property
    def everywhere(self) -> bool:
        """Whether every eligible host is to hold it."""
        return self.replica == EVERYWHERE

    @property
    def counted(self) -> int:
        """Copies that count: verified, or on their way."""
        return len(self.held) + len(self.intended)

    def missing(self, eligible: int) -> int:
        """Copies to be planned, if `eligible` hosts could take one."""
        return eligible if self.everywhere else max(0, self.replica - self.counted)

    @property
    def keep(self) -> int:
        """Verified copies on living hosts below which nothing is trimmed: at least one, even where none is wanted."""
        return max(self.replica, 1)

    def figures(self, missing: int) -> str:
        """The tally as the beginning of a cause."""
        more = [("stalled", self.stalled), ("lost", self.away), ("displaced", self.displaced)]
        others = "".join(f", {len(rows)} {what}" for what, rows in more if rows)
        return f"{self.scope}: {len(self.held)} held, {len(self.intended)} on its way{others}, {missing} missing"


def tally(
    empty: Tally,
    datum: DatumRow,
    rows: Iterable[PlacementRow],
    hosts: Mapping[HostId, HostRow],
    misfit: Callable[[HostId], str],
    settings: PlannerSettings,
    now: datetime,
) -> Tally:
    """`empty`, filled with the copies of `datum` at `now`. Each row's host is in `hosts`.

    `misfit` says why a copy may not stay on a host, or "".
    """
    for row in rows:
        host = hosts[row.host_id]
        if row.state is PlacementState.HELD:
            if not held_counts(host, datum, settings, now):
                empty.away.append(row)
            elif misfit(row.host_id):
                empty.displaced.append(row)
            else:
                empty.held.append(row)
                if host.state is HostState.ALIVE:
                    (empty.settled if settles_at(row, host, settings) <= now else empty.unsettled).append(row)
        elif row.state in INTENDED:
            if misfit(row.host_id):
                empty.stray.append(row)
            else:
                (empty.intended if lease_runs(row, host, settings, now) else empty.stalled).append(row)
        elif row.state is PlacementState.FAILED:
            empty.failed.append(row)
    return empty


def held_counts(host: HostRow, datum: DatumRow, settings: PlannerSettings, now: datetime) -> bool:
    """Whether a verified copy of `datum` on `host` counts as a replica, if it may be there."""
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
