"""How many copies of each attribute's data each host has: what `distrib` and an attribute's holders are read from.

Owns the counts, as the engine feeds them between rounds. It must not know which data they are of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from bitdew.core.ids import HostId, Uid

LONGEST_JOURNAL: Final = 4096
"""How many changes are kept for those who follow an attribute; who missed more starts over."""


class _Journal:
    """The hosts whose counts changed, in order; `first` is the number of the earliest that is still kept."""

    def __init__(self) -> None:
        self.first = 0
        self.hosts: list[HostId] = []

    def append(self, host: HostId) -> None:
        self.hosts.append(host)
        if len(self.hosts) > LONGEST_JOURNAL:
            half = LONGEST_JOURNAL // 2
            del self.hosts[:half]
            self.first += half

    @property
    def end(self) -> int:
        return self.first + len(self.hosts)


class Census:
    """Copies by attribute and host. Mutable by its owner, between rounds only."""

    def __init__(self, counts: Iterable[tuple[Uid, HostId, int, int]] = ()) -> None:
        """`counts` are rows of attribute, host, copies taken and copies held."""
        self._taken: dict[Uid, dict[HostId, int]] = {}
        self._held: dict[Uid, dict[HostId, int]] = {}
        self._journals: dict[Uid, _Journal] = {}
        for attribute, host, taken, held in counts:
            self.add(attribute, host, taken=taken, held=held)

    def add(self, attribute: Uid, host: HostId, *, taken: int = 0, held: int = 0) -> None:
        """Count `taken` and `held` copies more (or fewer, if negative) of this attribute's data on `host`."""
        _add(self._taken, attribute, host, taken)
        _add(self._held, attribute, host, held)
        if taken and (journal := self._journals.get(attribute)):
            journal.append(host)

    def taken(self, attribute: Uid, host: HostId) -> int:
        """Data of this attribute that are held on `host` or on their way there."""
        return self._taken.get(attribute, {}).get(host, 0)

    def held(self, attribute: Uid, host: HostId) -> int:
        """Data of this attribute that are held on `host`."""
        return self._held.get(attribute, {}).get(host, 0)

    def holders(self, attribute: Uid) -> Collection[HostId]:
        """The hosts that hold any datum of this attribute, as they are now: a view that changes with the census."""
        return self._held.get(attribute, {}).keys()

    def hosts(self, attribute: Uid) -> Collection[HostId]:
        """The hosts with any datum of this attribute, held or on its way: a view that changes with the census."""
        return self._taken.get(attribute, {}).keys()

    def forget(self, host: HostId) -> None:
        """Count nothing on `host` any more, until it is counted anew."""
        for attribute in [attribute for attribute, hosts in self._taken.items() if host in hosts]:
            self.add(attribute, host, taken=-self._taken[attribute][host])
        for attribute in [attribute for attribute, hosts in self._held.items() if host in hosts]:
            self.add(attribute, host, held=-self._held[attribute][host])

    def changes(self, attribute: Uid, since: int) -> tuple[int, list[HostId] | None]:
        """The hosts whose `taken` changed after the change number `since`, and the number of the latest change.

        None instead of hosts says that too much was missed: start over. The first who asks makes it be kept.
        """
        journal = self._journals.setdefault(attribute, _Journal())
        missed = since < journal.first
        return journal.end, None if missed else journal.hosts[since - journal.first :]

    def counts(self) -> list[tuple[Uid, HostId, int, int]]:
        """All counts as rows of attribute, host, taken and held, in order."""
        keys = {(a, h) for table in (self._taken, self._held) for a, hosts in table.items() for h in hosts}
        return [(a, h, self.taken(a, h), self.held(a, h)) for a, h in sorted(keys)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Census) and (self._taken, self._held) == (other._taken, other._held)

    __hash__ = None  # type: ignore[assignment]


def _add(table: dict[Uid, dict[HostId, int]], attribute: Uid, host: HostId, more: int) -> None:
    if not more:
        return
    hosts = table.setdefault(attribute, {})
    hosts[host] = hosts.get(host, 0) + more
    if hosts[host] <= 0:
        del hosts[host]
        if not hosts:
            del table[attribute]


@dataclass(frozen=True, slots=True)
class Distrib:
    """At most `most` data of an attribute on one host, as `census` counts them."""

    census: Census
    attribute: Uid
    most: int

    def full(self, host: HostId, promised: int = 0) -> bool:
        """Whether `host` may take no further datum of the attribute, `promised` ones being on their way there."""
        return self.census.taken(self.attribute, host) + promised >= self.most
