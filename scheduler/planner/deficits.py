"""The policies that place copies: on pinned hosts, where copies are missing, and where they spread better.

Owns what is placed and why there. It drops nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from bitdew.core.ids import HostId, Uid
from bitdew.core.units import format_size

from .actions import Place
from .eligibility import judge
from .ledger import Ledger
from .rows import HostRow
from .search import all_eligible, choose, choose_unused
from .spreading import spread_label, to_be_moved, value_at, values_of


def fill_deficits(ledger: Ledger) -> Iterator[Place]:
    """Place the missing copies, by priority: the pinned ones, then others on the best eligible hosts.

    What makes up for copies on lost hosts comes last and is a repair, of which a round begins so many and no more.
    """
    for uid, _ in ledger.data_in_order():
        if ledger.thrives(uid) and ledger.has_source(uid):
            yield from _place_pinned(ledger, uid)
            yield from _place_missing(ledger, uid)


def _place_pinned(ledger: Ledger, uid: Uid) -> Iterator[Place]:
    for host_id in sorted(ledger.snapshot.data[uid].pins):
        host = ledger.snapshot.hosts.get(host_id)
        if host is not None and judge(ledger, uid, host).verdict == "eligible":
            yield _place(ledger, uid, host_id, f"the datum is pinned to this host; {_merit(ledger, uid, host)}")


def _place_missing(ledger: Ledger, uid: Uid) -> Iterator[Place]:
    tally = ledger.tally(uid)
    if tally.everywhere:
        best = all_eligible(ledger, uid)
        missing = first_repair = len(best)
    else:
        missing = tally.missing(0) - ledger.placed(uid)
        if missing <= 0:
            return
        best, first_repair = choose(ledger, uid, missing), missing - len(tally.away)
    values = set(values_of(ledger, uid)) if spread_label(ledger, uid) else set()
    for number, host in enumerate(best):
        cause = f"{tally.figures(missing)}; {_merit(ledger, uid, host)}"
        if spread_label(ledger, uid):
            value = value_at(ledger, uid, host)
            cause += f"; {_told_value(ledger, uid, host)} {'is shared' if value in values else 'had no copy'}"
            values.add(value)
        yield _place(ledger, uid, host.facts.host_id, cause, repair=number >= first_repair)


def improve_spread(ledger: Ledger) -> Iterator[Place]:
    """Place copies on unused values of the label where others share one; the redundant ones are trimmed later.

    As nothing is lost without them, they are as few in a round as repairs.
    """
    for uid, _ in ledger.data_in_order():
        if not ledger.thrives(uid) or not ledger.has_source(uid) or ledger.adrift(uid) or ledger.placed(uid):
            continue
        if not (wanted := to_be_moved(ledger, uid)):
            continue
        for host in choose_unused(ledger, uid, wanted):
            cause = (
                f"{ledger.tally(uid).figures(0)}; copies share a value of {spread_label(ledger, uid)}, and "
                f"{_told_value(ledger, uid, host)} had no copy"
            )
            yield _place(ledger, uid, host.facts.host_id, cause, repair=True)


def _place(ledger: Ledger, uid: Uid, host_id: HostId, cause: str, *, repair: bool = False) -> Place:
    return Place(uid, host_id, ledger.now + ledger.settings.lease, cause, repair=repair)


def _merit(ledger: Ledger, uid: Uid, host: HostRow) -> str:
    row = ledger.copies(uid).get(host.facts.host_id)
    if row and row.failures:
        return f"tried again after it failed {row.failures} times ({row.reason or 'no reason given'})"
    quota = host.facts.resources.quota
    return f"chosen for its free quota ({format_size(ledger.quota_left(host))} of {format_size(quota)})"


def _told_value(ledger: Ledger, uid: Uid, host: HostRow) -> str:
    label, value = spread_label(ledger, uid), value_at(ledger, uid, host)
    return f"{label}={value}" if value is not None else f"a host without {label}"
