"""The language of `requires`: what it means, where it is faulty, and that nothing else can happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.core.host import HostFacts, Resources, Sharing
from bitdew.core.ids import HostId
from bitdew.core.requirement import MOST_CHARACTERS, MOST_DEPTH, Requirement

GB = 1024**3
HOST = HostFacts(
    HostId("a" * 32),
    "pc-1",
    Resources(cpus=4, memory=8 * GB, quota=100 * GB, used=0, free=50 * GB),
    {"site": "lyon", "rack": "r10", "owner": "Ada Lovelace", "and": "yes", "kernel": "6.1"},
    (Sharing("root", "6.40"), Sharing("virtualbox", "7.10")),
)


def matches(text: str, host: HostFacts = HOST) -> bool:
    return Requirement(text).check(host).matches


# Meaning --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "site = lyon",
        "site == lyon",
        "site=lyon",
        "site != orsay",
        "site in (orsay, lyon)",
        "site in(lyon)",
        "site not in (orsay, nancy)",
        "host = pc-1",
        "sharing = virtualbox",
        "sharing in (qemu, root)",
        "sharing != qemu",
        'sharing = "root 6.40"',
        'sharing >= "root 6.4"',
        'sharing in ("root 6.30", "virtualbox 7.10")',
        'sharing != "root 6.30"',
        'sharing != "qemu 7"',
        "sharing.root",
        "not sharing.qemu",
        "sharing.root, sharing.virtualbox and cpus = 4",
        "(sharing.root)",
        "sharing.virtualbox = 7.10",
        'owner = "Ada Lovelace"',
        "cpus = 4, memory >= 2GB",
        "SITE = x or site = lyon",
        "site = lyon AND cpus > 3",
        "NOT site = orsay",
        "not not site = lyon",
        "((site = lyon))",
    ],
)
def test_a_host_that_has_what_is_wanted_matches(text: str) -> None:
    verdict = Requirement(text).check(HOST)
    assert verdict.matches
    assert not verdict.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("site = orsay", "its site is lyon, wanted site = orsay"),
        ("site == orsay", "its site is lyon, wanted site = orsay"),
        ("site != lyon", "its site is lyon, wanted site != lyon"),
        ("site in (orsay, nancy)", "its site is lyon, wanted site in (orsay, nancy)"),
        ("site not in (orsay, lyon)", "its site is lyon, wanted site not in (orsay, lyon)"),
        ("Site = lyon", "it has no Site, wanted Site = lyon"),
        ("sharing = qemu", "its sharing is root, virtualbox, wanted sharing = qemu"),
        ("sharing != root", "its sharing is root, virtualbox, wanted sharing != root"),
        ("sharing.qemu >= 7", "it has no sharing.qemu, wanted sharing.qemu >= 7"),
        ("sharing.qemu", "it has no sharing.qemu"),
        ("not sharing.root", "it matches sharing.root"),
        ('sharing = "root 6.30"', "its sharing is root 6.40, virtualbox 7.10, wanted sharing = root 6.30"),
        ('sharing > "root 6.40"', "its sharing is root 6.40, virtualbox 7.10, wanted sharing > root 6.40"),
        ('sharing > "virtual 1"', "its sharing is root 6.40, virtualbox 7.10, wanted sharing > virtual 1"),
        ("site in (orsay)", "its site is lyon, wanted site in (orsay)"),
        ("memory > 8GB", f"its memory is 8.0 GB ({8 * GB} bytes), wanted memory > 8GB"),
        ("site = lyon, cpus > 4, rack = r9", "its cpus is 4, wanted cpus > 4"),
        ("cpus > 4 or rack = r9", "its cpus is 4, wanted cpus > 4 and its rack is r10, wanted rack = r9"),
        ("not site = lyon", "it matches site = lyon"),
        ("not (site = lyon or cpus = 1) and cpus = 4", "it matches (site = lyon or cpus = 1)"),
        ("(not site = lyon)", "it matches site = lyon"),
        ("not not cpus = 1", "it matches not cpus = 1"),
    ],
)
def test_a_host_that_does_not_match_is_told_why(text: str, reason: str) -> None:
    verdict = Requirement(text).check(HOST)
    assert not verdict.matches
    assert verdict.reason == reason


@pytest.mark.parametrize("operator", ["= x", "!= x", "< x", "<= x", "> x", ">= x", "in (x)", "not in (x)"])
@pytest.mark.parametrize("name", ["color", "sharing.qemu"])
def test_what_a_host_does_not_have_matches_nothing(name: str, operator: str) -> None:
    assert not matches(f"{name} {operator}")


def test_a_host_without_sharings_matches_no_test_of_them() -> None:
    bare = replace(HOST, sharings=())
    assert not matches("sharing = qemu", bare)
    assert not matches("sharing != qemu", bare)
    assert matches("not sharing = qemu", bare)


@pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">="])
def test_a_sharing_of_an_unknown_version_matches_no_test_of_it(operator: str) -> None:
    bare = replace(HOST, sharings=(Sharing("qemu"),))
    assert not matches(f"sharing.qemu {operator} 7", bare)
    assert matches(f'sharing {operator} "qemu 7"', bare) is (operator == "!=")  # another way to say: none of these
    assert matches("sharing.qemu", bare)
    assert matches("sharing = qemu", bare)


def test_of_two_versions_that_are_shared_either_may_match() -> None:
    both = replace(HOST, sharings=(Sharing("qemu", "7.2"), Sharing("qemu", "9.0")))
    assert matches("sharing.qemu > 8", both)
    assert matches("sharing.qemu < 8", both)
    assert not matches("sharing.qemu != 9.0", both)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpus = 4 or cpus = 4 and cpus = 1", True),
        ("(cpus = 4 or cpus = 4) and cpus = 1", False),
        ("cpus = 1, cpus = 4 or cpus = 4", True),
        ("cpus = 1, (cpus = 4 or cpus = 4)", False),
        ("not cpus = 1 and cpus = 4", True),
        ("not cpus = 4 and cpus = 1", False),
        ("not (cpus = 4 and cpus = 1)", True),
        ("not cpus = 4 or cpus = 4", True),
    ],
)
def test_not_binds_tighter_than_and_and_and_tighter_than_or(text: str, expected: bool) -> None:
    assert matches(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sharing.virtualbox > 7.2", True),
        ("sharing.virtualbox >= 7.10", True),
        ("sharing.virtualbox > 7.10", False),
        ("sharing.virtualbox < 7.9.9", False),
        ("sharing.virtualbox < 10", True),
        ("sharing.root < 6.40.2", True),
        ("rack > r9", True),
        ("kernel >= 6", True),
        ("kernel < 6.1-rc1", True),
    ],
)
def test_versions_are_compared_number_by_number(text: str, expected: bool) -> None:
    assert matches(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory = 8GB", True),
        ("memory = 8192MB", True),
        (f"memory = {8 * GB}", True),
        ('memory >= "8 GB"', True),
        ("memory != 8GB", False),
        ("memory in (4GB, 8GB)", True),
        ("memory not in (4GB, 8GB)", False),
        ("memory not in (4GB, 16GB)", True),
        ("quota > 99.5GB", True),
        ("free < 49GB", False),
        ("cpus >= 04", True),
        ("cpus = 04", True),
        ("cpus in (2, 4)", True),
        ("cpus != 4", False),
        ("cpus > 10", False),
    ],
)
def test_figures_are_compared_as_figures_by_every_operator(text: str, expected: bool) -> None:
    assert matches(text) is expected


def test_keywords_in_quotes_are_names_and_values() -> None:
    assert matches('"and" = yes')
    assert matches('not "and" = "or"')
    assert matches('site in ("not", lyon)')
    assert matches('site != "and"')


def test_a_quoted_value_keeps_its_spaces_brackets_and_commas() -> None:
    text = " (a, b) = c "
    assert matches(f'site = "{text}"', replace(HOST, labels={"site": text}))


def test_a_requirement_is_its_text() -> None:
    one = Requirement("  site = lyon ")
    assert one == Requirement("site = lyon")
    assert hash(one) == hash(Requirement("site = lyon"))
    assert one != Requirement("site=lyon")
    assert one != "site = lyon"
    assert str(one) == "site = lyon"
    assert repr(one) == "Requirement('site = lyon')"


# Faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position", "why"),
    [
        ("site", 5, "an operator is expected"),
        ("site =", 7, "a value is expected"),
        ("= lyon", 1, "a name is expected"),
        ("site = lyon rack = r1", 13, "or the end is expected"),
        ("site = lyon and", 16, "a name is expected"),
        ("site = lyon,", 13, "a name is expected"),
        ("or site = lyon", 4, "an operator is expected"),
        ("(site = lyon", 13, "')' is expected"),
        ("site = lyon)", 12, "or the end is expected"),
        ("()", 2, "a name is expected"),
        ("site in lyon", 9, "'(' is expected"),
        ("site in ()", 10, "a value is expected"),
        ("site in (lyon", 14, "')' is expected"),
        ("site in (lyon orsay)", 15, "')' is expected"),
        ("site not lyon", 10, "'in' is expected"),
        ("site => lyon", 7, "a value is expected"),
        ("site = lyon & cpus = 4", 13, "or the end is expected"),
        ('site = "lyon', 8, "this character has no meaning here"),
        ("site ! lyon", 6, "this character has no meaning here"),
        ("memory > lots", 10, "is not a size"),
        ("memory in (1GB, lots)", 17, "is not a size"),
        ("memory > " + "9" * 400, 10, "too large a size"),
        ("cpus > many", 8, "a whole number is expected"),
        ("cpus not in (2, 3.5)", 17, "a whole number is expected"),
        ("   site lyon", 9, "an operator is expected"),
        ("\n\tsite =\n", 9, "a value is expected"),
        ("sharing", 8, "an operator is expected"),
        ("sharing.", 9, "an operator is expected"),
        ("sharing.root 7", 14, "or the end is expected"),
        ("sharing.root not sharing.qemu", 18, "'in' is expected"),
        ("site = ly\x00on", 10, "no meaning anywhere"),
        ('site = "\x1b[2J"', 9, "no meaning anywhere"),
        ("site\x85= lyon", 5, "no meaning anywhere"),
        ("site = \ud800", 8, "no meaning anywhere"),
    ],
)
def test_a_fault_is_told_with_its_position(text: str, position: int, why: str) -> None:
    with pytest.raises(BitDewError) as refused:
        Requirement(text)
    assert refused.value.key == "attribute.requires"
    assert refused.value.fields == {"position": position}
    assert f"at position {position}" in refused.value.message
    assert why in refused.value.why


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("site inn (orsay, lyon)", "in"),
        ("site nott in (orsay)", "not"),
        ("site not inn (orsay)", "in"),
        ("site is orsay", "="),
        ("memory gt 2GB", ">"),
        ("memory => 2GB", ">="),
        ("memory =< 2GB", "<="),
        ("site = orsay andd cpus = 2", "and"),
        ("site = orsay && cpus = 2", "and"),
        ("site = orsay || cpus = 2", "or"),
        ("!site = orsay", "not"),
        ("cpus = 2, !site = orsay", "not"),
        ("site ! lyon", "!="),
        ("site resembles orsay", ""),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest_one(text: str, near: str) -> None:
    with pytest.raises(BitDewError) as refused:
        Requirement(text)
    assert refused.value.key == "attribute.requires"
    usual = "Correct the expression at the position shown."
    assert refused.value.do == (f"Did you mean {near!r}?" if near else usual)


def test_what_is_too_long_is_not_even_read() -> None:
    fits = "cpus = 4" + " " * (MOST_CHARACTERS - 16) + "or a = 1"
    assert len(fits) == MOST_CHARACTERS
    assert matches(fits)
    with pytest.raises(BitDewError, match="at position 1025") as refused:
        Requirement(fits + "0")
    assert "longer than 1024" in refused.value.why


@pytest.mark.parametrize(("opening", "closing"), [("(", ")"), ("not ", "")])
def test_nesting_is_bounded(opening: str, closing: str) -> None:
    deepest = MOST_DEPTH - 1
    assert matches(opening * (deepest - 1) + "cpus = 4" + closing * (deepest - 1)) is (
        opening == "(" or deepest % 2 == 1
    )
    with pytest.raises(BitDewError) as refused:
        Requirement(opening * MOST_DEPTH + "cpus = 4" + closing * MOST_DEPTH)
    assert "nested deeper" in refused.value.why


WORDS = [
    "not", "and", "or", "in", "site", "cpus", "memory", "sharing", "sharing.", "2GB", "4", "lyon",
    "(", ")", ",", "=", "!=", "<=", ">", '"', '"a b"', "!",
]  # fmt: skip


@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join) | st.lists(st.sampled_from(WORDS)).map("".join))
@example("memory >= " + "9" * 1000)
@example("\x1csite\x85=\u2003lyon")
def test_any_text_is_a_requirement_or_refused_as_one(text: str) -> None:
    try:
        requirement = Requirement(text)
    except BitDewError as refused:
        assert refused.key == "attribute.requires"  # noqa: PT017  (either outcome is right)
        assert 1 <= refused.fields["position"] <= len(text) + 1  # noqa: PT017
    else:
        verdict = requirement.check(HOST)
        assert verdict.matches != bool(verdict.reason)
        assert Requirement(str(requirement)) == requirement


# Random expressions ---------------------------------------------------------------------------------------------------

Test = Callable[[HostFacts], bool]
Printed = tuple[str, Test]
"""An expression's text, and a naive reading of what it means."""

SITES = [
    "lyon",
    "orsay",
    "two words",
    "and",
    "(x), y",
    "\\",
    "'",
    "=",
    "# [a] {b}",
    "\u00e9t\u00e9",
    "\U0001f4a9",
    " ",
    "\t",
]
TESTS: list[tuple[str, Callable[[str | None, str], bool]]] = [
    ("=", lambda have, want: have == want),
    ("==", lambda have, want: have == want),
    ("!=", lambda have, want: have not in {None, want}),
]


@st.composite
def label_tests(draw: st.DrawFn) -> Printed:
    name = draw(st.sampled_from(["site", "rack", "absent"]))
    values = draw(st.lists(st.sampled_from(SITES), min_size=1, max_size=3))
    shape = draw(st.sampled_from(["one", "in", "not in"]))
    if shape == "one":
        operator, meaning = draw(st.sampled_from(TESTS))
        return f'{name} {operator} "{values[0]}"', lambda host: meaning(host.labels.get(name), values[0])
    listed = ", ".join(f'"{value}"' for value in values)
    wanted = shape == "in"
    return (
        f"{name} {shape} ({listed})",
        lambda host: name in host.labels and (host.labels[name] in values) is wanted,
    )


@st.composite
def figure_tests(draw: st.DrawFn) -> Printed:
    name = draw(st.sampled_from(["cpus", "memory"]))
    number = draw(st.integers(0, 4))
    operator, meaning = draw(
        st.sampled_from(
            [("<", int.__lt__), ("<=", int.__le__), (">", int.__gt__), (">=", int.__ge__), ("=", int.__eq__)]
        )
    )
    unit, size = ("GB", GB) if name == "memory" else ("", 1)
    return f"{name}{operator}{number}{unit}", lambda host: meaning(getattr(host.resources, name), number * size)


def joined(word: str, how: Callable[[list[bool]], bool], parts: list[Printed]) -> Printed:
    return word.join(f"({text})" for text, _ in parts), lambda host: how([test(host) for _, test in parts])


EXPRESSIONS = st.recursive(
    label_tests() | figure_tests(),
    lambda inner: (
        inner.map(lambda part: (f"not ({part[0]})", lambda host: not part[1](host)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: joined(" and ", all, parts))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: joined(", ", all, parts))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: joined(" or ", any, parts))
    ),
    max_leaves=8,
).filter(lambda part: len(part[0]) <= MOST_CHARACTERS)

HOSTS = st.builds(
    lambda cpus, memory, labels: HostFacts(
        HostId("a" * 32), "pc", Resources(cpus=cpus, memory=memory * GB), {k: v for k, v in labels.items() if v}
    ),
    st.integers(1, 4),
    st.integers(0, 4),
    st.fixed_dictionaries({name: st.sampled_from([None, *SITES]) for name in ("site", "rack")}),
)


@given(EXPRESSIONS, HOSTS)
def test_an_expression_means_what_its_parts_mean(expression: Printed, host: HostFacts) -> None:
    text, meaning = expression
    verdict = Requirement(text).check(host)
    assert verdict.matches is meaning(host)
    assert bool(verdict.reason) is not verdict.matches
