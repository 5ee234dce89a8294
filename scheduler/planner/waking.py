"""When the plan for a datum changes by itself: leases, retries, grace and settling times and lives end.

Owns those instants only; every one lies after the round's own, so that waking for one can't spin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import PlacementState

from .counting import grace_end, lease_end, retry_time, settles_at
from .ledger import Ledger
from .machines import renewal
from .spreading import redundant, to_be_moved


@dataclass(frozen=True, slots=True, order=True)
class Wake:
    """The plan for a datum changes at `at` though no fact does; `why` is a sentence for people."""

    at: datetime
    why: str


def first_wake(ledger: Ledger, uid: Uid) -> Wake | None:
    """The next such instant for a datum, if there is one. To be asked when the round is over."""
    instants = _instants(ledger, uid) if ledger.snapshot.data[uid].alive else _instants_of_dead(ledger, uid)
    return min((wake for wake in instants if wake.at > ledger.now), default=None)


def _instants_of_dead(ledger: Ledger, uid: Uid) -> Iterator[Wake]:
    for machine in ledger.machines_of(uid):
        if machine.ends is not None and not machine.ended:
            yield Wake(machine.ends, "the life of a deployment ends, and its machines are halted")
    for row in ledger.copies(uid).values():
        if row.state is PlacementState.FAILED:
            at = retry_time(row, ledger.settings)
            yield Wake(at, f"{_name(ledger, row.host_id)} is told again to drop its copy")


def _instants(ledger: Ledger, uid: Uid) -> Iterator[Wake]:
    tally, hosts, settings = ledger.tally(uid), ledger.snapshot.hosts, ledger.settings
    datum = ledger.snapshot.data[uid]
    if datum.ends is not None:
        yield Wake(datum.ends, "its lifetime ends")
    for host_id in ledger.placed_on(uid):
        yield Wake(ledger.now + settings.lease, _lease(ledger, host_id))
    yield from _pauses(ledger, uid)
    for row in tally.intended:
        yield Wake(lease_end(row, settings), _lease(ledger, row.host_id))
    for row in tally.held:
        end = grace_end(hosts[row.host_id], datum, settings)
        if end is not None:
            yield Wake(end, f"the copy on {_name(ledger, row.host_id)}, which is lost, stops counting")
    yield from _settling(ledger, uid)
    yield from _retries(ledger, uid)
    for machine in ledger.machines_of(uid):
        if machine.ends is not None and not machine.ended:
            yield Wake(machine.ends, "the life of a deployment ends, and its machines are halted")
        found = renewal(ledger, machine)
        if found is not None and not ledger.ordered(machine.uid):
            yield Wake(found.at, f"another machine takes the place of {machine.uid[:8]}")


def _pauses(ledger: Ledger, uid: Uid) -> Iterator[Wake]:
    soon = ledger.now + ledger.settings.repair_pause
    short = ledger.tally(uid).missing(0) > ledger.placed(uid) or to_be_moved(ledger, uid)
    if uid in ledger.cut_short and short:
        yield Wake(soon, "more hosts are looked at")


def _retries(ledger: Ledger, uid: Uid) -> Iterator[Wake]:
    tally, datum = ledger.tally(uid), ledger.snapshot.data[uid]
    if ledger.has_source(uid):
        short = tally.everywhere or tally.missing(0) > ledger.placed(uid) or to_be_moved(ledger, uid)
        for row in tally.failed:
            if short or row.host_id in datum.pins:
                at = retry_time(row, ledger.settings)
                yield Wake(at, f"{_name(ledger, row.host_id)} may be tried again")


def _settling(ledger: Ledger, uid: Uid) -> Iterator[Wake]:
    tally, hosts, settings = ledger.tally(uid), ledger.snapshot.hosts, ledger.settings
    ends = [settles_at(row, hosts[row.host_id], settings) for row in tally.unsettled]
    if tally.displaced:
        for at in ends:
            yield Wake(at, "copies that may not stay are dropped once enough others are settled")
    if tally.everywhere or len(tally.settled) + len(tally.unsettled) < tally.replica:
        return
    unneeded = [row.since + settings.settle for row in (*tally.intended, *tally.stalled)]
    if len(tally.settled) + len(tally.unsettled) > tally.keep or unneeded or redundant(ledger, uid):
        for at in (*ends, *unneeded):
            yield Wake(at, f"copies beyond the {tally.replica} wanted are dropped once they are settled")


def _lease(ledger: Ledger, host_id: HostId) -> str:
    return f"another host is planned unless {_name(ledger, host_id)} makes progress"


def _name(ledger: Ledger, host_id: HostId) -> str:
    return ledger.snapshot.hosts[host_id].facts.name
