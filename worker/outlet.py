"""What leaves this host over HTTPS: the results of jobs, which keep the volunteer's cap on what is sent.

Owns the tap that they pass. At which rate it lets them pass is the bandwidth's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bitdew.client.flow import LOWEST, TAPS, Tap

from .pacing import Meter

if TYPE_CHECKING:
    from bitdew.core.clock import Clock


class Outlet(Tap):
    """Lets what is sent within `passing` pass at one rate, all of it together."""

    def __init__(self, clock: Clock, look: Callable[[], None]) -> None:
        """`look` is called before anything passes, and may change the rate."""
        super().__init__()
        self._meter = Meter(clock)
        self._look = look
        self._users = 0

    @property
    def used(self) -> bool:
        """Whether something is being sent."""
        return self._users > 0

    @property
    def rate_now(self) -> int:
        """Bytes per second that pass."""
        return self._meter.rate

    def allow(self, cap: int) -> None:
        """Let so many bytes per second pass, 0 for no cap. A line below `LOWEST` would count as dead."""
        if (rate := max(cap, LOWEST) if cap else 0) != self.rate:
            self.rate = rate

    async def take(self, size: int) -> None:
        """As `Tap.take`."""
        self._look()
        await super().take(size)
        self._meter.count(size)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """What the context's task, and those that it starts, send meanwhile, passes here."""
        token = TAPS.set((*TAPS.get(), self))
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            TAPS.reset(token)
