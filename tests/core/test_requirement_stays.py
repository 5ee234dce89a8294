"""Whether a copy may stay: what its own space changes decides nothing, and everything else decides as ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.host import HostFacts, Resources, Sharing
from bitdew.core.ids import HostId
from bitdew.core.requirement import MOST_CHARACTERS, Requirement, Verdict

GB = 1024**3
HOST = HostFacts(
    HostId("a" * 32),
    "pc-1",
    Resources(cpus=4, memory=8 * GB, quota=9 * GB, free=0),
    {"site": "lyon"},
    (Sharing("root"),),
)


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("", True),
        ("free > 5GB", True),
        ("free < 5GB", True),
        ("not free > 5GB", True),
        ("not free < 5GB", True),
        ("free not in (0)", True),
        ("free > 5GB, site = lyon", True),
        ("free > 5GB, site = orsay", False),
        ("site = orsay, free > 5GB", False),
        ("free > 5GB or site = lyon", True),
        ("free > 5GB or site = orsay", True),
        ("free < 5GB and free > 5GB", True),
        ("not (free > 5GB or site = lyon)", False),
        ("not (free > 5GB, site = orsay)", True),
        ("not (free > 5GB, site = lyon)", True),
        ("quota > 5GB", True),
        ("quota > 9GB", False),
        ("memory > 8GB", False),
        ("'free' = 1", False),
        ("site = free", False),
    ],
)
def test_only_what_is_false_whatever_the_free_space_tells_a_copy_to_go(text: str, stays: bool) -> None:
    verdict = Requirement(text).stays(HOST)
    assert verdict.matches is stays
    assert bool(verdict.reason) is not stays


def test_a_copy_that_goes_is_told_why_by_what_is_known() -> None:
    verdict = Requirement("free > 5GB, (site = orsay or cpus > 4)").stays(HOST)
    assert verdict.reason == "its site is lyon, wanted site = orsay and its cpus is 4, wanted cpus > 4"


def test_for_a_new_copy_the_free_space_counts() -> None:
    requirement = Requirement("free > 5GB, site = lyon")
    assert requirement.check(HOST) == Verdict(matches=False, reason="its free is 0 B, wanted free > 5GB")
    assert requirement.stays(HOST) == Verdict(matches=True)


# Random expressions ---------------------------------------------------------------------------------------------------

Meaning = Callable[[dict[str, bool]], bool]
Printed = tuple[str, Meaning]
"""An expression's text, and its truth for given truths of its tests."""

FREE = ["free > 1GB", "free in (0, 2GB)", "free != 3GB"]
KNOWN = ["site = lyon", "site in (orsay)", "cpus < 3", "sharing.root", "host != pc-1", "absent != 1"]


def one(text: str) -> Printed:
    return text, lambda truths: truths[text]


def joined(word: str, how: Callable[[list[bool]], bool], parts: list[Printed]) -> Printed:
    return word.join(f"({text})" for text, _ in parts), lambda truths: how([meaning(truths) for _, meaning in parts])


EXPRESSIONS = st.recursive(
    st.sampled_from(FREE + KNOWN).map(one),
    lambda inner: (
        inner.map(lambda part: (f"not ({part[0]})", lambda truths: not part[1](truths)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: joined(" and ", all, parts))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: joined(" or ", any, parts))
    ),
    max_leaves=8,
).filter(lambda part: len(part[0]) <= MOST_CHARACTERS)
HOSTS = st.builds(
    lambda cpus, free, site, name, sharings: HostFacts(
        HostId("a" * 32), name, Resources(cpus=cpus, free=free * GB), {"site": site}, sharings
    ),
    st.integers(1, 4),
    st.integers(0, 4),
    st.sampled_from(["lyon", "orsay"]),
    st.sampled_from(["pc-1", "pc-2"]),
    st.sampled_from([(), (Sharing("root", "6.40"),)]),
)


@given(EXPRESSIONS, HOSTS)
def test_an_expression_means_what_its_tests_mean_together(expression: Printed, host: HostFacts) -> None:
    text, meaning = expression
    truths = {test: Requirement(test).check(host).matches for test in FREE + KNOWN}
    assert Requirement(text).check(host).matches is meaning(truths)


@given(EXPRESSIONS, HOSTS, st.integers(0, 4))
def test_the_free_space_never_changes_whether_a_copy_stays(expression: Printed, host: HostFacts, free: int) -> None:
    other = replace(host, resources=replace(host.resources, free=free * GB))
    assert Requirement(expression[0]).stays(host) == Requirement(expression[0]).stays(other)


@given(EXPRESSIONS, HOSTS)
def test_where_a_new_copy_may_come_one_that_is_there_may_stay(expression: Printed, host: HostFacts) -> None:
    requirement = Requirement(expression[0])
    if requirement.check(host).matches:
        assert requirement.stays(host).matches


@given(EXPRESSIONS, HOSTS, st.lists(st.booleans(), min_size=3, max_size=3))
def test_a_copy_goes_only_if_the_expression_is_false_whatever_the_tests_of_free_space_say(
    expression: Printed, host: HostFacts, answers: list[bool]
) -> None:
    text, meaning = expression
    truths = {test: Requirement(test).check(host).matches for test in KNOWN} | dict(zip(FREE, answers, strict=True))
    verdict = Requirement(text).stays(host)
    if meaning(truths):
        assert verdict.matches
    assert bool(verdict.reason) is not verdict.matches


@given(EXPRESSIONS.filter(lambda part: "free" not in part[0]), HOSTS)
def test_without_tests_of_free_space_a_copy_stays_where_it_would_come(expression: Printed, host: HostFacts) -> None:
    assert Requirement(expression[0]).stays(host) == Requirement(expression[0]).check(host)
