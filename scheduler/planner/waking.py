"""When the plan for a datum changes by itself: leases, retries, grace and settling times end.

Owns those instants only; every one lies after the round's own, so that waking for one can't spin.
"""

from __future__ import annotations

from collections.abc import Iterator

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import PlacementState

from .actions import Place, Refusal, Wake
from .arbiter import REPAIRS_ARE_CAPPED
from .counting import grace_end, lease_end, retry_time, settles_at
from .ledger import Ledger


def wakes(ledger: Ledger, refusals: list[Refusal]) -> tuple[Wake, ...]:
    """The next instant for each datum that has one, earliest first. To be asked when the round is over."""
    found = sorted(
        (wake for wake in _instants(ledger, refusals) if wake.at > ledger.now),
        key=lambda wake: (wake.at, wake.uid, wake.why),
    )
    first: dict[Uid, Wake] = {}
    for wake in found:
        first.setdefault(wake.uid, wake)
    return tuple(first.values())


def _instants(ledger: Ledger, refusals: list[Refusal]) -> Iterator[Wake]:
    placed: dict[Uid, int] = {}
    for action in ledger.actions:
        if isinstance(action, Place):
            placed[action.uid] = placed.get(action.uid, 0) + 1
            yield Wake(action.uid, action.lease_until, _lease(ledger, action.host_id))
    for refusal in refusals:
        if refusal.reason == REPAIRS_ARE_CAPPED and isinstance(refusal.action, Place):
            yield Wake(
                refusal.action.uid, ledger.now + ledger.settings.repair_pause, "the repairs that were held back are due"
            )
    for uid, datum in ledger.data_in_order():
        if datum.alive:
            yield from _instants_of(ledger, uid, placed.get(uid, 0))
            continue
        for row in ledger.copies(uid).values():
            if row.state is PlacementState.FAILED:
                at = retry_time(row, ledger.settings)
                yield Wake(uid, at, f"{_name(ledger, row.host_id)} is told again to drop its copy")


def _instants_of(ledger: Ledger, uid: Uid, placed: int) -> Iterator[Wake]:
    tally, hosts, settings = ledger.tally(uid), ledger.snapshot.hosts, ledger.settings
    datum = ledger.snapshot.data[uid]
    for row in tally.intended:
        yield Wake(uid, lease_end(row, settings), _lease(ledger, row.host_id))
    for row in tally.held:
        end = grace_end(hosts[row.host_id], datum, settings)
        if end is not None:
            yield Wake(uid, end, f"the copy on {_name(ledger, row.host_id)}, which is lost, stops counting")
    if tally.missing(len(hosts)) > placed and ledger.has_source(uid):
        for row in tally.failed:
            yield Wake(uid, retry_time(row, settings), f"{_name(ledger, row.host_id)} may be tried again")
    if tally.everywhere or len(tally.settled) + len(tally.unsettled) < tally.replica:
        return
    unneeded = [row.since + settings.settle for row in (*tally.intended, *tally.stalled)]
    if len(tally.settled) + len(tally.unsettled) > tally.keep or unneeded:
        ends = [settles_at(row, hosts[row.host_id], settings) for row in tally.unsettled]
        for at in (*ends, *unneeded):
            yield Wake(uid, at, f"copies beyond the {tally.replica} wanted are dropped once they are settled")


def _lease(ledger: Ledger, host_id: HostId) -> str:
    return f"another host is planned unless {_name(ledger, host_id)} makes progress"


def _name(ledger: Ledger, host_id: HostId) -> str:
    return ledger.snapshot.hosts[host_id].facts.name
