"""The policies that drop copies of living data: those that may not be where they are, and those beyond the wanted.

Owns what is dropped and why. It places nothing; the last verified copy is the arbiter's to protect.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from bitdew.core.ids import Uid
from bitdew.core.states import HostState

from .actions import Drop
from .counting import retry_time
from .eligibility import fullness
from .ledger import Ledger, tie_break
from .rows import PlacementRow
from .spreading import awaited_for_spread, dispensable_first, forget_value, spread_label, values_of


def stop_strays(ledger: Ledger) -> Iterator[Drop]:
    """Stop copies on their way to hosts where they may not be."""
    for uid, datum in ledger.data_in_order():
        for row in ledger.tally(uid).stray:
            if datum.alive and _is_loose(ledger, row):
                yield Drop(uid, row.host_id, f"a copy on its way here is stopped: {ledger.misfit(uid, row.host_id)}")


def drop_displaced(ledger: Ledger) -> Iterator[Drop]:
    """Drop the copies that may not stay, once enough others are settled, or one is and no better host exists."""
    for uid, datum in ledger.data_in_order():
        tally = ledger.tally(uid)
        if not datum.alive or not tally.displaced or not (why := may_go(ledger, uid)):
            continue
        loose = [row for row in tally.displaced if _is_loose(ledger, row) and _is_reachable(ledger, row)]
        if not tally.settled:
            loose = _all_but_one(ledger, uid, loose)
        for row in loose:
            yield Drop(uid, row.host_id, f"{ledger.misfit(uid, row.host_id)}; {why}")


def may_go(ledger: Ledger, uid: Uid) -> str:
    """Why the displaced copies of a datum may go, or ""."""
    tally = ledger.tally(uid)
    if ledger.adrift(uid):
        return ""  # the copies stay where they are
    settled = len(tally.settled)
    under_way = tally.intended or tally.unsettled or ledger.placed(uid)
    if tally.everywhere:
        return f"{settled} copies elsewhere are settled" if settled and not under_way else ""
    if tally.replica == 0:
        return "no copies are wanted"
    if settled >= tally.replica:
        return f"{settled} of {tally.replica} copies elsewhere are settled"
    awaited = any(retry_time(row, ledger.settings) > ledger.now for row in tally.failed)  # later it is placed, or never
    no_better = not under_way and not awaited and not {uid} & (ledger.held_back | ledger.cut_short)
    if settled and tally.missing(0) and no_better:
        return f"{settled} copies elsewhere are settled, and there is no better host"
    return ""


def _all_but_one(ledger: Ledger, uid: Uid, loose: list[PlacementRow]) -> list[PlacementRow]:
    """`loose`, but for one if the living hosts hold no other verified copy."""
    going = {row.host_id for row in loose}
    if any(host_id not in going for host_id in ledger.verified(uid)):
        return loose
    spared = next((row.host_id for row in loose if ledger.holds_verified(uid, row.host_id)), None)
    return [row for row in loose if spared not in {None, row.host_id}]


def trim_surplus(ledger: Ledger) -> Iterator[Drop]:
    """Drop settled copies beyond those wanted, and stop those on their way that nobody waits for.

    Those go first whose value of the spread's label others share, then those on the fullest hosts.
    """
    for uid, datum in ledger.data_in_order():
        tally = ledger.tally(uid)
        if not datum.alive or tally.everywhere or len(tally.settled) < tally.replica:
            continue
        figures = f"{tally.scope}: {len(tally.settled)} held and settled on living hosts"
        awaited = awaited_for_spread(ledger, uid)
        for row in (*tally.stalled, *tally.intended):
            due = row.since + ledger.settings.settle <= ledger.now and row.host_id not in awaited
            if due and _is_loose(ledger, row):
                yield Drop(uid, row.host_id, f"{figures}; a copy on its way here is not needed")
        surplus = len(tally.settled) - tally.keep
        for row, chosen in _least_needed(ledger, uid, surplus):
            yield Drop(uid, row.host_id, f"{figures}, {surplus} too many; chosen {chosen}")


def _least_needed(ledger: Ledger, uid: Uid, surplus: int) -> Iterator[tuple[PlacementRow, str]]:
    """The settled copies that can be spared best, and why them."""
    if surplus <= 0:
        return
    values = values_of(ledger, uid)
    label = spread_label(ledger, uid)

    def order(row: PlacementRow) -> tuple[int, bool, int, bytes]:
        shared, labelled = dispensable_first(ledger, row, values) if label else (0, True)
        host = ledger.snapshot.hosts[row.host_id]
        return shared, labelled, -fullness(ledger, host), tie_break(uid, row.host_id)

    rows = {row.host_id: row for row in ledger.tally(uid).settled if _is_loose(ledger, row)}
    heap = [(order(row), host_id) for host_id, row in rows.items()]
    heapq.heapify(heap)
    while heap and surplus:
        rank, host_id = heap[0]
        if (now := order(rows[host_id])) != rank:  # a copy on the same value went: it is shared by fewer
            heapq.heapreplace(heap, (now, host_id))
            continue
        heapq.heappop(heap)
        surplus -= 1
        yield (
            rows[host_id],
            f"for its value of {label}, which others share" if rank[0] < -1 else "for the fullest quota",
        )
        if label:
            forget_value(ledger, rows[host_id], values)


def _is_loose(ledger: Ledger, row: PlacementRow) -> bool:
    """Whether neither a pin nor a machine keeps the copy."""
    return row.host_id not in ledger.snapshot.data[row.uid].pins and not ledger.in_use(row.uid, row.host_id)


def _is_reachable(ledger: Ledger, row: PlacementRow) -> bool:
    return ledger.snapshot.hosts[row.host_id].state in {HostState.ALIVE, HostState.DRAINED}
