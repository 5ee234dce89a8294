"""The in-process grid: a real service and real workers in one event loop, on a clock of the test's own.

Owns the lives of the service, the hosts and the operator's connection. Everything is real but the machines: they
run on the mock hypervisor, one pretended host each, so that they outlive a killed worker as real ones do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

from bitdew.catalog.database import Database
from bitdew.client.grid import BitDew
from bitdew.composition import Service, ServiceSettings
from bitdew.core.host import Endpoint
from bitdew.hypervisor import Hypervisor
from bitdew.wire.models import WhereReply
from bitdew.worker.daemon import Worker
from bitdew.worker.enrol import join
from bitdew.worker.jobs.running import Runner
from bitdew.worker.settings import WorkerSettings

from .clock import SkippingClock
from .mock_hypervisor import MockHost, MockHypervisor

_empty_database: Final[list[bytes]] = []
PERIOD: Final = 20.0
PATIENCE: Final = 30.0
"""Seconds of real time that `until` waits: far beyond what anything in one process takes."""


class GridHost:
    """One host of the grid: its settings, its worker while that runs, and the machines on it."""

    def __init__(self, grid: Grid, settings: WorkerSettings, hypervisor: MockHypervisor | None) -> None:
        self._grid = grid
        self.settings = settings
        self.name = settings.name
        self.machines = hypervisor.host if hypervisor else MockHost()
        self._given = hypervisor
        self.worker: Worker | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the worker, as its volunteer would after a boot."""
        ready: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(ready), name=f"worker {self.name}")
        futures: set[asyncio.Future[Any]] = {ready, self._task}
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await self._task  # it failed: say why
        self.worker = ready.result()

    async def _run(self, ready: asyncio.Future[Worker]) -> None:
        identity = await join(self._grid.service.url, self._grid.token, self.settings)
        drivers: list[Hypervisor] = [self._given] if self._given else []
        async with Worker(self.settings, identity, clock=self._grid.clock, hypervisors=drivers) as worker:
            ready.set_result(worker)
            await worker.run()

    async def stop(self) -> None:
        """Stop the worker in its documented order."""
        if self.worker is not None and self._task is not None:
            self.worker.stop()
            await self._task
            self.worker = self._task = None

    async def end_jobs(self) -> None:
        """Leave no process of a job: a worker that is stopped lets them run on until their leases end."""
        runner, folder = Runner(), self.settings.home / "jobs"
        for directory in await asyncio.to_thread(lambda: list(folder.iterdir()) if folder.exists() else []):
            job = await runner.recover(directory)
            if job is not None:
                await job.stop("the grid ends", kindly=False)

    async def restart(self) -> None:
        """Stop the worker and start it again on the same home."""
        await self.stop()
        await self.start()


class Grid:
    """A service and hosts in this process. An async context manager; its folder and all jobs go when it ends.

    Attributes:
        service: The running service.
        hosts: The hosts, by name.
        client: An operator's connection.
        clock: The clock of everyone.
    """

    service: Service
    client: BitDew
    token: str

    def __init__(
        self, hosts: int = 3, *, hypervisor: Callable[[], MockHypervisor | None] = MockHypervisor, **settings: Any
    ) -> None:
        """`hosts` workers are started, each with what `hypervisor` makes; `settings` go to `ServiceSettings`.

        The database is SQLite in the grid's folder, or a migrated one at the URL `database`.
        """
        self.clock = SkippingClock()
        self.hosts: dict[str, GridHost] = {}
        self.folder = Path()
        self._count = hosts
        self._hypervisor = hypervisor
        self._settings = settings
        self._exits = contextlib.AsyncExitStack()
        self._serving = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as exits:
            self.folder = await asyncio.to_thread(_new_folder)
            exits.push_async_callback(asyncio.to_thread, shutil.rmtree, self.folder)
            exits.push_async_callback(self.stop_service)
            await self.start_service()
            exits.push_async_callback(self._stop_hosts)
            await asyncio.gather(*(self.add_host(f"host{number}") for number in range(1, self._count + 1)))
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def start_service(self) -> None:
        """Start the service, on the same port as before if it ran before."""
        home = self.folder / "service"
        settings = ServiceSettings(home=home, port=0, period=PERIOD, **self._settings)
        if hasattr(self, "service"):
            settings = replace(settings, port=int(self.service.url.rpartition(":")[2]))
        elif settings.database is None:
            await _put_empty_database(home)
        async with contextlib.AsyncExitStack() as exits:
            self.service = await exits.enter_async_context(Service(settings, self.clock))
            await self.service.enrol_operator(self.folder / "operator", "operator")
            self.client = await exits.enter_async_context(BitDew.connect(self.folder / "operator"))
            self.token = (await self.client.create_token("worker", uses=1000)).token or ""
            self._serving = exits.pop_all()

    @contextlib.asynccontextmanager
    async def another_service(self, name: str) -> AsyncGenerator[Service, None]:
        """One more service on the same database, which has to be PostgreSQL's; its home is called `name`."""
        first = self.folder / "service"
        shared = {"authority": first / "authority", "repository": first / "repository", **self._settings}
        settings = ServiceSettings(home=self.folder / name, port=0, period=PERIOD, **shared)
        async with Service(settings, self.clock) as service:
            yield service

    async def stop_service(self) -> None:
        """Stop the service; the hosts go on without it."""
        await self._serving.aclose()

    async def add_host(self, name: str, **lent: Any) -> GridHost:
        """A host more. `lent` goes to `WorkerSettings`."""
        home = self.folder / name
        lent = {"listen": str(Endpoint("127.0.0.1", 0)), "quota": 2**30, **lent}
        settings = WorkerSettings(home=home, name=name, **lent)
        host = self.hosts[name] = GridHost(self, settings, self._hypervisor())
        await host.start()
        return host

    async def _stop_hosts(self) -> None:
        await asyncio.gather(*(host.stop() for host in self.hosts.values()))
        await asyncio.gather(*(host.end_jobs() for host in self.hosts.values()))

    async def until(self, disk: str, condition: Callable[[WhereReply], bool]) -> WhereReply:
        """The first moment at which `condition` is true of where `disk` is.

        Raises:
            TimeoutError: After 30 seconds of real time, with the last that was seen.
        """
        last: WhereReply | None = None
        try:
            async with asyncio.timeout(PATIENCE), contextlib.aclosing(self._watch(disk)) as replies:
                async for reply in replies:
                    last = reply
                    if condition(reply):
                        return reply
        except TimeoutError:
            raise TimeoutError(f"it never came true of {disk}; the last was {last}") from None
        raise AssertionError("a watch does not end by itself")

    async def _watch(self, disk: str) -> AsyncGenerator[WhereReply, None]:
        since = 0
        while True:
            reply = await self.client.where(disk, since, 50.0)
            since = reply.version
            yield reply


def _new_folder() -> Path:
    """A folder in memory where the system has such: everything durable waits for its disk, dozens of times a start."""
    memory = Path("/dev/shm")  # noqa: S108 (the folder is made under a name of its own, for its owner alone)
    where = memory if os.access(memory, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="bitdew-grid-", dir=where))


async def _put_empty_database(home: Path) -> None:
    """Begin with a database that has been migrated: doing that once a process saves most of a grid's start."""
    await asyncio.to_thread(home.mkdir)
    path = home / "catalog.sqlite3"
    if not _empty_database:
        database = Database.in_file(path)
        await database.migrate()
        await database.close()
        _empty_database.append(await asyncio.to_thread(path.read_bytes))
    else:
        await asyncio.to_thread(path.write_bytes, _empty_database[0])


async def eventually(condition: Callable[[], Awaitable[bool]], clock: SkippingClock) -> None:
    """Return once `condition` is true, asking again every few milliseconds of the clock.

    Raises:
        TimeoutError: After 30 seconds of real time.
    """
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await clock.sleep(0.01)
