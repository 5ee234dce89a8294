"""What a copy is while it waits for its turn, and how it gives that up.

Owns the waiting of one copy. Whose turn it is stands in `turns`; what is done in one stands in `fetching`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bitdew.core.errors import error
from bitdew.core.states import PlacementState

from .membership import Membership

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from bitdew.core.errors import BitDewError
    from bitdew.wire.models import ErrorView

    from .turns import Lane, Turn


class Queued(Membership):
    """The part of a copy that waits for its turn; the copy sets what is used here."""

    state: PlacementState
    reason: ErrorView | None
    priority: int
    seeks: bool
    _turn: Turn | None

    async def _move(self, state: PlacementState, fault: BitDewError | None = None) -> None:
        raise NotImplementedError

    async def _in_turn(self, lane: Lane, work: Callable[[], Coroutine[Any, Any, bool]]) -> bool | None:
        """What `work` says, which is done in a turn; None if the turn went to others before that.

        `work` is cancelled then: what it joined is left by whoever called this.
        """
        async with self._around.turns.take(self.root, lane, priority=self.priority, wait=self._wait) as turn:
            self._turn = turn
            working, over = asyncio.ensure_future(work()), asyncio.ensure_future(turn.over.wait())
            try:
                await asyncio.wait({working, over}, return_when=asyncio.FIRST_COMPLETED)
                return working.result() if working.done() else None
            finally:
                self._turn, self.seeks = None, False
                for task in (working, over):
                    task.cancel()
                await asyncio.gather(working, over, return_exceptions=True)

    async def _wait(self, others: int) -> None:
        """It has to wait, for so many others have their turn. What went wrong before is the better reason."""
        if self.reason is None or self.state is not PlacementState.FETCHING:
            why = f"{others} others are being fetched by this host now"
            await self._move(PlacementState.ASSIGNED, error("copy.waiting", "It waits for its turn", why=why))
