"""How long a copy is waited for: when pieces are made durable, when more peers are asked for, when it is given up.

Owns the figures and the counting of time. It must not act on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bitdew.core.clock import Clock

CHECKPOINT_SECONDS: Final = 1.0
"""How often pieces are made durable while they arrive: what a kill can cost."""

CHECKPOINT_SHARE: Final = 0.05
"""The share of the time that this may take. Where the disk is slower it is done less often,"""

CHECKPOINT_LONGEST: Final = 30.0
"""but so often at least."""

ASK_SECONDS: Final = 5.0
"""Silence after which the service is asked for more peers, and again after each such time."""

PATIENCE_SECONDS: Final = 120.0
"""Silence after which the copy fails, so that the scheduler may plan another host."""


class Patience:
    """When bytes came last, and what is due since.

    Attributes:
        downloaded: How many bytes had come when it was last looked.
    """

    def __init__(self, clock: Clock, silence: float = 0.0) -> None:
        """`silence` is how long nothing had come when it waited last."""
        self._clock = clock
        now = clock.monotonic()
        self._asked = self._saved = now
        self._heard = now - silence
        self._pause = CHECKPOINT_SECONDS
        self.downloaded = self._done = 0
        self._deaf = False

    @property
    def silence(self) -> float:
        """Seconds since bytes came last."""
        return self._clock.monotonic() - self._heard

    def saw(self, downloaded: int, *, working: bool) -> None:
        """So many bytes have come; `working` if this machine itself is at work on them."""
        if downloaded != self.downloaded or working:
            self.downloaded = downloaded
            self._heard = self._clock.monotonic()

    def checkpoint_is_due(self, done: int) -> bool:
        """Whether there are pieces that a kill would cost for long enough."""
        now = self._clock.monotonic()
        if done == self._done or now - self._saved < self._pause:
            return False
        self._saved, self._done = now, done
        return True

    def checkpoint_took(self, seconds: float) -> None:
        """The last one took so long: the next one comes no sooner than that is worth."""
        self._saved = self._clock.monotonic()
        self._pause = min(max(CHECKPOINT_SECONDS, seconds / CHECKPOINT_SHARE), CHECKPOINT_LONGEST)

    def question_is_due(self) -> bool:
        """Whether it has been silent for long enough to ask for more peers."""
        now = self._clock.monotonic()
        if now - max(self._heard, self._asked) < ASK_SECONDS:
            return False
        self._asked = now
        return True

    def asked(self, *, answered: bool) -> None:
        """The service was asked for more peers, and answered or is away."""
        if answered and self._deaf:  # what it names may help: the time begins anew
            self._heard = self._clock.monotonic()
        self._deaf = not answered

    def is_over(self) -> bool:
        """Whether it has been silent for too long.

        Never while the service is away: nobody could plan another host then, and a peer that went may come back.
        """
        return not self._deaf and self.silence >= PATIENCE_SECONDS
