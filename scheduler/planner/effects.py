"""What each wish of an attribute comes to for one datum, told for people.

Owns those sentences; they follow from the rules elsewhere and decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from bitdew.core.attribute import Attribute
from bitdew.core.ids import Uid

from .eligibility import instant
from .ledger import Ledger
from .spreading import spread_label, values_of


def effects(ledger: Ledger, uid: Uid) -> tuple[str, ...]:
    """What the wishes that were made come to, in the order of the attribute's keys."""
    return tuple(_effects(ledger, uid))


def lifetime(ledger: Ledger, uid: Uid) -> str:
    """Until when the datum lives, or ""."""
    datum = ledger.snapshot.data[uid]
    if over := ledger.over(uid):
        return over
    ends = [f"it ends at {instant(datum.ends)}"] if datum.ends else []
    if datum.lifetime_of is not None:
        target = ledger.snapshot.targets.get(datum.lifetime_of)
        ends.append(f"it ends with {target.name}" if target else "it ends with a datum that is not known here")
    return " and ".join(ends)


def _effects(ledger: Ledger, uid: Uid) -> Iterator[str]:
    wishes = ledger.snapshot.data[uid].attribute
    yield f"replica: {_about_replica(ledger, uid)}"
    if wishes.fault_tolerance:
        yield f"ft: copies on hosts that are lost stop counting after {ledger.settings.grace}, and are made again"
    if text := lifetime(ledger, uid):
        yield f"lifetime: {text}"
    if text := _about_affinity(ledger, uid):
        yield f"affinity: {text}"
    if wishes.requires.text:
        yield f"requires: only hosts with {wishes.requires.text}"
    if wishes.spread:
        yield f"spread: {_about_spread(ledger, uid)}"
    if wishes.protocol != Attribute().protocol:
        yield f"protocol: copies move by {wishes.protocol}"
    if wishes.distrib >= 0:
        yield f"distrib: at most {wishes.distrib} data of this attribute on one host"
    if text := _about_pins(ledger, uid):
        yield f"pin: {text}"
    if wishes.priority:
        yield f"priority: {wishes.priority}; what is missing is served before that of data with less"


def _about_replica(ledger: Ledger, uid: Uid) -> str:
    tally, wanted = ledger.tally(uid), ledger.snapshot.data[uid].attribute.replicas
    if tally.everywhere:
        return (
            f"{'every host that holds its target' if ledger.target(uid) else 'every eligible host'} is to hold a copy"
        )
    if wanted < 0:
        return "wherever its target is held"
    fewer = f", but its target is held on {tally.replica} only" if ledger.target(uid) and tally.replica < wanted else ""
    return f"{wanted} verified copies on distinct hosts{fewer}"


def _about_affinity(ledger: Ledger, uid: Uid) -> str:
    if adrift := ledger.adrift(uid):
        return f"{adrift}, so that copies stay where they are"
    target = ledger.target(uid)
    return f"copies only where {target.name} is held ({len(target.holders)} hosts)" if target else ""


def _about_pins(ledger: Ledger, uid: Uid) -> str:
    pins, hosts = ledger.snapshot.data[uid].pins, ledger.snapshot.hosts
    names = sorted(hosts[host_id].facts.name if host_id in hosts else host_id for host_id in pins)
    return f"a copy stays on {', '.join(names)}, whatever the other wishes say" if names else ""


def _about_spread(ledger: Ledger, uid: Uid) -> str:
    label = ledger.snapshot.data[uid].attribute.spread
    if not spread_label(ledger, uid):
        return f"without effect, as every host that may is to hold a copy, whatever its {label}"
    values = values_of(ledger, uid)
    told = ", ".join(
        f"{value or f'no {label}'} {values[value]}" for value in sorted(values, key=lambda v: (v is None, v))
    )
    return f"each copy on another {label} while there are hosts for that (now: {told or 'no copies'})"
