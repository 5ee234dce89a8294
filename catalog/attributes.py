"""Defining, changing and showing attributes: named wishes, and wishes without a name, which are stored once.

Owns what an attribute may be and who may change it. What follows from it is the scheduler's to decide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bitdew.core.attribute import Attribute
from bitdew.core.clock import Clock
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid, checked_name, new_uid
from bitdew.core.lifetime import Until
from bitdew.trust.roles import Role, Subject
from bitdew.wire.models import AttributeList, AttributeView

from .attribute_store import AttributeRecord
from .data_store import DataStore
from .references import HostNames, References, Targets, not_found

Wishes = Mapping[str, Any]


class Attributes:
    """The catalog's attributes. Whoever listens at `changed` is told each one whose wishes are new, or that went."""

    def __init__(self, data: DataStore, hosts: HostNames, clock: Clock) -> None:
        self._store = data.attributes
        self._references = References(data, hosts)
        self._clock = clock
        self.linking = data.linking
        self.changed: Callable[[Uid], None] = lambda _uid: None

    async def define(self, name: str, wishes: Wishes, owner: Subject) -> AttributeRecord:
        """Give wishes a name that is free.

        Raises:
            UserError: `attribute.name-taken`, `attribute.invalid`, `attribute.requires`, `attribute.dangling`.
        """
        return await self._store.add(await self._new(checked_name(name, "attribute"), wishes, owner.subject_id))

    async def change(self, name: str, wishes: Wishes, caller: Subject) -> AttributeRecord:
        """Replace the wishes of an attribute, for every datum that has it.

        Raises:
            UserError: `attribute.not-found`, `attribute.circular`, those of `define`, and `certificate.role` for
                whoever is neither its owner nor an operator.
        """
        async with self.linking:
            known = await self._mine(name, caller, "change")
            attribute, targets = await self._checked(wishes)
            record = replace(_attached(known, targets), attribute=attribute, changed=self._clock.now())
            await self._references.refuse_circle(record)
            await self._store.change(record)
        self.changed(record.uid)
        return await self.find(record.uid)

    async def keep(self, name: str, wishes: Wishes, caller: Subject) -> AttributeRecord:
        """Define an attribute, or change the one that has this name already.

        Raises:
            UserError: those of `define` and `change`.
        """
        if await self._store.find(name) is None:
            return await self.define(name, wishes, caller)
        return await self.change(name, wishes, caller)

    async def remove(self, name: str, caller: Subject) -> None:
        """Remove an attribute that nothing has any more.

        Raises:
            UserError: `attribute.not-found`, `attribute.in-use`, `certificate.role`.
        """
        async with self.linking:
            known = await self._mine(name, caller, "remove")
            await self._store.remove(known.uid)
        self.changed(known.uid)

    async def list(self) -> AttributeList:
        """The attributes that have a name, by it."""
        named = [record for record in (await self._store.all()).values() if record.name]
        counts = await self._store.counts()
        named.sort(key=lambda record: record.name or "")
        return AttributeList(attributes=[attribute_view(record, counts.get(record.uid, 0)) for record in named])

    async def show(self, name: str) -> AttributeView:
        """One attribute, by its name or uid.

        Raises:
            UserError: `attribute.not-found`.
        """
        record = await self.find(name)
        return attribute_view(record, (await self._store.counts()).get(record.uid, 0))

    async def names(self, data: Iterable[Uid]) -> dict[Uid, str]:
        """What the attributes of these data are called, "" without a name; data that ended are left out."""
        return await self._store.names(list(data))

    async def find(self, name: str) -> AttributeRecord:
        """The attribute of this name or uid.

        Raises:
            UserError: `attribute.not-found`.
        """
        record = await self._store.find(name)
        if record is None:
            raise not_found(name, await self._references.attributes_like())
        return record

    async def resolve(self, choice: str | Wishes, owner: str) -> AttributeRecord:
        """What a new datum of the subject `owner` is given: a defined attribute, or wishes without a name.

        Raises:
            UserError: `attribute.not-found`, `attribute.invalid` if its life has ended; for wishes those of `define`.
        """
        if not isinstance(choice, str):
            return await self._store.add(await self._new(None, choice, owner))
        record = await self.find(choice)
        self._require_future(record.attribute)
        return record

    async def data_like(self, name: str) -> Sequence[str]:
        """Names of living data, among which the one that was meant by `name` is looked for."""
        return await self._references.data_like(name)

    async def refuse_circle_of(self, datum: Uid, name: str, record: AttributeRecord) -> None:
        """Refuse another attribute for the datum `name` if its wishes lead back to it. Hold `linking` meanwhile.

        Raises:
            UserError: `attribute.circular`.
        """
        await self._references.refuse_circle_of(datum, name, record)

    async def _mine(self, name: str, caller: Subject, deed: str) -> AttributeRecord:
        known = await self.find(name)
        if known.name is None:
            why = "wishes without a name belong to whoever gives the same ones"
            raise error("attribute.invalid", f"{name!r} has no name to {deed} it by", why=why, do="Define one.")
        if caller.role is not Role.OPERATOR and known.owner != caller.subject_id:
            why = "only its owner or an operator may"
            raise error("certificate.role", f"The attribute {name!r} is not yours to {deed}", why=why)
        return known

    async def _new(self, name: str | None, wishes: Wishes, owner: str) -> AttributeRecord:
        attribute, targets = await self._checked(wishes)
        now = self._clock.now()
        return _attached(AttributeRecord(new_uid(), name, attribute, None, None, None, (), owner, now, now), targets)

    async def _checked(self, wishes: Wishes) -> tuple[Attribute, Targets]:
        attribute = Attribute.from_dict(wishes)
        self._require_future(attribute)
        return attribute, await self._references.find(attribute)

    def _require_future(self, attribute: Attribute) -> None:
        """Refuse a life that has ended before it begins."""
        lifetime = attribute.lifetime
        if isinstance(lifetime, Until) and lifetime.moment <= self._clock.now():
            why = "that moment has passed"
            raise error("attribute.invalid", f"lifetime can't be {lifetime}", why=why, attribute="lifetime")


class Resolving:
    """What many choices are, each looked up once however many data are given it."""

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self._found: dict[str, AttributeRecord | BitDewError] = {}

    async def of(self, choice: str | Wishes, owner: str) -> AttributeRecord:
        """As `Attributes.resolve`, with the same error for the same choice."""
        key = choice if isinstance(choice, str) else f"{owner} {json.dumps(choice, sort_keys=True)}"
        if (known := self._found.get(key)) is None:
            try:
                known = await self._attributes.resolve(choice, owner)
            except BitDewError as fault:
                known = fault
            self._found[key] = known
        if isinstance(known, BitDewError):
            raise known
        return known


def _attached(record: AttributeRecord, targets: Targets) -> AttributeRecord:
    return replace(
        record,
        affinity_data=targets.affinity_data,
        affinity_attribute=targets.affinity_attribute,
        lifetime_data=targets.lifetime_data,
        pins=targets.pins,
    )


def attribute_view(record: AttributeRecord, data: int) -> AttributeView:
    """An attribute that `data` living data have, as people see it."""
    return AttributeView(
        uid=record.uid,
        name=record.name,
        wishes=record.attribute.to_dict(),
        affinity_data=record.affinity_data,
        affinity_attribute=record.affinity_attribute,
        lifetime_data=record.lifetime_data,
        pins=list(record.pins),
        owner=record.owner,
        created=record.created,
        changed=record.changed,
        version=record.version,
        data=data,
    )
