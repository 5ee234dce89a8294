"""`bitdew data watch`: events as lines, for people and for scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitdew.client.active import Since
    from bitdew.client.events import Event, EventKind
    from bitdew.client.grid import BitDew

    from .documents import DataEvent
    from .output import Output


@dataclass(frozen=True, slots=True)
class EventsShown:
    """Which events are shown, and where."""

    output: Output
    kinds: tuple[EventKind, ...]
    data: str | None
    attr: str | None

    async def follow(self, grid: BitDew, cursor: str | None, *, since: Since, count: int | None) -> None:
        """Show events, `count` of them at most, as they come."""
        from bitdew.client.dew import Dew

        stream = Dew(grid).events(*self.kinds, attr=self.attr, data=self.data, cursor=cursor, since=since)
        async with stream as events:
            shown = 0
            async for event in events:
                self._show(event)
                shown += 1
                if shown == count:
                    await events.handled()
                    return

    def _show(self, event: Event) -> None:
        if self.output.as_json:
            self.output.line(document(event))
        else:
            mark = " (so already)" if event.again else ""
            self.output.show(f"{event.at:%Y-%m-%d %H:%M:%S} {event.name}: {event}{mark}")


def document(event: Event) -> DataEvent:
    """An event as JSON."""
    from .documents import DataEvent

    return DataEvent(
        cursor=event.cursor,
        kind=str(event.kind),
        data=event.data,
        name=event.name,
        at=event.at,
        host=event.host,
        host_name=event.host_name,
        size=event.size,
        why=event.why,
        again=event.again,
    )
