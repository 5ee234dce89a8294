"""Adding, showing and removing disks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bitdew.core.attribute import Attribute
from bitdew.core.clock import Clock
from bitdew.core.data import Data
from bitdew.core.errors import error
from bitdew.core.ids import ContentRoot, Uid, checked_name
from bitdew.trust.records import read_record
from bitdew.trust.roles import Role, Subject
from bitdew.wire.models import DiskRequest

from .data_store import DataStore, Disk, name_taken
from .repository import Repository, Upload


class Disks:
    """The catalog's disks. Whoever listens at `changed` is told each datum that is new, removed or damaged."""

    def __init__(self, store: DataStore, repository: Repository, ca: str, clock: Clock) -> None:
        self.store = store
        self.repository = repository
        self._ca = ca
        self._clock = clock
        self._checking: set[ContentRoot] = set()
        self.changed: Callable[[Uid], None] = lambda _uid: None

    async def open(self) -> None:
        """Seed what is stored; data whose file is gone or cut are marked damaged."""
        living = await self.store.living()
        damaged = set(await self.repository.open({(d.data.root, d.data.size) for d in living}))
        for root in {disk.data.root for disk in living}:
            if root in damaged:
                await self._mark(root, damaged=True)

    async def begin_upload(self, name: str, size: int) -> Upload:
        """Make room for a disk's bytes, once its name is known to be free.

        Raises:
            UserError: `disk.name-taken`, `disk.empty`; HostError: `storage.full`.
        """
        if await self.store.find(checked_name(name)) is not None:
            raise name_taken(name)
        return await self.repository.begin(name, size)

    async def add(self, request: DiskRequest, owner: Subject) -> Disk:
        """Make an upload a disk.

        Raises:
            UserError: `disk.signature`, `disk.changed`, `disk.name-taken`, `attribute.…`; the upload stays, so that the
                caller may correct what it asked.
        """
        upload = self.repository.upload(request.upload)
        if upload.content is None:
            raise error("input.invalid", f"Upload {upload.uid} has no bytes yet", do="Send them first.")
        signed, now = request.record.to_signed(), self._clock.now()
        attribute = Attribute.from_dict(request.attribute)
        record = await asyncio.to_thread(read_record, signed, ca=self._ca, now=now)
        content = upload.content
        if (record.root, record.size) != (content.root, content.size):
            why = "what was received is not what the publisher's record describes"
            raise error("disk.changed", f"The bytes of {record.name!r} changed on their way", why=why)
        if record.name != upload.name:
            raise error("disk.signature", "The record is another disk's", why=f"{record.name!r} is not {upload.name!r}")
        if await self.store.find(record.name) is not None:
            raise name_taken(record.name)
        metainfo = await self.repository.adopt(upload)
        if record.info_hash != metainfo.info_hash:
            raise error("disk.signature", "The record names another swarm", why=f"the swarm is {metainfo.info_hash}")
        data = Data(record.uid, record.name, content.root, content.size, content.piece_length, now, owner.subject_id)
        disk = Disk(data, metainfo.info_hash, attribute, alive=True, damaged=False, record=record, signed=signed)
        await self.store.add(disk)
        await self.repository.seed(metainfo)
        for uid in [data.uid, *await self.store.mark_damaged(content.root, damaged=False)]:
            self.changed(uid)
        return disk

    async def find(self, name: str) -> Disk:
        """The living disk of this name or uid.

        Raises:
            UserError: `data.not-found`.
        """
        disk = await self.store.find(name)
        if disk is None:
            raise error("data.not-found", f"There is no datum {name[:140]!r}", name=name[:140])
        return disk

    async def remove(self, name: str, caller: Subject) -> None:
        """End a disk's life: the repository frees its bytes, and hosts are ordered to drop their copies.

        Raises:
            UserError: `data.not-found`, `certificate.role` for whoever is neither its owner nor an operator.
        """
        disk = await self.find(name)
        if caller.role is not Role.OPERATOR and disk.data.owner != caller.subject_id:
            raise error("certificate.role", f"{name!r} is not yours to remove", why="only its owner or an operator may")
        await self.store.remove(disk.data.uid)
        if not await self.store.of_root(disk.data.root):
            await self.repository.delete(disk.data.root)
        self.changed(disk.data.uid)

    async def suspect(self, root: ContentRoot) -> None:
        """A host got a corrupt piece: read the repository's own copy, and stop seeding it if it is bad."""
        if root in self._checking:
            return
        self._checking.add(root)
        try:
            if not await self.repository.is_whole(root):
                await self.repository.withdraw(root)
                await self._mark(root, damaged=True)
        finally:
            self._checking.discard(root)

    async def _mark(self, root: ContentRoot, *, damaged: bool) -> None:
        for uid in await self.store.mark_damaged(root, damaged=damaged):
            self.changed(uid)
