"""How far copies on their way are: in memory, since it changes twice a second and a restart may forget it.

Progress prolongs a lease, so that a slow copy is not planned again elsewhere while it moves. Bytes count as progress
before they are a piece: over a slow link one piece takes longer than a lease. Not without bounds, since bytes that are
thrown away for wrong ones in the end must not count for ever. A copy that waits for its turn has its lease prolonged by
each report that it still does: its host says so while others of its copies make progress.

Where several processes share a database, each hears of some copies only: what it heard is stored in bulk, for the one
that plans, and for those that are asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bitdew.core.content import USUAL_PIECE
from bitdew.core.ids import HostId, Uid
from bitdew.wire.models import PlacementReport

UNFINISHED: Final = 16 * USUAL_PIECE
"""Bytes that count as progress without a piece of them being done: so many pieces may be on their way at a time."""


@dataclass(frozen=True, slots=True)
class Step:
    """The last that was heard of a copy on its way. Figures in bytes; `generation` is that of the order it follows."""

    done: int
    from_repository: int
    from_peers: int
    corrupt: int
    lease_until: datetime
    generation: int


class ProgressBook:
    """The last step of each copy on its way."""

    def __init__(self, lease: timedelta) -> None:
        self._lease = lease
        self._steps: dict[tuple[Uid, HostId], Step] = {}
        self._fresh: set[tuple[Uid, HostId]] = set()
        self._bases: dict[tuple[Uid, HostId], tuple[int, int]] = {}

    def note(self, host: HostId, report: PlacementReport, now: datetime) -> bool:
        """Take in a report; whether something moved since the last one."""
        key = (Uid(report.uid), host)
        last = self._steps.get(key)
        received = report.from_repository + report.from_peers
        moved = last is None or report.done != last.done
        if moved or last is None:
            self._bases[key] = received, report.corrupt
        flows = last is not None and received > last.from_repository + last.from_peers and self._is_fair(key, report)
        waits = report.reason is not None and report.reason.key == "copy.waiting"
        lease = now + self._lease if moved or flows or waits or last is None else last.lease_until
        figures = (report.from_repository, report.from_peers, report.corrupt)
        self._steps[key] = Step(report.done, *figures, lease, report.generation)
        told = moved or (last is not None and (last.from_repository, last.from_peers, last.corrupt) != figures)
        if told or waits:
            self._fresh.add(key)
        return told

    def _is_fair(self, key: tuple[Uid, HostId], report: PlacementReport) -> bool:
        """Whether what came since the last piece may be pieces in the making, none of which was wrong."""
        base, corrupt = self._bases.get(key, (0, 0))
        unfinished = report.from_repository + report.from_peers - base
        return report.corrupt == corrupt and 0 <= unfinished <= UNFINISHED

    def of(self, data: Uid, host: HostId, generation: int = 0) -> Step | None:
        """The last step of one copy, if it is on its way by an order of this `generation` or a later one."""
        step = self._steps.get((data, host))
        return step if step is not None and step.generation >= generation else None

    def moved(self, data: Collection[Uid]) -> Counter[Uid]:
        """The bytes that the copies of each of these data on their way have together, as far as they were heard of."""
        found: Counter[Uid] = Counter()
        for (uid, _host), step in self._steps.items():
            if uid in data:
                found[uid] += step.done
        return found

    def forget(self, data: Uid, host: HostId) -> None:
        """The copy is no longer on its way."""
        self._steps.pop((data, host), None)
        self._bases.pop((data, host), None)
        self._fresh.discard((data, host))

    def take_fresh(self, now: datetime) -> dict[tuple[Uid, HostId], Step]:
        """The steps that are new since this was asked. Copies of which nothing is heard any more are forgotten."""
        fresh, self._fresh = self._fresh, set()
        for key in [key for key, step in self._steps.items() if step.lease_until + self._lease < now]:
            del self._steps[key]
            self._bases.pop(key, None)
        return {key: self._steps[key] for key in fresh if key in self._steps}
