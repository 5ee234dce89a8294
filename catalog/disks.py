"""Adding, showing and removing disks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from bitdew.core.attribute import Attribute
from bitdew.core.clock import Clock
from bitdew.core.content import Content
from bitdew.core.data import Data, ImageRecord
from bitdew.core.errors import error
from bitdew.core.ids import ContentRoot, Uid, checked_name
from bitdew.swarm.metainfo import build_metainfo
from bitdew.tasks import to_the_end
from bitdew.trust.records import read_record
from bitdew.trust.roles import Role, Subject
from bitdew.wire.models import DiskRequest

from .data_store import DataStore, Disk, name_taken
from .repository import Repository, Upload

log = structlog.get_logger(__name__)


class Disks:
    """The catalog's disks. Whoever listens at `changed` is told each datum that is new, removed or damaged."""

    def __init__(self, store: DataStore, repository: Repository, ca: str, clock: Clock) -> None:
        self.store = store
        self.repository = repository
        self._ca = ca
        self._clock = clock
        self._suspected: dict[ContentRoot, None] = {}
        self._suspicion = asyncio.Event()
        # Held while a file and what is stored about it change together: the same bytes may come and go at once.
        self._changing = asyncio.Lock()
        self.changed: Callable[[Uid], None] = lambda _uid: None

    async def open(self) -> None:
        """Seed what is stored; data whose file is gone or cut are marked damaged."""
        living = await self.store.living()
        known = {(d.data.root, d.data.size): not d.damaged for d in living}
        damaged = set(await self.repository.open(known))
        # A stop between the end of a datum and the freeing of its bytes: nothing else refers to them.
        for root in await self.store.removed_roots() - {d.data.root for d in living}:
            await self.repository.delete(root)
        for root in {disk.data.root for disk in living}:
            if root in damaged:
                await self._mark(root, damaged=True)

    async def begin_upload(self, name: str, size: int) -> Upload:
        """Make room for a disk's bytes, once its name is known to be free, or its disk to be in need of them.

        Raises:
            UserError: `disk.name-taken`, `disk.empty`; HostError: `storage.full`.
        """
        known = await self.store.find(checked_name(name))
        if known is not None and not known.damaged:
            raise name_taken(name)
        return await self.repository.begin(name, size)

    async def add(self, request: DiskRequest, owner: Subject) -> Disk:
        """Make an upload a disk; or mend the damaged disk of that name, which keeps its own record and wishes.

        Raises:
            UserError: `disk.signature`, `disk.changed`, `disk.name-taken`, `attribute.…`; the upload stays, so that the
                caller may correct what it asked.
        """
        signed, now = request.record.to_signed(), self._clock.now()
        attribute = Attribute.from_dict(request.attribute)
        record = await asyncio.to_thread(read_record, signed, ca=self._ca, now=now)
        async with self._changing:
            upload = self.repository.upload(request.upload)
            content = _received(upload)
            info_hash = build_metainfo(content).info_hash
            _check_record(record, upload, content, info_hash)
            known = await self.store.find(record.name)
            if known is not None:
                if known.data.root != content.root or not known.damaged:
                    raise name_taken(record.name)
                await self.repository.seed(await self.repository.adopt(upload))
                mended = await self.store.mark_damaged(content.root, damaged=False)
                self._tell(mended)
                return await self.find(record.name)
            if await self.store.find(record.uid) is not None or await self.store.get([record.uid]):
                why = "each datum has a record of its own, and this one's uid is taken"
                raise error("disk.signature", f"The record of {record.name!r} was used before", why=why)
            root, length, who = content.root, content.piece_length, owner.subject_id
            data = Data(record.uid, record.name, root, content.size, length, now, who)
            disk = Disk(data, info_hash, attribute, alive=True, damaged=False, record=record, signed=signed)
            metainfo = await self.repository.adopt(upload)
            await self.store.add(disk)
            await self.repository.seed(metainfo)
            mended = await self.store.mark_damaged(root, damaged=False)
        self._tell([data.uid, *mended])
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
        async with self._changing:
            await self.store.remove(disk.data.uid)
            if not await self.store.of_root(disk.data.root):
                await self.repository.delete(disk.data.root)
        self.changed(disk.data.uid)

    def suspect(self, root: ContentRoot) -> None:
        """A host got a corrupt piece: the repository's own copy is to be read, soon, and one at a time."""
        self._suspected[root] = None
        self._suspicion.set()

    async def check_suspects(self) -> None:
        """Read each suspected copy, and stop seeding it if it is bad, until cancelled. Reading 20 GB takes minutes."""
        while True:
            await self._suspicion.wait()
            self._suspicion.clear()
            while self._suspected:
                root = next(iter(self._suspected))
                try:
                    await to_the_end(self._check(root))
                except Exception:
                    # A copy that can't be judged now is judged when the next corrupt piece is told of.
                    log.exception("a suspected copy could not be checked", root=root)
                del self._suspected[root]

    async def _check(self, root: ContentRoot) -> None:
        stamp = await self.repository.stamp(root)
        if not await self.store.of_root(root) or await self.repository.is_whole(root):
            return
        async with self._changing:
            if await self.repository.stamp(root) == stamp:  # else it was mended while it was read
                await self.repository.withdraw(root)
                await self._mark(root, damaged=True)

    def _tell(self, changed: Iterable[Uid]) -> None:
        for uid in changed:
            self.changed(uid)

    async def _mark(self, root: ContentRoot, *, damaged: bool) -> None:
        self._tell(await self.store.mark_damaged(root, damaged=damaged))


def _received(upload: Upload) -> Content:
    if upload.content is None:
        raise error("input.invalid", f"Upload {upload.uid} has no bytes yet", do="Send them first.")
    return upload.content


def _check_record(record: ImageRecord, upload: Upload, content: Content, info_hash: str) -> None:
    """Refuse a record that does not describe what was received."""
    if (record.root, record.size) != (content.root, content.size):
        why = "what was received is not what the publisher's record describes"
        raise error("disk.changed", f"The bytes of {record.name!r} changed on their way", why=why)
    if record.name != upload.name:
        raise error("disk.signature", "The record is another disk's", why=f"{record.name!r} is not {upload.name!r}")
    if record.info_hash != info_hash:
        raise error("disk.signature", "The record names another swarm", why=f"the swarm is {info_hash}")
