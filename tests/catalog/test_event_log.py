"""The log of events, on each kind of database: in order, by pages, bounded, and never cut without a word."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from bitdew.catalog import events as events_module
from bitdew.catalog.attribute_store import AttributeRecord
from bitdew.catalog.data_store import DataStore, Datum
from bitdew.catalog.database import Database
from bitdew.catalog.events import WHY, Cursor, EventLog, Filter, Happened, Logged, add_events
from sqlalchemy import text

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot, HostId, Uid, new_uid

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOST = HostId("a" * 32)
ALL = Filter(None)


@pytest.fixture
def log(database: Database) -> EventLog:
    return EventLog(database)


@pytest.fixture
def store(database: Database) -> DataStore:
    return DataStore(database)


async def made(store: DataStore, *names: str, awaited: bool = False) -> list[Uid]:
    """Data of an attribute of their own."""
    attribute = AttributeRecord(new_uid(), names[0], Attribute(), None, None, None, (), "ada", NOW, NOW)
    attribute = await store.attributes.add(attribute)
    data = [
        Datum(Data(new_uid(), name, ContentRoot("1" * 64), 10, 65536, NOW, "ada"), "3" * 64, attribute, awaited=awaited)
        for name in names
    ]
    await store.add_all(data)
    return [one.data.uid for one in data]


async def happen(database: Database, uid: Uid, count: int, kind: str = "held") -> None:
    async with database.write() as session:
        await add_events(session, [Happened(kind, uid, NOW + timedelta(seconds=n), HOST, "why") for n in range(count)])


async def everything(log: EventLog, wanted: Filter = ALL, limit: int = 7) -> list[Logged]:
    """All pages."""
    found: list[Logged] = []
    after: Cursor | None = None
    while True:
        page = await log.page(after, wanted, limit)
        assert not page.missed
        assert len(page.events) <= limit
        found += page.events
        after = page.next
        if not page.more:
            return found


async def test_the_life_of_data_is_told_in_order(store: DataStore, log: EventLog) -> None:
    (one,) = await made(store, "one")
    (waiting,) = await made(store, "waiting", awaited=True)
    other = (await store.get([waiting]))[waiting].attribute.uid
    await store.set_attribute(one, other, None, NOW)
    await store.came({ContentRoot("1" * 64): 10}, NOW)
    await store.end(one, NOW, "ada removed it")
    await store.end(one, NOW, "twice")
    told = [(event.kind, event.name, event.why) for event in await everything(log)]
    assert told == [
        ("created", "one", ""),
        ("changed", "one", ""),
        ("arrived", "waiting", ""),
        ("ended", "one", "ada removed it"),
    ]


async def test_pages_follow_one_upon_the_other_and_leave_nothing_out(
    store: DataStore, database: Database, log: EventLog
) -> None:
    one, two = await made(store, "one", "two")
    await happen(database, one, 25)
    await happen(database, two, 10, kind="fetching")
    found = await everything(log)
    assert len(found) == 2 + 25 + 10
    assert [event.cursor.seq for event in found] == sorted(event.cursor.seq for event in found)
    assert len(await everything(log, Filter(None, data=one))) == 26
    assert len(await everything(log, Filter(None, kinds=frozenset({"fetching"})))) == 10
    attribute = (await store.get([one]))[one].attribute.uid
    assert len(await everything(log, Filter(None, attribute=attribute, kinds=frozenset({"held", "created"})))) == 27
    assert await everything(log, Filter(None, attribute=new_uid())) == []


async def test_a_rare_kind_is_looked_for_in_parts(
    store: DataStore, database: Database, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = await made(store, "one")
    await happen(database, one, 30, kind="fetching")
    await happen(database, one, 1)
    monkeypatch.setattr(events_module, "SCANNED", 10)
    rare = Filter(None, kinds=frozenset({"held"}))
    first = await log.page(None, rare, 5)
    assert (first.events, first.more, first.next.seq) == ([], True, 10)
    assert [event.kind for event in await everything(log, rare)] == ["held"]


async def test_what_comes_after_the_newest_place_is_told_and_nothing_before(
    store: DataStore, database: Database, log: EventLog
) -> None:
    assert await log.newest() == Cursor()
    (one,) = await made(store, "one")
    place = await log.newest()
    assert (await log.page(place, ALL, 5)).events == []
    await happen(database, one, 2)
    page = await log.page(place, ALL, 5)
    assert ([event.kind for event in page.events], page.next) == (["held", "held"], await log.newest())


async def test_whoever_comes_too_late_is_told_that_events_are_missed(
    store: DataStore, database: Database, log: EventLog
) -> None:
    (one,) = await made(store, "one")
    await happen(database, one, 20)
    early = (await log.page(None, ALL, 3)).next
    assert await log.forget(NOW + timedelta(seconds=10)) == 11
    page = await log.page(early, ALL, 100)
    assert page.missed
    assert len(page.events) == 10
    assert not (await log.page(page.next, ALL, 100)).missed
    assert not (await log.page(None, ALL, 100)).missed


async def test_a_cursor_of_another_log_is_told_as_missed(store: DataStore, database: Database, log: EventLog) -> None:
    (one,) = await made(store, "one")
    await happen(database, one, 20)
    place = (await log.page(None, ALL, 10)).next
    assert not (await log.page(place, ALL, 1)).missed
    assert (await log.page(Cursor(place.seq, place.stamp + 1), ALL, 1)).missed
    assert (await log.page(Cursor(place.seq + 100, place.stamp), ALL, 1)).missed


async def test_the_log_is_bounded_and_its_newest_event_stays(
    store: DataStore, database: Database, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "SCANNED", 6)
    (one,) = await made(store, "one")
    await happen(database, one, 20)
    await log.forget(NOW - timedelta(days=1), most=5)
    assert len(await everything(log)) == 5
    newest = await log.newest()
    await log.forget(NOW + timedelta(days=1))
    assert await log.newest() == newest
    assert not (await log.page(newest, ALL, 5)).missed
    await happen(database, one, 1)
    assert (await log.newest()).seq == newest.seq + 1


async def test_events_of_many_writers_at_once_are_numbered_in_the_order_of_commits(
    store: DataStore, database: Database, log: EventLog
) -> None:
    (one,) = await made(store, "one")
    seen: list[int] = []
    place = await log.newest()
    done = asyncio.Event()

    async def read() -> None:
        nonlocal place
        while True:
            last = done.is_set()
            page = await log.page(place, ALL, 3)
            seen.extend(event.cursor.seq for event in page.events)
            place = page.next
            if last and not page.events:
                return

    reader = asyncio.create_task(read())
    await asyncio.gather(*(happen(database, one, 2) for _ in range(15)))
    done.set()
    await reader
    async with database.read() as session:
        all_of_them = list(await session.scalars(text("SELECT seq FROM events WHERE kind = 'held' ORDER BY seq")))
    assert seen == all_of_them


async def test_a_long_reason_is_cut(store: DataStore, database: Database, log: EventLog) -> None:
    (one,) = await made(store, "one")
    async with database.write() as session:
        await add_events(session, [Happened("failed", one, NOW, HOST, "x" * 10_000)])
    assert len((await everything(log))[-1].why) == WHY


@pytest.mark.parametrize("wrong", ["", "1", "1-", "-1", "a-b", "1-2-3", "9" * 19 + "-1", "1\n-2", "¹-2"])
def test_what_is_no_cursor_is_refused(wrong: str) -> None:
    with pytest.raises(BitDewError) as fault:
        Cursor.parse(wrong)
    assert fault.value.key == "input.invalid"


def test_a_cursor_reads_as_it_was_written() -> None:
    assert Cursor.parse(str(Cursor(12, 34))) == Cursor(12, 34)
