"""Looking at one datum's copies until something is true of them, also while the service is away for a while.

Owns the patience of whoever waits. What the looks amount to stands in `events`.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

from bitdew.core.errors import BitDewError, error

from .connection import POLL
from .events import Event, seen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from bitdew.wire import models as m

    from .grid import BitDew

T = TypeVar("T")
PAUSE: Final = 0.5
"""Seconds before a service that is away is asked again; twice as long each time, up to `LONGEST_PAUSE`."""
LONGEST_PAUSE: Final = 10.0


class Patience:
    """How long a service that is away is waited for, counted from the last time that it answered."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pause = PAUSE
        self._since: float | None = None

    def answered(self) -> None:
        """It is there."""
        self._since, self._pause = None, PAUSE

    async def bear(self, fault: BitDewError) -> None:
        """Wait a little, or raise `fault` if that can't help, or has been done for too long."""
        now = asyncio.get_running_loop().time()
        if fault.key != "service.unreachable":
            raise fault
        self._since = now if self._since is None else self._since
        if now - self._since + self._pause > self._seconds:
            raise fault
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


async def patiently(grid: BitDew, ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` gives, asked again while the service is away.

    Raises:
        BitDewError: what `ask` does; `service.unreachable`, if the service is away for longer than `grid.patience`.
    """
    patience = Patience(grid.patience)
    while True:
        try:
            return await ask()
        except BitDewError as fault:
            await patience.bear(fault)


async def looks(grid: BitDew, uid: str) -> AsyncGenerator[m.WhereReply]:
    """Where the datum's copies are, now and after each change, until its life has ended.

    Raises:
        BitDewError: `data.not-found`; `service.unreachable`, if the service is away for longer than `grid.patience`.
    """
    patience, since = Patience(grid.patience), -1
    while True:
        try:
            reply = await grid.where(uid, since, POLL if since >= 0 else 0.0)
        except BitDewError as fault:
            await patience.bear(fault)
            since = -1  # one that restarts counts its versions anew
            continue
        patience.answered()
        if reply.version != since:
            yield reply
            if not reply.data.alive:
                return
        since = reply.version


async def happenings(grid: BitDew, uid: str) -> AsyncGenerator[Event]:
    """What is so of the datum's copies now, and then what happens to them, until its life ends."""
    before: m.WhereReply | None = None
    async with aclosing(looks(grid, uid)) as replies:
        async for reply in replies:
            for event in seen(before, reply):
                yield event
            before = reply


async def held(grid: BitDew, uid: str, replicas: int | None) -> m.WhereReply:
    """Return once `replicas` copies are held, or as many as are wanted.

    Raises:
        BitDewError: `data.not-found`, if the datum's life ends before; as `looks`.
    """
    async with aclosing(looks(grid, uid)) as replies:
        async for reply in replies:
            if await _enough(grid, reply, replicas):
                return reply
            if not reply.data.alive:
                why = reply.data.died_because or "it was removed"
                message = f"{reply.data.name!r} ended before so many copies were held"
                raise error("data.not-found", message, why=why, name=reply.data.name)
    raise AssertionError("looks end with the datum's life alone")


async def _enough(grid: BitDew, reply: m.WhereReply, replicas: int | None) -> bool:
    datum = reply.data
    if replicas is not None:
        return datum.held >= replicas
    if datum.wanted >= 0:
        return datum.held >= datum.wanted
    if datum.intended or not datum.held:
        return False
    told = await grid.explain(datum.uid)  # "everywhere" is a number that only the planner knows
    return not told.missing and not told.intended
