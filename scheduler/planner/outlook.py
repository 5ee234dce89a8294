"""What is left open about each datum when a round is over, and the sentences that say why it is short.

Owns the outlooks. What it says of hosts it counts in the index, or asks of a few by name: it never looks at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Final

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import HostState

from .actions import Outlook
from .eligibility import judge, without_source
from .emptying import waits_to_move
from .ledger import Ledger
from .machines import waits_for_host
from .rows import TargetRow
from .spreading import spread_label, to_be_moved
from .waking import first_wake

MOST_NAMED: Final = 3


def outlooks(ledger: Ledger) -> dict[Uid, Outlook]:
    """The outlook for every datum of the snapshot. To be asked when the round is over."""
    waiting, staying = Counter[Uid](), Counter[Uid]()
    for machine in ledger.machines.values():
        if waits_for_host(ledger, machine) and not ledger.ordered(machine.uid):
            waiting[machine.data_uid] += 1
        elif waits_to_move(ledger, machine):
            staying[machine.data_uid] += 1
    return {uid: _outlook(ledger, uid, waiting[uid], staying[uid]) for uid in sorted(ledger.snapshot.data)}


def _outlook(ledger: Ledger, uid: Uid, machines: int, staying: int) -> Outlook:
    wake = first_wake(ledger, uid)
    missing, reasons, hopeful = 0, list(_deadlocks(ledger, uid)), False
    if ledger.thrives(uid):
        missing = still_missing(ledger, uid)
        reasons += _shortages(ledger, uid, missing)
        if machines:
            reasons.append(f"{_count(machines, 'machine waits', 'machines wait')} for a host")
        needs_hosts = bool(missing or _unspread(ledger, uid) or _stuck(ledger, uid))
        if staying:
            reasons.append(f"{_count(staying, 'machine runs', 'machines run')} on on a drained host until another can")
        hopeful = bool(machines or staying) or (needs_hosts and ledger.has_source(uid))
    blocked = _blocked_by_suspects(ledger, uid)
    if blocked and not reasons:
        reasons.append("a host with a copy is silent for a moment: which copies go is decided once it speaks")
    return Outlook(
        uid=uid,
        missing=missing,
        open=hopeful or blocked,
        machines=ledger.thrives(uid) and bool(machines or staying),
        held_back=uid in ledger.held_back,
        wake_at=wake.at if wake else None,
        why=wake.why if wake else "",
        reason="; ".join(reasons),
    )


def _blocked_by_suspects(ledger: Ledger, uid: Uid) -> bool:
    """Whether copies would be dropped or moved but for a host that is silent for a moment: open till it speaks."""
    tally, hosts = ledger.tally(uid), ledger.snapshot.hosts
    concerned = bool(tally.displaced or spread_label(ledger, uid)) or len(tally.held) > tally.keep
    silent = (hosts[row.host_id].state is HostState.SUSPECT for row in (*tally.held, *tally.displaced))
    return ledger.thrives(uid) and concerned and not tally.everywhere and any(silent)


def _deadlocks(ledger: Ledger, uid: Uid) -> Iterator[str]:
    """What no host could change."""
    datum = ledger.snapshot.data[uid]
    if datum.alive and (over := ledger.over(uid)) and not ledger.expired(uid):
        yield f"{over}, but a machine runs from a copy"
    if not datum.alive and ledger.runs_machines(uid):
        yield "a copy stays as long as a machine runs from it"
    if ledger.thrives(uid) and not ledger.has_source(uid):
        yield f"there is nothing to fetch: {without_source(datum)}"
    if ledger.thrives(uid) and (adrift := ledger.adrift(uid)):
        yield f"{adrift}: copies stay where they are"


# Missing copies -------------------------------------------------------------------------------------------------------


def still_missing(ledger: Ledger, uid: Uid) -> int:
    """Copies that are neither there, nor on their way, nor placed in this round."""
    tally, target = ledger.tally(uid), ledger.target(uid)
    short = tally.missing(0) - ledger.placed(uid)
    if tally.everywhere and target:
        short = sum(1 for _ in _unserved_holders(ledger, uid, target))
    return max(0, short, len(_unserved_pins(ledger, uid)))


def _unserved_holders(ledger: Ledger, uid: Uid, target: TargetRow) -> Iterator[HostId]:
    """The living holders of the target that match, but have no copy and get none."""
    served = _served(ledger, uid)
    for host_id in target.holders:
        host = ledger.snapshot.hosts.get(host_id)
        if host is None or host.state is not HostState.ALIVE or host_id in served:
            continue
        if ledger.matches(ledger.snapshot.data[uid].attribute.requires, host).matches:
            yield host_id


def _unserved_pins(ledger: Ledger, uid: Uid) -> list[HostId]:
    served = _served(ledger, uid)
    return sorted(host_id for host_id in ledger.snapshot.data[uid].pins if host_id not in served)


def _served(ledger: Ledger, uid: Uid) -> set[HostId]:
    tally = ledger.tally(uid)
    rows = (*tally.held, *tally.intended, *tally.displaced)
    return {row.host_id for row in rows} | set(ledger.placed_on(uid))


# Reasons --------------------------------------------------------------------------------------------------------------


def _shortages(ledger: Ledger, uid: Uid, missing: int) -> Iterator[str]:
    if not ledger.has_source(uid):
        return
    tally, target = ledger.tally(uid), ledger.target(uid)
    if uid in ledger.held_back:
        yield "repairs are begun a few at a time"
    elif missing and uid in ledger.cut_short:
        yield f"{missing} missing: the hosts looked at were promised to others in the same moment"
    elif missing and target:
        yield f"{missing} missing: {_about_holders(ledger, uid, target)}"
    elif missing and tally.missing(0) > ledger.placed(uid):
        yield f"{missing} missing, no eligible host: {_about_hosts(ledger, uid)}"
    if pins := _unserved_pins(ledger, uid):
        yield f"pinned, but without a copy: {_named(ledger, uid, pins)}"
    if moves := _unspread(ledger, uid):
        label = spread_label(ledger, uid)
        yield f"{_count(moves, 'copy shares', 'copies share')} a value of {label}: no other value has an eligible host"
    if kept := [row.host_id for row in tally.displaced if not ledger.touched(uid, row.host_id)]:
        names = [f"{_name(ledger, host_id)}: {ledger.misfit(uid, host_id)}" for host_id in kept]
        until = "a host for it is found" if _stuck(ledger, uid) else "nothing keeps it and others are settled"
        yield f"{_count(len(kept), 'displaced copy stays', 'displaced copies stay')} until {until}: {_some(names)}"


def _about_hosts(ledger: Ledger, uid: Uid) -> str:
    """How many hosts stand in the way for what, each host told once."""
    datum = ledger.snapshot.data[uid]
    found = ledger.snapshot.hosts.count(datum.attribute.requires, datum.data.size, ledger.distrib(uid))
    if not found.known:
        return "no host is known"
    parts = [
        (found.known - found.alive, "not alive"),
        (found.alive - found.matching, "that do not match"),
        (found.matching - found.open, f"that have all that distrib={datum.attribute.distrib} allows"),
        (found.open - found.roomy, "without room"),
        (found.roomy, "that have a copy, failed lately or were promised other data"),
    ]
    return ", ".join(f"{number} {what}" for number, what in parts if number)


def _about_holders(ledger: Ledger, uid: Uid, target: TargetRow) -> str:
    served = _served(ledger, uid)
    without = sorted(host_id for host_id in target.holders if host_id not in served)
    if not without:
        return f"every host that holds {target.name} has a copy"
    return f"{_count(len(without), 'holder', 'holders')} of {target.name} without one: {_named(ledger, uid, without)}"


def _named(ledger: Ledger, uid: Uid, host_ids: list[HostId]) -> str:
    named = []
    for host_id in islice(host_ids, MOST_NAMED):
        host = ledger.snapshot.hosts.get(host_id)
        named.append(f"{host.facts.name}: {judge(ledger, uid, host).reason}" if host else f"{host_id}: it is not known")
    return _some(named, len(host_ids))


def _some(sentences: list[str], total: int = 0) -> str:
    more = max(total, len(sentences)) - MOST_NAMED
    return "; ".join([*sentences[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _name(ledger: Ledger, host_id: HostId) -> str:
    return ledger.snapshot.hosts[host_id].facts.name


def _unspread(ledger: Ledger, uid: Uid) -> int:
    """Copies that share a value and were not moved in this round."""
    if not spread_label(ledger, uid) or ledger.adrift(uid) or uid in ledger.held_back:
        return 0
    return max(0, to_be_moved(ledger, uid) - ledger.placed(uid))


def _stuck(ledger: Ledger, uid: Uid) -> bool:
    """Whether displaced copies stay because nothing can take their place."""
    tally = ledger.tally(uid)
    under_way = tally.held or tally.intended or ledger.placed(uid)
    return bool(tally.displaced) and not under_way and not ledger.adrift(uid) and tally.replica != 0
