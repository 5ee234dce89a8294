"""A program's own functions, called with events.

Owns which function is called with which events, and that a failure of one ends all and is told. It must not decide
what counts as handled: `EventStream` does.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .active import EventStream
from .events import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Handler = Callable[[Event], Any]


@dataclass(frozen=True, slots=True)
class Reaction:
    """A function, and the events that it is called with."""

    stream: EventStream
    handler: Handler

    async def run(self) -> None:
        """Call it with each event, one at a time. One that is not a coroutine function is called in a thread."""
        async for event in self.stream:
            if inspect.iscoroutinefunction(self.handler):
                await self.handler(event)
            else:
                await asyncio.to_thread(self.handler, event)


@asynccontextmanager
async def reacting(reactions: list[Reaction]) -> AsyncIterator[None]:
    """Call functions with what happens from the beginning of the block to its end.

    Raises:
        BaseException: the first of what the functions raise; the block is cancelled then, and the event of it was not
            handled.
    """
    begun: list[Reaction] = []
    try:
        for reaction in reactions:
            await reaction.stream.__aenter__()
            begun.append(reaction)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(reaction.run(), name="reaction") for reaction in reactions]
                yield
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as faults:
            raise _first(faults) from None
    finally:
        for reaction in begun:
            await reaction.stream.aclose()


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    one: BaseException = faults
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one
