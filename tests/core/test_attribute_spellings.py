"""The spellings of an attribute: each turns into each other without loss, whatever the attribute."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.attribute import MOST_DISTRIB, MOST_PINS, MOST_PRIORITY, MOST_REPLICAS, Attribute, Protocol
from bitdew.core.attribute_options import from_options, to_options
from bitdew.core.attribute_text import parse_line, write_line
from bitdew.core.attribute_toml import parse_toml, write_toml
from bitdew.core.lifetime import LONGEST, For, Reference, Until, With
from bitdew.core.requirement import Requirement

NAMES = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,30}[A-Za-z0-9])?", fullmatch=True) | st.sampled_from(
    ["true", "3", "nan", "attr", "data", "7d", "7days", "2026-12-31", "1e5", "0x1f", "a--b", "a" * 128, "0" * 32]
)
VALUES = st.text(
    st.characters(exclude_characters='"', exclude_categories=["Cc", "Cs"]) | st.sampled_from("\t\n\r\\'#={}[],-$ "),
    max_size=30,
)
"""What can stand in quotes in a requirement: all but quotes themselves and control characters."""
REQUIREMENTS = st.lists(st.tuples(NAMES, VALUES).map(lambda test: f'"{test[0]}" = "{test[1]}"'), max_size=4).map(
    lambda tests: Requirement(" or\n".join(tests))
)
MOMENTS = st.datetimes(datetime(1970, 1, 2), timezones=st.just(UTC))  # noqa: DTZ001  (the zone is the other argument)
ATTRIBUTES = st.builds(
    Attribute,
    replica=st.none() | st.integers(-1, MOST_REPLICAS),
    fault_tolerance=st.booleans(),
    requires=REQUIREMENTS,
    priority=st.integers(-MOST_PRIORITY, MOST_PRIORITY),
    lifetime=st.none()
    | (MOMENTS | MOMENTS.map(lambda moment: moment.replace(hour=0, minute=0, second=0, microsecond=0))).map(Until)
    | st.integers(1, int(LONGEST.total_seconds())).map(lambda seconds: For(timedelta(seconds=seconds)))
    | NAMES.map(Reference).map(With),
    affinity=st.none() | st.builds(Reference, NAMES, st.sampled_from(["", "data", "attr"])),
    spread=st.just("") | NAMES,
    protocol=st.sampled_from(Protocol),
    distrib=st.integers(-1, MOST_DISTRIB),
    pin=st.lists(NAMES, max_size=5).map(tuple) | st.just(tuple(f"pc{i}" for i in range(MOST_PINS))),
)


def through_json(_: str, attribute: Attribute) -> Attribute:
    text = json.dumps(attribute.to_dict(), allow_nan=False)
    text.encode("utf-8")
    return Attribute.from_dict(json.loads(text))


def through_a_line(name: str, attribute: Attribute) -> Attribute:
    line = write_line(name, attribute)
    assert line.isprintable() or not attribute.requires.text.isprintable()
    assert "\n" not in line
    read, again = parse_line(line)
    assert read == name
    return again


def through_toml(name: str, attribute: Attribute) -> Attribute:
    text = write_toml({"before": Attribute(replica=7), name: attribute, "after": Attribute()})
    text.encode("utf-8")
    attributes = parse_toml(text)
    assert list(attributes) == list(dict.fromkeys(["before", name, "after"]))
    return attributes[name]


def through_options(_: str, attribute: Attribute) -> Attribute:
    return from_options(to_options(attribute))


SPELLINGS = [through_json, through_a_line, through_toml, through_options]


@pytest.mark.parametrize("there", SPELLINGS)
@given(name=NAMES.filter(lambda name: name not in {"before", "after"}), attribute=ATTRIBUTES)
def test_an_attribute_survives_every_spelling(
    there: Callable[[str, Attribute], Attribute], name: str, attribute: Attribute
) -> None:
    again = there(name, attribute)
    assert again == attribute
    assert again.to_dict() == attribute.to_dict()
    assert list(again.to_dict()) == list(attribute.to_dict())


@given(NAMES.filter(lambda name: name not in {"before", "after"}), ATTRIBUTES, st.permutations(SPELLINGS))
def test_an_attribute_survives_one_spelling_after_the_other_in_any_order(
    name: str, attribute: Attribute, spellings: list[Callable[[str, Attribute], Attribute]]
) -> None:
    told = attribute.to_dict()
    for spelling in spellings:
        attribute = spelling(name, attribute)
    assert attribute.to_dict() == told


@given(ATTRIBUTES, ATTRIBUTES)
def test_attributes_that_differ_are_told_differently_in_every_spelling(one: Attribute, other: Attribute) -> None:
    same = one == other
    assert (one.to_dict() == other.to_dict()) is same
    assert (write_line("x", one) == write_line("x", other)) is same
    assert (write_toml({"x": one}) == write_toml({"x": other})) is same
    assert (to_options(one) == to_options(other)) is same
