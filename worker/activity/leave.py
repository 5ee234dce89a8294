"""Whether machines may run on this host now: asked by machines, said by the guard.

Owns the word alone. It must not know why, beyond the reason that is passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitdew.wire.models import ErrorView


class Leave:
    """The word in force. Given, until it is withdrawn.

    Attributes:
        refusal: Why machines may not run; None if they may.
        asked: Called when a machine is about to run, so that the host is looked at more often from then on.
    """

    def __init__(self, told: Callable[[], None] | None = None) -> None:
        """`told` is called whenever leave was given or withdrawn."""
        self.refusal: ErrorView | None = None
        self.asked: Callable[[], None] = _nobody
        self._told = told or _nobody
        self._moved = asyncio.Event()

    def say(self, refusal: ErrorView | None) -> None:
        """Machines may run, or not for this reason."""
        if refusal == self.refusal:
            return
        other = (self.refusal is None) != (refusal is None)
        self.refusal = refusal
        if other:
            self._told()
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def moved(self) -> Coroutine[Any, Any, Any]:
        """Wait for the next word after this call, whenever the waiting begins."""
        return self._moved.wait()


def _nobody() -> None:
    """Nobody listens yet."""
