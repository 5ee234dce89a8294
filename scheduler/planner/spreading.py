"""Spread: which copies share a value of the label, and which of them could make place for one elsewhere.

Owns that arithmetic; it places and drops nothing. A host without the label counts as one more value. Data that are
wanted on every host are not spread: there is no choice.
"""

from __future__ import annotations

from collections import Counter

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import HostState

from .ledger import Ledger
from .rows import HostRow, PlacementRow

Value = str | None
"""A value of the label; None for a host without it."""


def spread_label(ledger: Ledger, uid: Uid) -> str:
    """The label on whose values the copies of a datum are spread, or ""."""
    return "" if ledger.tally(uid).everywhere else ledger.snapshot.data[uid].attribute.spread


def value_at(ledger: Ledger, uid: Uid, host: HostRow) -> Value:
    """The host's value of the datum's label."""
    return host.facts.labels.get(ledger.snapshot.data[uid].attribute.spread)


def values_of(ledger: Ledger, uid: Uid) -> Counter[Value]:
    """How many copies that count, or were placed in this round, stand on each value of the label."""
    tally, hosts = ledger.tally(uid), ledger.snapshot.hosts
    values = Counter(_value(ledger, row) for row in (*tally.held, *tally.intended))
    values.update(value_at(ledger, uid, hosts[host_id]) for host_id in ledger.placed_on(uid))
    return values


def _value(ledger: Ledger, row: PlacementRow) -> Value:
    return value_at(ledger, row.uid, ledger.snapshot.hosts[row.host_id])


def redundant(ledger: Ledger, uid: Uid) -> int:
    """Copies that share their value with another and could be dropped for one on an unused value."""
    if not spread_label(ledger, uid):
        return 0
    tally = ledger.tally(uid)
    movable = Counter(_value(ledger, row) for row in (*tally.held, *tally.intended) if _is_movable(ledger, row))
    return sum(min(copies - 1, movable[value]) for value, copies in values_of(ledger, uid).items())


def _is_movable(ledger: Ledger, row: PlacementRow) -> bool:
    pinned = row.host_id in ledger.snapshot.data[row.uid].pins
    living = ledger.snapshot.hosts[row.host_id].state is HostState.ALIVE
    return living and not pinned and not ledger.in_use(row.uid, row.host_id)


def to_be_moved(ledger: Ledger, uid: Uid) -> int:
    """Copies to be placed on unused values beyond those that are wanted, so that redundant ones can go.

    Copies beyond those wanted that are there or on their way are such already.
    """
    tally = ledger.tally(uid)
    if tally.missing(0):
        return 0
    return max(0, redundant(ledger, uid) - (tally.counted - tally.replica))


def awaited_for_spread(ledger: Ledger, uid: Uid) -> set[HostId]:
    """The hosts whose copy on its way brings an unused value, while as many copies that are held are redundant."""
    if not spread_label(ledger, uid):
        return set()
    tally = ledger.tally(uid)
    used = Counter(_value(ledger, row) for row in tally.held)
    spare = sum(copies - 1 for copies in used.values())
    found: set[HostId] = set()
    for row in sorted(tally.intended, key=lambda row: row.host_id):
        if len(found) < spare and (value := _value(ledger, row)) not in used:
            used[value] += 1
            found.add(row.host_id)
    return found


def dispensable_first(ledger: Ledger, row: PlacementRow, values: Counter[Value]) -> tuple[int, bool]:
    """A sort key: of copies to drop, those first whose value most others share, then those without the label."""
    value = _value(ledger, row)
    return -values[value], value is not None


def forget_value(ledger: Ledger, row: PlacementRow, values: Counter[Value]) -> None:
    """One copy fewer stands on its value."""
    values[_value(ledger, row)] -= 1
