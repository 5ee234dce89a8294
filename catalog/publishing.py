"""From an upload to a datum: what may be uploaded under a name, and what becomes of the bytes.

Owns these steps for their sender. The bytes on their way are `uploads`'s; what makes a datum a disk is `disks`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime

from bitdew.core.content import Content, sampled
from bitdew.core.data import Data, Kind
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot, Uid, checked_name, new_uid
from bitdew.swarm.metainfo import Metainfo, build_metainfo
from bitdew.tasks import to_the_end
from bitdew.trust.roles import Subject
from bitdew.wire import limits
from bitdew.wire.models import (
    CompleteRequest,
    HeldContent,
    PartDone,
    PutRequest,
    UploadDone,
    UploadReply,
    UploadRequest,
    UploadView,
)

from .attribute_store import AttributeRecord
from .data import require_same
from .data_store import Beside, Datum, name_taken
from .holdings import Holdings
from .upload_file import About
from .uploads import Upload, Uploads, received


class Publishing:
    """Uploads as their senders see them. Nobody sees, or goes on with, another's."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    async def begin(self, asked: UploadRequest, sender: Subject) -> UploadReply:
        """Make room for a datum's bytes, once its name is known to be free, or its datum to be in need of them.

        Raises:
            UserError: `disk.name-taken`, `disk.empty` for a disk of nothing, `disk.changed` if the datum of that name
                waits for bytes of another size, `certificate.role` if it is another's; `attribute.…`, for what would
                be refused after all the bytes have come. HostError: `storage.full`.
        """
        name = checked_name(asked.name)
        if asked.disk and not asked.size:
            raise error("disk.empty", f"The file for {name!r} is empty", name=name)
        known = await self._holdings.store.find(name)
        if known is not None:
            await self._require_in_need(known, asked, sender)
        elif asked.attribute:
            await self._holdings.attributes.resolve(asked.attribute, sender.subject_id)
        about = About(sender.subject_id, name, asked.size, asked.fingerprint, min(asked.empty, asked.size))
        upload = await self._uploads.begin(about)
        return UploadReply(upload=upload.uid, held=await self._held(upload))

    async def _require_in_need(self, known: Datum, asked: UploadRequest, sender: Subject) -> None:
        if not known.damaged and (asked.disk or not known.awaited):
            raise name_taken(asked.name)
        if not asked.disk:
            await self._holdings.data.mine(known.data.uid, sender, "fill")
            if asked.size != known.data.size:
                why = f"it has {asked.size} bytes, and {known.data.size} are awaited"
                raise error("disk.changed", f"This is not what {asked.name!r} waits for", why=why)

    async def _held(self, upload: Upload) -> list[HeldContent]:
        """What the sender may find to have already; nothing, where it goes on with what it sent."""
        if not upload.untouched:
            return []
        positions = sampled(upload.size, limits.SAMPLES)
        found = self._holdings.contents.repository.of_size(upload.size, limits.HELD)
        # Another process may have freed some, and this one has not heard of it yet.
        async with self._holdings.contents.changing:
            there = await self._holdings.contents.held({(one.root, one.size) for one in found})
        chosen = [one for one in found if (one.root, one.size) in there]
        return [HeldContent(root=one.root, samples=_samples(one, positions)) for one in chosen]

    async def receive(
        self, uid: str, offset: int | None, chunks: AsyncIterator[bytes], sender: Subject
    ) -> PartDone | UploadDone:
        """Take in the part that begins at `offset`; without one, all of it at once.

        Raises:
            BitDewError: as `Uploads.receive` and `Uploads.receive_all`.
        """
        upload = self._uploads.upload(uid, sender.subject_id)
        if offset is not None:
            return PartDone(there=await self._uploads.receive(upload.uid, offset, chunks))
        content = await self._uploads.receive_all(upload.uid, chunks)
        return UploadDone(root=content.root, size=content.size)

    def promised(self, sender: Subject, *, but: str) -> int:
        """Bytes of the sender's uploads under way, but of the one called `but`."""
        return self._uploads.promised(sender.subject_id, but=but)

    def show(self, uid: str, sender: Subject) -> UploadView:
        """What of an upload is there, and stays. Raises UserError `upload.not-found`."""
        upload = self._uploads.upload(uid, sender.subject_id)
        return UploadView(upload=upload.uid, name=upload.name, size=upload.size, there=upload.there())

    async def complete(self, uid: str, said: CompleteRequest, sender: Subject) -> UploadDone:
        """All was sent, or is there already.

        Raises:
            UserError: `upload.not-found`, `disk.changed`; `data.not-found`, if it is not there, against what the sender
                believes. HostError: `storage.full`, `storage.failed`.
        """
        upload = self._uploads.upload(uid, sender.subject_id)
        if said.held:
            content = self._holdings.contents.repository.give(upload, ContentRoot(said.root))
        else:
            content = await self._uploads.complete(upload.uid, said.root)
        return UploadDone(root=content.root, size=content.size)

    async def put(
        self,
        uid: str,
        asked: PutRequest,
        sender: Subject,
        *,
        owner: str | None = None,
        root: str | None = None,
        beside: Callable[[Uid], Beside] | None = None,
        for_jobs: bool = False,
    ) -> Uid:
        """Make an upload a datum; or fill the one of its name that waits for these bytes, which keeps its wishes.

        Args:
            uid: The upload.
            asked: What is to be true of the datum.
            sender: Who sent the bytes.
            owner: Whose the datum is, if not the sender's.
            root: What the bytes must be, if that is known.
            beside: What is to be stored of a new datum in the same moment. If it refuses, nothing is.
            for_jobs: Whether it is for jobs of the sender's own.

        Raises:
            UserError: `upload.not-found`, `input.invalid` before it is complete, `disk.changed`, `disk.name-taken`,
                `certificate.role`, `attribute.…`; the upload stays, so that the caller may correct what it asked.
        """
        async with self._holdings.attributes.linking, self._holdings.contents.changing:
            upload = self._uploads.upload(uid, sender.subject_id)
            content, known = received(upload), await self._holdings.store.find(upload.name)
            if root is not None and content.root != root:
                raise not_claimed(upload.name, content, root)
            if known is not None:
                if not known.awaited and not known.damaged:
                    raise name_taken(upload.name)
                require_same(await self._holdings.data.mine(known.data.uid, sender, "fill"), content)
                await to_the_end(self._holdings.contents.keep(upload))
                return known.data.uid
            who, now = owner or sender.subject_id, self._holdings.clock.now()
            attribute = await self._holdings.attributes.resolve(asked.attribute, who)
            metainfo = await asyncio.to_thread(build_metainfo, content)
            datum = replace(new_datum(upload.name, metainfo, asked.kind, attribute, who, now), for_jobs=for_jobs)
            also = beside(datum.data.uid) if beside is not None else None
            await to_the_end(self._holdings.contents.keep(upload, datum, beside=also))
        self._holdings.data.changed([datum.data.uid])
        return datum.data.uid

    def under_way(self) -> list[Upload]:
        """All that somebody is sending, or may go on with."""
        return [self._uploads.upload(uid) for uid in self._uploads.under_way]

    async def give_up(self, upload: Upload) -> None:
        """Forget an upload that nobody wants, also while it comes."""
        await self._uploads.abandon(upload.uid)

    async def abandon(self, uid: str, sender: Subject) -> None:
        """Forget an upload, if it is there and the sender's."""
        try:
            upload = self._uploads.upload(uid, sender.subject_id)
        except BitDewError:
            return
        await self._uploads.abandon(upload.uid)

    @property
    def _uploads(self) -> Uploads:
        return self._holdings.contents.repository.uploads


def new_datum(
    name: str, metainfo: Metainfo, kind: Kind, attribute: AttributeRecord, owner: str, now: datetime
) -> Datum:
    """A datum that is made of bytes which are here."""
    content = metainfo.content
    data = Data(new_uid(), name, content.root, content.size, content.piece_length, now, owner, kind)
    return Datum(data, metainfo.info_hash, attribute, ends=attribute.ends(now))


def not_claimed(name: str, content: Content, root: str) -> BitDewError:
    """The error for bytes that are `content`, and were said to be `root`."""
    why = f"their root is {content.root[:16]}…, and {root[:16]}… was claimed"
    return error("disk.changed", f"These are not the bytes of {name!r}", why=why)


def _samples(content: Content, positions: list[int]) -> bytes:
    if not content.piece_layer:
        return bytes.fromhex(content.root)
    return b"".join(content.piece_layer[32 * number : 32 * number + 32] for number in positions)
