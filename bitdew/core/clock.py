"""The clock as it is handed in, so that tests own time."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time, steady time, and waiting."""

    def now(self) -> datetime:
        """The time of day, UTC."""

    def monotonic(self) -> float:
        """Seconds on a steady clock with no meaning of their own; only differences count."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
