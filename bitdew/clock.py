"""The real clock, and waiting with a limit on a handed-in one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any

from bitdew.core.clock import Clock


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """The time of day, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


async def wait_at_most(clock: Clock, seconds: float, awaited: Awaitable[Any]) -> bool:
    """Wait for `awaited`, `seconds` of `clock` at most; True if it came. What did not come is cancelled."""
    work = asyncio.ensure_future(awaited)
    alarm = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({work, alarm}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            return True
        return False
    finally:
        for task in (work, alarm):
            task.cancel()
        await asyncio.gather(work, alarm, return_exceptions=True)
