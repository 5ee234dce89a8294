"""What a command that waits says when nothing moves: once, why.

Owns the moment. Why is for the command to ask of the service; programs (`--json`) are not told.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from .output import Output

QUIET_SECONDS: Final = 5.0
"""Seconds without a change after which the reason is looked for: an order that is taken shows itself in one or two."""


@asynccontextmanager
async def saying_why(output: Output, why: Callable[[], Awaitable[list[str]]]) -> AsyncIterator[Callable[[], None]]:
    """While this lasts, remark once what `why` gives, as soon as nothing changed for a while and it gives something.

    Yields what to call at each change. A service that can't answer is no failure here: the waiting itself meets it.
    """
    moved = asyncio.Event()
    telling = asyncio.create_task(_tell(output, why, moved))
    try:
        yield moved.set
    finally:
        telling.cancel()
        await asyncio.wait({telling})
        if not telling.cancelled():
            telling.result()


async def _tell(output: Output, why: Callable[[], Awaitable[list[str]]], moved: asyncio.Event) -> None:
    lines: list[str] = []
    while not lines:
        moved.clear()
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await moved.wait()
        except TimeoutError:
            with contextlib.suppress(BitDewError):
                lines = await why()
    for line in lines:
        output.remark(line)
