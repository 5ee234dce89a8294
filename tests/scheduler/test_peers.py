"""Which peers a host is told of, and in which order: near ones, then holders, then by chance."""

from __future__ import annotations

import random
from collections import Counter

from bitdew.scheduler.peers import Candidate, Sites, near_first
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.ids import HostId

IDS = [HostId(f"{number:032x}") for number in range(40)]
CANDIDATES = st.dictionaries(st.sampled_from(IDS), st.tuples(st.booleans(), st.booleans())).map(
    lambda found: [Candidate(host, holds, near) for host, (holds, near) in found.items()]
)
SITES = ("", "lyon", "orsay")


@given(CANDIDATES, st.integers())
def test_near_hosts_come_first_and_of_equally_near_ones_those_who_hold_it(candidates, seed):
    told = near_first(candidates, random.Random(seed))
    assert sorted(told) == sorted(one.host for one in candidates)
    by_host = {one.host: one for one in candidates}
    ranks = [(not by_host[host].near, not by_host[host].holds) for host in told]
    assert ranks == sorted(ranks)


@given(CANDIDATES, st.integers(), st.randoms(use_true_random=False))
def test_the_order_in_which_hosts_are_found_changes_only_who_is_drawn(candidates, seed, shuffle):
    mixed = list(candidates)
    shuffle.shuffle(mixed)
    one, other = near_first(candidates, random.Random(seed)), near_first(mixed, random.Random(seed))
    rank = {host.host: (host.near, host.holds) for host in candidates}
    assert [rank[host] for host in one] == [rank[host] for host in other]


def test_hosts_that_are_alike_are_named_by_chance():
    alike = [Candidate(host, holds=True, near=True) for host in IDS[:4]]
    chance = random.Random(1)
    first = Counter(near_first(alike, chance)[0] for _ in range(400))
    assert set(first) == set(IDS[:4])
    assert min(first.values()) > 60


def test_a_host_that_was_found_twice_is_named_once():
    twice = [Candidate(IDS[0], holds=False, near=False), Candidate(IDS[0], holds=True, near=True)]
    assert near_first(twice, random.Random(1)) == [IDS[0]]


@given(st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(SITES))), st.sampled_from(IDS), st.integers(0, 50))
def test_beside_a_host_stand_those_whose_last_label_is_the_same(moves, asking, most):
    sites, where = Sites(), dict.fromkeys(IDS, "")
    for host, site in moves:
        sites.put(host, {"site": site, "rack": "7"} if site else {"rack": "7"})
        where[host] = site
    told = sites.beside(asking, most)
    all_of_them = {host for host in IDS if where[asking] and where[host] == where[asking]} - {asking}
    assert len(told) == len(set(told)) == min(most, len(all_of_them))
    assert set(told) <= all_of_them


def test_at_a_large_site_each_host_is_told_of_others():
    sites = Sites()
    for host in IDS:
        sites.put(host, {"site": "orsay"})
    assert sites.beside(IDS[3], 2) == IDS[4:6]
    assert sites.beside(IDS[39], 2) == IDS[:2]
    first = Counter(sites.beside(host, 5)[0] for host in IDS)
    assert first == dict.fromkeys(IDS, 1)
