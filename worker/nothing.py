"""The copy of no bytes: there is no swarm of it, and nothing to fetch.

Owns how it comes to be held. What holds for other copies holds for it: it has a file, and is dropped on an order.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Never

from bitdew.core.content import ROOT_OF_NOTHING
from bitdew.core.errors import error
from bitdew.core.states import PlacementState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .entries import HeldCopy
    from .storage import Storage


async def hold_nothing(
    root: str,
    held: HeldCopy | None,
    storage: Storage,
    move: Callable[[PlacementState], Awaitable[None]],
    keep: Callable[[], Awaitable[None]],
) -> Never:
    """Make the empty file of `root`, durably, unless it is there as it was when it was `held`.

    `move` is told the states on the way, `keep` is called when it is there. It is held until this is cancelled.

    Raises:
        UserError: `input.invalid`, if this is not what no bytes are. HostError: `storage.full`, `storage.failed`.
    """
    if root != ROOT_OF_NOTHING:
        why = f"it has no bytes, and {root[:16]}… is not the root of that"
        raise error("input.invalid", "The order contradicts itself", why=why, do="Ask the publisher to put it again.")
    await asyncio.to_thread(storage.admit, root, 0)
    if held is None or await asyncio.to_thread(storage.look, root) != held:
        await move(PlacementState.FETCHING)
        await asyncio.to_thread(storage.write_nothing, root)
        await move(PlacementState.VERIFYING)
    await keep()
    while True:
        await asyncio.Event().wait()
