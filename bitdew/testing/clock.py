"""A clock that can be pushed ahead: short waits pass by themselves, long ones are skipped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any


class SkippingClock:
    """Real time, plus whatever was skipped. Whoever sleeps wakes when either has brought the moment.

    Sockets and processes under test take real time, so that a clock that stands still would starve them; leases,
    periods and lifetimes take hours, so that a test must be able to jump.
    """

    def __init__(self) -> None:
        self._skipped = 0.0
        self._skip = asyncio.Event()

    def now(self) -> datetime:
        """The time of day, UTC, as far as it was pushed."""
        return datetime.now(UTC) + timedelta(seconds=self._skipped)

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic() + self._skipped

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Return after `seconds`, or as soon as they were skipped: counted from this call, not from its awaiting."""
        return self._sleep_until(self.monotonic() + seconds)

    async def _sleep_until(self, until: float) -> None:
        if until <= self.monotonic():
            await asyncio.sleep(0)
        while (left := until - self.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._skip.wait()
            except TimeoutError:
                continue

    def skip(self, seconds: float) -> None:
        """Push the clock ahead, and wake everyone who sleeps to look at it again."""
        self._skipped += seconds
        woken, self._skip = self._skip, asyncio.Event()
        woken.set()
