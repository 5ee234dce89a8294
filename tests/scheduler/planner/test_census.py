"""The census of copies by attribute and host."""

from __future__ import annotations

from bitdew.scheduler.planner import Census


def test_it_counts_what_is_taken_and_what_is_held():
    census = Census([("inputs", "a", 2, 1)])
    census.add("inputs", "b", taken=1)
    census.add("inputs", "b", held=1)
    assert (census.taken("inputs", "a"), census.held("inputs", "a")) == (2, 1)
    assert (census.taken("inputs", "nobody"), census.held("others", "a")) == (0, 0)
    assert set(census.holders("inputs")) == {"a", "b"}
    census.add("inputs", "a", taken=-2, held=-1)
    assert set(census.holders("inputs")) == set(census.hosts("inputs")) == {"b"}
    assert census.counts() == [("inputs", "b", 1, 1)]


def test_a_host_is_forgotten_in_all_counts():
    census = Census([("inputs", "a", 2, 1), ("others", "a", 1, 0), ("others", "b", 1, 1)])
    census.forget("a")
    assert census.counts() == [("others", "b", 1, 1)]


def test_who_follows_an_attribute_hears_of_its_changes_only():
    census = Census([("inputs", "a", 1, 1)])
    seen, _ = census.changes("inputs", 0)
    census.add("inputs", "a", taken=1)
    census.add("inputs", "a", held=1)
    census.add("others", "a", taken=1)
    census.add("inputs", "b", taken=1)
    seen, moved = census.changes("inputs", seen)
    assert moved == ["a", "b"]
    assert census.changes("inputs", seen) == (seen, [])
    for _ in range(10_000):
        census.add("inputs", "a", taken=1)
    assert census.changes("inputs", seen)[1] is None


def test_equal_counts_are_equal_however_they_came_about():
    one, other = Census([("inputs", "a", 1, 0)]), Census()
    other.add("inputs", "a", taken=2)
    other.add("inputs", "b", held=1)
    assert one != other
    other.add("inputs", "b", held=-1)
    other.add("inputs", "a", taken=-1)
    assert one == other
