"""Stored data and disks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Select, select, update
from sqlalchemy.exc import IntegrityError

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data, ImageRecord, SignedRecord
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot, Uid

from .database import Database, among
from .tables import DataRow, DiskRow


@dataclass(frozen=True, slots=True)
class Disk:
    """A datum with its wishes and its publisher's record.

    Attributes:
        data: The datum.
        info_hash: Its swarm.
        attribute: What should be true of it.
        alive: False once its owner removed it: all copies are to go.
        damaged: True if the repository's own copy is not what was added.
        record: The record as read when it was added.
        signed: The same as it is handed to workers, who verify it themselves.
    """

    data: Data
    info_hash: str
    attribute: Attribute
    alive: bool
    damaged: bool
    record: ImageRecord
    signed: SignedRecord


class DataStore:
    """Reads and writes disks, one transaction a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, disk: Disk) -> None:
        """Store a new disk.

        Raises:
            UserError: `disk.name-taken`.
        """
        data, record = disk.data, disk.record
        try:
            async with self._database.write() as session:
                session.add(
                    DataRow(
                        uid=data.uid,
                        name=data.name,
                        root=data.root,
                        size=data.size,
                        piece_length=data.piece_length,
                        info_hash=disk.info_hash,
                        created=data.created,
                        owner=data.owner,
                        attribute=disk.attribute.to_dict(),
                        alive=True,
                        damaged=False,
                    )
                )
                await session.flush()
                session.add(
                    DiskRow(
                        uid=data.uid,
                        format=record.format,
                        os=record.os,
                        arch=record.arch,
                        version=record.version,
                        publisher=record.publisher,
                        expires=record.expires,
                        payload=disk.signed.payload,
                        signature=disk.signed.signature,
                        certificate=disk.signed.certificate,
                    )
                )
        except IntegrityError:
            raise name_taken(data.name) from None

    async def find(self, name: str) -> Disk | None:
        """The living disk of this name or uid."""
        wanted = (DataRow.name == name) | (DataRow.uid == name)
        found = await self._all(_disks().where(wanted, DataRow.alive))
        return found[0] if found else None

    async def get(self, uids: Collection[Uid]) -> dict[Uid, Disk]:
        """The disks of these uids, removed ones included."""
        if not uids:
            return {}
        wanted = frozenset(uids)
        found = await self._all(_disks().where(among(DataRow.uid, wanted)))
        return {disk.data.uid: disk for disk in found if disk.data.uid in wanted}

    async def living(self) -> list[Disk]:
        """All disks that are alive, by name."""
        return await self._all(_disks().where(DataRow.alive).order_by(DataRow.name))

    async def removed_roots(self) -> set[ContentRoot]:
        """The contents that a removed datum had."""
        async with self._database.read() as session:
            query = select(DataRow.root).where(~DataRow.alive).distinct()
            return {ContentRoot(root) for root in await session.scalars(query)}

    async def of_root(self, root: ContentRoot) -> list[Disk]:
        """The living disks with this content."""
        return await self._all(_disks().where(DataRow.root == root, DataRow.alive))

    async def remove(self, uid: Uid) -> None:
        """End the life of a datum. Its row stays."""
        async with self._database.write() as session:
            await session.execute(update(DataRow).where(DataRow.uid == uid).values(alive=False))

    async def mark_damaged(self, root: ContentRoot, *, damaged: bool) -> list[Uid]:
        """Say of all data with this content whether the repository's copy is bad; those that changed."""
        async with self._database.write() as session:
            rows = await session.execute(
                update(DataRow)
                .where(DataRow.root == root, DataRow.alive, DataRow.damaged != damaged)
                .values(damaged=damaged)
                .returning(DataRow.uid)
            )
            return [Uid(uid) for uid in rows.scalars()]

    async def _all(self, query: Select[DataRow, DiskRow]) -> list[Disk]:
        async with self._database.read() as session:
            return [_disk(data, disk) for data, disk in await session.execute(query)]


def name_taken(name: str) -> BitDewError:
    """The error for a second datum of one name."""
    return error("disk.name-taken", f"A datum named {name!r} is there already", name=name)


def _disks() -> Select[DataRow, DiskRow]:
    return select(DataRow, DiskRow).join(DiskRow, DiskRow.uid == DataRow.uid)


def _disk(row: DataRow, disk: DiskRow) -> Disk:
    root = ContentRoot(row.root)
    data = Data(Uid(row.uid), row.name, root, row.size, row.piece_length, row.created, row.owner)
    record = ImageRecord(
        uid=data.uid,
        name=row.name,
        root=root,
        info_hash=row.info_hash,
        size=row.size,
        format=disk.format,
        os=disk.os,
        arch=disk.arch,
        version=disk.version,
        publisher=disk.publisher,
        issued=row.created,
        expires=disk.expires,
    )
    signed = SignedRecord(disk.payload, disk.signature, disk.certificate)
    return Disk(data, row.info_hash, Attribute.from_dict(row.attribute), row.alive, row.damaged, record, signed)
