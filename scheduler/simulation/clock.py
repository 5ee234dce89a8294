"""Virtual time: it stands still until it is moved, and then jumps."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta
from typing import Final

BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
MICRO: Final = 1_000_000


class VirtualClock:
    """A clock that its owner moves. Instants are whole microseconds, so that every one of them is reached exactly."""

    def __init__(self) -> None:
        self._micros = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @property
    def micros(self) -> int:
        """Microseconds since the beginning."""
        return self._micros

    def now(self) -> datetime:
        """The time of day, UTC."""
        return BEGINNING + timedelta(microseconds=self._micros)

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self._micros / MICRO

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was moved by `seconds`."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._micros + round(seconds * MICRO), next(self._numbers), woken))
        await woken

    def move_to(self, micros: int) -> None:
        """Make it so late. Time never goes back."""
        self._micros = max(self._micros, micros)
        while self._sleepers and self._sleepers[0][0] <= self._micros:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)


def micros_of(moment: datetime) -> int:
    """The instant of the clock that a time of day is."""
    return (moment - BEGINNING) // timedelta(microseconds=1)
