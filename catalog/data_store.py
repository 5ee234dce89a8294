"""Stored data, disks among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, and_, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.data import Data, ImageRecord, Kind, SignedRecord
from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot, Uid

from .among import among
from .attribute_store import AttributeRecord, AttributeStore, not_found
from .data_rows import DATA, data_values, disk_values, page
from .database import Database
from .events import Happened, add_events, told_of
from .feed import Told, along
from .postgres import Keys
from .shared_lock import SharedLock
from .tables import DataRow, DiskRow

Beside = Callable[[AsyncSession], Awaitable[None]]
"""Stores something in the very transaction that stores data; what it raises undoes both."""
_FEW: Final = 100
"""So many data share a transaction with what others store at the same moment; more have one of their own."""
_NAMED: Final = 5
"""Names that an error tells of at most."""


@dataclass(frozen=True, slots=True)
class Datum:
    """A datum with its attribute, and its publisher's record if it is a disk.

    Attributes:
        data: The datum.
        info_hash: Its swarm.
        attribute: What should be true of it.
        alive: False once its life ended: all copies are to go.
        damaged: True if the repository's own copy is not what was added.
        awaited: True until its bytes have come: nothing is placed before, unless its publisher offers them.
        ends: When its life ends by a date or a duration, UTC.
        died: When its life ended, UTC; None also if it ended in a release that did not note it.
        died_because: Why, for people.
        record: The record as read when it was added, if it is a disk.
        signed: The same as it is handed to workers, who verify it themselves.
        seeded: Whether its publisher offers its bytes, or did.
        origin: Where the publisher offers them now.
        for_jobs: Whether its owner put it for jobs of his own: nobody else is shown it, and it goes with them.
    """

    data: Data
    info_hash: str
    attribute: AttributeRecord
    alive: bool = True
    damaged: bool = False
    awaited: bool = False
    ends: datetime | None = None
    died: datetime | None = None
    died_because: str = ""
    record: ImageRecord | None = None
    signed: SignedRecord | None = None
    seeded: bool = False
    origin: Endpoint | None = None
    for_jobs: bool = False

    @property
    def can_move(self) -> bool:
        """Whether anything follows from it when it is new: its bytes are there, or its life may end before they are."""
        return not self.awaited or self.ends is not None or self.attribute.lifetime_data is not None


@dataclass(frozen=True, slots=True)
class Disk(Datum):
    """A datum that machines boot from."""

    record: ImageRecord = field(kw_only=True)
    signed: SignedRecord = field(kw_only=True)
    deprecated: str = field(default="", kw_only=True)


class DataStore:
    """Reads and writes data, one transaction a call. Other processes hear of what is stored here along with it.

    Attributes:
        attributes: The store of what they should be.
        changing: Held while bytes and what is stored of them change together: the same may come and go at once.
        linking: Held by whoever attaches something to an attribute, or takes one away: two halves of a circle must not
            both look harmless.
        shared: Whether other processes may change data too.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.attributes = AttributeStore(database)
        self.changing, self.linking = SharedLock(database, Keys.CONTENTS), SharedLock(database, Keys.LINKS)
        self.shared = database.shared

    # Adding -------------------------------------------------------------------------------------------------------

    async def add(self, datum: Datum) -> None:
        """Store a new datum, whose attribute is stored.

        Raises:
            UserError: `disk.name-taken`, `attribute.not-found`, if that was removed meanwhile.
        """
        await self.add_all([datum])

    async def add_all(self, data: Sequence[Datum]) -> None:
        """Store new data: all of them, or none.

        Raises:
            UserError: `disk.name-taken`, with the taken ones as `names`; `attribute.not-found`; `input.invalid` for a
                uid that is taken.
        """
        if not data:
            return

        async def insert_all(session: AsyncSession) -> None:
            await _insert(session, data)

        try:
            if len(data) <= _FEW:
                await self._database.gather(insert_all)
            else:
                async with self._database.write() as session:
                    await insert_all(session)
        except IntegrityError as fault:
            raise await self._refusal(data, fault) from None

    async def _refusal(self, data: Sequence[Datum], fault: IntegrityError) -> BaseException:
        """Why some of `data` could not be stored."""
        uses = Counter(datum.data.name for datum in data)
        if twice := [name for name, count in uses.items() if count > 1]:
            told = ", ".join(map(repr, twice[:_NAMED]))
            why = "a name is that of one living datum"
            return error("disk.name-taken", f"New data share a name: {told}", why=why, name=twice[0], names=twice)
        async with self._database.read() as session:
            taken = select(DataRow.name).where(among(DataRow.name, list(uses)), DataRow.alive).order_by(DataRow.name)
            if names := list(await session.scalars(taken)):
                return name_taken(*names)
            uids = [datum.data.uid for datum in data]
            used = set(await session.scalars(select(DataRow.uid).where(among(DataRow.uid, uids))))
        if used or len(set(uids)) < len(uids):
            return error("input.invalid", "A new datum has the uid of another", why=", ".join(sorted(used)[:_NAMED]))
        chosen = {datum.attribute.uid: datum.attribute for datum in data}
        gone = chosen.keys() - (await self.attributes.get(list(chosen))).keys()
        return not_found(chosen[min(gone)].name or min(gone)) if gone else fault

    # Reading ------------------------------------------------------------------------------------------------------

    async def find(self, name: str) -> Datum | None:
        """The living datum of this name or uid; of a name that is another one's uid, the one of that name."""
        return (await self.named([name])).get(name)

    async def named(self, names: Collection[str]) -> dict[str, Datum]:
        """The living data of these names or uids, by them, as `find` finds each; names of none are left out."""
        # Not by "or": SQLite would read the whole table.
        by_name = select(DataRow.uid).where(among(DataRow.name, names), DataRow.alive)
        by_uid = select(DataRow.uid).where(among(DataRow.uid, names), DataRow.alive)
        found = await self._all(DATA.where(DataRow.uid.in_(by_name.union_all(by_uid))))
        by = {str(one.data.uid): one for one in found} | {one.data.name: one for one in found}
        return {name: by[name] for name in names if name in by}

    async def find_ended(self, name: str) -> Datum | None:
        """Of the data of this name, or uid, whose life ended: the one that ended last."""
        last = (DataRow.died.desc().nulls_last(), DataRow.created.desc(), DataRow.uid)
        for wanted in (DataRow.name == name, DataRow.uid == name):
            if found := await self._all(DATA.where(wanted, ~DataRow.alive).order_by(*last).limit(1)):
                return found[0]
        return None

    async def get(self, uids: Collection[Uid]) -> dict[Uid, Datum]:
        """The data of these uids, dead ones included."""
        if not uids:
            return {}
        return {datum.data.uid: datum for datum in await self._all(DATA.where(among(DataRow.uid, uids)))}

    async def roots(self, uids: Collection[Uid]) -> dict[Uid, ContentRoot]:
        """The contents of these data, dead ones included."""
        if not uids:
            return {}
        async with self._database.read() as session:
            rows = await session.execute(select(DataRow.uid, DataRow.root).where(among(DataRow.uid, uids)))
            return {Uid(uid): ContentRoot(root) for uid, root in rows}

    async def living(self) -> list[Datum]:
        """All data that are alive, by name. In a large grid these are many: see `search`."""
        return await self._all(DATA.where(DataRow.alive).order_by(DataRow.name))

    async def search(
        self, prefix: str = "", after: str | None = None, limit: int = 100, *, viewer: str | None = ""
    ) -> list[Datum]:
        """Living data, by name, from behind `after` on; of those put for jobs the `viewer`'s own, or for None all."""
        mine = true() if viewer is None else or_(DataRow.for_jobs.is_(False), DataRow.owner == viewer)
        return await self._all(page(prefix, after, limit).where(mine))

    async def disks(self, prefix: str = "", after: str | None = None, limit: int | None = None) -> list[Disk]:
        """As `search`, disks alone; all of them without a limit."""
        found = await self._all(page(prefix, after, limit).where(DiskRow.uid.is_not(None)))
        return [datum for datum in found if isinstance(datum, Disk)]

    async def of_root(self, root: ContentRoot) -> list[Datum]:
        """The living data with this content."""
        return await self._all(DATA.where(DataRow.root == root, DataRow.alive))

    async def with_attribute(self, uids: Collection[Uid], limit: int | None = None) -> list[Uid]:
        """The living data that have one of these attributes, at most `limit` of them."""
        query = select(DataRow.uid).where(among(DataRow.attribute, uids), DataRow.alive).limit(limit)
        async with self._database.read() as session:
            return [Uid(uid) for uid in await session.scalars(query)]

    async def contents(self) -> dict[tuple[ContentRoot, int], bool]:
        """What the repository should have: contents and their sizes, each with whether its copy is known to be good."""
        query = select(DataRow.root, DataRow.size, DataRow.damaged).where(DataRow.alive, DataRow.awaited.is_(False))
        async with self._database.read() as session:
            rows = await session.execute(query.distinct().order_by(DataRow.damaged))
            return {(ContentRoot(root), size): not damaged for root, size, damaged in rows}

    async def removed_roots(self) -> set[ContentRoot]:
        """The contents that a dead datum had, and no living one has."""
        living = select(DataRow.root).where(DataRow.alive)
        async with self._database.read() as session:
            query = select(DataRow.root).where(~DataRow.alive, DataRow.root.not_in(living)).distinct()
            return {ContentRoot(root) for root in await session.scalars(query)}

    # Changing -----------------------------------------------------------------------------------------------------

    async def set_attribute(self, uid: Uid, attribute: Uid, ends: datetime | None, now: datetime) -> None:
        """Give a datum another attribute, at `now`, and the end that follows from it.

        Raises:
            UserError: `attribute.not-found`, if it was removed meanwhile.
        """
        before = select(DataRow.attribute).where(DataRow.uid == uid)

        async def give(session: AsyncSession) -> None:
            had = await session.scalar(before)
            given = update(DataRow).where(DataRow.uid == uid).values(attribute=attribute, ends=ends)
            await (await session.connection()).execute(given)
            if had is not None:
                await add_events(session, [Happened("changed", uid, now)])
                along(session, Told(topics=told_of([uid]), data=(uid,), attributes=(Uid(had), attribute)))

        try:
            await self._database.gather(give)
        except IntegrityError:
            raise not_found(attribute) from None

    async def came(
        self,
        sizes: Mapping[ContentRoot, int],
        now: datetime,
        new: Sequence[Datum] = (),
        beside: Beside | None = None,
    ) -> list[Uid]:
        """The bytes of these contents, so many, have come, at `now`: store the `new` data that they are, all or none.

        Of the living data with these contents, those that waited have them, those with a bad copy have a good one, and
        those that were announced with another size end: no bytes can ever be theirs. All that changed, without the new.
        What `beside` stores of them is stored with them, and what it raises undoes all.

        Raises:
            UserError: as `add_all`.
        """
        theirs = select(DataRow.uid, DataRow.root, DataRow.size, DataRow.awaited, DataRow.damaged)
        theirs = theirs.where(among(DataRow.root, list(sizes)), DataRow.alive)

        async def store(session: AsyncSession) -> list[Uid]:
            connection = await session.connection()
            there = (await connection.execute(theirs.where(or_(DataRow.awaited, DataRow.damaged)))).all()
            await _insert(session, new)
            if beside is not None:
                await beside(session)
            fit, events = [], []
            for row in there:
                size, uid = sizes[ContentRoot(row.root)], Uid(row.uid)
                if row.size == size:
                    fit.append(uid)
                    events += [Happened("arrived", uid, now)] if row.awaited else []
                    continue
                why = f"it was announced with {row.size} bytes, and its content has {size}"
                ended = update(DataRow).where(DataRow.uid == uid).values(alive=False, died=now, died_because=why)
                await connection.execute(ended)
                events.append(Happened("ended", uid, now, why=why))
            if fit:
                here = update(DataRow).where(among(DataRow.uid, fit)).values(awaited=False, damaged=False)
                await connection.execute(here)
            changed = [Uid(row.uid) for row in there]
            await add_events(session, events)
            _tell(session, changed)
            return changed

        try:
            return await self._database.gather(store)
        except IntegrityError as fault:
            raise await self._refusal(new, fault) from None

    async def mark_damaged(self, root: ContentRoot, now: datetime, why: str, *, damaged: bool) -> list[Uid]:
        """Say of all data with this content whether the repository's copy is bad, and why; those that changed."""
        its = and_(DataRow.root == root, DataRow.alive, DataRow.damaged != damaged)
        kind = "damaged" if damaged else "mended"
        return await self._update(its, lambda uid: Happened(kind, uid, now, why=why), damaged=damaged)

    async def deprecate(self, uids: Sequence[Uid], why: str) -> None:
        """Say of these disks why no more machines are to run from them; "" takes that back."""
        async with self._database.write() as session:
            await session.execute(update(DiskRow).where(DiskRow.uid.in_(uids)).values(deprecated=why or None))
            _tell(session, uids)

    async def end(self, uid: Uid, now: datetime, because: str) -> bool:
        """End the life of a datum; whether it was alive. Its row stays."""
        its = and_(DataRow.uid == uid, DataRow.alive)
        told: Callable[[Uid], Happened] = lambda uid: Happened("ended", uid, now, why=because)  # noqa: E731
        return bool(await self._update(its, told, alive=False, died=now, died_because=because))

    async def _update(
        self, condition: ColumnElement[bool], happened: Callable[[Uid], Happened] | None = None, **values: Any
    ) -> list[Uid]:
        """Change the data of which `condition` holds; their uids. The log is told what `happened` to each."""
        change = update(DataRow).where(condition).values(values).returning(DataRow.uid)

        async def change_all(session: AsyncSession) -> list[Uid]:
            rows = await (await session.connection()).execute(change)
            changed = [Uid(uid) for uid in rows.scalars()]
            if happened is not None:
                await add_events(session, [happened(uid) for uid in changed])
            _tell(session, changed)
            return changed

        return await self._database.gather(change_all)

    async def _all(self, query: Select[Any]) -> list[Datum]:
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
            attributes = await self.attributes.of_rows(session, ((row.attribute, row.wishes_version) for row in rows))
        return [_datum(row, attributes[row.attribute]) for row in rows]


async def _insert(session: AsyncSession, data: Sequence[Datum]) -> None:
    if not data:
        return
    connection = await session.connection()
    await connection.execute(insert(DataRow), [data_values(datum) for datum in data])
    if disks := [disk_values(datum) for datum in data if isinstance(datum, Disk)]:
        await connection.execute(insert(DiskRow), disks)
    # Data that only wait for their bytes are told of when those come: a million that are announced are no news.
    await add_events(session, [Happened("created", d.data.uid, d.data.created) for d in data if not d.awaited])
    _tell(session, [datum.data.uid for datum in data if datum.can_move])


def _tell(session: AsyncSession, uids: Sequence[Uid]) -> None:
    if uids:
        along(session, Told(topics=told_of(uids), data=tuple(uids)))


def name_taken(*names: str) -> BitDewError:
    """The error for second data of names that others have."""
    told = ", ".join(map(repr, names[:_NAMED])) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    what = "A datum named" if len(names) == 1 else "Data named"
    there = f"{what} {told} {'is' if len(names) == 1 else 'are'} there already"
    do = "Choose another name, or remove the old one: bitdew data rm"
    return error("disk.name-taken", there, do=do, name=names[0], names=list(names))


def _datum(row: Row[Any], attribute: AttributeRecord) -> Datum:
    root = ContentRoot(row.root)
    data = Data(Uid(row.uid), row.name, root, row.size, row.piece_length, row.created, row.owner, Kind(row.kind))
    told = (data, row.info_hash, attribute, row.alive, row.damaged, row.awaited, row.ends, row.died, row.died_because)
    seeded, origin = row.origin_swarm is not None, None
    if seeded and row.origin_until is not None:
        origin = Endpoint.parse(row.origin_swarm)
    if row.payload is None:
        return Datum(*told, seeded=seeded, origin=origin, for_jobs=row.for_jobs)
    record = ImageRecord(
        uid=data.uid,
        name=row.name,
        root=root,
        info_hash=row.info_hash,
        size=row.size,
        format=row.format,
        os=row.os,
        arch=row.arch,
        version=row.version,
        publisher=row.publisher,
        issued=row.created,
        expires=row.expires,
    )
    signed = SignedRecord(row.payload, row.signature, row.certificate)
    said = row.deprecated or ""
    return Disk(*told, record=record, signed=signed, deprecated=said, seeded=seeded, origin=origin)
