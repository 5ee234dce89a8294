"""Several services on one PostgreSQL database, as real processes: they share the work, and each may be killed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from bitdew.catalog.database import Database
from sqlalchemy import text

from bitdew.client.grid import BitDew
from bitdew.core.attribute import Attribute
from bitdew.wire.models import DatumRequest

pytestmark = [pytest.mark.field, pytest.mark.timeout(200)]
MB = 2**20
PERIOD = 5
TAKEOVER = 20.0
"""Seconds of silence after which a leader that hangs is no leader any more."""
STATES = """SELECT p.state, count(*) FROM placements p JOIN data d ON d.uid = p.data
    WHERE d.name LIKE :like GROUP BY p.state"""
ORDERS = "SELECT o.subject, o.host, o.kind FROM orders o JOIN data d ON d.uid = o.subject WHERE d.name LIKE :like"


class Many:
    """Services of one grid, by name, and workers that have joined one of them each."""

    def __init__(self, site, database: Database, exits: AsyncExitStack) -> None:
        self.site = site
        self.database = database
        self.services: dict[str, object] = {}
        self.clients: dict[str, BitDew] = {}
        self._exits = exits

    def _log(self, name: str) -> str:
        return (self.site.folder / f"{name}.log").read_text()

    async def serve(self, *names: str) -> None:
        """Start services, all at once; an operator's connection to each."""

        def start(name: str) -> None:
            shared = self.site.folder / "shared"
            self.services[name] = self.site.start(
                *("serve", "--home", self.site.folder / name, "--port", 0, "--period", PERIOD, "--profile", name),
                *("--database", self.database.url.render_as_string(hide_password=False)),
                *("--authority", shared / "authority", "--repository", shared / "repository"),
                log=name,
            )

        await asyncio.gather(*(asyncio.to_thread(start, name) for name in names))
        for name in names:
            profile = self.site.folder / "home" / "profiles" / name
            self.clients[name] = await self._exits.enter_async_context(BitDew.connect(profile))

    async def work(self, **joining: str) -> None:
        """Start workers: `host1="one"` joins the service `one`."""
        token = (await next(iter(self.clients.values())).create_token("worker", uses=len(joining))).token

        def join(host: str, service: str) -> None:
            number = host.removeprefix("host")
            self.site.start(
                *("worker", "join", self.services[service].ready["url"], "--token", token, "--name", host),
                *("--home", self.site.folder / host, "--listen", f"127.0.1.{number}", "--quota", "1GB"),
                log=host,
            )

        await asyncio.gather(*(asyncio.to_thread(join, host, service) for host, service in joining.items()))

    def leads(self, name: str) -> bool:
        return '"event": "leading"' in self._log(name)

    async def follower(self) -> tuple[str, str]:
        """The names of the leader and of one that does not lead."""
        while not (leading := [name for name in self.services if self.leads(name)]):
            await asyncio.sleep(0.1)
        return leading[0], next(name for name in self.services if name not in leading)

    async def rows(self, query: str, **values: str) -> list:
        async with self.database.read() as session:
            return list(await session.execute(text(query), values))

    async def planned(self) -> int:
        return (await self.rows("SELECT count(*) FROM orders"))[0][0]

    async def until(self, condition, seconds: float) -> float:
        """How many seconds it takes until `condition` is true."""
        began = time.monotonic()
        while not await condition():
            assert time.monotonic() < began + seconds, "it never came true"
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def all_held(self, prefix: str, copies: int, data: int, seconds: float = 60.0) -> None:
        """Return once each of the `data` data has `copies` verified copies, and no more was ever asked for."""
        states: dict[str, int] = {}

        async def done() -> bool:
            states.clear()
            states.update(map(tuple, await self.rows(STATES, like=f"{prefix}%")))
            return states.get("held", 0) >= copies * data

        try:
            await self.until(done, seconds)
        except AssertionError:
            pytest.fail(f"{copies * data} copies should be held, and they are {states}")
        assert states == {"held": copies * data}
        orders = await self.rows(ORDERS, like=f"{prefix}%")
        assert {kind for _data, _host, kind in orders} == {"place"}, "nothing had to be dropped again"
        assert set(Counter(data for data, _host, _kind in orders).values()) == {copies}, "nothing was placed twice"
        assert len({(data, host) for data, host, _kind in orders}) == copies * data

    async def create_many(self, name: str, prefix: str, count: int, content: tuple[str, int], replica: int) -> None:
        """Create data whose bytes are there already, so that all of them can be placed at once."""
        wishes = Attribute(replica=replica).to_dict()
        root, size = content
        asked = [DatumRequest(name=f"{prefix}-{n}", root=root, size=size, attribute=wishes) for n in range(count)]
        await self.clients[name].create(asked)


@pytest.fixture
def many(site, postgres_url):
    """Makes the context in which services of one database run. Their database goes after them."""

    @asynccontextmanager
    async def make():
        async with AsyncExitStack() as exits:
            database = Database(postgres_url)
            exits.push_async_callback(database.close)
            yield Many(site, database, exits)
            await asyncio.to_thread(site.end)

    return make


def random_file(path, size=3 * MB):
    path.write_bytes(os.urandom(size))
    return path


async def put_one(grid: Many, name: str, tmp_path) -> tuple[str, int]:
    """A content that the repository has, to create data of."""
    datum = await grid.clients[name].put(random_file(tmp_path / "base.raw", MB), "base", Attribute(replica=0))
    return datum.root, datum.size


async def test_wishes_given_to_three_services_at_once_are_met_and_nothing_is_placed_twice(many, tmp_path):
    async with many() as grid:
        await grid.serve("one", "two", "three")
        await grid.work(host1="one", host2="two", host3="three")
        content = await put_one(grid, "two", tmp_path)
        files = {f"file-{name}": random_file(tmp_path / f"{name}.raw") for name in grid.services}

        async def give(name: str) -> None:
            await grid.clients[name].put(files[f"file-{name}"], f"file-{name}", Attribute(replica=2))
            await grid.create_many(name, f"{name}", 40, content, 2)
            await grid.clients[name].add_disk(files[f"file-{name}"], f"disk-{name}", Attribute(replica=3))

        await asyncio.gather(*(give(name) for name in grid.services))
        await grid.all_held("file-", 2, 3)
        await grid.all_held("disk-", 3, 3)
        for name in grid.services:
            await grid.all_held(f"{name}-", 2, 40)
        for name, path in files.items():
            where = await grid.clients["three"].where(name.replace("file", "disk"))
            assert where.data.held == 3
            root, wanted = where.data.root, hashlib.sha256(path.read_bytes()).digest()
            copies = [grid.site.copy(number, root).read_bytes() for number in (1, 2, 3)]
            assert [hashlib.sha256(copy).digest() for copy in copies] == [wanted] * 3
        assert sum(grid.leads(name) for name in grid.services) == 1
        for name, client in grid.clients.items():
            assert {host.name: host.state for host in await client.hosts()} == dict.fromkeys(
                ("host1", "host2", "host3"), "alive"
            ), f"as {name} sees them"


async def test_another_leads_when_the_leader_is_killed_in_the_middle_of_planning(many, tmp_path):
    async with many() as grid:
        await grid.serve("one", "two")
        leader, other = await grid.follower()
        await grid.work(host1=other, host2=other, host3=other)
        content = await put_one(grid, leader, tmp_path)
        await grid.create_many(leader, "d", 1000, content, 2)

        async def some_are_planned() -> bool:
            return await grid.planned() > 0

        await grid.until(some_are_planned, 20)
        grid.services[leader].kill()
        planned = await grid.planned()
        assert planned < 2000, "it was killed before it was through"

        async def goes_on() -> bool:
            return await grid.planned() > planned

        assert await grid.until(goes_on, 30) < 30
        assert grid.leads(other)
        await grid.all_held("d-", 2, 1000)


async def test_a_leader_that_was_stopped_plans_nothing_more_and_goes_on_serving(many, tmp_path):
    async with many() as grid:
        await grid.serve("one", "two")
        leader, other = await grid.follower()
        await grid.work(host1=other, host2=other)
        content = await put_one(grid, leader, tmp_path)
        await grid.create_many(leader, "d", 1000, content, 1)

        async def some_are_planned() -> bool:
            return await grid.planned() > 0

        await grid.until(some_are_planned, 20)
        grid.services[leader].process.send_signal(signal.SIGSTOP)
        try:
            planned = await grid.planned()
            assert planned < 1000, "it was stopped before it was through"

            async def goes_on() -> bool:
                return await grid.planned() > planned

            # The longest: it had the right to change facts, which is taken from it after 30 s.
            await grid.until(goes_on, TAKEOVER + 30)
            assert grid.leads(other)
        finally:
            grid.services[leader].process.send_signal(signal.SIGCONT)
        await grid.all_held("d-", 1, 1000)
        log = grid._log(leader)
        assert any(word in log for word in ("the lead is lost", "leadership.lost", "storage.failed"))
        assert log.count('"event": "leading"') == 1
        await grid.create_many(leader, "again", 10, content, 2)
        await grid.all_held("again-", 2, 10)
        explained = await grid.clients[leader].explain("again-1")
        assert (explained.held, explained.missing) == (2, 0)


async def test_a_datum_that_a_follower_acknowledged_before_it_was_killed_is_planned_at_once(many, tmp_path):
    async with many() as grid:
        await grid.serve("one", "two")
        leader, other = await grid.follower()
        await grid.work(host1=leader)
        content = await put_one(grid, other, tmp_path)
        await grid.create_many(other, "d", 3, content, 1)
        grid.services[other].kill()
        await grid.all_held("d-", 1, 3, seconds=15)
