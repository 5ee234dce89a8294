"""What the service has not been told yet: which placements and machines changed since it last confirmed.

Owns the marks. It must not hold the reports themselves: they are made when they are sent, so that what is sent is
what is true then.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Marks:
    """Subjects that changed, each with the number of its latest change."""

    latest: dict[str, int] = field(default_factory=dict)

    def confirm(self, told: dict[str, int]) -> None:
        """Forget the changes that `told` covers; a subject that changed again meanwhile stays marked."""
        for subject, number in told.items():
            if self.latest.get(subject) == number:
                del self.latest[subject]


class Outbox:
    """Collects marks and wakes whoever sends them."""

    def __init__(self) -> None:
        self.placements = Marks()
        self.machines = Marks()
        self._number = 0
        self.waiting = asyncio.Event()
        """There is something to tell."""
        self.urgent = asyncio.Event()
        """It is more than progress."""

    def mark_placement(self, uid: str, *, urgent: bool) -> None:
        """The placement of the datum `uid` changed."""
        self._mark(self.placements, uid, urgent=urgent)

    def mark_machine(self, uid: str, *, urgent: bool) -> None:
        """The machine `uid` changed."""
        self._mark(self.machines, uid, urgent=urgent)

    def wake(self) -> None:
        """Have something sent although no subject changed."""
        self.waiting.set()
        self.urgent.set()

    def _mark(self, marks: Marks, uid: str, *, urgent: bool) -> None:
        self._number += 1
        marks.latest[uid] = self._number
        self.waiting.set()
        if urgent:
            self.urgent.set()
