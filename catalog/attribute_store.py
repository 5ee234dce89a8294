"""Stored attributes: wishes under a name or without one, and what the names in them were found to mean.

Owns the table of attributes, and the ends of data that follow from it. It resolves no names and follows no chains: who
stores an attribute has done that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.attribute import Attribute
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import HostId, Uid
from bitdew.core.lifetime import For, Until

from .among import among
from .database import Database
from .feed import Told, along
from .tables import AttributeRow, DataRow

_MOST_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class AttributeRecord:
    """An attribute as it is stored.

    Attributes:
        uid: Its identity: it stays when the wishes change.
        name: What people call it; None for wishes that were given with a datum.
        attribute: The wishes.
        affinity_data: The datum that the affinity names, if it names one.
        affinity_attribute: The attribute that the affinity names, if it names one.
        lifetime_data: The datum with which data of this attribute end, if there is one.
        pins: The hosts that the pin names.
        owner: The subject id of whoever defined it.
        created: When it was defined, UTC.
        changed: When the wishes were last changed, UTC.
        version: 1 when it was defined, one more with each change.
    """

    uid: Uid
    name: str | None
    attribute: Attribute
    affinity_data: Uid | None
    affinity_attribute: Uid | None
    lifetime_data: Uid | None
    pins: tuple[HostId, ...]
    owner: str
    created: datetime
    changed: datetime
    version: int = 1

    def ends(self, created: datetime) -> datetime | None:
        """When a datum that was created at `created` ends by a date or a duration, if it does."""
        match self.attribute.lifetime:
            case Until(moment=moment):
                return moment
            case For(span=span):
                try:
                    return created + span
                except OverflowError:  # beyond the year 9999
                    return None
        return None


class AttributeStore:
    """Reads and writes attributes, one transaction a call."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[Uid, AttributeRecord] = {}

    async def all(self) -> dict[Uid, AttributeRecord]:
        """All attributes, by uid."""
        return await self._read(_is_there())

    async def get(self, uids: Collection[Uid]) -> dict[Uid, AttributeRecord]:
        """The attributes of these uids, removed ones that dead data have included."""
        return await self._read(among(AttributeRow.uid, uids)) if uids else {}

    async def find(self, name: str) -> AttributeRecord | None:
        """The attribute of this name or uid. No name is another one's uid if both are there: the name goes first."""
        found = await self._read(or_(AttributeRow.name == name, AttributeRow.uid == name), _is_there())
        return min(found.values(), key=lambda record: record.name != name, default=None)

    async def counts(self) -> dict[Uid, int]:
        """How many living data each attribute has; those without any are left out."""
        query = select(DataRow.attribute, func.count()).where(DataRow.alive).group_by(DataRow.attribute)
        async with self._database.read() as session:
            return {Uid(uid): count for uid, count in await session.execute(query)}

    async def names(self, data: Collection[Uid]) -> dict[Uid, str]:
        """What the attributes of these data are called, "" without a name; data that ended are left out."""
        if not data:
            return {}
        named = select(DataRow.uid, AttributeRow.name).join(AttributeRow, AttributeRow.uid == DataRow.attribute)
        async with self._database.read() as session:
            rows = await session.execute(named.where(among(DataRow.uid, data), DataRow.alive))
            return {Uid(uid): name or "" for uid, name in rows}

    async def add(self, record: AttributeRecord) -> AttributeRecord:
        """Store an attribute; of one without a name, only if none without a name is equal. The one that is stored.

        Raises:
            UserError: `attribute.name-taken`; `attribute.dangling`, if the attribute that it names is gone meanwhile.
        """
        if record.name is None and (known := await self._equal(record)) is not None:
            return known
        try:
            async with self._database.write() as session:
                await session.execute(insert(AttributeRow).values(uid=record.uid, **_values(record)))
        except IntegrityError:
            if record.name is None and (known := await self._equal(record)) is not None:
                return known
            raise await self._refusal(record) from None
        return record

    async def change(self, record: AttributeRecord) -> None:
        """Store other wishes under the uid of `record`, and when its living data end by them; `version` is counted on.

        Raises:
            UserError: `attribute.not-found`, `attribute.name-taken`, `attribute.dangling`.
        """
        values = _values(record) | {"version": AttributeRow.version + 1}
        del values["created"], values["owner"]
        here = and_(AttributeRow.uid == record.uid, _is_there())
        try:
            async with self._database.write() as session:
                changed = await session.execute(
                    update(AttributeRow).where(here).values(values).returning(AttributeRow.uid)
                )
                if changed.one_or_none() is None:
                    raise not_found(record.name or record.uid)
                await _set_ends(session, record)
                along(session, Told(attributes=(record.uid,)))
        except IntegrityError:
            raise await self._refusal(record) from None

    async def remove(self, uid: Uid) -> None:
        """Forget an attribute. Dead data keep what they had, but nobody finds it any more.

        Raises:
            UserError: `attribute.in-use` by living data or other attributes, `attribute.not-found`.
        """
        wanted = select(AttributeRow.name).where(AttributeRow.uid == uid, _is_there()).with_for_update()
        users = select(DataRow.name).where(DataRow.attribute == uid, DataRow.alive).order_by(DataRow.name).limit(3)
        followers = select(AttributeRow.name, AttributeRow.uid).where(AttributeRow.affinity_attribute == uid).limit(3)
        dead = select(DataRow.uid).where(DataRow.attribute == uid).limit(1)
        async with self._database.write() as session:
            found = (await session.execute(wanted)).one_or_none()
            if found is None:
                raise not_found(uid)
            using = [f"the datum {name!r}" for name in await session.scalars(users)]
            using += [f"the attribute {name or other!r}" for name, other in await session.execute(followers)]
            if using:
                raise in_use(found.name or uid, using)
            if await session.scalar(dead) is None:
                await session.execute(delete(AttributeRow).where(AttributeRow.uid == uid))
            else:
                nobodys = {
                    "name": None,
                    "digest": None,
                    "affinity_attribute": None,
                    "version": AttributeRow.version + 1,
                }
                await session.execute(update(AttributeRow).where(AttributeRow.uid == uid).values(nobodys))
            along(session, Told(attributes=(uid,)))

    # Records ------------------------------------------------------------------------------------------------------

    async def of_rows(self, session: AsyncSession, versions: Iterable[tuple[str, int]]) -> dict[Uid, AttributeRecord]:
        """The attributes of these uids and versions. Wishes that were read once are not read again."""
        wanted = {Uid(uid): version for uid, version in versions}
        found = {uid: known for uid in wanted if (known := self._remembered.get(uid)) is not None}
        stale = {uid for uid, version in wanted.items() if uid not in found or found[uid].version != version}
        if stale:
            found |= self._remember(await session.execute(_RECORDS.where(among(AttributeRow.uid, stale))))
        return found

    async def _read(self, *conditions: ColumnElement[bool]) -> dict[Uid, AttributeRecord]:
        async with self._database.read() as session:
            return self._remember(await session.execute(_RECORDS.where(*conditions)))

    def _remember(self, rows: Iterable[Row[Any]]) -> dict[Uid, AttributeRecord]:
        found = {}
        for row in rows:
            uid = Uid(row.uid)
            known = self._remembered.get(uid)
            found[uid] = known if known is not None and known.version == row.version else _record(row)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered |= found
        return found

    async def _equal(self, record: AttributeRecord) -> AttributeRecord | None:
        found = await self._read(AttributeRow.digest == _digest(record))
        return next(iter(found.values()), None)

    async def _refusal(self, record: AttributeRecord) -> BitDewError:
        """Why `record` could not be stored."""
        target = record.affinity_attribute
        if target is not None and target not in await self.get([target]):
            why = "it was removed meanwhile"
            return error("attribute.dangling", f"{record.name or 'The attribute'} names one that is gone", why=why)
        name = record.name or record.uid
        return error("attribute.name-taken", f"An attribute named {name!r} is there already", name=name)


def not_found(name: str) -> BitDewError:
    """The error for an attribute that is not there."""
    return error("attribute.not-found", f"There is no attribute {name[:140]!r}", name=name[:140])


def in_use(name: str, users: Collection[str]) -> BitDewError:
    """The error for removing an attribute that `users` have: a few of them, in words."""
    why = f"{', '.join(users)} {'has' if len(users) == 1 else 'have'} it"
    do = "Give its data another attribute first, or remove them; let other attributes name another affinity."
    return error("attribute.in-use", f"The attribute {name!r} can't be removed", why=why, do=do, name=name)


_RECORDS: Final = select(
    AttributeRow.uid,
    AttributeRow.name,
    AttributeRow.wishes,
    AttributeRow.affinity_data,
    AttributeRow.affinity_attribute,
    AttributeRow.lifetime_data,
    AttributeRow.pins,
    AttributeRow.owner,
    AttributeRow.created,
    AttributeRow.changed,
    AttributeRow.version,
)


def _is_there() -> ColumnElement[bool]:
    return or_(AttributeRow.name.is_not(None), AttributeRow.digest.is_not(None))


def _record(row: Row[Any]) -> AttributeRecord:
    return AttributeRecord(
        uid=Uid(row.uid),
        name=row.name,
        attribute=Attribute.from_dict(row.wishes),
        affinity_data=row.affinity_data,
        affinity_attribute=row.affinity_attribute,
        lifetime_data=row.lifetime_data,
        pins=tuple(map(HostId, row.pins)),
        owner=row.owner,
        created=row.created,
        changed=row.changed,
        version=row.version,
    )


def _values(record: AttributeRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "digest": _digest(record) if record.name is None else None,
        "wishes": record.attribute.to_dict(),
        "affinity_data": record.affinity_data,
        "affinity_attribute": record.affinity_attribute,
        "lifetime_data": record.lifetime_data,
        "pins": list(record.pins),
        "owner": record.owner,
        "created": record.created,
        "changed": record.changed,
        "version": record.version,
    }


def _digest(record: AttributeRecord) -> str:
    """What tells unnamed wishes apart: the wishes, and what their names mean. The migration 0002 makes the same."""
    targets = [record.affinity_data, record.affinity_attribute, record.lifetime_data, sorted(record.pins)]
    said = json.dumps([record.attribute.to_dict(), *targets], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


async def _set_ends(session: AsyncSession, record: AttributeRecord) -> None:
    """Say of the living data of an attribute when they end by its present wishes."""
    its = and_(DataRow.attribute == record.uid, DataRow.alive)
    if not isinstance(record.attribute.lifetime, For):
        ends = record.ends(record.changed)
        await session.execute(update(DataRow).where(its).values(ends=ends), execution_options=_PLAIN)
        return
    rows = await session.execute(select(DataRow.uid, DataRow.created).where(its))
    # Each has its own: dates are not added up alike in the databases, so that is done here.
    ends_of = [{"uid": uid, "ends": record.ends(created)} for uid, created in rows]
    if ends_of:
        await session.execute(update(DataRow), ends_of)


_PLAIN: Final = {"synchronize_session": False}
