"""Adding and finding disks: data with the signed record of their publisher."""

from __future__ import annotations

import asyncio

from bitdew.core.clock import Clock
from bitdew.core.content import Content
from bitdew.core.data import Data, ImageRecord
from bitdew.core.errors import error
from bitdew.core.ids import checked_name
from bitdew.swarm.metainfo import build_metainfo
from bitdew.trust.records import read_record
from bitdew.trust.roles import Subject
from bitdew.wire.models import Choice, DiskRequest

from .attributes import Attributes
from .contents import Contents, received
from .data import DataRoom
from .data_store import DataStore, Disk, name_taken
from .repository import Repository, Upload


class Disks:
    """The catalog's disks."""

    def __init__(
        self, store: DataStore, data: DataRoom, attributes: Attributes, contents: Contents, ca: str, clock: Clock
    ) -> None:
        self._store = store
        self._data = data
        self._attributes = attributes
        self._contents = contents
        self._ca = ca
        self._clock = clock

    @property
    def repository(self) -> Repository:
        """Where the bytes are."""
        return self._contents.repository

    async def begin_upload(self, name: str, size: int, attribute: Choice | None = None, owner: str = "") -> Upload:
        """Make room for a disk's bytes, once its name is known to be free, or its disk to be in need of them.

        Raises:
            UserError: `disk.name-taken`, `disk.empty`; `attribute.…`, for what `add` would refuse after all the bytes
                have come. HostError: `storage.full`.
        """
        known = await self._store.find(checked_name(name))
        if known is not None and not known.damaged:
            raise name_taken(name)
        if attribute:
            await self._attributes.resolve(attribute, owner)
        return await self.repository.begin(name, size)

    async def add(self, request: DiskRequest, owner: Subject) -> Disk:
        """Make an upload a disk; or mend the damaged disk of that name, which keeps its own record and wishes.

        Raises:
            UserError: `disk.signature`, `disk.changed`, `disk.name-taken`, `attribute.…`; the upload stays, so that the
                caller may correct what it asked.
        """
        signed, now = request.record.to_signed(), self._clock.now()
        record = await asyncio.to_thread(read_record, signed, ca=self._ca, now=now)
        async with self._attributes.linking, self._contents.changing:
            upload = self.repository.upload(request.upload)
            content = received(upload)
            info_hash = build_metainfo(content).info_hash
            _check_record(record, upload, content, info_hash)
            known = await self._store.find(record.name)
            if known is not None:
                if known.data.root != content.root or not known.damaged:
                    raise name_taken(record.name)
                await self._contents.keep(upload)
                return await self.find(record.name)
            if await self._store.find(record.uid) is not None or await self._store.get([record.uid]):
                why = "each datum has a record of its own, and this one's uid is taken"
                raise error("disk.signature", f"The record of {record.name!r} was used before", why=why)
            attribute = await self._attributes.resolve(request.attribute, owner.subject_id)
            root, length, who = content.root, content.piece_length, owner.subject_id
            data = Data(record.uid, record.name, root, content.size, length, now, who)
            disk = Disk(data, info_hash, attribute, ends=attribute.ends(now), record=record, signed=signed)
            await self._contents.keep(upload, lambda: self._store.add(disk))
        self._data.changed([data.uid])
        return disk

    async def find(self, name: str) -> Disk:
        """The living disk of this name or uid.

        Raises:
            UserError: `data.not-found`, also for a datum that is no disk.
        """
        found = await self._data.living(name)
        if not isinstance(found, Disk):
            why = "it is a datum without a publisher's record"
            raise error("data.not-found", f"{name[:140]!r} is no disk", why=why, name=name[:140])
        return found

    async def remove(self, name: str, caller: Subject) -> None:
        """End a disk's life.

        Raises:
            UserError: `data.not-found`, `certificate.role` for whoever is neither its owner nor an operator.
        """
        await self._data.remove((await self.find(name)).data.uid, caller)


def _check_record(record: ImageRecord, upload: Upload, content: Content, info_hash: str) -> None:
    """Refuse a record that does not describe what was received."""
    if (record.root, record.size) != (content.root, content.size):
        why = "what was received is not what the publisher's record describes"
        raise error("disk.changed", f"The bytes of {record.name!r} changed on their way", why=why)
    if record.name != upload.name:
        raise error("disk.signature", "The record is another disk's", why=f"{record.name!r} is not {upload.name!r}")
    if record.info_hash != info_hash:
        raise error("disk.signature", "The record names another swarm", why=f"the swarm is {info_hash}")
