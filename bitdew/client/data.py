"""Attributes and data as a developer uses them: define, create, put, follow, change, end.

Owns these calls and their order. Everything that decides is on the other side of the wire.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bitdew.core.attribute import Attribute
from bitdew.core.data import Kind
from bitdew.core.ids import Uid, checked_name
from bitdew.wire import limits
from bitdew.wire import models as m

from .connection import ADOPT_SECONDS, GRACE, POLL, Connection, name_part
from .folder import FolderSource
from .image import FileSource
from .upload import uploaded
from .whole import is_small, put_whole

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
    from typing import Any

    from .source import ByteSource

    Progress = Callable[[int, int], None]

BATCH_SECONDS: Final = 120.0
"""Seconds that the service may take for ten thousand data: many times what it takes."""


class DataCalls(Connection):
    """The part of `BitDew` that is about attributes and data."""

    # Attributes -----------------------------------------------------------------------------------------------------

    async def define(
        self, name: str, attribute: Attribute | Mapping[str, Any], *, replace: bool = True
    ) -> m.AttributeView:
        """Keep wishes under a name. With `replace`, one that has the name already gets them, and so do all its data.

        Raises:
            BitDewError: `attribute.invalid`, `attribute.dangling`, `attribute.circular`, `attribute.name-taken`,
                `certificate.role`.
        """
        wishes = attribute.to_dict() if isinstance(attribute, Attribute) else dict(attribute)
        request = m.AttributeRequest(wishes=wishes, replace=replace)
        return await self._call("PUT", f"/v1/attributes/{name_part(name)}", m.AttributeView, body=request)

    async def attributes(self) -> list[m.AttributeView]:
        """All attributes that have a name."""
        return (await self._call("GET", "/v1/attributes", m.AttributeList)).attributes

    async def attribute(self, name: str) -> m.AttributeView:
        """One attribute, by name or uid. Raises UserError `attribute.not-found`."""
        return await self._call("GET", f"/v1/attributes/{name_part(name)}", m.AttributeView)

    async def forget(self, name: str) -> None:
        """Remove an attribute that no datum has. Raises UserError `attribute.not-found`, `attribute.in-use`."""
        await self._call("DELETE", f"/v1/attributes/{name_part(name)}", m.Nothing)

    # Data -----------------------------------------------------------------------------------------------------------

    async def create(self, data: Iterable[m.DatumRequest]) -> list[Uid]:
        """Create data whose bytes come later, or lie in the repository already; their uids in the same order.

        They go in batches of ten thousand: all of a batch are created, or none.

        Raises:
            BitDewError: `disk.name-taken`, `disk.empty`, `attribute.…`, `certificate.role`.
        """
        made: list[Uid] = []
        rest = iter(data)
        while batch := list(itertools.islice(rest, limits.BATCH)):
            request = m.DataRequest(data=batch)
            reply = await self._call("POST", "/v1/data", m.DataCreated, body=request, seconds=BATCH_SECONDS)
            made += map(Uid, reply.uids)
        return made

    async def put(
        self,
        path: Path | ByteSource,
        name: str,
        attribute: Attribute | str | None = None,
        *,
        reading: Progress | None = None,
        sending: Progress | None = None,
    ) -> m.DataView:
        """Make the file or the folder at `path` a datum called `name`.

        It is read once, and identified while it is sent. Only where the repository has something of this very
        size that looks like it, it is identified first, and nothing is sent if it is the same. What is small, of
        512 KiB at most, goes in one request. A datum of this name and these bytes that awaits them gets them, and keeps
        its attribute.

        Args:
            path: Any regular file, which may be empty; or a folder, which travels as one archive; or other bytes.
            name: Unique among the data that are alive.
            attribute: What should be true of it, or the name of an attribute that is defined; one copy by default.
            reading: Called with the bytes identified and their total, where that is done first.
            sending: Called with the bytes that are through, sent or not, and their total.

        What fails is taken back. What was cancelled, or lost the service for longer than `patience`, stays in the
        repository for an hour: the same call, if nothing changed, goes on where it stopped.

        Raises:
            BitDewError: `disk.file-missing`, `disk.file-unreadable`, `disk.changed`, `disk.name-taken`,
                `storage.full`, `certificate.role`, `input.invalid`, `attribute.…`.
        """
        checked_name(name, "datum's name")
        choice, source = chosen(attribute), await asyncio.to_thread(_source_of, path)
        kind = Kind.FOLDER if isinstance(source, FolderSource) else Kind.FILE
        if is_small(source):
            view = await put_whole(self, source, name, choice, kind, waiting=not isinstance(path, Path))
            if sending is not None:
                sending(view.size, view.size)
            return view
        async with uploaded(
            self._call,
            source,
            name,
            choice,
            disk=False,
            reading=reading,
            sending=sending,
            patience=self.patience,
        ) as upload:
            target, request = f"/v1/uploads/{upload.uid}/datum", m.PutRequest(kind=kind, attribute=choice)

            async def ask() -> str:
                made = await self._call("POST", target, m.DataCreated, body=request, seconds=ADOPT_SECONDS)
                return made.uids[0]

            async def made() -> str | None:
                there = await self.datum(name)
                return there.uid if there.root == upload.content.root and not there.awaited else None

            uid = await upload.adopted(ask, made)
        return await self.datum(uid)

    async def page(self, prefix: str = "", after: str = "", limit: int | None = None) -> m.DataList:
        """Living data whose names begin with `prefix`, by name, those after `after`: at most `limit`, or a page."""
        query = {"prefix": prefix, "after": after, "limit": str(limit or limits.PAGE)}
        return await self._call("GET", "/v1/data", m.DataList, query={k: v for k, v in query.items() if v})

    async def data(self, prefix: str = "") -> AsyncGenerator[m.DataView]:
        """All living data whose names begin with `prefix`, by name, page by page."""
        after: str | None = ""
        while after is not None:
            reply = await self.page(prefix, after)
            for one in reply.data:
                yield one
            after = reply.next

    async def datum(self, name: str) -> m.DataView:
        """One datum, by name or uid; a disk is a `DiskView`. Raises UserError `data.not-found`."""
        return (await self._call("GET", f"/v1/data/{name_part(name)}", m.AnyDatum)).root

    async def choose(self, name: str, attribute: Attribute | str) -> m.AttributeView:
        """Give a datum another attribute.

        Raises:
            BitDewError: `data.not-found`, `certificate.role`, `attribute.…`.
        """
        body = m.AttributeChoice(attribute=chosen(attribute))
        return await self._call("PUT", f"/v1/data/{name_part(name)}/attribute", m.AttributeView, body=body)

    async def remove(self, name: str) -> None:
        """End a datum's life everywhere. Raises UserError `data.not-found`."""
        await self._call("DELETE", f"/v1/data/{name_part(name)}", m.Nothing)

    async def where(self, name: str, since: int = -1, wait: float = 0.0) -> m.WhereReply:
        """Where the datum's copies are; with `since`, held open until that version is past, `wait` seconds at most."""
        query = {"wait": f"{wait:g}"} | ({"since": str(since)} if since >= 0 else {})
        path = f"/v1/data/{name_part(name)}/where"
        return await self._call("GET", path, m.WhereReply, query=query, seconds=wait + GRACE)

    async def watch(self, name: str) -> AsyncGenerator[m.WhereReply]:
        """Where the datum's copies are, now and after each change, without end."""
        reply = await self.where(name)
        yield reply
        while True:
            version = reply.version
            reply = await self.where(name, since=version, wait=POLL)
            if reply.version != version:
                yield reply

    async def events(
        self,
        after: str = "",
        *,
        data: str = "",
        attribute: str = "",
        kinds: Iterable[str] = (),
        limit: int | None = None,
        wait: float = 0.0,
    ) -> m.EventsReply:
        """A page of the log of events: what happened to data and to their copies, in order.

        Args:
            after: Where to begin: what `next` said; "" for the oldest event that is kept; "now" for the newest place.
            data: Only of this datum, by name or uid.
            attribute: Only of data that have this attribute, by name or uid.
            kinds: Only these.
            limit: The most events; a page at most.
            wait: Seconds for which the reply is held open while there is nothing.

        Raises:
            UserError: `input.invalid`, `data.not-found`, `attribute.not-found`.
        """
        asked = {"after": after, "data": data, "attribute": attribute, "kinds": ",".join(kinds)}
        query = {key: value for key, value in asked.items() if value}
        query |= {"limit": str(limit or limits.PAGE), "wait": f"{wait:g}"}
        return await self._call("GET", "/v1/events", m.EventsReply, query=query, seconds=wait + GRACE)

    async def explain(self, name: str) -> m.ExplainReply:
        """Why the datum's copies are where they are, and what happens next."""
        return await self._call("GET", f"/v1/data/{name_part(name)}/explain", m.ExplainReply)


def chosen(attribute: Attribute | str | None) -> m.Choice:
    """`attribute` as it is sent."""
    return attribute if isinstance(attribute, str) else (attribute or Attribute()).to_dict()


def _source_of(path: Path | ByteSource) -> ByteSource:
    """What lies at `path`, opened."""
    if not isinstance(path, Path):
        return path
    return FolderSource(path) if path.is_dir() else FileSource(path)
