"""Where copies could go: a few good hosts, found without looking at all.

Owns the choice among hosts. For a datum that wants n copies it looks at a number of hosts that depends on n alone,
drawn from the index in the order of their fullness; they are judged as anywhere else, and the best are taken.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator
from itertools import chain, islice
from typing import Final

from bitdew.core.ids import HostId, Uid

from .eligibility import fullness, judge
from .host_index import point
from .ledger import Ledger, tie_break
from .rows import HostRow
from .spreading import Value, spread_label, value_at, values_of

FEWEST_LOOKED_AT: Final = 16
LOOKED_AT_FOR_EACH: Final = 4
MOST_REFUSED: Final = 256
"""Hosts that the index offers and that turn out to be promised to others, before a search is given up for a while."""
DENSE: Final = 16
"""A target that one host in so many holds is met often enough among hosts drawn from the index."""

NOTHING: Final[frozenset[Value]] = frozenset()


def choose(ledger: Ledger, uid: Uid, missing: int) -> list[HostRow]:
    """The best hosts for `missing` new copies, best first, or as many as there are. The spread comes first."""
    if not spread_label(ledger, uid):
        own, others = _own(ledger, uid, NOTHING), _drawn(ledger, uid, NOTHING)
        looked_at = chain(own, islice(others, _enough(missing)))
        return heapq.nsmallest(missing, looked_at, key=lambda host: _rank(ledger, uid, host))
    chosen = choose_unused(ledger, uid, missing)
    if len(chosen) < missing:
        chosen += _share_values(ledger, uid, missing - len(chosen), chosen)
    return chosen


def all_eligible(ledger: Ledger, uid: Uid) -> list[HostRow]:
    """Every host that is eligible, best first: for data that are wanted everywhere."""
    found = chain(_own(ledger, uid, NOTHING), _drawn(ledger, uid, NOTHING, bounded=False))
    return sorted(found, key=lambda host: _rank(ledger, uid, host))


def choose_unused(ledger: Ledger, uid: Uid, wanted: int) -> list[HostRow]:
    """The best hosts for copies on values of the label that no copy has, at most one for each value."""
    used: set[Value] = set(values_of(ledger, uid))
    draw = _drawn(ledger, uid, used)
    pool = [*_own(ledger, uid, used), *islice(draw, _enough(wanted))]
    chosen: list[HostRow] = []
    while len(chosen) < wanted:
        pool = [host for host in pool if value_at(ledger, uid, host) not in used]
        if all(value_at(ledger, uid, host) is None for host in pool):
            more = list(islice(draw, _enough(wanted)))
            pool += more
        if not pool:
            break
        best = min(pool, key=lambda host: (value_at(ledger, uid, host) is None, _rank(ledger, uid, host)))
        used.add(value_at(ledger, uid, best))
        chosen.append(best)
    return chosen


def _share_values(ledger: Ledger, uid: Uid, wanted: int, chosen: Iterable[HostRow]) -> list[HostRow]:
    """The best hosts where every eligible value is in use: on the values that the fewest copies have."""
    values = values_of(ledger, uid)
    values.update(value_at(ledger, uid, host) for host in chosen)
    taken = {host.facts.host_id for host in chosen}
    looked_at = chain(_own(ledger, uid, NOTHING), islice(_drawn(ledger, uid, NOTHING), _enough(wanted)))
    pools: dict[Value, list[tuple[tuple[int, int, int, bytes], HostId]]] = {}
    for host in looked_at:
        if host.facts.host_id not in taken:
            entry = (_rank(ledger, uid, host), host.facts.host_id)
            pools.setdefault(value_at(ledger, uid, host), []).append(entry)
    for pool in pools.values():
        pool.sort(reverse=True)
    return list(_fewest_first(ledger, pools, values, wanted))


def _fewest_first(
    ledger: Ledger,
    pools: dict[Value, list[tuple[tuple[int, int, int, bytes], HostId]]],
    values: Counter[Value],
    wanted: int,
) -> Iterator[HostRow]:
    for _ in range(wanted):
        if not pools:
            return
        value = min(pools, key=lambda value: (values[value], value is None, pools[value][-1]))
        _, host_id = pools[value].pop()
        if not pools[value]:
            del pools[value]
        values[value] += 1
        yield ledger.snapshot.hosts[host_id]


def _enough(missing: int) -> int:
    return max(FEWEST_LOOKED_AT, LOOKED_AT_FOR_EACH * missing)


def _rank(ledger: Ledger, uid: Uid, host: HostRow) -> tuple[int, int, int, bytes]:
    row = ledger.copies(uid).get(host.facts.host_id)
    failures = row.failures if row else 0
    return failures, fullness(ledger, host), ledger.transfers(host), tie_break(uid, host.facts.host_id)


def _own(ledger: Ledger, uid: Uid, avoid: Container[Value]) -> Iterator[HostRow]:
    """The eligible hosts that had to do with the datum before. They may need less room than others."""
    hosts = (ledger.snapshot.hosts[host_id] for host_id in ledger.copies(uid))
    return (host for host in hosts if _may(ledger, uid, host, avoid))


def _drawn(ledger: Ledger, uid: Uid, avoid: Container[Value], *, bounded: bool = True) -> Iterator[HostRow]:
    """The eligible hosts that had nothing to do with it. `avoid` may grow while this is read."""
    own, refused = ledger.copies(uid), 0
    for host in _offered(ledger, uid, avoid, bounded=bounded):
        if host.facts.host_id in own:
            continue
        if _may(ledger, uid, host, avoid):
            yield host
            continue
        refused += 1
        if bounded and refused > MOST_REFUSED and not ledger.target(uid):
            ledger.cut_short.add(uid)
            return


def _may(ledger: Ledger, uid: Uid, host: HostRow, avoid: Container[Value]) -> bool:
    if avoid is not NOTHING and value_at(ledger, uid, host) in avoid:
        return False
    return not ledger.touched(uid, host.facts.host_id) and judge(ledger, uid, host).verdict == "eligible"


def _offered(ledger: Ledger, uid: Uid, avoid: Container[Value], *, bounded: bool) -> Iterator[HostRow]:
    """Hosts worth a look: those of the index, with an affinity only those among them that hold its target."""
    datum, hosts, target = ledger.snapshot.data[uid], ledger.snapshot.hosts, ledger.target(uid)
    if target and not (bounded and len(target.holders) * DENSE > len(hosts)):
        return (hosts[host_id] for host_id in _in_circle(target.holders, uid) if host_id in hosts)
    offered = hosts.candidates(
        datum.attribute.requires,
        datum.data.size,
        uid,
        spread=spread_label(ledger, uid),
        avoid=avoid,
        distrib=ledger.distrib(uid),
    )
    return (host for host in offered if host.facts.host_id in target.holders) if target else offered


def _in_circle(hosts: Collection[HostId], start: Uid) -> list[HostId]:
    """All of `hosts`, in an order that differs from datum to datum but not with the order in which they came."""
    first = point(start)
    return sorted(hosts, key=lambda host_id: ((point(host_id) - first) % 2**64, host_id))
