"""How fast bytes that libtorrent knows nothing of may come, and how fast they do.

Owns one rate and what is owed to it. It must not know what the bytes are.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bitdew.clock import wait_at_most

if TYPE_CHECKING:
    from bitdew.core.clock import Clock

LONGEST_WAIT: Final = 3600.0
"""Seconds after which a waiting reader looks again; a rate of a byte per second has longer waits than clocks like."""
_LITTLE: Final = 0.5
"""Bytes that nobody waits for: a wait for less may be too short for a clock to show."""


class Throttle:
    """A rate that may change at any moment, also for those who wait. Time in which nothing comes is not saved up.

    Attributes:
        rate: Bytes per second; 0 is unlimited.
    """

    def __init__(self, rate: int, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._owed = 0.0  # all bytes that ever came
        self._paid = 0.0  # as many of them as the rate has allowed for
        self._at = clock.monotonic()
        self._changed = asyncio.Event()

    def change(self, rate: int) -> None:
        """Go on at `rate`: what is owed already is paid at it too."""
        if rate != self.rate:
            self._settle()
            self.rate = rate
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def owe(self, size: int) -> float:
        """`size` bytes came. Hand the result to `paid`."""
        self._settle()
        self._owed += size
        return self._owed

    async def paid(self, mark: float) -> None:
        """Return when what was owed up to `mark` is within the rate."""
        while True:
            self._settle()
            if mark - self._paid < _LITTLE:
                return
            left = (mark - self._paid) / self.rate
            await wait_at_most(self._clock, min(left, LONGEST_WAIT), self._changed.wait())

    def _settle(self) -> None:
        now = self._clock.monotonic()
        allowed = self._paid + (now - self._at) * self.rate if self.rate else self._owed
        self._paid, self._at = min(self._owed, allowed), now


class Meter:
    """The rate at which bytes come, over the last second or two."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._size = 0
        self._last = 0.0

    def count(self, size: int) -> None:
        """`size` bytes came."""
        self._turn()
        self._size += size

    @property
    def rate(self) -> int:
        """Bytes per second."""
        self._turn()
        return int(self._last)

    def _turn(self) -> None:
        """Begin a new second if this one is over."""
        now = self._clock.monotonic()
        if (spent := now - self._since) >= 1.0:
            self._last = self._size / spent
            self._since, self._size = now, 0
