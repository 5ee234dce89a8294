"""The hosts, kept in such an order that the best for a datum are found without looking at the others.

Owns one sorted pool of hosts for each requirement, spread label and `distrib` that data asked for. A pool is made on
first use, kept current by `put`, and forgotten when 256 others were used since. It decides nothing: what it yields
may still be refused, for what was promised in this round or for what the host did to this datum.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sortedcontainers import SortedList

from bitdew.core.ids import HostId, Uid
from bitdew.core.requirement import Requirement
from bitdew.core.states import HostState

from .census import Distrib
from .rows import RESERVE, HostRow

MOST_POOLS: Final = 256
EMPTIEST: Final = 0
FULLEST: Final = 20

_Entry = tuple[int, int, HostId]
"""Bytes of room, the point on the circle, the host."""


def twentieths(left: int, quota: int) -> int:
    """How full a quota with `left` bytes to spare is, from 0 (empty) to 20, to the nearest twentieth."""
    quota = max(quota, 1)
    return FULLEST - (40 * left + quota) // (2 * quota)


def point(text: str) -> int:
    """Where `text` lies on the hash circle: equals are met in an order that differs from datum to datum."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


@dataclass(frozen=True, slots=True)
class Count:
    """How many hosts stand where with respect to a wish. Each figure counts a part of the one before it.

    Attributes:
        known: Hosts of whatever state.
        alive: Those that are alive.
        matching: Those that match the requirement.
        open: Those that `distrib` does not close.
        roomy: Those with quota and space for the datum.
    """

    known: int
    alive: int
    matching: int
    open: int
    roomy: int


class _Card:
    """A host's row, and what all pools need of it, computed once."""

    __slots__ = ("alive", "entry", "host_id", "level", "row")

    def __init__(self, row: HostRow, reserve: int) -> None:
        resources, self.host_id = row.facts.resources, row.facts.host_id
        left = max(0, resources.quota - row.committed)
        space = resources.free - max(0, row.committed - resources.used) - reserve
        self.row = row
        self.alive = row.state is HostState.ALIVE
        self.level = twentieths(left, resources.quota)
        self.entry: _Entry = (max(0, min(left, space)), point(self.host_id), self.host_id)


class _Ranks:
    """Some hosts by fullness, then by room."""

    def __init__(self) -> None:
        self.levels: dict[int, Any] = {}  # of sorted lists of entries: the library has no types

    def add(self, level: int, entry: _Entry) -> None:
        if level not in self.levels:
            self.levels[level] = SortedList()
        self.levels[level].add(entry)

    def fill(self, level: int, entries: list[_Entry]) -> None:
        """Begin a level with all its entries: many times faster than adding one by one."""
        self.levels[level] = SortedList(entries)

    def discard(self, level: int, entry: _Entry) -> None:
        self.levels[level].remove(entry)
        if not self.levels[level]:
            del self.levels[level]

    def most_room(self, level: int) -> int | None:
        """The room of the roomiest host of this level, or None if there is no host."""
        return self.levels[level][-1][0] if level in self.levels else None

    def hosts(self, level: int, size: int, start: int) -> Iterator[HostId]:
        """The hosts of a level with room for `size`, from a point that `start` chooses, round to that point."""
        return (entry[2] for entry in _round(self.levels.get(level, ()), size, start))

    def roomy(self, size: int) -> int:
        return sum(len(ranked) - ranked.bisect_left((size,)) for ranked in self.levels.values())


def _round(ranked: Any, size: int, start: int) -> Iterator[tuple[int, int, Any]]:
    """The part of a sorted list from `size` on, as a circle entered at `start`."""
    if not ranked:
        return
    low = ranked.bisect_left((size,))
    if low == len(ranked):
        return
    first = low + start % (len(ranked) - low)
    yield from ranked.islice(first)
    yield from ranked.islice(low, first)


class _Pool:
    """The hosts that are alive, match one requirement and are not closed by one `distrib`, by one label's values."""

    def __init__(self, requires: Requirement, label: str, distrib: Distrib | None) -> None:
        self.requires = requires
        self.label = label
        self.distrib = distrib
        self.matching: set[HostId] = set()
        self.seen = distrib.census.changes(distrib.attribute, 0)[0] if distrib else 0
        self._by_room = "free" in requires.text  # at most too careful: a label may be called so
        self._where: dict[HostId, tuple[str | None, int, _Entry]] = {}
        self._bare = _Ranks()
        self._valued: dict[str, _Ranks] = {}
        self._tops: dict[int, Any] = {}  # for each level, the sorted (most room, point, value) of the label's values

    def __len__(self) -> int:
        return len(self._where)

    def fill(self, cards: Iterable[_Card]) -> None:
        """Take note of all hosts, in a pool that is new."""
        shelves: dict[tuple[str | None, int], list[_Entry]] = {}
        for card in cards:
            if card.alive and self.requires.check(card.row.facts).matches:
                self.matching.add(card.host_id)
                if seat := self._seat_for(card):
                    self._where[card.host_id] = seat
                    shelves.setdefault(seat[:2], []).append(seat[2])
        tops: dict[int, list[tuple[int, int, str]]] = {}
        for (value, level), entries in shelves.items():
            if value is None:
                self._bare.fill(level, entries)
                continue
            self._valued.setdefault(value, _Ranks()).fill(level, entries)
            tops.setdefault(level, []).append((max(entries)[0], point(value), value))
        self._tops = {level: SortedList(found) for level, found in tops.items()}

    def renew(self, card: _Card, *, same_wishes: bool) -> None:
        """Take note of a host; `same_wishes` says that at most its space changed since the last time."""
        if not same_wishes or self._by_room:
            if card.alive and self.requires.check(card.row.facts).matches:
                self.matching.add(card.host_id)
            else:
                self.matching.discard(card.host_id)
        self._seat(card)

    def _seat_for(self, card: _Card) -> tuple[str | None, int, _Entry] | None:
        """Where a host belongs, or None if it doesn't."""
        if card.host_id not in self.matching or (self.distrib is not None and self.distrib.full(card.host_id)):
            return None
        return card.row.facts.labels.get(self.label) if self.label else None, card.level, card.entry

    def _seat(self, card: _Card) -> None:
        host_id, wanted = card.host_id, self._seat_for(card)
        if wanted == (seat := self._where.get(host_id)):
            return
        if seat is not None:
            self._leave(*seat)
            del self._where[host_id]
        if wanted is not None:
            self._enter(*wanted)
            self._where[host_id] = wanted

    def forget(self, host_id: HostId) -> None:
        self.matching.discard(host_id)
        if seat := self._where.pop(host_id, None):
            self._leave(*seat)

    def _enter(self, value: str | None, level: int, entry: _Entry) -> None:
        if value is None:
            self._bare.add(level, entry)
            return
        ranks = self._valued.setdefault(value, _Ranks())
        before = ranks.most_room(level)
        ranks.add(level, entry)
        self._note_top(level, value, before, ranks.most_room(level))

    def _leave(self, value: str | None, level: int, entry: _Entry) -> None:
        if value is None:
            self._bare.discard(level, entry)
            return
        ranks = self._valued[value]
        before = ranks.most_room(level)
        ranks.discard(level, entry)
        self._note_top(level, value, before, ranks.most_room(level))
        if not ranks.levels:
            del self._valued[value]

    def _note_top(self, level: int, value: str, before: int | None, after: int | None) -> None:
        if before == after:
            return
        tops = self._tops.setdefault(level, SortedList())
        if before is not None:
            tops.remove((before, point(value), value))
        if after is not None:
            tops.add((after, point(value), value))
        if not tops:
            del self._tops[level]

    def catch_up(self, cards: Mapping[HostId, _Card]) -> bool:
        """Follow what the census counted since the last time. False says that too much was missed."""
        if self.distrib is None:
            return True
        self.seen, moved = self.distrib.census.changes(self.distrib.attribute, self.seen)
        for host_id in moved or ():
            if host_id in cards:
                self._seat(cards[host_id])
        return moved is not None

    def hosts(self, size: int, start: int, avoid: Container[str | None]) -> Iterator[HostId]:
        """The hosts with room, emptiest first; one of each of the label's values in turn, those without it last."""
        for level in sorted(self._tops):
            yield from self._in_turn(level, size, start, avoid)
        for level in sorted(self._bare.levels):
            for host_id in self._bare.hosts(level, size, start):
                if None in avoid:
                    return
                yield host_id

    def _in_turn(self, level: int, size: int, start: int, avoid: Container[str | None]) -> Iterator[HostId]:
        queues: list[tuple[str, Iterator[HostId]]] = []
        for _, _, value in _round(self._tops[level], size, start):
            if value in avoid:
                continue
            queue = self._valued[value].hosts(level, size, start)
            yield next(queue)
            queues.append((value, queue))
        while queues:
            left = []
            for value, queue in queues:
                if value not in avoid and (host_id := next(queue, None)) is not None:
                    yield host_id
                    left.append((value, queue))
            queues = left

    def roomy(self, size: int) -> int:
        """How many of the hosts have room for `size`."""
        return self._bare.roomy(size) + sum(ranks.roomy(size) for ranks in self._valued.values())


class HostIndex(Mapping[HostId, HostRow]):
    """All known hosts. Mutable by its owner, between rounds only; whatever the order of `put`, it answers the same."""

    def __init__(self, rows: Iterable[HostRow] = (), *, reserve: int = RESERVE) -> None:
        """`reserve` is how many bytes of a file system are always left free, as in the planner's settings."""
        self._reserve = reserve
        self._cards: dict[HostId, _Card] = {}
        self._alive = 0
        self._pools: OrderedDict[tuple[str, str, Uid | None, int], _Pool] = OrderedDict()
        for row in rows:
            self.put(row)

    def __getitem__(self, host_id: HostId) -> HostRow:
        return self._cards[host_id].row

    def __iter__(self) -> Iterator[HostId]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)

    def __contains__(self, host_id: object) -> bool:
        return host_id in self._cards

    def put(self, row: HostRow) -> None:
        """Take note of a host, new or changed. Costs nothing if nothing changed, little if only its room did."""
        host_id = row.facts.host_id
        old = self._cards.get(host_id)
        if old is not None and (old.row is row or old.row == row):
            return
        card = self._cards[host_id] = _Card(row, self._reserve)
        self._alive += card.alive - (old is not None and old.alive)
        if old is not None and not old.alive and not card.alive:
            return
        same_wishes = old is not None and old.alive and card.alive and _same_wishes(old.row, row)
        for pool in self._pools.values():
            pool.renew(card, same_wishes=same_wishes)

    def remove(self, host_id: HostId) -> None:
        """Forget a host. Forgetting one that is not known is no fault."""
        card = self._cards.pop(host_id, None)
        if card is None:
            return
        self._alive -= card.alive
        for pool in self._pools.values():
            pool.forget(host_id)

    def candidates(
        self,
        requires: Requirement,
        size: int,
        start: Uid,
        *,
        spread: str = "",
        avoid: Container[str | None] = frozenset(),
        distrib: Distrib | None = None,
    ) -> Iterator[HostRow]:
        """The hosts that are alive, match `requires` and have room for `size` bytes, the emptiest first.

        Hosts are ordered by how full their quota is, to the twentieth; within one twentieth they stand in a circle
        that is entered at a point which depends on `start`, so that many data share equal hosts evenly. With `spread`,
        the values of that label take turns within a twentieth, and hosts without the label come last of all; values in
        `avoid` are left out (None: hosts without the label), also such as are added while this is read. With
        `distrib`, hosts that have as many data of the attribute as they may are left out.
        """
        pool = self._pool(requires, spread, distrib)
        return (self._cards[host_id].row for host_id in pool.hosts(size, point(start), avoid))

    def count(self, requires: Requirement, size: int, distrib: Distrib | None = None) -> Count:
        """How many hosts stand in the way of a datum of `size` bytes for what: counted, not looked at one by one."""
        pool = self._pool(requires, "", distrib)
        return Count(len(self), self._alive, len(pool.matching), len(pool), pool.roomy(size))

    def _pool(self, requires: Requirement, label: str, distrib: Distrib | None) -> _Pool:
        key = (requires.text, label, distrib.attribute if distrib else None, distrib.most if distrib else -1)
        pool = self._pools.get(key)
        counted_alike = pool is not None and (distrib is None or pool.distrib == distrib)
        if pool is None or not counted_alike or not pool.catch_up(self._cards):
            pool = self._pools[key] = _Pool(requires, label, distrib)
            pool.fill(self._cards.values())
        self._pools.move_to_end(key)
        while len(self._pools) > MOST_POOLS:
            self._pools.popitem(last=False)
        return pool


def _same_wishes(old: HostRow, new: HostRow) -> bool:
    """Whether nothing changed that a requirement or a label could be about, but the space."""
    a, b = old.facts, new.facts
    if a is b:
        return True
    space = {"free": 0, "used": 0}
    return (a.name, a.labels, a.sharings) == (b.name, b.labels, b.sharings) and (
        replace(a.resources, **space) == replace(b.resources, **space)
    )
