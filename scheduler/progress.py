"""How far copies on their way are: in memory, since it changes twice a second and a restart may forget it.

Progress prolongs a lease, so that a slow copy is not planned again elsewhere while it moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from bitdew.core.ids import HostId, Uid
from bitdew.wire.models import PlacementReport


@dataclass(frozen=True, slots=True)
class Step:
    """The last that was heard of a copy on its way. Figures in bytes."""

    done: int
    from_repository: int
    from_peers: int
    corrupt: int
    lease_until: datetime


class ProgressBook:
    """The last step of each copy on its way."""

    def __init__(self, lease: timedelta) -> None:
        self._lease = lease
        self._steps: dict[tuple[Uid, HostId], Step] = {}

    def note(self, host: HostId, report: PlacementReport, now: datetime) -> bool:
        """Take in a report; whether something moved since the last one."""
        key = (Uid(report.uid), host)
        last = self._steps.get(key)
        moved = last is None or report.done != last.done
        lease = now + self._lease if moved or last is None else last.lease_until
        figures = (report.from_repository, report.from_peers, report.corrupt)
        self._steps[key] = Step(report.done, *figures, lease)
        return moved or (last is not None and (last.from_repository, last.from_peers, last.corrupt) != figures)

    def of(self, data: Uid, host: HostId) -> Step | None:
        """The last step of one copy, if it is on its way."""
        return self._steps.get((data, host))

    def forget(self, data: Uid, host: HostId) -> None:
        """The copy is no longer on its way."""
        self._steps.pop((data, host), None)
