"""Attributes and data as a developer uses them: define, create, put, follow, change, end.

Owns these calls and their order. Everything that decides is on the other side of the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Final

from bitdew.core.attribute import Attribute
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid, checked_name
from bitdew.wire import limits
from bitdew.wire import models as m

from .connection import GRACE, POLL, Connection, name_part
from .image import ImageFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from bitdew.core.content import Content

    Progress = Callable[[int, int], None]

BATCH_SECONDS: Final = 120.0
"""Seconds that the service may take for ten thousand data: many times what it takes."""
TAKE_BACK_SECONDS: Final = 5.0
"""Seconds for taking back a datum whose bytes could not be sent."""


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
        path: Path,
        name: str,
        attribute: Attribute | str | None = None,
        *,
        reading: Progress | None = None,
        sending: Progress | None = None,
    ) -> m.DataView:
        """Make the file at `path` a datum called `name`.

        The file is read to learn what it is, and then once more to be sent, unless the repository has its bytes
        already. A datum of this name and these bytes that awaits them gets them, and keeps its attribute.

        Args:
            path: Any regular file that is not empty.
            name: Unique among the data that are alive.
            attribute: What should be true of it, or the name of an attribute that is defined; one copy by default.
            reading: Called with the bytes identified and their total.
            sending: Called with the bytes sent and their total.

        What was begun is taken back if it fails or is cancelled.

        Raises:
            BitDewError: `disk.file-missing`, `disk.file-unreadable`, `disk.empty`, `disk.changed`, `disk.name-taken`,
                `storage.full`, `certificate.role`, `input.invalid`, `attribute.…`.
        """
        checked_name(name, "datum's name")
        choice = chosen(attribute)
        # Rather told before 20 GB are read than after.
        if isinstance(choice, str):
            await self.attribute(choice)
        await self._require_free(name)
        content = await _identified(path, reading)
        wanted = m.DatumRequest(name=name, root=content.root, size=content.size, attribute=choice)
        try:
            (uid,), ours = await self.create([wanted]), True
        except BitDewError as fault:
            if fault.key != "disk.name-taken":
                raise
            known = await self.datum(name)
            if not (known.awaited or known.damaged):
                raise
            if known.root != content.root:
                why = f"its root is {known.root[:16]}…, and the file's is {content.root[:16]}…"
                do = "Send the file that was announced, or choose another name."
                raise error("disk.changed", f"{path} is not what {name!r} waits for", why=why, do=do) from None
            uid, ours = Uid(known.uid), False
        datum = await self.datum(uid)
        if not datum.awaited and not datum.damaged:
            return datum
        try:
            await self._send_content(path, uid, content, sending)
        except BaseException:
            if ours:
                await self._take_back_datum(uid)
            raise
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

    async def explain(self, name: str) -> m.ExplainReply:
        """Why the datum's copies are where they are, and what happens next."""
        return await self._call("GET", f"/v1/data/{name_part(name)}/explain", m.ExplainReply)

    # Inside ---------------------------------------------------------------------------------------------------------

    async def _send_content(self, path: Path, uid: Uid, content: Content, progress: Progress | None) -> None:
        image = await asyncio.to_thread(ImageFile, path)
        try:
            if image.size != content.size:
                raise error("disk.changed", f"{path} changed while it was being added", why="its size changed")
            # No limit on the whole: 20 GB over a slow line take hours.
            target = f"/v1/data/{uid}/content"
            await self._call("PUT", target, m.UploadDone, body=image.chunks(progress), seconds=None)
        except BitDewError:
            if image.fault is not None:
                raise image.fault from None
            raise
        finally:
            await image.close()

    async def _require_free(self, name: str) -> None:
        """Refuse the name of a living datum that needs no bytes."""
        for known in (await self.page(name, limit=1)).data:
            if known.name == name and not known.awaited and not known.damaged:
                do = "Choose another name, or remove the old one: bitdew data rm"
                raise error("disk.name-taken", f"A datum named {name!r} is there already", do=do, name=name)

    async def _take_back_datum(self, uid: Uid) -> None:
        """Remove a datum that came to nothing; the reason why it did is what the caller hears of."""
        with contextlib.suppress(BitDewError):
            await self._call("DELETE", f"/v1/data/{uid}", m.Nothing, seconds=TAKE_BACK_SECONDS)


def chosen(attribute: Attribute | str | None) -> m.Choice:
    """`attribute` as it is sent."""
    return attribute if isinstance(attribute, str) else (attribute or Attribute()).to_dict()


async def _identified(path: Path, progress: Progress | None) -> Content:
    """What the file at `path` is."""
    image = await asyncio.to_thread(ImageFile, path)
    try:
        if image.size > limits.LARGEST_DISK:
            why = f"it has {image.size} bytes, and {limits.LARGEST_DISK} are allowed"
            raise error("input.too-large", f"{path} is too large for a datum", why=why)
        async with contextlib.aclosing(image.chunks(progress)) as chunks:
            async for _ in chunks:
                pass
        return await asyncio.to_thread(image.finish)
    finally:
        await image.close()
