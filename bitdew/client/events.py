"""What happens to data, as a program is told: one event for each step of a copy or of a datum's life.

Owns the words of events, and what two looks at a datum's copies amount to. Pure: whoever looks stands in other modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bitdew.core.ids import HostId, Uid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from bitdew.wire.models import PlacementView, WhereReply


class EventKind(StrEnum):
    """What happened: to a datum, or to its copy on one host. The copy's are the states of a placement.

    `damaged` and `mended` are about the repository's own copy: it was found bad and is served no more, or it is good
    again.
    """

    CREATED = "created"
    ARRIVED = "arrived"
    CHANGED = "changed"
    DAMAGED = "damaged"
    MENDED = "mended"
    ENDED = "ended"
    ASSIGNED = "assigned"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    HELD = "held"
    DROPPING = "dropping"
    GONE = "gone"
    LOST = "lost"
    FAILED = "failed"


OF_DATA: Final = frozenset(
    {
        EventKind.CREATED,
        EventKind.ARRIVED,
        EventKind.CHANGED,
        EventKind.DAMAGED,
        EventKind.MENDED,
        EventKind.ENDED,
    }
)
"""Kinds that are about a datum, and no host."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: What.
        data: The datum's uid.
        name: The datum's name.
        at: When, UTC.
        host: On which host, if it is about a copy.
        host_name: That host's name.
        done: Bytes of the copy that are there, where it is known.
        size: Bytes of the datum.
        why: The reason, in words: the planner's cause, or what failed.
        cursor: Where it stands among all events; empty for what was seen by looking.
        again: Whether it tells what is so rather than what happened just now: events before it were not kept.
    """

    kind: EventKind
    data: Uid
    name: str
    at: datetime
    host: HostId | None = None
    host_name: str = ""
    done: int = 0
    size: int = 0
    why: str = ""
    cursor: str = ""
    again: bool = False

    @property
    def percent(self) -> int:
        """How much of the copy is there, in whole percent."""
        return 100 * self.done // self.size if self.size else 100

    def __str__(self) -> str:
        """As people read it: `fetching 40 % on h2`."""
        where = f" on {self.host_name}" if self.host is not None else ""
        if self.kind is EventKind.FETCHING:
            return f"fetching {self.percent} %{where}"
        why = f": {self.why}" if self.why and self.kind in _TOLD else ""
        return f"{self.kind}{where}{why}"


_TOLD: Final = frozenset({EventKind.DAMAGED, EventKind.ENDED, EventKind.FAILED, EventKind.LOST})


def seen(before: WhereReply | None, now: WhereReply) -> Iterator[Event]:
    """What happened between two looks at one datum's copies, the hosts in the order of the reply.

    States that a copy passed between the looks are not told; progress is, by whole percents.
    """
    old: dict[str, PlacementView] = {one.host: one for one in before.placements} if before is not None else {}
    for copy in now.placements:
        known = old.get(copy.host)
        event = _of_copy(now, copy)
        moved = known is None or known.state is not copy.state
        if moved or (event.kind is EventKind.FETCHING and event.percent != _of_copy(now, known or copy).percent):
            yield event
    yield from _left(before, now)
    if before is None or before.data.alive != now.data.alive:
        yield from _ended(now)


def _of_copy(reply: WhereReply, copy: PlacementView) -> Event:
    reason = copy.reason
    return Event(
        kind=EventKind(str(copy.state)),
        data=Uid(reply.data.uid),
        name=reply.data.name,
        at=copy.since,
        host=HostId(copy.host),
        host_name=copy.host_name,
        done=copy.done,
        size=copy.size,
        why=copy.cause if reason is None else ": ".join(part for part in (reason.message, reason.why) if part),
    )


def _left(before: WhereReply | None, now: WhereReply) -> Iterator[Event]:
    """Copies that are shown no more: they are gone."""
    shown = {one.host for one in now.placements}
    missing: Iterable[PlacementView] = () if before is None else before.placements
    for copy in missing:
        if copy.host not in shown and str(copy.state) != EventKind.GONE:
            yield Event(
                kind=EventKind.GONE,
                data=Uid(now.data.uid),
                name=now.data.name,
                at=copy.since,
                host=HostId(copy.host),
                host_name=copy.host_name,
                size=copy.size,
            )


def _ended(now: WhereReply) -> Iterator[Event]:
    datum = now.data
    if not datum.alive:
        at = datum.died or datum.created
        yield Event(EventKind.ENDED, Uid(datum.uid), datum.name, at, size=datum.size, why=datum.died_because)
