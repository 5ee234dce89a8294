"""Stored data, on each kind of database: all or none are added, and what was stored comes back as it was."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bitdew.catalog.attribute_store import AttributeRecord
from bitdew.catalog.data_store import DataStore, Datum, Disk
from bitdew.catalog.database import Database
from sqlalchemy import event

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data, ImageRecord, Kind, SignedRecord
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot, Uid, new_uid

NOW = datetime(2026, 3, 4, 5, 6, 7, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ROOT, OTHER = ContentRoot("1" * 64), ContentRoot("2" * 64)
SIZE = 10**13


@pytest.fixture
def store(database: Database) -> DataStore:
    return DataStore(database)


@pytest.fixture
async def plain(store: DataStore) -> AttributeRecord:
    return await store.attributes.add(record(None))


def record(name: str | None, attribute: Attribute | None = None) -> AttributeRecord:
    return AttributeRecord(new_uid(), name, attribute or Attribute(), None, None, None, (), "ada", NOW, NOW)


def datum(name: str, attribute: AttributeRecord, root: ContentRoot = ROOT, **known: Any) -> Datum:
    return Datum(Data(new_uid(), name, root, SIZE, 65536, NOW, "ada"), "3" * 64, attribute, **known)


def disk(name: str, attribute: AttributeRecord) -> Disk:
    plain = datum(name, attribute)
    told = ImageRecord(
        uid=plain.data.uid,
        name=name,
        root=ROOT,
        info_hash="3" * 64,
        size=SIZE,
        format="raw",
        os="Debian",
        arch="x86_64",
        version="7",
        publisher="ada",
        issued=NOW,
        expires=LATER,
    )
    signed = SignedRecord(b"\x00payload", b"\xffsignature", "-----BEGIN")
    return Disk(plain.data, plain.info_hash, attribute, record=told, signed=signed)


async def refused(work: Any) -> BitDewError:
    with pytest.raises(BitDewError) as refusal:
        await work
    return refusal.value


def uid_of(one: Datum) -> Uid:
    return one.data.uid


def names(found: list[Any]) -> list[str]:
    return [one.data.name for one in found]


# Adding ---------------------------------------------------------------------------------------------------------------


async def test_what_was_added_comes_back_as_it_was(store: DataStore, plain: AttributeRecord) -> None:
    folder = datum("folder", plain)
    data = [
        datum("plain", plain),
        datum("every", plain, OTHER, damaged=True, awaited=True, ends=LATER),
        datum("dead", plain, alive=False, died=LATER, died_because="its time was over"),
        disk("disk", plain),
        replace(folder, data=replace(folder.data, kind=Kind.FOLDER)),
    ]
    await store.add_all(data)
    assert await store.get([*map(uid_of, data), new_uid()]) == {uid_of(one): one for one in data}
    assert await store.roots([*map(uid_of, data), new_uid()]) == {uid_of(one): one.data.root for one in data}
    assert (await store.get([]), await store.roots([])) == ({}, {})
    found = await store.find("disk")
    assert isinstance(found, Disk)
    assert found == data[3]
    assert not isinstance(await store.find("plain"), Disk)
    assert await store.disks() == [data[3]]
    await store.add_all([])


async def test_of_data_some_of_whose_names_are_taken_none_is_added(store: DataStore, plain: AttributeRecord) -> None:
    await store.add_all([datum(name, plain) for name in "hgfedcba"])
    refusal = await refused(store.add_all([datum(name, plain) for name in "xbaycdefg"]))
    assert refusal.key == "disk.name-taken"
    assert refusal.fields["names"] == list("abcdefg")
    assert refusal.message == "Data named 'a', 'b', 'c', 'd', 'e' and 2 more are there already"
    refusal = await refused(store.add(disk("a", plain)))
    assert (refusal.key, refusal.message) == ("disk.name-taken", "A datum named 'a' is there already")
    assert names(await store.living()) == list("abcdefgh")
    assert await store.disks() == []


async def test_data_that_are_to_have_one_name_are_refused(store: DataStore, plain: AttributeRecord) -> None:
    refusal = await refused(store.add_all([datum(name, plain) for name in "abcab"]))
    assert (refusal.key, refusal.fields["names"]) == ("disk.name-taken", ["a", "b"])
    assert await store.living() == []


async def test_a_uid_is_one_datums_for_ever(store: DataStore, plain: AttributeRecord) -> None:
    first = datum("a", plain)
    await store.add(first)
    await store.end(uid_of(first), NOW, "removed")
    second = replace(first, data=replace(first.data, name="b"))
    assert (await refused(store.add(second))).key == "input.invalid"
    assert (await store.get([uid_of(first)]))[uid_of(first)].data.name == "a"


async def test_the_name_of_a_dead_datum_is_free(store: DataStore, plain: AttributeRecord) -> None:
    first, second = datum("a", plain), datum("a", plain)
    await store.add(first)
    assert await store.end(uid_of(first), LATER, "its owner removed it")
    await store.add(second)
    assert (await store.find("a"), await store.find(uid_of(first))) == (second, None)
    dead = (await store.get([uid_of(first)]))[uid_of(first)]
    assert (dead.alive, dead.died, dead.died_because) == (False, LATER, "its owner removed it")


async def test_of_many_who_add_one_name_at_once_one_wins(store: DataStore, plain: AttributeRecord) -> None:
    tried = [datum("a", plain) for _ in range(10)] + [datum(f"b{number}", plain) for number in range(10)]
    answers = await asyncio.gather(*map(store.add, tried), return_exceptions=True)
    assert [getattr(answer, "key", answer) for answer in answers].count("disk.name-taken") == 9
    assert answers.count(None) == 11
    living = {uid_of(one) for one in await store.living()}
    assert living == {uid_of(one) for one, answer in zip(tried, answers, strict=True) if answer is None}


async def test_more_data_are_added_and_read_than_a_statement_has_parameters(
    store: DataStore, plain: AttributeRecord
) -> None:
    data = [datum(f"n{number:05}", plain) for number in range(33_000)]
    await store.add_all(data)
    uids = [uid_of(one) for one in data]
    assert (await store.get(uids)).keys() == set(uids)
    assert len(await store.with_attribute([plain.uid])) == len(data)
    refusal = await refused(store.add_all([datum("n32999", plain), *(datum(f"m{n}", plain) for n in range(33_000))]))
    assert refusal.fields["names"] == ["n32999"]
    assert len(await store.attributes.get([*uids, plain.uid])) == 1


# Reading --------------------------------------------------------------------------------------------------------------


async def test_living_data_are_told_by_page_in_the_order_of_bytes(store: DataStore, plain: AttributeRecord) -> None:
    told = ["A", "B-1", "B.1", "B1", "B_1", "Ba", "a", "a-b", "a0", "aB", "ab"]
    assert told == sorted(told)
    await store.add_all([datum(name, plain) for name in reversed(told)])
    gone = datum("aa", plain)
    await store.add(gone)
    await store.end(uid_of(gone), NOW, "removed")
    assert names(await store.search()) == names(await store.living()) == told
    assert names(await store.search(limit=3)) == told[:3]
    assert names(await store.search(after="B1", limit=3)) == ["B_1", "Ba", "a"]
    assert names(await store.search("B", "")) == ["B-1", "B.1", "B1", "B_1", "Ba"]
    assert names(await store.search("a", "a", 2)) == ["a-b", "a0"]
    assert names(await store.search("a0", "a0")) == []
    assert names(await store.search("z")) == []
    pages, after = [], None
    while page := names(await store.search(after=after, limit=2)):
        pages += page
        after = page[-1]
    assert pages == told


async def test_a_name_goes_before_an_equal_uid(store: DataStore, plain: AttributeRecord) -> None:
    first = datum("a", plain)
    second = datum(uid_of(first), plain)
    await store.add_all([first, second])
    assert await store.find(uid_of(first)) == second
    await store.end(uid_of(second), NOW, "removed")
    assert await store.find(uid_of(first)) == first
    assert await store.find("b") is None


async def test_data_are_found_by_content_and_by_attribute(store: DataStore, plain: AttributeRecord) -> None:
    three = await store.attributes.add(record("three", Attribute(3)))
    a, b, c, d = datum("a", plain), datum("b", three), datum("c", three, OTHER), datum("d", three)
    await store.add_all([a, b, c, d])
    await store.end(uid_of(d), NOW, "removed")
    assert sorted(names(await store.of_root(ROOT))) == ["a", "b"]
    assert set(await store.with_attribute([three.uid])) == {uid_of(b), uid_of(c)}
    assert set(await store.with_attribute([three.uid, plain.uid])) == {uid_of(a), uid_of(b), uid_of(c)}
    assert len(await store.with_attribute([three.uid, plain.uid], 2)) == 2
    assert await store.with_attribute([new_uid()]) == []


async def test_the_repository_is_told_what_it_should_have_and_what_not(
    store: DataStore, plain: AttributeRecord
) -> None:
    gone, shared = ContentRoot("4" * 64), ContentRoot("5" * 64)
    dead, other = datum("dead", plain, gone), datum("other", plain, shared)
    await store.add_all(
        [
            datum("a", plain),
            datum("also-a", plain),
            datum("bad", plain, OTHER, damaged=True),
            datum("coming", plain, ContentRoot("6" * 64), awaited=True),
            datum("shared", plain, shared),
            dead,
            other,
        ]
    )
    for one in (dead, other):
        await store.end(uid_of(one), NOW, "removed")
    size = dead.data.size
    assert await store.contents() == {(ROOT, size): True, (OTHER, size): False, (shared, size): True}
    assert await store.removed_roots() == {gone}


# Changing -------------------------------------------------------------------------------------------------------------


async def test_a_datum_dies_once(store: DataStore, plain: AttributeRecord) -> None:
    one = datum("a", plain)
    await store.add(one)
    answers = await asyncio.gather(*(store.end(uid_of(one), LATER, "removed") for _ in range(5)))
    assert sorted(answers) == [False, False, False, False, True]
    assert not await store.end(uid_of(one), LATER + timedelta(1), "again")
    assert not await store.end(new_uid(), LATER, "never was")
    dead = (await store.get([uid_of(one)]))[uid_of(one)]
    assert dead == replace(one, alive=False, died=LATER, died_because="removed")


async def test_of_data_of_one_name_that_died_the_last_is_found(store: DataStore, plain: AttributeRecord) -> None:
    first, second, living = datum("x", plain), datum("x", plain), datum("x", plain)
    unnoted = datum("x", plain, alive=False)  # it died in a release that did not note when
    await store.add(unnoted)
    assert (found := await store.find_ended("x"))
    assert uid_of(found) == uid_of(unnoted)
    for one, died in ((first, LATER), (second, NOW)):
        await store.add(one)
        await store.end(uid_of(one), died, "ada removed it")
    await store.add(living)
    assert (found := await store.find_ended("x"))
    assert (uid_of(found), found.died) == (uid_of(first), LATER)
    assert (found := await store.find_ended(uid_of(second)))
    assert found.died_because == "ada removed it"
    assert await store.find_ended(uid_of(living)) is None
    assert await store.find_ended("y") is None


async def test_bytes_that_come_are_those_of_all_living_data_that_wait(store: DataStore, plain: AttributeRecord) -> None:
    a, b = datum("a", plain, awaited=True), datum("b", plain, awaited=True)
    dead, other = datum("dead", plain, awaited=True), datum("other", plain, OTHER, awaited=True)
    await store.add_all([a, b, dead, other, datum("there", plain)])
    await store.end(uid_of(dead), NOW, "removed")
    assert set(await store.came({ROOT: SIZE}, LATER)) == {uid_of(a), uid_of(b)}
    assert await store.came({ROOT: SIZE}, LATER) == []
    found = await store.get([uid_of(one) for one in (a, b, dead, other)])
    assert [found[uid_of(one)].awaited for one in (a, b, dead, other)] == [False, False, True, True]


async def test_damage_is_told_of_data_of_that_content_that_changed(store: DataStore, plain: AttributeRecord) -> None:
    a, b, dead = datum("a", plain), datum("b", plain, damaged=True), datum("dead", plain)
    await store.add_all([a, b, dead, datum("other", plain, OTHER)])
    await store.end(uid_of(dead), NOW, "removed")
    assert await store.mark_damaged(ROOT, NOW, "rot", damaged=True) == [uid_of(a)]
    assert set(await store.mark_damaged(ROOT, NOW, "rot", damaged=False)) == {uid_of(a), uid_of(b)}
    assert [one.damaged for one in await store.living()] == [False] * 3


async def test_a_datum_is_given_another_attribute(store: DataStore, plain: AttributeRecord) -> None:
    three = await store.attributes.add(record("three", Attribute(3)))
    one = datum("a", plain)
    await store.add(one)
    await store.set_attribute(uid_of(one), three.uid, LATER, LATER)
    assert await store.find("a") == replace(one, attribute=three, ends=LATER)
    refusal = await refused(store.set_attribute(uid_of(one), new_uid(), None, LATER))
    assert refusal.key == "attribute.not-found"
    assert await store.find("a") == replace(one, attribute=three, ends=LATER)


# Speed ----------------------------------------------------------------------------------------------------------------


async def test_sqlite_looks_data_up_in_indexes(sqlite_url: str) -> None:
    database, asked = Database(sqlite_url), list[tuple[str, Any]]()
    store = DataStore(database)

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE")):
            asked.append((statement, parameters))

    event.listen(database._engine.sync_engine, "before_cursor_execute", note)
    await store.find("a")
    await store.get([new_uid()])
    await store.search("a", "ab", 10)
    await store.of_root(ROOT)
    await store.with_attribute([new_uid()])
    await store.attributes.get([new_uid()])
    await store.came({ROOT: SIZE}, LATER)
    event.remove(database._engine.sync_engine, "before_cursor_execute", note)
    assert len(asked) == 7
    async with database._engine.connect() as connection:
        for statement, parameters in asked:
            plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            steps = [row.detail for row in plan]
            assert not any(step.startswith("SCAN") and "json_each" not in step for step in steps), (statement, steps)
            assert any(step.startswith("SEARCH") for step in steps)
    await database.close()
