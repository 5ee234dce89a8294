"""Attributes: what may be defined by whom, what their names mean, and that nothing comes to depend on itself."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bitdew.catalog.attribute_store import AttributeRecord

from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid
from bitdew.wire.models import DatumRequest

from .conftest import Rooms

ROOT = "b" * 64
CORRECT = "Correct the name, or add what it names first."


async def refused(work: Awaitable[Any]) -> BitDewError:
    with pytest.raises(BitDewError) as refusal:
        await work
    return refusal.value


async def datum(rooms: Rooms, name: str, attribute: Any = None) -> Uid:
    request = DatumRequest(name=name, root=ROOT, size=1, attribute=attribute or {})
    return (await rooms.data.create([request], rooms.ada))[0]


async def define(rooms: Rooms, name: str, **wishes: Any) -> AttributeRecord:
    return await rooms.attributes.define(name, wishes, rooms.ada)


# Defining and changing ------------------------------------------------------------------------------------------------


async def test_a_defined_attribute_is_shown_with_how_many_living_data_have_it(rooms: Rooms) -> None:
    made = await define(rooms, "root", replica=3, ft=True)
    await datum(rooms, "one", "root")
    await rooms.data.end(await rooms.data.living(await datum(rooms, "two", "root")), "a test")
    shown = await rooms.attributes.show("root")
    assert (shown.uid, shown.name, shown.wishes, shown.owner) == (made.uid, "root", {"replica": 3, "ft": True}, "ada")
    assert (shown.version, shown.data) == (1, 1)
    assert await rooms.attributes.show(made.uid) == shown
    assert (await rooms.attributes.list()).attributes == [shown]


async def test_a_host_is_told_what_the_attributes_of_living_data_are_called(rooms: Rooms) -> None:
    await define(rooms, "root", replica=3)
    named, plain = await datum(rooms, "one", "root"), await datum(rooms, "two", {"replica": 2})
    ended = await datum(rooms, "three", "root")
    await rooms.data.end(await rooms.data.living(ended), "a test")
    assert await rooms.attributes.names([named, plain, ended, Uid("f" * 32)]) == {named: "root", plain: ""}
    assert await rooms.attributes.names([]) == {}


async def test_a_name_is_given_once_and_kept_wishes_replace_the_old_ones(rooms: Rooms) -> None:
    await define(rooms, "root", replica=3)
    fault = await refused(rooms.attributes.define("root", {}, rooms.grace))
    assert fault.key == "attribute.name-taken"
    changed = await rooms.attributes.keep("root", {"replica": 5}, rooms.ada)
    assert (changed.attribute.replica, changed.version) == (5, 2)
    assert (await rooms.attributes.keep("other", {}, rooms.ada)).version == 1


async def test_a_change_is_told_and_is_one_of_all_data_that_have_it(rooms: Rooms) -> None:
    made = await define(rooms, "root", lifetime="7d")
    uid = await datum(rooms, "one", "root")
    before = await rooms.data.find("one")
    assert before.ends == before.data.created + timedelta(days=7)
    await rooms.attributes.change("root", {"replica": 2, "lifetime": "2d"}, rooms.ada)
    after = await rooms.data.find(uid)
    assert (after.attribute.attribute.replica, after.attribute.uid) == (2, made.uid)
    assert after.ends == after.data.created + timedelta(days=2)
    assert rooms.told_attributes == [made.uid]


async def test_only_its_owner_or_an_operator_changes_or_removes_an_attribute(rooms: Rooms) -> None:
    await define(rooms, "root", replica=3)
    for work in (rooms.attributes.change("root", {}, rooms.grace), rooms.attributes.remove("root", rooms.grace)):
        assert (await refused(work)).key == "certificate.role"
    await rooms.attributes.change("root", {"replica": 1}, rooms.operator)
    assert (await rooms.attributes.show("root")).owner == "ada"
    await rooms.attributes.remove("root", rooms.operator)
    assert (await refused(rooms.attributes.show("root"))).key == "attribute.not-found"


async def test_an_attribute_that_something_has_is_not_removed(rooms: Rooms) -> None:
    await define(rooms, "root")
    await define(rooms, "follower", affinity="attr:root")
    fault = await refused(rooms.attributes.remove("root", rooms.ada))
    assert fault.key == "attribute.in-use"
    assert "follower" in fault.why
    await rooms.attributes.remove("follower", rooms.ada)
    await datum(rooms, "one", "root")
    assert "one" in (await refused(rooms.attributes.remove("root", rooms.ada))).why
    await rooms.data.remove("one", rooms.ada)
    await rooms.attributes.remove("root", rooms.ada)


@pytest.mark.parametrize(
    ("wishes", "key", "do"),
    [
        ({"replika": 3}, "attribute.invalid", "replica"),
        ({"replica": -2}, "attribute.invalid", "-1"),
        ({"requires": "site in ("}, "attribute.requires", "position"),
        ({"lifetime": "2020-01-01"}, "attribute.invalid", ""),
    ],
)
async def test_wishes_that_can_not_be_are_refused_and_nothing_is_defined(
    rooms: Rooms, wishes: dict[str, Any], key: str, do: str
) -> None:
    fault = await refused(rooms.attributes.define("root", wishes, rooms.ada))
    assert fault.key == key
    assert do in fault.do
    assert (await rooms.attributes.list()).attributes == []


async def test_a_life_that_is_over_by_now_is_given_to_no_new_datum(rooms: Rooms) -> None:
    ends = rooms.clock.now() + timedelta(days=1)
    await define(rooms, "brief", lifetime=f"{ends:%Y-%m-%dT%H:%M:%SZ}")
    await datum(rooms, "one", "brief")
    rooms.clock.skip(timedelta(days=2).total_seconds())
    fault = await refused(datum(rooms, "two", "brief"))
    assert (fault.key, fault.why) == ("attribute.invalid", "that moment has passed")


async def test_a_name_that_is_not_there_is_answered_with_the_nearest(rooms: Rooms) -> None:
    await define(rooms, "hep-inputs")
    fault = await refused(rooms.attributes.show("hep-input"))
    assert (fault.key, fault.do) == ("attribute.not-found", "Did you mean 'hep-inputs'?")


# Wishes without a name ------------------------------------------------------------------------------------------------


async def test_equal_wishes_without_a_name_are_one_attribute_whoever_spells_them(rooms: Rooms) -> None:
    first = await rooms.attributes.resolve({"replica": 2, "ft": False, "distrib": -1}, "ada")
    second = await rooms.attributes.resolve({"replica": 2}, "grace")
    other = await rooms.attributes.resolve({"replica": 3}, "grace")
    assert first.uid == second.uid != other.uid
    assert first.attribute.to_dict() == {"replica": 2}
    assert (await rooms.attributes.list()).attributes == []
    assert (await refused(rooms.attributes.change(first.uid, {}, rooms.operator))).key == "attribute.invalid"


async def test_equal_words_that_mean_other_data_are_two_attributes(rooms: Rooms) -> None:
    await datum(rooms, "target")
    before = await rooms.attributes.resolve({"affinity": "target"}, "ada")
    await rooms.data.remove("target", rooms.ada)
    await datum(rooms, "target")
    assert (await rooms.attributes.resolve({"affinity": "target"}, "ada")).uid != before.uid


# What names mean ------------------------------------------------------------------------------------------------------


async def test_names_are_found_when_the_wishes_are_given(rooms: Rooms) -> None:
    target = await datum(rooms, "inputs")
    base = await define(rooms, "base")
    by_datum = await define(rooms, "one", affinity="inputs", lifetime="inputs")
    by_attribute = await define(rooms, "two", affinity="base", pin=["pc-1", "3" * 32])
    assert (by_datum.affinity_data, by_datum.affinity_attribute, by_datum.lifetime_data) == (target, None, target)
    assert (by_attribute.affinity_data, by_attribute.affinity_attribute) == (None, base.uid)
    assert by_attribute.pins == ("1" * 32, "3" * 32)


async def test_a_name_of_both_a_datum_and_an_attribute_has_to_be_told_apart(rooms: Rooms) -> None:
    target = await datum(rooms, "both")
    base = await define(rooms, "both")
    fault = await refused(define(rooms, "one", affinity="both"))
    assert (fault.key, fault.do) == ("attribute.invalid", "Write data:both or attr:both.")
    assert (await define(rooms, "one", affinity="data:both")).affinity_data == target
    assert (await define(rooms, "two", affinity="attr:both")).affinity_attribute == base.uid


@pytest.mark.parametrize(
    ("wishes", "do"),
    [
        ({"affinity": "hep-input"}, "Did you mean 'hep-inputs'?"),
        ({"affinity": "bases"}, "Did you mean 'base'?"),
        ({"affinity": "data:base"}, CORRECT),
        ({"affinity": "attr:hep-inputs"}, CORRECT),
        ({"lifetime": "hep-inptus"}, "Did you mean 'hep-inputs'?"),
        ({"pin": ["pc1"]}, "Did you mean 'pc-1'?"),
        ({"pin": ["4" * 32]}, CORRECT),
    ],
)
async def test_a_name_that_names_nothing_is_refused_with_the_nearest(
    rooms: Rooms, wishes: dict[str, Any], do: str
) -> None:
    await datum(rooms, "hep-inputs")
    await define(rooms, "base")
    fault = await refused(rooms.attributes.resolve(wishes, "ada"))
    assert (fault.key, fault.do) == ("attribute.dangling", do)


async def test_a_host_name_that_several_have_is_refused_with_their_ids(rooms: Rooms) -> None:
    fault = await refused(define(rooms, "one", pin=["twin"]))
    assert fault.key == "attribute.invalid"
    assert "2" * 32 in fault.do
    assert "3" * 32 in fault.do


async def test_a_removed_datum_is_no_target(rooms: Rooms) -> None:
    await datum(rooms, "gone")
    await rooms.data.remove("gone", rooms.ada)
    assert (await refused(define(rooms, "one", lifetime="gone"))).key == "attribute.dangling"


# Circles --------------------------------------------------------------------------------------------------------------


async def test_a_change_that_leads_back_to_its_attribute_is_refused_with_the_chain(rooms: Rooms) -> None:
    await define(rooms, "a")
    await define(rooms, "b", affinity="attr:a")
    await datum(rooms, "d", "b")
    await define(rooms, "c", lifetime="d")
    fault = await refused(rooms.attributes.change("a", {"affinity": "attr:c"}, rooms.ada))
    assert fault.key == "attribute.circular"
    assert fault.why == "attr:a -> attr:c -> data:d -> attr:b -> attr:a"
    assert (await rooms.attributes.show("a")).wishes == {}


async def test_an_attribute_that_names_itself_is_refused(rooms: Rooms) -> None:
    assert (await refused(define(rooms, "a", affinity="a"))).key == "attribute.dangling"
    await define(rooms, "a")
    fault = await refused(rooms.attributes.change("a", {"affinity": "a"}, rooms.ada))
    assert (fault.key, fault.why) == ("attribute.circular", "attr:a -> attr:a")


async def test_a_datum_is_given_no_attribute_that_leads_back_to_it(rooms: Rooms) -> None:
    await datum(rooms, "x")
    await datum(rooms, "y", {"lifetime": "x"})
    fault = await refused(rooms.data.choose("x", {"affinity": "y"}, rooms.ada))
    assert fault.key == "attribute.circular"
    assert fault.why.startswith("data:x -> attr:")
    assert fault.why.endswith("-> data:x")
    await define(rooms, "itself", lifetime="x")
    assert (await refused(rooms.data.choose("x", "itself", rooms.ada))).key == "attribute.circular"
    assert (await rooms.data.find("x")).attribute.attribute.to_dict() == {}


async def test_two_that_follow_the_same_are_no_circle(rooms: Rooms) -> None:
    await datum(rooms, "x")
    await define(rooms, "a", affinity="data:x", lifetime="x")
    await define(rooms, "b", affinity="attr:a", lifetime="x")
    changed = await rooms.attributes.change("a", {"affinity": "data:x", "replica": 2}, rooms.ada)
    assert changed.attribute.replica == 2


async def test_a_lifetime_stands_in_utc(rooms: Rooms) -> None:
    made = await define(rooms, "a", lifetime="2999-12-31T13:00:00+01:00")
    assert made.attribute.to_dict() == {"lifetime": "2999-12-31T12:00:00Z"}
    assert made.ends(rooms.clock.now()) == datetime(2999, 12, 31, 12, tzinfo=UTC)
