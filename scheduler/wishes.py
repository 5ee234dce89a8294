"""The attributes in use, in memory: which data depend on which others through them, and which hosts they admit.

Owns this process's copy of the stored attributes. Learnt with the data that have them, and anew when one changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from bitdew.core.attribute import EVERYWHERE
from bitdew.core.host import HostFacts
from bitdew.core.ids import Uid

from ..catalog.attribute_store import AttributeRecord


class Wishes:
    """Every attribute that some datum has or had, by uid."""

    def __init__(self) -> None:
        self._records: dict[Uid, AttributeRecord] = {}
        self._affine: defaultdict[Uid, set[Uid]] = defaultdict(set)
        self._mortal: defaultdict[Uid, set[Uid]] = defaultdict(set)
        self._calling: set[Uid] = set()
        self._clinging: set[Uid] = set()

    def learn(self, records: Iterable[AttributeRecord]) -> None:
        """Take in attributes as they are now."""
        for record in records:
            known = self._records.get(record.uid)
            if known is not None and known.version >= record.version:
                continue
            self.forget(record.uid)
            self._records[record.uid] = record
            for target in (record.affinity_data, record.affinity_attribute):
                if target is not None:
                    self._affine[target].add(record.uid)
            if record.lifetime_data is not None:
                self._mortal[record.lifetime_data].add(record.uid)
            if record.pins or (record.attribute.replicas == EVERYWHERE and record.attribute.affinity is None):
                self._calling.add(record.uid)
            if record.attribute.replicas == EVERYWHERE and record.attribute.affinity is not None:
                self._clinging.add(record.uid)

    def forget(self, uid: Uid) -> None:
        """The attribute is gone."""
        known = self._records.pop(uid, None)
        if known is None:
            return
        for target in (known.affinity_data, known.affinity_attribute):
            if target is not None:
                self._affine[target].discard(uid)
        if known.lifetime_data is not None:
            self._mortal[known.lifetime_data].discard(uid)
        self._calling.discard(uid)
        self._clinging.discard(uid)

    def get(self, uid: Uid) -> AttributeRecord | None:
        """The attribute, if it is known."""
        return self._records.get(uid)

    def following(self, uid: Uid, attribute: Uid) -> set[Uid]:
        """The attributes whose data go where the datum `uid`, which has `attribute`, is held."""
        return self._affine.get(uid, set()) | self._affine.get(attribute, set())

    def tied_to(self, uid: Uid) -> set[Uid]:
        """The attributes whose data die with the datum `uid`, or go where it goes."""
        return self._mortal.get(uid, set()) | self._affine.get(uid, set())

    @property
    def attributes_are_followed(self) -> bool:
        """Whether the affinity of any attribute names another attribute."""
        return any(self._affine.get(uid) for uid in self._records.keys() & self._affine.keys())

    def by_priority(self) -> list[Uid]:
        """The attributes whose deficits are served before the others', the first standing first."""
        urgent = [record for record in self._records.values() if record.attribute.priority > 0]
        return [record.uid for record in sorted(urgent, key=lambda r: (-r.attribute.priority, r.uid))]

    def target_of(self, uid: Uid) -> Uid | None:
        """The datum or the attribute that the affinity of this attribute names."""
        known = self._records.get(uid)
        return (known.affinity_data or known.affinity_attribute) if known else None

    @property
    def clinging(self) -> Collection[Uid]:
        """The attributes whose data are wanted on every holder of what their affinity names."""
        return self._clinging

    @property
    def calling(self) -> Collection[Uid]:
        """The attributes that any host which joins may have to serve: they want every eligible one, or name some."""
        return self._calling

    def admitting(self, attributes: Iterable[Uid], host: HostFacts) -> Iterator[Uid]:
        """Those of `attributes` that `host` matches, or that name it."""
        verdicts: dict[str, bool] = {}
        for uid in attributes:
            if (record := self._records.get(uid)) is None:
                continue
            text = record.attribute.requires.text
            if text not in verdicts:
                verdicts[text] = record.attribute.requires.stays(host).matches
            if verdicts[text] or host.host_id in record.pins:
                yield uid

    def judging_otherwise(self, old: HostFacts, new: HostFacts) -> set[Uid]:
        """The attributes that think otherwise of a host since it changed: it matches no more, or its label is new."""
        if replace(old, resources=new.resources) == new and _lent(old) == _lent(new):
            return set()
        before, after = set(self.admitting(self._records, old)), set(self.admitting(self._records, new))
        relabelled = {
            uid
            for uid, record in self._records.items()
            if (label := record.attribute.spread) and old.labels.get(label) != new.labels.get(label)
        }
        return (before ^ after) | relabelled


def _lent(host: HostFacts) -> tuple[int, int, int]:
    """What tests may ask of the resources of a host that holds a copy: its free space is not among them."""
    return host.resources.cpus, host.resources.memory, host.resources.quota
