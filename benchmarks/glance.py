"""What a look at a large grid costs: the summary that `bitdew top` shows, and the figures that Prometheus reads.

Two grids, in SQLite and, where it is installed, in PostgreSQL: 1,000 data on 100 hosts, and 100,000 data with 1,000,000
copies on 10,000 hosts. In both as much is going on: 1,000 copies are on their way, 500 machines and 500 runs of jobs
have not ended, 1,000 jobs wait. In the large one there are 100 times as many copies, and jobs that are done. What is
read is all that a summary, and a reading of the figures, take from the database.

Each is timed by the clock, on a database that nobody else uses: that is the time for which it keeps a connection, and
at most what it costs in processor time. The bound of the same run is one count of all copies by an index.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bitdew.catalog.database import Base, Database
from bitdew.catalog.leadership import Leadership
from bitdew.catalog.tallies import Tallying
from bitdew.scheduler.figure_store import FigureStore
from bitdew.scheduler.summary_store import SummaryStore
from sqlalchemy import JSON, Table, create_engine, select, text

from bitdew.clock import SystemClock
from bitdew.testing.postgres import PostgresServer, find_postgres

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.report import Report, asked_for_json
from bed.stored import StoredAttribute, fill, fill_with_many, new_database, uid_of

COPIES: Final = 10
SMALL: Final = (1_000, 100, 1_000)
LARGE: Final = (100_000, 10_000, 100_000)
"""Data, hosts, jobs that are done."""
MOVING: Final = 1_000
MACHINES: Final = 500
RUNS: Final = 500
WAITING: Final = 1_000
OWNERS: Final = 20
REPETITIONS: Final = 15
NOW: Final = datetime.now(UTC).replace(microsecond=0)


# The grids ------------------------------------------------------------------------------------------------------------


def make(path: Path, data: int, hosts: int, done: int) -> None:
    """Fill an SQLite database."""
    wishes = [StoredAttribute(uid_of("wish", n), None, {"replica": COPIES}) for n in range(50)]
    asyncio.run(new_database(path))
    fill(path, attributes=wishes, hosts=[(uid_of("host", n), f"host-{n}") for n in range(hosts)])
    fill_with_many(path, data, copies=COPIES)
    chance = random.Random(7)  # noqa: S311 - the same in each run
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA synchronous=OFF")
        rows = chance.sample(range(1, data * COPIES + 1), 2 * MOVING)
        moved = [(state, row) for row, state in zip(rows, ["fetching"] * MOVING + ["failed"] * MOVING, strict=True)]
        database.executemany("UPDATE placements SET state = ? WHERE rowid = ?", moved)
        data_uids = [row[0] for row in database.execute("SELECT uid FROM data LIMIT 1000")]
        host_uids = [row[0] for row in database.execute("SELECT uid FROM hosts LIMIT 1000")]
        deployment, at = uid_of("deployment"), text_of(NOW)
        database.execute(
            "INSERT INTO deployments (uid, data, count, memory, cpus, created, owner) VALUES (?, ?, ?, 1, 1, ?, '')",
            (deployment, data_uids[0], MACHINES, at),
        )
        database.executemany(
            "INSERT INTO machines (uid, deployment, data, host, state, since, generation, stop_wanted, hypervisor,"
            " cause, console, console_end) VALUES (?, ?, ?, ?, ?, ?, 0, 0, '', '', '', 0)",
            (
                (
                    uid_of("machine", n),
                    deployment,
                    data_uids[0],
                    host_uids[n % len(host_uids)],
                    "running" if n < MACHINES else "stopped",
                    text_of(NOW - timedelta(seconds=n)),
                )
                for n in range(MACHINES + done // 10)
            ),
        )
        jobs = ["done"] * done + ["queued"] * WAITING + ["running"] * RUNS
        database.executemany(
            "INSERT INTO jobs (uid, array, place, name, owner, created, spec, results, priority, shape, state, since,"
            " machines) VALUES (?, ?, 0, 'job', ?, ?, '{}', '{}', 0, ?, ?, ?, 1)",
            (
                (
                    uid_of("job", n),
                    uid_of("job", n),
                    f"owner-{n % OWNERS}",
                    text_of(NOW - timedelta(seconds=n)),
                    f"shape-{n % OWNERS}",
                    state,
                    text_of(NOW - timedelta(seconds=n)),
                )
                for n, state in enumerate(jobs)
            ),
        )
        database.executemany(
            "INSERT INTO job_runs (uid, job, number, host, state, since, started, heard, generation, cause, digest,"
            " log, log_end) VALUES (?, ?, 1, ?, ?, ?, ?, ?, 0, '', '', '', 0)",
            (
                (uid_of("run", n), uid_of("job", n), host_uids[n % len(host_uids)], state, at, at, at)
                for n, state in enumerate(jobs)
                if state != "queued"
            ),
        )
        database.executemany(
            "INSERT INTO orders (uid, host, generation, kind, subject, cause, created, closed)"
            " VALUES (?, ?, 1, 'place', ?, '', ?, ?)",
            (
                (
                    uid_of("order", n),
                    host_uids[n % len(host_uids)],
                    uid_of("subject", n),
                    at,
                    None if n < MOVING else at,
                )
                for n in range(MOVING + done)
            ),
        )
    asyncio.run(fold(path))
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def fold(path: Path) -> None:
    """Make few tallies of a million, as the leader does every ten seconds: here all rows came at once."""
    database = Database(f"sqlite+aiosqlite:///{path}")
    try:
        await Tallying(database, Leadership(database), SystemClock()).fold()
    finally:
        await database.close()


def text_of(moment: datetime) -> str:
    """A moment as SQLAlchemy stores it in SQLite."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


async def copy(source: Path, server: PostgresServer, name: str) -> str:
    """The same rows in a new PostgreSQL database; its URL."""
    import asyncpg

    url = await server.create(name)
    database = Database(url)
    await database.migrate()
    await database.close()
    line = await asyncpg.connect(host=str(server.folder), user="postgres", database=name)
    await line.execute("SET session_replication_role = replica")  # the rows' tallies come with them
    engine = create_engine(f"sqlite:///{source}")
    try:
        with engine.connect() as rows:
            for table in Base.metadata.sorted_tables:
                names = [column.name for column in table.columns]
                found = rows.execution_options(yield_per=20_000).execute(select(table))
                await line.execute(f"DELETE FROM {table.name}")  # noqa: S608 - a table of ours
                await line.copy_records_to_table(table.name, records=plain(table, found), columns=names)
        await line.execute("VACUUM ANALYZE")
    finally:
        engine.dispose()
        await line.close()
    return url


def plain(table: Table, rows: Any) -> Iterator[tuple[Any, ...]]:
    """Rows as the bare driver takes them."""
    kinds = [isinstance(column.type, JSON) for column in table.columns]
    for row in rows:
        yield tuple(
            json.dumps(value) if is_json and value is not None else value
            for value, is_json in zip(row, kinds, strict=True)
        )


# Looking at them ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Taken:
    """Seconds that looks took, in the median."""

    figures: float
    busiest: float
    bound: float


async def look(url: str) -> Taken:
    """Take each look some times, in turns."""
    database = Database(url)
    counts, glances = FigureStore(database), SummaryStore(database)

    async def bound() -> None:
        async with database.read() as session:
            await session.execute(text("SELECT count(*) FROM placements"))

    looks: dict[str, Callable[[], Awaitable[Any]]] = {
        "figures": counts.count,
        "busiest": lambda: glances.busiest(20, NOW - timedelta(hours=1)),
        "bound": bound,
    }
    times: dict[str, list[float]] = {name: [] for name in looks}
    try:
        for turn in range(REPETITIONS + 2):
            for name, take in looks.items():
                began = time.perf_counter()
                await take()
                if turn > 1:  # the first are to warm up
                    times[name].append(time.perf_counter() - began)
    finally:
        await database.close()
    return Taken(**{name: statistics.median(taken) for name, taken in times.items()})


def measure(report: Report, folder: Path) -> None:
    """Measure both grids in each database that there is."""
    paths = {"small": folder / "small.sqlite3", "large": folder / "large.sqlite3"}
    make(paths["small"], *SMALL)
    make(paths["large"], *LARGE)
    tell(report, "SQLite", {name: asyncio.run(look(f"sqlite+aiosqlite:///{path}")) for name, path in paths.items()})
    if find_postgres() is None:
        report.note("There is no PostgreSQL on this machine.")
        return
    with ExitStack() as exits:
        server = exits.enter_context(PostgresServer())
        urls = {name: asyncio.run(copy(path, server, name)) for name, path in paths.items()}
        tell(report, "PostgreSQL", {name: asyncio.run(look(url)) for name, url in urls.items()})


def tell(report: Report, where: str, taken: dict[str, Taken]) -> None:
    """The rows of one database."""
    small, large = taken["small"], taken["large"]
    for what, a, b in (("figures", small.figures, large.figures), ("a summary's lists", small.busiest, large.busiest)):
        report.add(f"{where}: {what}", b / a, "seconds of the large grid / of the small one", at_most=3.0)
        report.add(f"{where}: {what}", b / large.bound, "seconds / of one count of all copies", at_most=1.0)
    for name, one in taken.items():
        report.note(
            f"{where}, {name}: figures {1000 * one.figures:.1f} ms, lists {1000 * one.busiest:.1f} ms; one count of all"
            f" copies {1000 * one.bound:.1f} ms."
        )
    report.keep(where, {name: vars_of(one) for name, one in taken.items()})


def vars_of(taken: Taken) -> dict[str, float]:
    """The seconds by what was looked at."""
    return {"figures": taken.figures, "busiest": taken.busiest, "bound": taken.bound}


def main() -> None:
    """Run the benchmark."""
    json_wanted = asked_for_json(__doc__)
    report = Report("glance: a look at 1,000,000 copies of 100,000 data on 10,000 hosts")
    with tempfile.TemporaryDirectory(prefix="bitdew-glance-") as folder:
        measure(report, Path(folder))
    report.show(as_json=json_wanted)


if __name__ == "__main__":
    main()
