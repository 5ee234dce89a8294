"""The log of events as programs read it: a page at a time, held open until there is something.

Owns the wait for what comes next. What is written stands in the catalog's log.
"""

from __future__ import annotations

from bitdew.core.errors import error
from bitdew.trust.roles import Role, Subject
from bitdew.wire.models import EventsReply, EventView

from ..catalog.data import DataRoom
from ..catalog.events import TOPIC, Cursor, EventLog, Filter, Logged
from .known import Known

KINDS = frozenset(EventView.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]


class Telling:
    """Answers what happened since."""

    def __init__(self, known: Known, data: DataRoom) -> None:
        self._known = known
        self._data = data
        self._log = EventLog(known.database)

    async def events(
        self, after: str, caller: Subject, *, data: str, attribute: str, kinds: str, limit: int, seconds: float
    ) -> EventsReply:
        """What happened after a cursor, held open until there is something, `seconds` at most.

        Args:
            after: A cursor; "" for the oldest event that is kept, "now" for the place behind the newest.
            caller: Who asks.
            data: Only of this datum, by name or uid; "" for all.
            attribute: Only of data that have this attribute, by name or uid; "" for all.
            kinds: Only these kinds, with commas between them; "" for all.
            limit: The most events of one page.
            seconds: How long to wait.

        Raises:
            UserError: `input.invalid`, `data.not-found`, `attribute.not-found`.
        """
        wanted = await self._filter(data, attribute, kinds, caller)
        if after == "now":
            return EventsReply(events=[], next=str(await self._log.newest()))
        cursor = Cursor.parse(after) if after else None
        until = self._known.clock.monotonic() + seconds
        while True:
            version = self._known.changes.version(TOPIC)
            page = await self._log.page(cursor, wanted, limit)
            if not (page.events or page.missed or page.more):
                cursor = page.next
                left = until - self._known.clock.monotonic()
                if await self._known.changes.wait(TOPIC, version, left):
                    continue
            events = [self._view(one) for one in page.events]
            return EventsReply(events=events, next=str(page.next), missed=page.missed)

    async def _filter(self, data: str, attribute: str, kinds: str, caller: Subject) -> Filter:
        asked = frozenset(filter(None, kinds.split(",")))
        if unknown := sorted(asked - KINDS):
            do = f"The kinds of events are {', '.join(sorted(KINDS))}."
            raise error("input.invalid", f"There are no events {unknown[0][:60]!r}", do=do)
        uid = (await self._data.shown(data, caller)).data.uid if data else None
        named = await self._log.attribute(attribute) if attribute else None
        if attribute and named is None:
            raise error("attribute.not-found", f"There is no attribute {attribute[:140]!r}", name=attribute[:140])
        viewer = None if caller.role is Role.OPERATOR else caller.subject_id
        return Filter(viewer, uid, named, asked)

    def _view(self, one: Logged) -> EventView:
        return EventView(
            cursor=str(one.cursor),
            kind=one.kind,  # type: ignore[arg-type]
            data=one.data,
            name=one.name,
            size=one.size,
            at=one.at,
            host=one.host,
            host_name="" if one.host is None else self._known.hosts.name(one.host),
            why=one.why,
        )
