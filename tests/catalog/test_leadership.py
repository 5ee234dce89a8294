"""One process leads. It is followed by another when it ends, is killed, is stopped or loses its connection."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from bitdew.catalog.database import Database
from bitdew.catalog.leadership import Leadership
from bitdew.catalog.postgres import Keys
from bitdew.catalog.tables import LeadershipRow
from sqlalchemy import select, text

from bitdew.core.errors import ServiceError
from bitdew.testing.postgres import PostgresServer

SILENCE = 1.5


class Process:
    """A process that tries to lead."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self) -> str:
        assert self.process.stdout
        async with asyncio.timeout(20):
            return (await self.process.stdout.readline()).decode().strip()

    async def writes(self, name: str) -> str:
        assert self.process.stdin
        self.process.stdin.write(f"{name}\n".encode())
        return await self.says()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


Start = Callable[[], Awaitable[Process]]


@pytest.fixture
async def start(postgres_url: str) -> AsyncIterator[Start]:
    async with AsyncExitStack() as exits:

        @asynccontextmanager
        async def running() -> AsyncIterator[Process]:
            script = Path(__file__).with_name("leading_process.py")
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(script), postgres_url, str(SILENCE)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            yield Process(process)
            if process.returncode is None:
                os.kill(process.pid, signal.SIGCONT)
                process.kill()
            await process.communicate()

        yield lambda: exits.enter_async_context(running())


@asynccontextmanager
async def running(*leaderships: Leadership) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(leadership.run()) for leadership in leaderships]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)


async def test_the_only_process_leads_at_once_and_may_always_write(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    leadership = Leadership(database)
    assert (leadership.held, leadership.lost.is_set(), leadership.epoch) == (True, False, 0)
    async with running(leadership), database.write() as session:
        await leadership.gained()
        await leadership.check(session)
    await database.close()


async def test_of_many_that_start_at_once_one_leads_and_the_next_follows_it(postgres_url: str) -> None:
    databases = [Database(postgres_url) for _ in range(3)]
    candidates = {Leadership(database): database for database in databases}
    led: list[int] = []
    for _ in range(3):
        async with AsyncExitStack() as exits:
            others = list(candidates)
            tasks = {one: asyncio.create_task(one.run()) for one in others}
            gained = [asyncio.create_task(one.gained()) for one in others]
            async with asyncio.timeout(10):
                await asyncio.wait(gained, return_when=asyncio.FIRST_COMPLETED)
            (leader,) = [one for one in others if one.held]
            assert [one.lost.is_set() for one in others if one is not leader] == [True] * (len(others) - 1)
            led.append(leader.epoch or 0)
            async with candidates[leader].write() as session:
                await leader.check(session)
            exits.push_async_callback(cancelled, [*gained, *tasks.values()])
        del candidates[leader]
    assert led == sorted(set(led))
    for database in databases:
        await database.close()


async def cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_gives_the_lead_back_is_followed_at_once(postgres_url: str) -> None:
    database = Database(postgres_url)
    first, second = Leadership(database), Leadership(database)
    async with AsyncExitStack() as exits:
        async with running(first):
            await first.gained()
            await exits.enter_async_context(running(second))
            assert not second.held
        assert first.lost.is_set()
        async with asyncio.timeout(2):
            await second.gained()
    assert (first.epoch, second.epoch) == (1, 2)
    await database.close()


async def test_a_killed_leader_is_followed(start: Start) -> None:
    first = await start()
    assert await first.says() == "leads 1"
    second = await start()
    assert await first.writes("a") == "stored"
    first.signal(signal.SIGKILL)
    assert await second.says() == "leads 2"
    assert await second.writes("b") == "stored"


async def test_a_stopped_leader_is_followed_and_can_write_nothing_when_it_wakes_up(
    start: Start, postgres_url: str
) -> None:
    first = await start()
    assert await first.says() == "leads 1"
    second = await start()
    first.signal(signal.SIGSTOP)
    assert await second.says() == "leads 2"
    assert await second.writes("b") == "stored"
    first.signal(signal.SIGCONT)
    assert await first.writes("a") == "leadership.lost"
    assert await second.writes("c") == "stored"


async def test_a_leader_whose_connection_is_ended_knows_it_at_once_and_leads_again(postgres_url: str) -> None:
    database = Database(postgres_url)
    leadership = Leadership(database)
    async with running(leadership):
        await leadership.gained()
        async with database.write() as session:
            query = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = :low"
            low = Keys.LEADER & 0xFFFFFFFF
            assert (await session.execute(text(query), {"low": low})).scalars().all() == [True]
        async with asyncio.timeout(2):
            await leadership.lost.wait()
            await leadership.gained()
        assert leadership.epoch == 2
        async with database.write() as session:
            await leadership.check(session)
    await database.close()


async def test_what_an_old_leader_decided_is_refused(postgres_url: str) -> None:
    database = Database(postgres_url)
    leadership = Leadership(database)
    async with running(leadership):
        await leadership.gained()
        async with database.write() as session:
            (await session.get_one(LeadershipRow, 1)).epoch = 77

        async def decide() -> None:
            async with database.write() as session:
                (await session.get_one(LeadershipRow, 1)).epoch = 78
                await leadership.check(session)

        with pytest.raises(ServiceError) as caught:
            await decide()
        assert caught.value.key == "leadership.lost"
    async with database.read() as session:
        assert await session.scalar(select(LeadershipRow.epoch)) == 77
    await database.close()


async def test_nobody_leads_while_the_server_is_away_and_one_does_when_it_is_back(
    own_postgres: PostgresServer,
) -> None:
    database = Database(await own_postgres.create("bitdew"))
    await database.migrate()
    leadership = Leadership(database)
    async with running(leadership):
        await leadership.gained()
        await asyncio.to_thread(own_postgres.stop)
        async with asyncio.timeout(2):
            await leadership.lost.wait()
        await asyncio.to_thread(own_postgres.start)
        async with asyncio.timeout(10):
            await leadership.gained()
        assert leadership.epoch == 2
    await database.close()


async def test_a_leader_that_says_nothing_else_keeps_its_lead(postgres_url: str) -> None:
    database = Database(postgres_url)
    leadership = Leadership(database, silence=0.4)
    async with running(leadership):
        await leadership.gained()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await leadership.lost.wait()
        assert leadership.epoch == 1
    await database.close()
