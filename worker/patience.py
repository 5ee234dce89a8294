"""How long a copy is waited for: when pieces are made durable, when more peers are asked for, when it is given up.

Owns the figures and the counting of time. It must not act on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bitdew.core.clock import Clock

CHECKPOINT_SECONDS: Final = 1.0
"""How often pieces are made durable while they arrive: what a kill can cost."""

ASK_SECONDS: Final = 5.0
"""Silence after which the service is asked for more peers, and again after each such time."""

PATIENCE_SECONDS: Final = 120.0
"""Silence after which the copy fails, so that the scheduler may plan another host."""


class Patience:
    """When bytes came last, and what is due since."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        now = clock.monotonic()
        self._heard = self._asked = self._saved = now
        self._downloaded = self._done = 0

    def saw(self, downloaded: int, *, working: bool) -> None:
        """So many bytes have come; `working` if this machine itself is at work on them."""
        if downloaded != self._downloaded or working:
            self._downloaded = downloaded
            self._heard = self._clock.monotonic()

    def checkpoint_is_due(self, done: int) -> bool:
        """Whether there are pieces that a kill would cost for long enough."""
        now = self._clock.monotonic()
        if done == self._done or now - self._saved < CHECKPOINT_SECONDS:
            return False
        self._saved, self._done = now, done
        return True

    def question_is_due(self) -> bool:
        """Whether it has been silent for long enough to ask for more peers."""
        now = self._clock.monotonic()
        if now - max(self._heard, self._asked) < ASK_SECONDS:
            return False
        self._asked = now
        return True

    def is_over(self) -> bool:
        """Whether it has been silent for too long."""
        return self._clock.monotonic() - self._heard >= PATIENCE_SECONDS
