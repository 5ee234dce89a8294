"""From an upload to a datum: what may be uploaded under a name, and what becomes of the bytes.

Owns these steps for their sender. The bytes on their way are `uploads`'s; what makes a datum a disk is `disks`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from bitdew.core.clock import Clock
from bitdew.core.content import Content, sampled
from bitdew.core.data import Data
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot, Uid, checked_name, new_uid
from bitdew.swarm.metainfo import build_metainfo
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
    WholeRequest,
)

from .attributes import Attributes
from .contents import Contents
from .data import DataRoom, require_same
from .data_store import DataStore, Datum, name_taken
from .upload_file import About
from .uploads import Upload, Uploads, received


class Publishing:
    """Uploads as their senders see them. Nobody sees, or goes on with, another's."""

    def __init__(
        self, store: DataStore, data: DataRoom, attributes: Attributes, contents: Contents, clock: Clock
    ) -> None:
        self._store = store
        self._data = data
        self._attributes = attributes
        self._contents = contents
        self._clock = clock

    async def begin(self, asked: UploadRequest, sender: Subject) -> UploadReply:
        """Make room for a datum's bytes, once its name is known to be free, or its datum to be in need of them.

        Raises:
            UserError: `disk.name-taken`, `disk.empty` for a disk of nothing, `disk.changed` if the datum of that name
                waits for bytes of another size, `certificate.role` if it is another's; `attribute.…`, for what would
                be refused after all the bytes have come. HostError: `storage.full`.
        """
        upload = await self._begun(asked, sender)
        return UploadReply(upload=upload.uid, held=await self._held(upload))

    async def whole(self, asked: WholeRequest, sender: Subject) -> Uid:
        """Make a small datum of bytes that came with their description; as an upload of them would be.

        Raises:
            BitDewError: as `begin` and `put`.
        """

        async def chunks() -> AsyncIterator[bytes]:
            yield asked.raw

        upload = await self._begun(UploadRequest(name=asked.name, size=len(asked.raw)), sender)
        try:
            await self._uploads.receive_all(upload.uid, chunks())
            told = PutRequest(kind=asked.kind, attribute=asked.attribute)
            return await self.put(upload.uid, told, sender, root=asked.root)
        except BaseException:
            await to_the_end(self._uploads.abandon(upload.uid))
            raise

    async def _begun(self, asked: UploadRequest, sender: Subject) -> Upload:
        name = checked_name(asked.name)
        if asked.disk and not asked.size:
            raise error("disk.empty", f"The file for {name!r} is empty", name=name)
        known = await self._store.find(name)
        if known is not None:
            await self._require_in_need(known, asked, sender)
        elif asked.attribute:
            await self._attributes.resolve(asked.attribute, sender.subject_id)
        about = About(sender.subject_id, name, asked.size, asked.fingerprint, min(asked.empty, asked.size))
        return await self._uploads.begin(about)

    async def _require_in_need(self, known: Datum, asked: UploadRequest, sender: Subject) -> None:
        if not known.damaged and (asked.disk or not known.awaited):
            raise name_taken(asked.name)
        if not asked.disk:
            await self._data.mine(known.data.uid, sender, "fill")
            if asked.size != known.data.size:
                why = f"it has {asked.size} bytes, and {known.data.size} are awaited"
                raise error("disk.changed", f"This is not what {asked.name!r} waits for", why=why)

    async def _held(self, upload: Upload) -> list[HeldContent]:
        """What the sender may find to have already; nothing, where it goes on with what it sent."""
        if not upload.untouched:
            return []
        positions = sampled(upload.size, limits.SAMPLES)
        found = self._contents.repository.of_size(upload.size, limits.HELD)
        # Another process may have freed some, and this one has not heard of it yet.
        async with self._contents.changing:
            there = await self._contents.held({(one.root, one.size) for one in found})
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
            content = self._contents.repository.give(upload, ContentRoot(said.root))
        else:
            content = await self._uploads.complete(upload.uid, said.root)
        return UploadDone(root=content.root, size=content.size)

    async def put(
        self, uid: str, asked: PutRequest, sender: Subject, *, owner: str | None = None, root: str | None = None
    ) -> Uid:
        """Make an upload a datum; or fill the one of its name that waits for these bytes, which keeps its wishes.

        Args:
            uid: The upload.
            asked: What is to be true of the datum.
            sender: Who sent the bytes.
            owner: Whose the datum is, if not the sender's.
            root: What the bytes must be, if that is known.

        Raises:
            UserError: `upload.not-found`, `input.invalid` before it is complete, `disk.changed`, `disk.name-taken`,
                `certificate.role`, `attribute.…`; the upload stays, so that the caller may correct what it asked.
        """
        async with self._attributes.linking, self._contents.changing:
            upload = self._uploads.upload(uid, sender.subject_id)
            content, known = received(upload), await self._store.find(upload.name)
            if root is not None and content.root != root:
                why = f"their root is {content.root[:16]}…, and {root[:16]}… was claimed"
                raise error("disk.changed", f"These are not the bytes of {upload.name!r}", why=why)
            if known is not None:
                if not known.awaited and not known.damaged:
                    raise name_taken(upload.name)
                require_same(await self._data.mine(known.data.uid, sender, "fill"), content)
                await to_the_end(self._contents.keep(upload))
                return known.data.uid
            datum = await self._described(upload, content, asked, owner or sender.subject_id)
            await to_the_end(self._contents.keep(upload, lambda: self._store.add(datum)))
        self._data.changed([datum.data.uid])
        return datum.data.uid

    async def _described(self, upload: Upload, content: Content, asked: PutRequest, owner: str) -> Datum:
        attribute, now = await self._attributes.resolve(asked.attribute, owner), self._clock.now()
        length = content.piece_length
        data = Data(new_uid(), upload.name, content.root, content.size, length, now, owner, asked.kind)
        info_hash = (await asyncio.to_thread(build_metainfo, content)).info_hash
        return Datum(data, info_hash, attribute, ends=attribute.ends(now))

    async def abandon(self, uid: str, sender: Subject) -> None:
        """Forget an upload, if it is there and the sender's."""
        try:
            upload = self._uploads.upload(uid, sender.subject_id)
        except BitDewError:
            return
        await self._uploads.abandon(upload.uid)

    @property
    def _uploads(self) -> Uploads:
        return self._contents.repository.uploads


def _samples(content: Content, positions: list[int]) -> bytes:
    if not content.piece_layer:
        return bytes.fromhex(content.root)
    return b"".join(content.piece_layer[32 * number : 32 * number + 32] for number in positions)
