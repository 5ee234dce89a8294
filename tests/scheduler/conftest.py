"""What the scheduler's tests share: a real service on a clock of its own, and hosts that say what a test writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bitdew.scheduler.planner import PlannerSettings

from bitdew.client.enrolment import enrol
from bitdew.composition import Service
from bitdew.core.attribute import Attribute
from bitdew.core.ids import HostId, new_uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import MachineState, PlacementState
from bitdew.testing.clock import SkippingClock
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context
from bitdew.wire import models as m
from bitdew.wire.transport import Transport

GB = 2**30


class ScriptedHost:
    """A host that speaks the wire over TLS, and does and says only what a test writes.

    Attributes:
        uid: Its identity.
        boot: This start of its worker.
        generation: The highest generation that it persisted.
        reports: What it has, by datum: what a full inventory shows.
        machines: What it runs.
        inbox: The orders that came and were not looked at yet.
    """

    def __init__(self, line: Transport, clock: SkippingClock, uid: str, name: str, **lends: Any) -> None:
        self.line = line
        self.clock = clock
        self.uid = HostId(uid)
        self.name = name
        self.boot = new_uid()
        self.generation = 0
        self.reports: dict[str, m.PlacementReport] = {}
        self.machines: dict[str, m.MachineReport] = {}
        self.inbox: dict[str, m.Order] = {}
        self.about = {
            "name": name,
            "swarm": "127.0.0.1:9",
            "cpus": 4,
            "memory": 8 * GB,
            "quota": 100 * GB,
            "used": 0,
            "free": 100 * GB,
            "sharings": [{"name": "mock", "version": "1"}],
        } | lends

    async def sync(self, wait: float = 0.0, *, seconds: float = 20.0, **says: Any) -> m.SyncReply:
        """One exchange; `says` overrides what is sent."""
        said: dict[str, Any] = {"boot": self.boot, "generation": self.generation, "wait": wait} | says
        request = m.SyncRequest.model_validate(said)
        reply = await self.line.call("POST", "/v1/sync", m.SyncReply, body=request, seconds=seconds)
        self.inbox |= {order.uid: order for order in reply.orders if order.generation > self.generation}
        self.generation = max(self.generation, reply.generation)
        return reply

    async def hello(self) -> m.SyncReply:
        """Everything: what the host is, and all that it has."""
        return await self.sync(
            host=m.HostReport.model_validate(self.about),
            full=True,
            placements=list(self.reports.values()),
            machines=list(self.machines.values()),
        )

    def copy(self, order: m.Order, state: PlacementState, **says: Any) -> m.PlacementReport:
        """A report about the datum of `order`, remembered for full inventories."""
        root = order.place.root if order.place else self.reports[order.subject].root
        size = order.place.size if order.place else self.reports[order.subject].size
        said = {"uid": order.subject, "root": root, "size": size, "state": state, "generation": order.generation}
        report = m.PlacementReport.model_validate(said | says)
        if state is PlacementState.GONE:
            self.reports.pop(order.subject, None)
        else:
            self.reports[order.subject] = report
        return report

    async def tell(self, *reports: m.PlacementReport) -> m.SyncReply:
        """What changed about copies."""
        return await self.sync(placements=list(reports))

    async def orders(self, kind: OrderKind, count: int = 1) -> list[m.Order]:
        """The next `count` orders of `kind`; syncs until they are there."""
        async with asyncio.timeout(10):
            while len(found := [order for order in self.inbox.values() if order.kind is kind]) < count:
                await self.sync(wait=0.1)
                self.clock.skip(1)  # whoever fell asleep while a test pushed the clock has not noticed that push
        for order in found[:count]:
            del self.inbox[order.uid]
        return found[:count]

    async def idle(self) -> bool:
        """Whether no order came that was not looked at."""
        await self.sync()
        return not self.inbox

    async def order(self, kind: OrderKind) -> m.Order:
        """The next order of `kind`."""
        return (await self.orders(kind))[0]

    async def take(self) -> m.Order:
        """Carry out the next order to place something, whole."""
        order = await self.order(OrderKind.PLACE)
        assert order.place is not None
        await self.tell(self.copy(order, PlacementState.HELD, done=order.place.size, seconds=1.5))
        return order

    async def launched(self, state: MachineState = MachineState.RUNNING) -> m.Order:
        """Carry out the next order to launch a machine."""
        order = await self.order(OrderKind.LAUNCH)
        await self.machine(order, state, hypervisor="mock")
        return order

    async def machine(self, order: m.Order, state: MachineState, **says: Any) -> m.SyncReply:
        """What happened to the machine of `order`."""
        said = {"uid": order.subject, "state": state, "generation": order.generation}
        self.machines[order.subject] = m.MachineReport.model_validate(said | says)
        return await self.sync(machines=[self.machines[order.subject]])

    def forget_everything(self) -> None:
        """Start again without any memory."""
        self.boot, self.generation = new_uid(), 0
        self.reports, self.machines, self.inbox = {}, {}, {}


MakeHost = Callable[..., Awaitable[ScriptedHost]]
AddDisk = Callable[..., Awaitable[m.DiskView]]

FIGURES = PlannerSettings(
    lease=timedelta(seconds=120),
    grace=timedelta(seconds=100),
    settle=timedelta(seconds=40),
    retry_first=timedelta(seconds=10),
)


@pytest.fixture
async def grid() -> AsyncIterator[Grid]:
    """A service without workers; a host is lost after 70 s of the clock, its copies stop counting 100 s later."""
    async with Grid(0, planner=FIGURES) as grid:
        yield grid


@pytest.fixture
async def make_host(grid: Grid) -> AsyncIterator[MakeHost]:
    """Enrols a host and, unless told otherwise, lets it say hello."""
    async with AsyncExitStack() as exits:

        async def make(name: str = "pc", *, hello: bool = True, **lends: Any) -> ScriptedHost:
            identity = await enrol(
                grid.service.url, grid.token, name, IdentityFolder(grid.folder / name), {Role.WORKER}
            )
            context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
            line = await exits.enter_async_context(Transport(grid.service.url, context))
            host = ScriptedHost(line, grid.clock, identity.subject.subject_id, name, **lends)
            if hello:
                await host.hello()
            return host

        yield make


@pytest.fixture
def add_disk(grid: Grid, tmp_path: Path) -> AddDisk:
    """Adds a disk of some random bytes."""

    async def add(name: str = "disk", *, size: int = 70_000, **wishes: Any) -> m.DiskView:
        path = tmp_path / f"{name}.raw"
        path.write_bytes(random.Random(name).randbytes(size))
        return await grid.client.add_disk(path, name, Attribute(**wishes))

    return add


@pytest.fixture
def until() -> Callable[..., Awaitable[Any]]:
    """Asks again until the answer is true, and gives it: for what follows from a change, in moments."""

    async def wait(ask: Callable[[], Awaitable[Any]], seconds: float = 10.0) -> Any:
        async with asyncio.timeout(seconds):
            while not (answer := await ask()):
                await asyncio.sleep(0.01)
            return answer

    return wait


# Two services ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def leading(postgres_url: str) -> AsyncIterator[Grid]:
    """The one of two services on one database that leads."""
    async with Grid(0, database=postgres_url, planner=PlannerSettings()) as grid:
        await grid.service.rooms.leadership.gained()
        yield grid


@pytest.fixture
async def second(leading: Grid) -> AsyncIterator[Service]:
    """The one that follows."""
    async with leading.another_service("second") as service:
        yield service
