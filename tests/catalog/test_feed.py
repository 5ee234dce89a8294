"""What one process says, the others hear; and nobody misses anything without being told so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from bitdew.catalog.database import Database
from bitdew.catalog.feed import LARGEST, PostgresFeed, SilentFeed, Told, _read, _written, along, new_feed, together
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from bitdew.core.ids import ContentRoot, HostId, Uid, new_uid
from bitdew.testing.postgres import PostgresServer

UIDS = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")
WORDS = st.text(max_size=40)
MESSAGES = st.builds(
    Told,
    topics=st.lists(WORDS, unique=True, max_size=300).map(tuple),
    data=st.lists(UIDS.map(Uid), unique=True, max_size=400).map(tuple),
    hosts=st.lists(UIDS.map(HostId), unique=True).map(tuple),
    waiting=st.dictionaries(UIDS.map(HostId), st.integers(0, 2**62)),
    revoked=st.lists(UIDS, unique=True).map(tuple),
    attributes=st.lists(UIDS.map(Uid), unique=True).map(tuple),
    doubted=st.lists(st.tuples(UIDS.map(HostId), UIDS.map(ContentRoot)), unique=True).map(tuple),
)


class Process:
    """A feed, and what it heard."""

    def __init__(self, feed: PostgresFeed) -> None:
        self.feed = feed
        self.heard: list[Told] = []
        self._more = asyncio.Event()
        feed.listen(self._hear)

    def _hear(self, told: Told) -> None:
        self.heard.append(told)
        self._more.set()

    async def hears(self, wanted: Callable[[Told], bool]) -> Told:
        async with asyncio.timeout(10):
            while not (found := [told for told in self.heard if wanted(told)]):
                self._more.clear()
                await self._more.wait()
        return found[0]

    def say(self, **what: object) -> None:
        self.feed.publish(Told(**what))  # type: ignore[arg-type]


@asynccontextmanager
async def processes(url: str, number: int) -> AsyncIterator[list[Process]]:
    """Some processes whose feeds are connected; the first `resync` is heard and forgotten."""
    async with AsyncExitStack() as exits:
        made = []
        for _ in range(number):
            database = Database(url)
            exits.push_async_callback(database.close)
            process = Process(PostgresFeed(database))
            task = asyncio.create_task(process.feed.run())
            exits.push_async_callback(ended, task)
            await process.hears(lambda told: told.resync)
            process.heard.clear()
            made.append(process)
        yield made


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_everyone_but_the_speaker_hears_what_is_said(postgres_url: str) -> None:
    async with processes(postgres_url, 3) as (one, two, three):
        host, uid = HostId("b" * 32), Uid("a" * 32)
        said = Told(
            topics=("it's",), data=(uid,), hosts=(host,), waiting={host: 2**40}, revoked=("c",), attributes=(uid,)
        )
        one.feed.publish(said)
        for other in (two, three):
            heard = await other.hears(lambda told: True)
            assert replace(heard, origin="") == said
        two.say(topics=("back",))
        assert (await one.hears(lambda told: True)).topics == ("back",)
        assert (await three.hears(lambda told: "back" in told.topics)).origin != heard.origin
        assert len(one.heard) == 1


async def test_what_is_said_at_once_arrives_once(postgres_url: str) -> None:
    async with processes(postgres_url, 2) as (one, two):
        host = HostId("b" * 32)
        for number in range(100):
            one.say(topics=("same",), waiting={host: number})
        await two.hears(lambda told: told.waiting.get(host) == 99)
        assert len(two.heard) < 5
        assert {told.topics for told in two.heard} == {("same",)}


async def test_what_is_said_along_with_a_transaction_is_heard_if_it_is_stored_and_only_then(postgres_url: str) -> None:
    database = Database(postgres_url)
    PostgresFeed(database)  # it does not run: who says something along may be killed right after
    async with processes(postgres_url, 1) as (one,):
        with pytest.raises(ZeroDivisionError):
            await refused_after_telling(database)
        async with database.write() as session:
            along(session, Told(topics=("it's",)))
            along(session, Told(topics=("stored",), data=(Uid("a" * 32),)))
            assert not one.heard
        assert (await one.hears(lambda told: True)).topics == ("it's", "stored")
        async with database.write() as session:
            along(session, Told(data=tuple(Uid(new_uid()) for _ in range(40_000))))
        await one.hears(lambda told: told.resync)
        assert len(one.heard) == 2, "a flood is one message"
    await database.close()


async def refused_after_telling(database: Database) -> None:
    async with database.write() as session:
        along(session, Told(topics=("not stored",)))
        raise ZeroDivisionError


async def test_nobody_hears_from_one_who_has_nothing_to_say(postgres_url: str) -> None:
    async with processes(postgres_url, 2) as (one, two):
        one.say()
        two.say(topics=("something",))
        await one.hears(lambda told: bool(told.topics))
        one.say(topics=("later",))
        assert (await two.hears(lambda told: True)).topics == ("later",)
        assert not any(told.resync for told in (*one.heard, *two.heard)), "both are still connected"


async def test_more_than_one_message_can_hold_arrives_in_several(postgres_url: str) -> None:
    async with processes(postgres_url, 2) as (one, two):
        data = tuple(Uid(new_uid()) for _ in range(2000))
        one.say(data=data)
        await two.hears(lambda told: data[-1] in told.data)
        assert {uid for told in two.heard for uid in told.data} == set(data)
        assert not any(told.resync for told in two.heard)


async def test_a_flood_becomes_one_call_to_look_at_everything(postgres_url: str) -> None:
    async with processes(postgres_url, 2) as (one, two):
        one.say(data=tuple(Uid(f"{number:032x}") for number in range(50_000)))
        await two.hears(lambda told: told.resync)
        assert len(two.heard) == 1


async def test_after_a_lost_connection_both_sides_look_at_everything(postgres_url: str) -> None:
    """The one that lost it may have missed what was said, and what it said itself may be lost."""
    async with processes(postgres_url, 2) as (one, two):
        database = Database(postgres_url)
        async with database.write() as session:
            query = (
                "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' "
                "AND datname = current_database() ORDER BY backend_start LIMIT 1) AS it"
            )
            assert (await session.execute(text(query))).scalars().all() == [True]
        await database.close()
        await one.hears(lambda told: told.resync)
        await two.hears(lambda told: told.resync and told.origin != "")
        one.say(topics=("again",))
        await two.hears(lambda told: "again" in told.topics)


async def test_what_was_said_while_the_server_was_away_is_made_up_for(own_postgres: PostgresServer) -> None:
    url = await own_postgres.create("bitdew")
    async with processes(url, 2) as (one, two):
        await asyncio.to_thread(own_postgres.stop)
        one.say(topics=("in vain",))
        await asyncio.to_thread(own_postgres.start)
        for process in (one, two):
            await process.hears(lambda told: told.resync)
        one.say(topics=("again",))
        await two.hears(lambda told: "again" in told.topics)


async def test_a_slow_listener_is_told_to_look_at_everything(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitdew.catalog.feed.BACKLOG", 3)
    async with processes(postgres_url, 2) as (one, two):
        two.feed._inbox.extend(["[]"] * 3)
        two.feed._heard(None, 0, "bitdew", "[]")
        await two.hears(lambda told: told.resync)
        one.say(topics=("on",))
        await two.hears(lambda told: "on" in told.topics)


async def test_what_a_listener_raises_ends_the_feed(postgres_url: str) -> None:
    database = Database(postgres_url)
    feed = PostgresFeed(database)

    def fail(_told: Told) -> None:
        raise ZeroDivisionError

    feed.listen(fail)
    async with asyncio.timeout(10):
        with pytest.raises(ZeroDivisionError):
            await feed.run()
    await database.close()


async def test_the_feed_of_the_only_process_is_silent(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    feed = new_feed(database)
    assert isinstance(feed, SilentFeed)
    feed.listen(lambda told: pytest.fail(f"it said {told}"))
    feed.publish(Told(resync=True))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await feed.run()
    await database.close()


@given(MESSAGES)
def test_every_message_survives_its_writing_in_parts_that_fit(told: Told) -> None:
    payloads = list(_written("f" * 32, told))
    assert all(len(payload.encode()) <= LARGEST and payload.isascii() for payload in payloads)
    assert replace(together([_read(payload) for payload in payloads]), origin="") == told


@pytest.mark.parametrize("payload", ["", "null", "[]", '["x"]', '["x", 3]', '["x", {"w": [1]}]', '["x", {"z": []}]'])
def test_a_message_that_can_not_be_read_is_heard_as_a_call_to_look_at_everything(payload: str) -> None:
    assert _read(payload).resync
