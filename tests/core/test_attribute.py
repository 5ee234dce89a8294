"""Attributes are checked key by key, and nothing in them is ignored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.attribute import EVERYWHERE, MOST_PINS, MOST_REPLICAS, Attribute, Protocol
from bitdew.core.attribute_keys import KEYS
from bitdew.core.errors import BitDewError
from bitdew.core.lifetime import For, Reference, Until, With
from bitdew.core.requirement import Requirement

WEEK = timedelta(days=7)
FULL = Attribute(
    replica=3,
    fault_tolerance=True,
    requires=Requirement("site = lyon"),
    priority=5,
    lifetime=For(WEEK),
    affinity=Reference("inputs", "attr"),
    spread="rack",
    protocol=Protocol.HTTP,
    distrib=2,
    pin=("pc2", "pc1", "pc2"),
)


def refused(wishes: dict[Any, Any]) -> BitDewError:
    with pytest.raises(BitDewError) as fault:
        Attribute.from_dict(wishes)
    return fault.value


# What it says of itself -----------------------------------------------------------------------------------------------


def test_no_wish_at_all_is_one_copy() -> None:
    assert Attribute.from_dict({}) == Attribute()
    assert Attribute().to_dict() == {}
    assert Attribute().replicas == 1


def test_all_wishes_are_told_under_the_keys_of_the_command_line_in_their_order() -> None:
    assert list(FULL.to_dict().items()) == [
        ("replica", 3),
        ("ft", True),
        ("lifetime", "7d"),
        ("affinity", "attr:inputs"),
        ("requires", "site = lyon"),
        ("spread", "rack"),
        ("protocol", "http"),
        ("distrib", 2),
        ("pin", ["pc1", "pc2"]),
        ("priority", 5),
    ]
    assert list(FULL.to_dict()) == list(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_is_left_out_has_its_default_and_the_others_are_kept(key: str) -> None:
    told = FULL.to_dict()
    del told[key]
    assert Attribute.from_dict(told).to_dict() == told
    assert getattr(Attribute.from_dict(told), KEYS[key].field) == getattr(Attribute(), KEYS[key].field)


def test_wishes_that_spell_out_the_defaults_are_no_wishes() -> None:
    defaults = {"ft": False, "requires": " ", "spread": "", "protocol": "auto", "distrib": -1, "pin": [], "priority": 0}
    assert Attribute.from_dict(defaults) == Attribute()
    assert Attribute.from_dict(defaults).to_dict() == {}


def test_attributes_that_the_first_release_stored_are_read() -> None:
    stored = {"replica": 1, "ft": False, "requires": "", "priority": 0}
    assert Attribute.from_dict(stored) == Attribute(replica=1)


def test_one_replica_that_was_asked_for_is_not_the_same_as_none_asked_for() -> None:
    assert Attribute(replica=1).to_dict() == {"replica": 1}
    assert Attribute(replica=1) != Attribute()


@pytest.mark.parametrize(
    ("wishes", "replicas"),
    [
        ({}, 1),
        ({"replica": 0}, 0),
        ({"replica": EVERYWHERE}, EVERYWHERE),
        ({"affinity": "hep"}, EVERYWHERE),
        ({"affinity": "hep", "replica": 1}, 1),
    ],
)
def test_replicas_are_what_was_said_or_one_or_every_holder_of_the_target(wishes: dict[str, Any], replicas: int) -> None:
    assert Attribute.from_dict(wishes).replicas == replicas


def test_pins_are_sorted_and_each_is_kept_once() -> None:
    assert FULL.pin == ("pc1", "pc2")
    assert Attribute(pin=("b", "a")) == Attribute(pin=("a", "b", "a"))


def test_equal_attributes_are_one_in_a_set() -> None:
    assert len({FULL, Attribute.from_dict(FULL.to_dict()), Attribute(), Attribute.from_dict({})}) == 2


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("replcia", "replica"),
        ("replicas", "replica"),
        ("Replica", "replica"),
        ("FT", "ft"),
        ("fault_tolerance", "ft"),
        ("fault-tolerance", "ft"),
        ("require", "requires"),
        ("prority", "priority"),
        ("life time", "lifetime"),
        ("abstime", "lifetime"),
        ("ttl", "lifetime"),
        ("oob", "protocol"),
        ("distribution", "distrib"),
        ("pins", "pin"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(key: str, near: str) -> None:
    fault = refused({"replica": 1, key: 1})
    assert fault.key == "attribute.invalid"
    assert fault.message == f"{key!r} is not a key of an attribute"
    assert fault.do == f"Did you mean {near!r}?"
    assert fault.fields == {"attribute": key}


@pytest.mark.parametrize("key", ["", "xyzzy", "\x00", "日本"])
def test_a_key_that_is_near_to_none_is_refused_with_all_that_there_are(key: str) -> None:
    assert refused({key: 1}).do == f"The keys are {', '.join(KEYS)}."


@pytest.mark.parametrize("key", [5, None, ("replica",)])
def test_a_key_that_is_no_text_is_refused(key: object) -> None:
    assert "is not a key" in refused({key: 1}).message


def test_a_huge_key_is_refused_at_once_in_a_short_sentence() -> None:
    assert len(str(refused({"replica" * 1_000_000: 1}))) < 200


@pytest.mark.parametrize(
    ("key", "value", "why", "do"),
    [
        ("replica", -2, "-1 (everywhere) or from 0 to 1000000", "Did you mean -1?"),
        ("replica", MOST_REPLICAS + 1, "from 0 to 1000000", "Did you mean 1000000?"),
        pytest.param("replica", 10**5000, "from 0 to 1000000", "Did you mean 1000000?", id="beyond printing"),
        ("replica", 3.0, "of type int", "Did you mean 3?"),
        ("replica", 1e300, "of type int", ""),
        ("replica", 0.5, "of type int", ""),
        ("replica", float("nan"), "of type int", ""),
        ("replica", float("-inf"), "of type int", ""),
        ("replica", "3", "of type int", "Did you mean 3?"),
        ("replica", "all", "of type int", "Did you mean -1?"),
        ("replica", "many", "of type int", ""),
        ("replica", True, "of type int", ""),
        ("replica", None, "of type int", ""),
        ("replica", [3], "of type int", ""),
        ("ft", 1, "of type bool", "Did you mean true?"),
        ("ft", 0, "of type bool", "Did you mean false?"),
        ("ft", 2, "of type bool", ""),
        ("ft", "yes", "of type bool", "Did you mean true?"),
        ("ft", "Off", "of type bool", "Did you mean false?"),
        ("ft", None, "of type bool", ""),
        ("lifetime", 7, "of type str", ""),
        ("lifetime", "7 days", "the units are", "Did you mean '7d'?"),
        ("affinity", "datum:hep", "'data' or 'attr'", "Did you mean 'data:hep'?"),
        ("affinity", "attribute:hep", "'data' or 'attr'", "Did you mean 'attr:hep'?"),
        ("affinity", "hep inputs", "1 to 128", "Did you mean 'hep-inputs'?"),
        ("affinity", "", "1 to 128", ""),
        ("affinity", "attr:", "1 to 128", ""),
        ("affinity", ["hep"], "of type str", ""),
        ("requires", 5, "of type str", ""),
        ("requires", ["site = lyon"], "of type str", ""),
        ("spread", "my rack", "name of a label", "Did you mean 'my-rack'?"),
        ("spread", "=", "name of a label", ""),
        ("spread", None, "of type str", ""),
        ("protocol", "torrent", "auto, bittorrent or http", "Did you mean 'bittorrent'?"),
        ("protocol", "BitTorrent", "auto, bittorrent or http", "Did you mean 'bittorrent'?"),
        ("protocol", "bt", "auto, bittorrent or http", "Did you mean 'bittorrent'?"),
        ("protocol", "https", "auto, bittorrent or http", "Did you mean 'http'?"),
        ("protocol", "ftp", "auto, bittorrent or http", "Did you mean 'http'?"),
        ("protocol", "", "auto, bittorrent or http", ""),
        ("protocol", None, "of type str", ""),
        ("distrib", -2, "-1 (any number) or from 0", "Did you mean -1?"),
        ("distrib", "2", "of type int", "Did you mean 2?"),
        ("distrib", False, "of type int", ""),
        ("pin", "pc1", "list of hosts", "Write it as a list: [pc1]"),
        ("pin", {"pc1": 1}, "list of hosts", ""),
        ("pin", ["pc 1."], "name of a host", "Did you mean 'pc-1'?"),
        ("pin", ["pc1", 2], "of type str", ""),
        ("pin", ["pc1", ""], "name of a host", ""),
        ("pin", [f"pc{i}" for i in range(MOST_PINS + 1)], "64 hosts are the most", ""),
        ("priority", 1001, "from -1000 to 1000", "Did you mean 1000?"),
        ("priority", -1001, "from -1000 to 1000", "Did you mean -1000?"),
        ("priority", 0.5, "of type int", ""),
        ("priority", "all", "of type int", ""),
    ],
)
def test_an_impossible_value_is_refused_with_the_reason_and_what_was_meant(
    key: str, value: object, why: str, do: str
) -> None:
    fault = refused({key: value})
    assert fault.key == "attribute.invalid"
    assert fault.message.startswith(f"{key} can't be")
    assert len(fault.message) < 150
    assert why in fault.why
    assert fault.do == (do or fault.kind.do)
    assert fault.fields == {"attribute": key}


@pytest.mark.parametrize("do", ["3", "-1", "true", "false", "7d", "data:hep", "hep-inputs", "bittorrent", "http"])
def test_what_was_probably_meant_is_itself_right(do: str) -> None:
    keys = {"3": "replica", "-1": "replica", "true": "ft", "false": "ft", "7d": "lifetime"}
    key = keys.get(do, "protocol" if do in {"bittorrent", "http"} else "affinity")
    value = {"3": 3, "-1": -1, "true": True, "false": False}.get(do, do)
    assert Attribute.from_dict({key: value}) is not None


@pytest.mark.parametrize(
    "impossible",
    [
        {"replica": -2},
        {"replica": True},
        {"replica": 1.0},
        {"priority": 1001},
        {"priority": None},
        {"fault_tolerance": 1},
        {"requires": None},
        {"requires": 5},
        {"lifetime": "seven days"},
        {"lifetime": WEEK},
        {"affinity": "a/b"},
        {"affinity": 1},
        {"spread": []},
        {"spread": "a b"},
        {"protocol": "ftp"},
        {"protocol": 1},
        {"distrib": -5},
        {"pin": "pc1"},
        {"pin": ("a/b",)},
    ],
)
def test_impossible_values_are_refused_however_an_attribute_is_made(impossible: dict[str, Any]) -> None:
    with pytest.raises(BitDewError) as fault:
        Attribute(**impossible)
    assert fault.value.key == "attribute.invalid"
    key = {"fault_tolerance": "ft"}.get(next(iter(impossible)), next(iter(impossible)))
    assert fault.value.fields == {"attribute": key}


@pytest.mark.parametrize(
    "possible",
    [
        {"lifetime": Until(datetime(2026, 12, 31, tzinfo=UTC))},
        {"lifetime": With(Reference("hep"))},
        {"affinity": Reference("hep")},
        {"affinity": "attr:hep"},
        {"lifetime": "7d"},
        {"requires": "site = lyon"},
        {"ft": True},
        {"protocol": "http"},
        {"pin": ["pc1"]},
        {"pin": tuple(f"pc{i}" for i in range(MOST_PINS))},
        {"distrib": 0},
    ],
)
def test_possible_values_are_taken(possible: dict[str, Any]) -> None:
    assert len(Attribute(**possible).to_dict()) == 1


def test_a_faulty_expression_is_refused_with_its_position() -> None:
    fault = refused({"requires": "site lyon"})
    assert fault.key == "attribute.requires"
    assert fault.fields == {"position": 6}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(KEYS)) | st.text(max_size=12), ANYTHING))
def test_any_json_object_is_an_attribute_that_says_so_or_refused(wishes: dict[str, Any]) -> None:
    try:
        attribute = Attribute.from_dict(wishes)
    except BitDewError as fault:
        assert fault.key in {"attribute.invalid", "attribute.requires"}  # noqa: PT017  (either outcome is right)
    else:
        assert Attribute.from_dict(attribute.to_dict()) == attribute
        assert set(attribute.to_dict()) <= set(wishes)
