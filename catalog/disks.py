"""Adding and finding disks: data with the signed record of their publisher."""

from __future__ import annotations

import asyncio

from bitdew.core.content import Content, piece_length_for
from bitdew.core.data import Data, ImageRecord
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot, Uid, checked_name
from bitdew.swarm.metainfo import build_metainfo
from bitdew.trust.records import read_record
from bitdew.trust.roles import Subject
from bitdew.wire.models import DescribedDiskRequest, DiskRequest

from .data_store import Disk, name_taken
from .holdings import Holdings
from .repository import Repository
from .uploads import Upload, received


class Disks:
    """The catalog's disks."""

    def __init__(self, holdings: Holdings, ca: str) -> None:
        self._holdings = holdings
        self._ca = ca

    @property
    def repository(self) -> Repository:
        """Where the bytes are."""
        return self._holdings.contents.repository

    def damage_of(self, root: ContentRoot) -> BitDewError | None:
        """Why the repository's copy is bad, if it is and this process knows."""
        return self._holdings.contents.fault_of(root)

    async def add(self, request: DiskRequest, owner: Subject) -> Disk:
        """Make an upload a disk; or mend the damaged disk of that name, which keeps its own record and wishes.

        Raises:
            UserError: `disk.signature`, `disk.changed`, `disk.name-taken`, `attribute.…`; the upload stays, so that the
                caller may correct what it asked.
        """
        signed, now = request.record.to_signed(), self._holdings.clock.now()
        record = await asyncio.to_thread(read_record, signed, ca=self._ca, now=now)
        async with self._holdings.attributes.linking, self._holdings.contents.changing:
            upload = self.repository.uploads.upload(request.upload)
            content = received(upload)
            info_hash = build_metainfo(content).info_hash
            _check_record(record, upload, content, info_hash)
            known = await self._holdings.store.find(record.name)
            if known is not None:
                if known.data.root != content.root or not known.damaged:
                    raise name_taken(record.name)
                await self._holdings.contents.keep(upload)
                return await self.find(record.name)
            await self._require_unused(record)
            attribute = await self._holdings.attributes.resolve(request.attribute, owner.subject_id)
            root, length, who = content.root, content.piece_length, owner.subject_id
            data = Data(record.uid, record.name, root, content.size, length, now, who)
            disk = Disk(data, info_hash, attribute, ends=attribute.ends(now), record=record, signed=signed)
            await self._holdings.contents.keep(upload, disk)
        self._holdings.data.changed([data.uid])
        return disk

    async def describe(self, request: DescribedDiskRequest, owner: Subject) -> Uid:
        """Make a disk of which only the record is here: its publisher will offer the bytes.

        Raises:
            UserError: `disk.signature`, `disk.name-taken`, `disk.empty`, `attribute.…`.
        """
        signed, now = request.record.to_signed(), self._holdings.clock.now()
        record = await asyncio.to_thread(read_record, signed, ca=self._ca, now=now)
        checked_name(record.name, "disk's name")
        if record.size < 1:
            raise error("disk.empty", f"The file for {record.name!r} is empty", name=record.name)
        root, length, who = record.root, piece_length_for(record.size), owner.subject_id
        _check_swarm(record, build_metainfo(Content(root, record.size, length, b"")).info_hash)
        async with self._holdings.attributes.linking, self._holdings.contents.changing:
            if await self._holdings.store.find(record.name) is not None:
                raise name_taken(record.name)
            await self._require_unused(record)
            attribute = await self._holdings.attributes.resolve(request.attribute, who)
            data = Data(record.uid, record.name, root, record.size, length, now, who)
            awaited = not await self._holdings.contents.held({(root, record.size)})
            ends = attribute.ends(now)
            info_hash = record.info_hash
            await self._holdings.store.add(
                Disk(data, info_hash, attribute, awaited=awaited, ends=ends, record=record, signed=signed)
            )
        self._holdings.data.changed([data.uid])
        return data.uid

    async def _require_unused(self, record: ImageRecord) -> None:
        if await self._holdings.store.find(record.uid) is not None or await self._holdings.store.get([record.uid]):
            why = "each datum has a record of its own, and this one's uid is taken"
            raise error("disk.signature", f"The record of {record.name!r} was used before", why=why)

    async def find(self, name: str) -> Disk:
        """The living disk of this name or uid.

        Raises:
            UserError: `data.not-found`, also for a datum that is no disk.
        """
        found = await self._holdings.data.living(name)
        if not isinstance(found, Disk):
            why = "it is a datum without a publisher's record"
            raise error("data.not-found", f"{name[:140]!r} is no disk", why=why, name=name[:140])
        return found

    async def deprecate(self, name: str, why: str, caller: Subject) -> Disk:
        """Say why no more machines are to run from a disk; "" takes that back. Those that run go on.

        Raises:
            UserError: `data.not-found`, `certificate.role` for whoever is neither its owner nor an operator.
        """
        uid = (await self._holdings.data.mine((await self.find(name)).data.uid, caller, "deprecate")).data.uid
        await self._holdings.store.deprecate([uid], why)
        self._holdings.data.changed([uid])
        return await self.find(uid)

    async def shut_out(self, subject_id: str) -> None:
        """A certificate was revoked: if it was a publisher's, nothing is launched from its disks any more."""
        theirs = [
            one for one in await self._holdings.store.disks() if one.data.owner == subject_id and not one.deprecated
        ]
        if theirs:
            uids = [one.data.uid for one in theirs]
            await self._holdings.store.deprecate(uids, f"its publisher {theirs[0].record.publisher} was shut out")
            self._holdings.data.changed(uids)

    async def remove(self, name: str, caller: Subject) -> None:
        """End a disk's life.

        Raises:
            UserError: `data.not-found`, `certificate.role` for whoever is neither its owner nor an operator.
        """
        await self._holdings.data.remove((await self.find(name)).data.uid, caller)


def _check_record(record: ImageRecord, upload: Upload, content: Content, info_hash: str) -> None:
    """Refuse a record that does not describe what was received."""
    if (record.root, record.size) != (content.root, content.size):
        why = "what was received is not what the publisher's record describes"
        raise error("disk.changed", f"The bytes of {record.name!r} changed on their way", why=why)
    if record.name != upload.name:
        raise error("disk.signature", "The record is another disk's", why=f"{record.name!r} is not {upload.name!r}")
    _check_swarm(record, info_hash)


def _check_swarm(record: ImageRecord, info_hash: str) -> None:
    if record.info_hash != info_hash:
        raise error("disk.signature", "The record names another swarm", why=f"the swarm is {info_hash}")
