"""ActiveData: the life of data as events of a program, each at least once, also over the program's restarts.

Owns the place in the service's log up to which a program has heard, and what it is told where the log does not reach
back so far. What happens is decided and written by the service.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from bitdew.core.errors import BitDewError
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import PlacementState
from bitdew.tasks import to_the_end

from .connection import POLL
from .cursors import CursorFile
from .events import Event, EventKind
from .following import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType

    from bitdew.wire import models as m

    from .grid import BitDew

Since = Literal["now", "oldest"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a program asks for; what is not said lets all pass.

    Attributes:
        kinds: What happened.
        data: To which datum, by name or uid.
        attribute: To data that have which attribute, by name or uid.
    """

    kinds: tuple[EventKind, ...] = ()
    data: str = ""
    attribute: str = ""


class EventStream:
    """Events as they happen, without end. An asynchronous iterator, and a context manager that says where it begins.

        async with dew.events("held", attr="inputs", cursor="pipeline") as events:
            async for event in events:
                ...

    With a cursor, an event counts as handled when the next one is asked for: one during which the program was ended
    comes again. A service that is away for less than `patience` seconds is waited for.
    """

    def __init__(self, grid: BitDew, wanted: Wanted, since: Since, cursor: CursorFile | None) -> None:
        self._grid = grid
        self._wanted = wanted
        self._since: Since = since
        self._file = cursor
        self._place: str | None = None
        self._last: str | None = None
        self._events: AsyncGenerator[Event] | None = None

    async def __aenter__(self) -> Self:
        """Begin: what happens from now on is not missed.

        Raises:
            BitDewError: `storage.locked`, if another program follows this cursor; `input.invalid`,
                `attribute.not-found`, `data.not-found`; those of the connection.
        """
        if self._events is not None:
            return self
        file = self._file
        kept = await to_the_end(asyncio.to_thread(file.open)) if file is not None else None
        try:
            # Asked for in any case, so that a name which is not there is told at once.
            place = await self._ask("now" if self._since == "now" else "", 0.0, limit=1)
            self._place = kept or (place.next if self._since == "now" else "")
            if file is not None and kept is None and self._place:
                await to_the_end(asyncio.to_thread(file.save, self._place))
        except BaseException:
            if file is not None:
                file.close()
            raise
        self._events = self._follow()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        fault: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        events, self._events = self._events, None
        if events is not None:
            await events.aclose()
            if self._file is not None:
                self._file.close()

    async def aclose(self) -> None:
        """End it, as the end of its block does."""
        await self.__aexit__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await self.__aenter__()
        assert self._events is not None  # noqa: S101 (entered)
        return await anext(self._events)

    async def handled(self) -> None:
        """The event at hand is handled: it does not come again, also if no other one is asked for."""
        if self._last is not None:
            await self._keep(self._last)

    async def _follow(self) -> AsyncGenerator[Event]:
        patience = Patience(self._grid.patience)
        while True:
            try:
                reply = await self._ask(self._place or "", POLL)
            except BitDewError as fault:
                await patience.bear(fault)
                continue
            patience.answered()
            if reply.missed:
                async with aclosing(self._what_is_so()) as events:
                    async for event in events:
                        yield event
            for one in reply.events:
                self._last = one.cursor
                yield _event(one)
                await self.handled()
            if self._place != reply.next:
                await self._keep(reply.next)

    async def _ask(self, after: str, seconds: float, limit: int = 200) -> m.EventsReply:
        wanted = self._wanted
        return await self._grid.events(
            after, data=wanted.data, attribute=wanted.attribute, kinds=wanted.kinds, limit=limit, wait=seconds
        )

    async def _keep(self, place: str) -> None:
        self._place = place
        if self._file is not None:
            await to_the_end(asyncio.to_thread(self._file.save, place))

    async def _what_is_so(self) -> AsyncGenerator[Event]:
        """What would have been told, as far as it is still true: the data that live, and the copies that are held."""
        wanted = self._wanted
        async with aclosing(self._grid.data()) as found:
            async for datum in found:
                if wanted.data and wanted.data not in {datum.name, datum.uid}:
                    continue
                if wanted.attribute and datum.attribute_name != wanted.attribute:
                    continue
                for event in await self._of(datum):
                    if not wanted.kinds or event.kind in wanted.kinds:
                        yield event

    async def _of(self, datum: m.DataView) -> list[Event]:
        told = [Event(EventKind.CREATED, Uid(datum.uid), datum.name, datum.created, size=datum.size, again=True)]
        if not datum.held:
            return told
        try:
            copies = (await self._grid.where(datum.uid)).placements
        except BitDewError as fault:
            if fault.key != "data.not-found":
                raise
            return []
        return told + [
            Event(
                EventKind.HELD,
                Uid(datum.uid),
                datum.name,
                copy.since,
                host=HostId(copy.host),
                host_name=copy.host_name,
                done=datum.size,
                size=datum.size,
                why=copy.cause,
                again=True,
            )
            for copy in copies
            if copy.state is PlacementState.HELD
        ]


def _event(one: m.EventView) -> Event:
    kind = EventKind(one.kind)
    return Event(
        kind=kind,
        data=Uid(one.data),
        name=one.name,
        at=one.at,
        host=None if one.host is None else HostId(one.host),
        host_name=one.host_name,
        done=one.size if kind is EventKind.HELD else 0,
        size=one.size,
        why=one.why,
        cursor=one.cursor,
    )
