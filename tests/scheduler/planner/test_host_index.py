"""The index of hosts: what it offers, in which order, and that it stays true to the rows that were put."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest
from bitdew.scheduler.planner import Census, Distrib, HostIndex, HostRow
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdew.core.host import HostFacts, Resources, Sharing
from bitdew.core.requirement import Requirement
from bitdew.core.states import HostState

GB = 1024**3
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANY = Requirement()


def row(name, *, quota=20, committed=0, free=100, state=HostState.ALIVE, sharings=(), **labels):
    resources = Resources(4, 8 * GB, quota * GB, committed * GB, free * GB)
    facts = HostFacts(name, name, resources, labels, tuple(map(Sharing, sharings)))
    return HostRow(facts, state, NOW, committed=committed * GB)


def offered(index, requires="", size=GB, start="disk", **more):
    return [row.facts.host_id for row in index.candidates(Requirement(requires), size, start, **more)]


def test_it_is_a_mapping_of_all_hosts_that_were_put():
    index = HostIndex([row("a"), row("b", state=HostState.LOST)])
    assert set(index) == {"a", "b"}
    assert len(index) == 2
    assert index["b"].state is HostState.LOST
    index.remove("b")
    index.remove("b")
    assert dict(index) == {"a": row("a")}
    assert "b" not in index


def test_it_offers_living_hosts_that_match_and_have_room():
    index = HostIndex([row("a", site="orsay"), row("b", site="lyon"), row("c", site="orsay", state=HostState.SUSPECT)])
    index.put(row("full", site="orsay", committed=20))
    index.put(row("small", site="orsay", free=1))
    assert offered(index, "site = orsay") == ["a"]
    assert sorted(offered(index)) == ["a", "b"]
    assert offered(index, size=30 * GB) == []


def test_the_emptiest_come_first():
    index = HostIndex(
        [row("half", committed=10), row("empty"), row("almost", committed=18), row("little", committed=3)]
    )
    assert offered(index) == ["empty", "little", "half", "almost"]


def test_equals_are_entered_at_a_point_that_depends_on_the_datum():
    index = HostIndex([row(f"h{n}") for n in range(50)])
    firsts = {offered(index, start=f"disk{n}")[0] for n in range(200)}
    assert len(firsts) > 30
    assert all(sorted(offered(index, start=f"disk{n}")) == sorted(index) for n in range(5))


def test_the_values_of_a_label_take_turns_and_hosts_without_it_come_last():
    index = HostIndex([row(f"o{n}", site="orsay") for n in range(5)] + [row("l", site="lyon"), row("none")])
    index.put(row("n", site="nancy", committed=10))
    sites = [index[host].facts.labels.get("site") for host in offered(index, spread="site")]
    assert set(sites[:2]) == {"orsay", "lyon"}
    assert sites[2:] == ["orsay"] * 4 + ["nancy", None]


def test_values_to_avoid_are_left_out_also_if_they_are_named_while_it_is_read():
    index = HostIndex([row(f"o{n}", site="orsay") for n in range(5)] + [row("l", site="lyon"), row("none")])
    assert set(offered(index, spread="site", avoid={"orsay"})) == {"l", "none"}
    assert set(offered(index, spread="site", avoid={"orsay", None})) == {"l"}
    avoid = set()
    drawn = index.candidates(ANY, GB, "disk", spread="site", avoid=avoid)
    found = []
    for host in drawn:
        found.append(host.facts.labels.get("site"))
        avoid.add(found[-1])
    assert sorted(found, key=str) == [None, "lyon", "orsay"]


def test_hosts_that_have_all_that_distrib_allows_are_left_out():
    census = Census([("few", "a", 2, 1), ("few", "b", 1, 1), ("other", "c", 9, 9)])
    index = HostIndex([row("a"), row("b"), row("c")])
    two = Distrib(census, "few", 2)
    assert sorted(offered(index, distrib=two)) == ["b", "c"]
    census.add("few", "b", taken=1)
    assert offered(index, distrib=two) == ["c"]
    census.add("few", "a", taken=-1)
    assert sorted(offered(index, distrib=two)) == ["a", "c"]
    for _ in range(5000):  # more changes than are kept
        census.add("few", "b", taken=1)
        census.add("few", "b", taken=-1)
    census.add("few", "c", taken=2)
    assert offered(index, distrib=two) == ["a"]
    assert sorted(offered(index, distrib=Distrib(census, "few", 3))) == ["a", "b", "c"]
    assert sorted(offered(index, distrib=Distrib(Census(), "few", 2))) == ["a", "b", "c"]


def test_it_counts_who_stands_in_the_way_without_being_asked_for_them():
    index = HostIndex([row(f"h{n}", site="orsay" if n % 2 else "lyon", committed=n) for n in range(20)])
    index.put(row("away", site="orsay", state=HostState.LOST))
    census = Census([("few", "h1", 1, 1)])
    found = index.count(Requirement("site = orsay"), 10 * GB, Distrib(census, "few", 1))
    assert (found.known, found.alive, found.matching, found.open, found.roomy) == (21, 20, 10, 9, 4)


def test_a_requirement_on_free_space_follows_the_space():
    index = HostIndex([row("a", free=50), row("b", free=90)])
    assert offered(index, "free >= 60GB") == ["b"]
    index.put(row("a", free=70))
    assert sorted(offered(index, "free >= 60GB")) == ["a", "b"]


def test_putting_what_is_there_already_touches_no_pool(monkeypatch):
    index = HostIndex([row("a"), row("b")])
    offered(index, "not site = lyon")
    offered(index)
    monkeypatch.setattr(Requirement, "check", lambda *_: pytest.fail("nothing changed"))
    index.put(row("a"))
    index.put(row("a", committed=5))  # only its room changed: it matches as before
    assert offered(index) == ["b", "a"]


def test_pools_beyond_the_most_are_forgotten_and_made_again():
    index = HostIndex([row(f"h{n}", site=str(n)) for n in range(3)])
    for _ in range(2):
        for number in range(300):
            expected = [f"h{number}"] if number < 3 else []
            assert offered(index, f"site = {number}") == expected


LABELS = st.sampled_from([{}, {"site": "orsay"}, {"site": "lyon"}, {"site": "nancy"}])
ROWS = st.builds(
    lambda name, quota, committed, free, state, labels: row(
        name, quota=quota, committed=committed, free=free, state=state, **labels
    ),
    st.sampled_from("abcdefgh"),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 25),
    st.sampled_from([HostState.ALIVE, HostState.ALIVE, HostState.LOST]),
    LABELS,
)
QUERIES = st.sampled_from(["", "site = orsay", "not site = orsay", "free > 10GB", "site in (lyon, nancy)"])


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.one_of(ROWS, st.sampled_from("abcdefgh"), QUERIES, st.integers(0, 7)), max_size=60),
    size=st.integers(1, 15),
    spread=st.sampled_from(["", "site"]),
    distrib=st.sampled_from([None, 1, 2]),
)
def test_whatever_happened_it_answers_like_a_fresh_one_and_like_a_plain_scan(steps, size, spread, distrib):
    index, rows, census = HostIndex(), {}, Census()
    limit = Distrib(census, "few", distrib) if distrib else None

    def check(text):
        requires = Requirement(text)
        found = offered(index, text, size * GB, spread=spread, distrib=limit)
        assert found == offered(HostIndex(rows.values()), text, size * GB, spread=spread, distrib=limit)
        reserve = 16 * 1024**2
        wanted = {
            host
            for host, r in rows.items()
            if r.state is HostState.ALIVE
            and requires.check(r.facts).matches
            and not (limit and limit.full(host))
            and r.facts.resources.quota - r.committed >= size * GB
            and r.facts.resources.free - reserve >= size * GB
        }
        assert set(found) == wanted
        assert len(found) == len(wanted) == index.count(requires, size * GB, limit).roomy

    for step in steps:
        match step:
            case HostRow():
                index.put(step)
                rows[step.facts.host_id] = step
            case int():
                census.add("few", "abcdefgh"[step], taken=1)
            case str() if step in set("abcdefgh"):
                index.remove(step)
                rows.pop(step, None)
            case text:
                check(text)
    for text in ("", "site = orsay", "free > 10GB"):
        check(text)


def test_reading_a_few_costs_no_look_at_the_others(monkeypatch):
    index = HostIndex([row(f"h{n}", site=f"s{n % 100}", quota=10) for n in range(5000)])
    list(islice(index.candidates(Requirement("site = s1"), 5 * GB, "x", spread="site"), 1))
    looked = []
    check = Requirement.check
    monkeypatch.setattr(Requirement, "check", lambda self, host: looked.append(host) or check(self, host))
    assert len(list(islice(index.candidates(Requirement("site = s1"), 5 * GB, "y", spread="site"), 16))) == 16
    assert offered(index, "site = s1", 11 * GB) == []
    assert len(looked) == 5000  # for the pool without a label, once
    assert offered(index, "site = s1", 12 * GB) == []
    assert len(looked) == 5000
