"""Stored attributes, on each kind of database: what is one and the same, what follows a change, what may go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bitdew.catalog.attribute_store import AttributeRecord, AttributeStore
from bitdew.catalog.data_store import DataStore, Datum
from bitdew.catalog.database import Database

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot, HostId, new_uid
from bitdew.core.lifetime import For, Reference, Until, With

NOW = datetime(2026, 3, 4, 5, 6, 7, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
WEEK = timedelta(days=7)


@pytest.fixture
def data(database: Database) -> DataStore:
    return DataStore(database)


@pytest.fixture
def store(data: DataStore) -> AttributeStore:
    return data.attributes


def record(name: str | None = None, attribute: Attribute | None = None, **known: Any) -> AttributeRecord:
    return replace(
        AttributeRecord(new_uid(), name, attribute or Attribute(), None, None, None, (), "ada", NOW, NOW), **known
    )


def datum(name: str, attribute: AttributeRecord, created: datetime = NOW, **known: Any) -> Datum:
    told = Data(new_uid(), name, ContentRoot("1" * 64), 10, 1, created, "ada")
    return Datum(told, "2" * 64, attribute, ends=attribute.ends(created), **known)


async def refused(work: Any) -> BitDewError:
    with pytest.raises(BitDewError) as refusal:
        await work
    return refusal.value


# Adding and finding ---------------------------------------------------------------------------------------------------


async def test_what_was_stored_is_found_by_name_and_uid_with_all_its_wishes(store: AttributeStore) -> None:
    every = Attribute(
        replica=3,
        fault_tolerance=True,
        priority=5,
        lifetime=For(WEEK),
        affinity=Reference("inputs", "data"),
        spread="site",
        distrib=2,
        pin=("pc1", "pc2"),
    )
    target = await store.add(record("inputs"))
    hosts = (HostId("a" * 32), HostId("b" * 32))
    kept = record(
        "root", every, affinity_data=new_uid(), affinity_attribute=target.uid, lifetime_data=new_uid(), pins=hosts
    )
    assert await store.add(kept) == kept
    fresh = AttributeStore(store._database)
    assert await fresh.find("root") == await fresh.find(kept.uid) == kept
    assert await fresh.all() == {kept.uid: kept, target.uid: target}
    assert await fresh.get([kept.uid, new_uid()]) == {kept.uid: kept}
    assert await fresh.get([]) == {}
    assert await fresh.find("toor") is None


async def test_a_name_goes_before_an_equal_uid(store: AttributeStore) -> None:
    first = await store.add(record("first"))
    second = await store.add(record(first.uid))
    assert await store.find(first.uid) == second


async def test_a_name_is_one_attributes(store: AttributeStore) -> None:
    await store.add(record("root"))
    refusal = await refused(store.add(record("root", Attribute(2))))
    assert (refusal.key, refusal.fields["name"]) == ("attribute.name-taken", "root")
    await store.add(record("Root"))  # letters count as they are written
    assert len(await store.all()) == 2


async def test_equal_wishes_without_a_name_are_one_attribute(store: AttributeStore) -> None:
    first = await store.add(record(None, Attribute(2, priority=1)))
    assert await store.add(record(None, Attribute(priority=1, replica=2), owner="grace")) == first
    named = await store.add(record("root", Attribute(2, priority=1)))
    assert named.uid != first.uid
    assert len(await store.all()) == 2


async def test_equal_words_that_mean_other_targets_are_other_attributes(store: AttributeStore) -> None:
    lasting = Attribute(lifetime=With(Reference("job")), pin=("pc",))
    targets: list[dict[str, Any]] = [
        {},
        {"lifetime_data": new_uid()},
        {"lifetime_data": new_uid()},
        {"affinity_data": new_uid()},
        {"pins": (HostId("a" * 32),)},
    ]
    stored = [await store.add(record(None, lasting, **known)) for known in targets]
    assert len({found.uid for found in stored}) == len(targets)
    assert [await store.add(record(None, lasting, **known)) for known in targets] == stored


async def test_of_many_who_add_equal_wishes_at_once_all_get_the_same_attribute(store: AttributeStore) -> None:
    stored = await asyncio.gather(*(store.add(record(None, Attribute(7))) for _ in range(20)))
    assert len({found.uid for found in stored}) == 1
    assert await store.all() == {stored[0].uid: stored[0]}


async def test_an_attribute_whose_target_is_gone_is_refused(store: AttributeStore) -> None:
    assert (await refused(store.add(record("root", affinity_attribute=new_uid())))).key == "attribute.dangling"
    assert (await refused(store.add(record(None, affinity_attribute=new_uid())))).key == "attribute.dangling"
    assert await store.all() == {}


# Changing -------------------------------------------------------------------------------------------------------------


async def test_a_change_keeps_the_uid_and_counts_versions(store: AttributeStore) -> None:
    old = await store.add(record("root", Attribute(1)))
    await store.change(replace(old, name="leaf", attribute=Attribute(5), changed=LATER, owner="grace", created=LATER))
    found = await store.find("leaf")
    assert found == replace(old, name="leaf", attribute=Attribute(5), changed=LATER, version=2)
    assert await store.find("root") is None
    await store.change(replace(old, attribute=Attribute(6)))
    assert (await store.get([old.uid]))[old.uid].version == 3


async def test_a_change_by_another_process_is_seen(store: AttributeStore, data: DataStore, database: Database) -> None:
    old = await store.add(record("root", Attribute(1)))
    added = datum("a", old)
    await data.add(added)
    assert (await data.get([added.data.uid]))[added.data.uid].attribute == old
    await AttributeStore(database).change(replace(old, attribute=Attribute(9)))
    assert (await data.get([added.data.uid]))[added.data.uid].attribute.attribute == Attribute(9)


async def test_the_ends_of_living_data_follow_the_wishes(store: AttributeStore, data: DataStore) -> None:
    kept = await store.add(record("root"))
    other = await store.add(record("other"))
    early, late = datum("early", kept), datum("late", kept, LATER)
    dead, strange = datum("dead", kept), datum("strange", other)
    await data.add_all([early, late, dead, strange])
    await data.end(dead.data.uid, NOW, "removed")

    async def ends(lifetime: Any) -> list[datetime | None]:
        await store.change(replace(kept, attribute=Attribute(lifetime=lifetime)))
        found = await data.get([d.data.uid for d in (early, late, dead, strange)])
        return [found[d.data.uid].ends for d in (early, late, dead, strange)]

    moment = datetime(2031, 1, 1, tzinfo=UTC)
    assert await ends(For(WEEK)) == [NOW + WEEK, LATER + WEEK, None, None]
    assert await ends(Until(moment)) == [moment, moment, None, None]
    assert await ends(With(Reference("strange"))) == [None] * 4
    assert await ends(None) == [None] * 4


async def test_a_change_that_can_not_be_stored_changes_nothing(store: AttributeStore, data: DataStore) -> None:
    await store.add(record("taken"))
    kept = await store.add(record("root"))
    added = datum("a", kept)
    await data.add(added)
    wished = replace(kept, attribute=Attribute(lifetime=For(WEEK)))
    assert (await refused(store.change(replace(wished, name="taken")))).key == "attribute.name-taken"
    assert (await refused(store.change(replace(wished, affinity_attribute=new_uid())))).key == "attribute.dangling"
    assert (await refused(store.change(record("new")))).key == "attribute.not-found"
    assert await store.find("root") == kept
    assert (await data.get([added.data.uid]))[added.data.uid].ends is None


# Removing -------------------------------------------------------------------------------------------------------------


async def test_an_attribute_that_nothing_has_is_removed(store: AttributeStore) -> None:
    kept = await store.add(record("root"))
    await store.remove(kept.uid)
    assert (await store.all(), await store.get([kept.uid]), await store.find("root")) == ({}, {}, None)
    assert (await refused(store.remove(kept.uid))).key == "attribute.not-found"


async def test_an_attribute_that_living_data_or_attributes_have_stays(store: AttributeStore, data: DataStore) -> None:
    target, lonely = await store.add(record("target")), await store.add(record("lonely"))
    await store.add(record("follower", affinity_attribute=target.uid))
    await data.add_all([datum(name, lonely) for name in "edcba"])
    refusal = await refused(store.remove(target.uid))
    assert (refusal.key, refusal.why) == ("attribute.in-use", "the attribute 'follower' has it")
    refusal = await refused(store.remove(lonely.uid))
    assert refusal.key == "attribute.in-use"
    assert refusal.why == "the datum 'a', the datum 'b', the datum 'c' have it"
    assert (await store.find("target"), await store.find("lonely")) == (target, lonely)


async def test_dead_data_keep_their_wishes_when_the_attribute_goes(store: AttributeStore, data: DataStore) -> None:
    target = await store.add(record("target"))
    kept = await store.add(record("root", Attribute(4), affinity_attribute=target.uid))
    unnamed = await store.add(record(None, Attribute(4)))
    named_dead, unnamed_dead = datum("a", kept), datum("b", unnamed)
    await data.add_all([named_dead, unnamed_dead])
    for dead in (named_dead, unnamed_dead):
        await data.end(dead.data.uid, NOW, "removed")
        await store.remove(dead.attribute.uid)
        found = (await data.get([dead.data.uid]))[dead.data.uid]
        assert (found.attribute.attribute, found.attribute.name) == (Attribute(4), None)
    assert await store.all() == {target.uid: target}
    assert await store.find(kept.uid) is None
    assert (await refused(store.change(kept))).key == "attribute.not-found"
    await store.remove(target.uid)
    again = await store.add(record("root"))
    assert again.uid != kept.uid
    assert (await store.add(record(None, Attribute(4)))).uid != unnamed.uid


async def test_data_are_not_given_what_was_removed(store: AttributeStore, data: DataStore) -> None:
    gone, kept = record("gone"), await store.add(record("root"))
    refusal = await refused(data.add_all([datum("a", kept), datum("b", gone)]))
    assert (refusal.key, refusal.fields["name"]) == ("attribute.not-found", "gone")
    assert await data.living() == []


async def test_living_data_are_counted_by_attribute(store: AttributeStore, data: DataStore) -> None:
    one, two, _none = [await store.add(record(name)) for name in ("one", "two", "none")]
    added = [datum(name, one if name < "c" else two) for name in "abcdef"]
    await data.add_all(added)
    await data.end(added[-1].data.uid, NOW, "removed")
    assert await store.counts() == {one.uid: 2, two.uid: 3}


def test_a_life_that_would_end_after_the_last_year_does_not_end() -> None:
    kept = record("root", Attribute(lifetime=For(timedelta(days=36525))))
    assert kept.ends(datetime(9990, 1, 1, tzinfo=UTC)) is None
    assert kept.ends(NOW) == NOW + timedelta(days=36525)
