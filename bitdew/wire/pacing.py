"""A rate that many replies keep together.

Owns whose turn it is: first come, first served, a small part at a time. It must not know what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from bitdew.core.clock import Clock

from . import limits

CATCH_UP_SECONDS: Final = 0.1
"""What is saved up while nothing is sent, or a wake-up comes late."""
PART_SECONDS: Final = 0.1
"""How long one part takes at the whole rate. Whoever reads a reply hears something in time, if others are sent too."""
SMALLEST_PART: Final = 4096


class Pace:
    """One rate for everything that is sent within it, in bytes per second; 0 is unlimited."""

    def __init__(self, rate: int, clock: Clock, on_busy: Callable[[bool], None] = lambda _busy: None) -> None:
        """`on_busy` is told when something begins to be sent while nothing else was, and when nothing is any more."""
        self.rate = rate
        self._clock = clock
        self._on_busy = on_busy
        self._free_at = clock.monotonic()
        self._sending = 0

    @property
    def part(self) -> int:
        """How many bytes to take at a time."""
        if not self.rate:
            return limits.CHUNK
        return max(SMALLEST_PART, min(limits.CHUNK, int(self.rate * PART_SECONDS)))

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Something is sent, as long as the context lasts."""
        self._sending += 1
        if self._sending == 1:
            self._on_busy(True)
        try:
            yield
        finally:
            self._sending -= 1
            if not self._sending:
                self._on_busy(False)

    async def take(self, size: int) -> None:
        """Return when `size` more bytes may be sent."""
        if not self.rate:
            return
        now = self._clock.monotonic()
        turn = max(self._free_at, now - CATCH_UP_SECONDS)
        self._free_at = turn + size / self.rate
        if turn > now:
            await self._clock.sleep(turn - now)
