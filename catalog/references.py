"""What attributes refer to: data, attributes and hosts by their names, found when the wishes are given.

Owns the refusal of names that name nothing, or two things, and of wishes that in the end depend on themselves.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bitdew.core.attribute import Attribute
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import HostId, Uid
from bitdew.core.lifetime import Reference, With

from . import attribute_store
from .attribute_store import AttributeRecord
from .data_store import DataStore

HostNames = Callable[[], Mapping[str, Collection[HostId]]]
"""The hosts that ever joined: ids by name, for a name may be that of several."""
MOST_LIKE: Final = 500
"""Names among which the nearest is looked for."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What the names in an attribute stand for."""

    affinity_data: Uid | None = None
    affinity_attribute: Uid | None = None
    lifetime_data: Uid | None = None
    pins: tuple[HostId, ...] = ()


class References:
    """Finds the targets of attributes."""

    def __init__(self, data: DataStore, hosts: HostNames) -> None:
        self._attributes = data.attributes
        self._data = data
        self._hosts = hosts

    async def find(self, attribute: Attribute) -> Targets:
        """What `attribute` refers to, as things are now.

        Raises:
            UserError: `attribute.dangling`; `attribute.invalid`, for a name that is a datum's and an attribute's, or
                several hosts'.
        """
        data, other = await self._affinity(attribute.affinity) if attribute.affinity else (None, None)
        mortal = None
        if isinstance(attribute.lifetime, With):
            name = attribute.lifetime.target.name
            found = await self._data.find(name)
            if found is None:
                raise _dangling("lifetime", "datum", name, await self.data_like(name))
            mortal = found.data.uid
        return Targets(data, other, mortal, self._pins(attribute.pin) if attribute.pin else ())

    async def _affinity(self, reference: Reference) -> tuple[Uid | None, Uid | None]:
        name, kind = reference.name, reference.kind
        datum = None if kind == "attr" else await self._data.find(name)
        attribute = None if kind == "data" else await self._attributes.find(name)
        if datum is not None and attribute is not None:
            why = f"{name} is the name of a datum and of an attribute"
            do = f"Write data:{name} or attr:{name}."
            raise error("attribute.invalid", f"affinity can't be {name!r} alone", why=why, do=do, attribute="affinity")
        if datum is None and attribute is None:
            like = [] if kind == "attr" else await self.data_like(name)
            like += [] if kind == "data" else await self.attributes_like()
            what = {"data": "datum", "attr": "attribute"}.get(kind, "datum or attribute")
            raise _dangling("affinity", what, name, like)
        return (datum.data.uid if datum else None), (attribute.uid if attribute else None)

    def _pins(self, names: Iterable[str]) -> tuple[HostId, ...]:
        hosts = self._hosts()
        known = {host for ids in hosts.values() for host in ids}
        found: set[HostId] = set()
        for name in names:
            ids = [HostId(name)] if name in known else list(hosts.get(name, ()))
            if not ids:
                raise _dangling("pin", "host", name, hosts)
            if len(ids) > 1:
                do = f"Give one's id: {', '.join(sorted(ids)[:10])}"
                message = f"pin can't be {name!r}: {len(ids)} hosts are called so"
                raise error("attribute.invalid", message, do=do, attribute="pin")
            found.add(ids[0])
        return tuple(sorted(found))

    async def data_like(self, name: str) -> list[str]:
        """The names of living data, among which the nearest is looked for: what begins alike, and then the first."""
        alike = [*await self._data.search(name[:2], limit=MOST_LIKE), *await self._data.search(limit=MOST_LIKE)]
        return list(dict.fromkeys(found.data.name for found in alike))

    async def attributes_like(self) -> list[str]:
        """The names of attributes, among which the nearest is looked for."""
        return [record.name for record in (await self._attributes.all()).values() if record.name]

    # Circles

    async def refuse_circle(self, record: AttributeRecord) -> None:
        """Refuse new wishes of an attribute that lead back to it.

        Raises:
            UserError: `attribute.circular`, with the chain.
        """
        label = f"attr:{record.name or record.uid}"
        chain = await self._walk(record, label, lambda attribute, _datum: attribute == record.uid)
        if chain:
            raise error("attribute.circular", f"{label} would depend on itself", why=" -> ".join(chain), chain=chain)

    async def refuse_circle_of(self, datum: Uid, name: str, record: AttributeRecord) -> None:
        """Refuse an attribute for a datum if its wishes lead back to that datum.

        Raises:
            UserError: `attribute.circular`, with the chain.
        """
        label = f"data:{name}"
        start = f"attr:{record.name or record.uid}"
        chain = await self._walk(record, start, lambda _attribute, found: found == datum)
        if chain:
            chain = [label, *chain]
            raise error("attribute.circular", f"{label} would depend on itself", why=" -> ".join(chain), chain=chain)

    async def _walk(
        self, start: AttributeRecord, label: str, is_end: Callable[[Uid | None, Uid | None], bool]
    ) -> list[str]:
        """The first chain from `start` along affinities and lifetimes to what `is_end`; empty if there is none."""
        seen: set[Uid] = {start.uid}
        level: list[tuple[AttributeRecord, list[str]]] = [(start, [label])]
        while level:
            data = {uid for record, _ in level for uid in _data_of(record)}
            described = await self._data.get(data)
            others = {record.affinity_attribute for record, _ in level if record.affinity_attribute} - described.keys()
            attributes = await self._attributes.get(others)
            following: list[tuple[AttributeRecord, list[str]]] = []
            for record, chain in level:
                for uid in _data_of(record):
                    if (datum := described.get(uid)) is None:
                        continue
                    longer = [*chain, f"data:{datum.data.name}"]
                    if is_end(None, uid):
                        return longer
                    following.append((datum.attribute, [*longer, _label(datum.attribute)]))
                if record.affinity_attribute and (other := attributes.get(record.affinity_attribute)):
                    following.append((other, [*chain, _label(other)]))
            level = []
            for record, chain in following:
                if is_end(record.uid, None):
                    return chain
                if record.uid not in seen:
                    seen.add(record.uid)
                    level.append((record, chain))
        return []


def not_found(name: str, like: Iterable[str]) -> BitDewError:
    """The error for an attribute that is not there, with the one that was meant perhaps."""
    fault = attribute_store.not_found(name)
    fault.do = suggestion(name, like) or fault.do
    return fault


def datum_not_found(name: str, like: Iterable[str]) -> BitDewError:
    """The error for a datum that is not there, with the one that was meant perhaps."""
    do = suggestion(name, like) or "List what there is: bitdew data ls"
    return error("data.not-found", f"There is no datum {name[:140]!r}", do=do, name=name[:140])


def _dangling(key: str, what: str, name: str, like: Iterable[str]) -> BitDewError:
    message = f"{key} can't be {name[:140]!r}: there is no such {what}"
    do = suggestion(name, like) or "Correct the name, or add what it names first."
    return error("attribute.dangling", message, do=do, attribute=key, name=name[:140])


def suggestion(name: str, like: Iterable[str]) -> str:
    """What to do about a name that is not there: take the nearest of those that are `like` it; "" if none is near."""
    near = difflib.get_close_matches(name[:140], list(like), n=1)
    return f"Did you mean {near[0]!r}?" if near else ""


def _label(record: AttributeRecord) -> str:
    return f"attr:{record.name or record.uid}"


def _data_of(record: AttributeRecord) -> Iterator[Uid]:
    """The data that `record` refers to, each once."""
    yield from {uid for uid in (record.affinity_data, record.lifetime_data) if uid}
