"""Whether those who have a whole file dial the peers that they know.

Owns that one setting of a session. Behind a wall, or at another port than before, a host can't be dialled and has to
dial; but where nobody fetches, whole files that dial peers who are off would do so for ever, each of them twice a
minute. So they dial as long as something moves in the swarm, and a while more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_SECONDS: Final = 60.0
"""How long whole files go on dialling after something moved last."""


class Warmth:
    """Of one session, which is cold at first."""

    def __init__(self, dial: Callable[[bool], None]) -> None:
        """`dial` has the session's whole files dial from now on, or not."""
        self._dial = dial
        self._loop = asyncio.get_running_loop()
        self._until = 0.0
        self._cooling: asyncio.TimerHandle | None = None

    def stir(self) -> None:
        """Something moves."""
        self._until = self._loop.time() + WARM_SECONDS
        if self._cooling is None:
            self._dial(True)
            self._cooling = self._loop.call_at(self._until, self._cool)

    def end(self) -> None:
        """The session ends; nothing is set any more."""
        if self._cooling is not None:
            self._cooling.cancel()

    def _cool(self) -> None:
        self._cooling = None
        if self._loop.time() < self._until:
            self._cooling = self._loop.call_at(self._until, self._cool)
        else:
            self._dial(False)
