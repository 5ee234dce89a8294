"""What one change costs the scheduler, in small catalogs and grids and in large ones.

Three databases in SQLite: 1,000 data on 100 hosts; a thousand times the data; a thousand times the hosts. In random
order, one thing changes in one of them, and the engine plans until nothing is left to plan: facts are gathered from the
database, the planner decides, and what it decided is stored. All of that is in the time, which is the processor's, so
that neither other programs nor the disk count. Kinds of change:

- a datum is added that wants three copies;
- a host reports that it holds a copy: the report is judged and stored too;
- a host is lost that holds 20 copies of data with fault tolerance: all are made again elsewhere;
- a host joins, and says what it is;
- the wishes of an attribute change that three data have: each gets one copy more.

Every datum has copies, spread over all hosts. The planner looks at each of them once after a start; that survey is
left out here, since what it ends with is known: nothing to do.

The target is a ratio of at most 1.5 in each row.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from bitdew.catalog.data_store import DataStore, Datum
from bitdew.catalog.database import Database
from bitdew.catalog.feed import SilentFeed
from bitdew.catalog.leadership import Leadership
from bitdew.scheduler.changes import Changes
from bitdew.scheduler.engine import Engine
from bitdew.scheduler.hosts import HostChange, Hosts
from bitdew.scheduler.intake import Intake
from bitdew.scheduler.known import Known
from bitdew.scheduler.liveness import Liveness
from bitdew.scheduler.planner import PlannerSettings
from bitdew.scheduler.progress import ProgressBook
from bitdew.scheduler.store import SchedulerStore
from bitdew.scheduler.wishes import Wishes

from bitdew.clock import SystemClock
from bitdew.core.attribute import Attribute
from bitdew.core.content import piece_length_for
from bitdew.core.data import Data
from bitdew.core.ids import HostId, Uid, new_uid
from bitdew.core.states import HostState, PlacementState
from bitdew.wire.models import PlacementReport, SyncRequest

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.report import Report, options
from bed.stored import (
    OWNER,
    SIZE,
    StoredAttribute,
    StoredDatum,
    fill,
    fill_with_many,
    host_report,
    new_database,
    uid_of,
)

TARGET: Final = 1.5
SMALL: Final = (1_000, 100)
MUCH: Final = 1_000
"""How many times as many data, or hosts, the large ones have."""
ON_LOST: Final = 20
SHARING: Final = 3
"""Data that have one named attribute."""
ATTRIBUTES: Final = 50
REPETITIONS: Final = 20
WARM_UP: Final = 3
PLAIN: Final = uid_of("three copies")
FAULT_TOLERANT: Final = uid_of("fault tolerance")
SETTINGS: Final = PlannerSettings(grace=timedelta(0), repairs_per_round=1_000_000)


Change = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class World:
    """A scheduler on a database of its own, without a service around it."""

    known: Known
    engine: Engine
    intake: Intake
    turns: dict[str, int] = field(default_factory=dict)
    assigned: list[tuple[Datum, HostId]] = field(default_factory=list)
    """Copies that were ordered and not reported yet."""

    def turn(self, kind: str) -> int:
        """How often this kind of change was made before."""
        self.turns[kind] = self.turns.get(kind, -1) + 1
        return self.turns[kind]

    async def plan(self) -> None:
        """Plan until there is nothing to plan for at this moment."""
        while self.engine.is_due():
            await self.engine.step()

    # Each of these prepares a change, and returns what is to be timed.

    async def datum_added(self) -> Change:
        """A datum is added that wants three copies."""
        attribute = (await self.known.attributes.get([PLAIN]))[PLAIN]
        new = StoredDatum(new_uid(), f"added-{self.turn('added')}", PLAIN)
        length, now = piece_length_for(SIZE), self.known.clock.now()
        datum = Datum(Data(new.uid, new.name, new.root, SIZE, length, now, OWNER), new.info_hash, attribute)
        await self.known.data.add(datum)

        async def change() -> None:
            self.engine.lookout.data_changed([new.uid])
            await self.plan()

        self.assigned.append((datum, HostId("")))
        return change

    async def copy_held(self) -> Change:
        """A host reports that it holds a copy which it was ordered to."""
        while True:
            datum, host = self.assigned.pop(0)
            if host:
                break
            found = (await self.known.store.placements_of([datum.data.uid]))[datum.data.uid]
            self.assigned += [(datum, placement.host) for placement in found]
        generation = self.known.hosts.waiting(host)
        report = PlacementReport(
            uid=datum.data.uid,
            root=datum.data.root,
            state=PlacementState.HELD,
            generation=generation,
            done=SIZE,
            size=SIZE,
            seconds=1.0,
        )
        request = SyncRequest(boot=new_uid(), generation=generation, placements=[report])

        async def change() -> None:
            await self.intake.take_in(host, request)
            await self.plan()

        return change

    async def host_lost(self) -> Change:
        """A host falls silent for good."""
        host = lost_host(self.turn("lost"))
        old = self.known.hosts.get(host)
        if old is None:
            raise RuntimeError("a host that is to be lost was not stored")
        new = replace(old, state=HostState.LOST, state_since=self.known.clock.now())

        async def change() -> None:
            async with self.known.database.facts():
                await self.engine.host_changed(HostChange(old, new))
            await self.plan()

        return change

    async def host_joined(self) -> Change:
        """A host says for the first time what it is."""
        number = self.turn("joined")
        report = host_report(f"joined{number}", number)
        request = SyncRequest(boot=new_uid(), generation=0, full=True, host=report)

        async def change() -> None:
            await self.intake.take_in(HostId(uid_of("joined", number)), request)
            await self.plan()

        return change

    async def attribute_changed(self) -> Change:
        """The wishes of an attribute become two copies."""
        uid = named(self.turn("attribute"))
        record = (await self.known.attributes.get([uid]))[uid]
        await self.known.attributes.change(replace(record, attribute=Attribute(replica=2)))

        async def change() -> None:
            self.engine.lookout.attributes_changed([uid])
            await self.plan()

        return change


KINDS: Final = {
    "a datum added, 3 copies": World.datum_added,
    "a copy held": World.copy_held,
    f"a host lost, {ON_LOST} copies": World.host_lost,
    "a host joined": World.host_joined,
    f"an attribute changed, {SHARING} data": World.attribute_changed,
}


def lost_host(number: int) -> HostId:
    """The host that is lost in this turn."""
    return HostId(uid_of("lost", number))


def named(number: int) -> Uid:
    """The attribute whose wishes change in this turn."""
    return uid_of("named", number)


def make_database(path: Path, data: int, hosts: int, turns: int) -> None:
    """Fill a database for `turns` changes of each kind."""
    asyncio.run(new_database(path))
    many = [HostId(uid_of("host", number)) for number in range(hosts)]
    fill(
        path,
        attributes=[StoredAttribute(uid_of("attribute", n), None, {"replica": 1}) for n in range(ATTRIBUTES)],
        hosts=[(host, f"host{number}") for number, host in enumerate(many)],
    )
    fill_with_many(path, data, copies=1)
    lost = [lost_host(number) for number in range(turns)]
    # Each lost host's data have their other copies on hosts that stay.
    fill(
        path,
        hosts=[(host, f"lost{number}") for number, host in enumerate(lost)],
        attributes=[
            StoredAttribute(PLAIN, None, {"replica": 3}),
            StoredAttribute(FAULT_TOLERANT, None, {"replica": 2, "ft": True}),
            *(StoredAttribute(named(number), f"named-{number}", {"replica": 1}) for number in range(turns)),
        ],
        data=[
            *(
                StoredDatum(uid_of(host, n), f"{host}-{n}", FAULT_TOLERANT, (host, many[(7 * turn + n) % hosts]))
                for turn, host in enumerate(lost)
                for n in range(ON_LOST)
            ),
            *(
                StoredDatum(
                    uid_of("named", turn, n), f"named-{turn}-{n}", named(turn), (many[(11 * turn + n) % hosts],)
                )
                for turn in range(turns)
                for n in range(SHARING)
            ),
        ],
    )


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[World]:
    """A scheduler on this database."""
    clock, database = SystemClock(), Database.in_file(path)
    data, store = DataStore(database), SchedulerStore(database)
    known = Known(
        database=database,
        data=data,
        attributes=data.attributes,
        store=store,
        hosts=Hosts(store, Liveness(3600.0), clock),
        wishes=Wishes(),
        progress=ProgressBook(SETTINGS.lease),
        changes=Changes(clock),
        feed=SilentFeed(),
        clock=clock,
    )
    engine = Engine(known, SETTINGS, Leadership(database))
    await engine.open()
    engine._surveying = False  # noqa: SLF001 - it would find that all is well, a million times
    intake = Intake(known, engine)
    try:
        yield World(known, engine, intake)
    finally:
        await intake.close()
        await database.close()


async def measure(worlds: dict[str, Path], repetitions: int, report: Report) -> None:
    """Make the changes, in random order."""
    order = random.Random(7)  # noqa: S311 - no secret
    times: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in worlds} for kind in KINDS}
    clocked: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in worlds} for kind in KINDS}
    async with AsyncExitStack() as exits:
        open_worlds = {name: await exits.enter_async_context(opened(path)) for name, path in worlds.items()}
        gc.collect()
        for number in range(WARM_UP + repetitions):
            turns = [(kind, name) for kind in KINDS for name in worlds]
            order.shuffle(turns)
            if number == 0:
                turns.sort(key=lambda turn: list(KINDS).index(turn[0]))  # nothing can be held before it is added
            for kind, name in turns:
                change = await KINDS[kind](open_worlds[name])
                used, began = time.process_time(), time.perf_counter()
                await change()
                if number >= WARM_UP:
                    times[kind][name].append(time.process_time() - used)
                    clocked[kind][name].append(time.perf_counter() - began)
    small, *large = worlds
    for kind, of in times.items():
        for name in large:
            ratio = statistics.median(of[name]) / statistics.median(of[small])
            report.add(f"{kind}: {name}", ratio, f"processor time, against {small}", at_most=TARGET)
    report.keep("processor", times)
    report.keep("clock", clocked)


def main() -> None:
    asked = options(__doc__, full="five times the repetitions")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    report = Report("engine: one change among few and many data and hosts")
    repetitions = REPETITIONS * (5 if asked.full else 1)
    data, hosts = SMALL
    sizes = {
        f"{data:,} data, {hosts:,} hosts": (data, hosts),
        f"{data * MUCH:,} data, {hosts:,} hosts": (data * MUCH, hosts),
        f"{data:,} data, {hosts * MUCH:,} hosts": (data, hosts * MUCH),
    }
    with tempfile.TemporaryDirectory(prefix="bitdew-bench-") as folder:
        worlds = {name: Path(folder, f"{number}.sqlite3") for number, name in enumerate(sizes)}
        for name, (some_data, some_hosts) in sizes.items():
            make_database(worlds[name], some_data, some_hosts, WARM_UP + repetitions)
        asyncio.run(measure(worlds, repetitions, report))
    report.show(as_json=asked.json)


if __name__ == "__main__":
    main()
