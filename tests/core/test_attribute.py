"""Attributes are checked key by key, and nothing in them is ignored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.attribute import EVERYWHERE, MOST_REPLICAS, Attribute
from bitdew.core.errors import BitDewError
from bitdew.core.requirement import Requirement

ATTRIBUTES = st.builds(
    Attribute,
    replica=st.integers(EVERYWHERE, MOST_REPLICAS),
    fault_tolerance=st.booleans(),
    requires=st.sampled_from(["", "site = lyon", "cpus > 2, not sharing = qemu"]).map(Requirement),
    priority=st.integers(-1000, 1000),
)


@given(ATTRIBUTES)
def test_an_attribute_is_told_and_read_again_the_same(attribute: Attribute) -> None:
    told = attribute.to_dict()
    assert Attribute.from_dict(told) == attribute
    assert set(told) == {"replica", "ft", "requires", "priority"}


@given(ATTRIBUTES)
def test_what_is_left_out_has_its_default(attribute: Attribute) -> None:
    for key, value in attribute.to_dict().items():
        assert Attribute.from_dict({key: value}).to_dict() == {**Attribute().to_dict(), key: value}


def test_no_wish_at_all_is_one_copy() -> None:
    assert Attribute.from_dict({}) == Attribute()
    assert Attribute().to_dict() == {"replica": 1, "ft": False, "requires": "", "priority": 0}


@pytest.mark.parametrize(
    ("key", "next_step"),
    [
        ("replcia", "Did you mean 'replica'?"),
        ("replicas", "Did you mean 'replica'?"),
        ("require", "Did you mean 'requires'?"),
        ("prority", "Did you mean 'priority'?"),
        ("FT", "The keys are replica, ft, requires, priority."),
        ("abstime", "The keys are replica, ft, requires, priority."),
        ("", "The keys are replica, ft, requires, priority."),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(key: str, next_step: str) -> None:
    with pytest.raises(BitDewError, match="is not a key of an attribute") as refused:
        Attribute.from_dict({"replica": 1, key: 1})
    assert refused.value.key == "attribute.invalid"
    assert refused.value.do == next_step
    assert refused.value.fields == {"attribute": key}


def test_a_huge_key_is_refused_at_once_in_a_short_sentence() -> None:
    with pytest.raises(BitDewError) as refused:
        Attribute.from_dict({"replica" * 1_000_000: 1})
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("replica", -2, "-1 (everywhere) or from 0 to 1000000"),
        ("replica", MOST_REPLICAS + 1, "from 0 to 1000000"),
        ("replica", 1.0, "of type int"),
        ("replica", "3", "of type int"),
        ("replica", True, "of type int"),
        ("replica", None, "of type int"),
        ("ft", 1, "of type bool"),
        ("ft", "true", "of type bool"),
        ("requires", 5, "of type str"),
        ("requires", ["site = lyon"], "of type str"),
        ("priority", 1001, "from -1000 to 1000"),
        ("priority", -1001, "from -1000 to 1000"),
        ("priority", 0.5, "of type int"),
    ],
)
def test_an_impossible_value_is_refused_with_the_reason(key: str, value: object, why: str) -> None:
    with pytest.raises(BitDewError, match=f"{key} can't be") as refused:
        Attribute.from_dict({key: value})
    assert refused.value.key == "attribute.invalid"
    assert why in refused.value.why
    assert refused.value.fields == {"attribute": key}


def test_impossible_values_are_refused_however_an_attribute_is_made() -> None:
    for impossible in ({"replica": -2}, {"priority": 1001}):
        with pytest.raises(BitDewError):
            Attribute(**impossible)


def test_a_faulty_expression_is_refused_with_its_position() -> None:
    with pytest.raises(BitDewError) as refused:
        Attribute.from_dict({"requires": "site lyon"})
    assert refused.value.key == "attribute.requires"
    assert refused.value.fields == {"position": 6}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["replica", "ft", "requires", "priority"]) | st.text(max_size=12), ANYTHING))
def test_any_json_object_is_an_attribute_that_says_so_or_refused(wishes: dict[str, Any]) -> None:
    try:
        attribute = Attribute.from_dict(wishes)
    except BitDewError as refused:
        assert refused.key in {"attribute.invalid", "attribute.requires"}  # noqa: PT017  (either outcome is right)
    else:
        told = attribute.to_dict()
        assert {key: told[key] for key in wishes} == {k: v.strip() if k == "requires" else v for k, v in wishes.items()}
