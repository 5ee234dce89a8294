"""The volunteer's cap on what comes in, where it does not come by swarm; and how many downloads run at a time.

Owns the pacing of HTTP. libtorrent paces what comes by swarm and can't be told of other bytes, so the cap is shared:
while anything comes by HTTP, swarms have half of it; HTTP has the other half while a swarm is fetching, and all of it
otherwise. Over half a second both together stay within the cap.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bitdew.core.clock import Clock
    from bitdew.swarm.session import Swarm
    from bitdew.swarm.settings import SwarmLimits

AT_ONCE: Final = 8
"""Downloads that run at a time: each holds up to three pieces, 12 MiB at most, in memory."""

LOOK_SECONDS: Final = 0.5
"""How long what swarms are doing is taken for granted."""


class Bandwidth:
    """What all HTTP downloads of one host may take together."""

    def __init__(self, limits: SwarmLimits, swarm: Swarm, clock: Clock) -> None:
        """`limits` are the caps with which `swarm` was started."""
        self._limits = limits
        self._swarm = swarm
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._running = 0
        self._paid_until = clock.monotonic()
        self._looked = -LOOK_SECONDS
        self._rate = limits.download

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until there is room for one more download, which lasts as long as the context."""
        async with self._turns:
            self._running += 1
            self._share_out()
            try:
                yield
            finally:
                self._running -= 1
                self._share_out()

    async def take(self, size: int) -> None:
        """Return when `size` bytes that just came are within the cap. Until then nothing more should be read."""
        if not self._limits.download:
            return
        now = self._clock.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            fetching = any(transfer.fetching for transfer in self._swarm.transfers.values())
            self._rate = _half(self._limits.download) if fetching else self._limits.download
        self._paid_until = max(now, self._paid_until) + size / self._rate
        await self._clock.sleep(self._paid_until - now)

    def _share_out(self) -> None:
        """Give swarms the part of the cap that is theirs now."""
        cap = self._limits.download
        if cap:
            with suppress(BitDewError):  # the swarm is closed, and takes nothing any more
                self._swarm.set_limits(replace(self._limits, download=_half(cap) if self._running else cap))


def _half(cap: int) -> int:
    return max(1, cap // 2)
