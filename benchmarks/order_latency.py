"""How soon an idle worker hears of an order, against a bare long poll over the same TLS.

A service and a worker, both `bitdew` processes, and the peer: an aiohttp server and a waiting client, processes too.
In turns, a disk of 64 KB that wants one copy is made, and something is added at the peer. Two spans, from the moment
at which the request is sent:

- order: until the waiting process has it. For BitDew that contains the checks of the signed record, the commit of the
  disk, the plan, its commit, and the worker's own record of the order, which it makes before it acts;
- report: until who sent the request learns, by a long poll too, that the waiting process reported back. BitDew's
  worker waits 20 ms before it reports, for what else changes.

The peer keeps nothing. What keeping costs on this disk is the third figure of each turn: one commit to a bare SQLite
database that is as durable as BitDew's (WAL, synchronous=FULL). Between the request and the order there are at least
three.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Final

import aiohttp

from bitdew import BitDew
from bitdew.core.states import PlacementState
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.tls import SERVICE_NAME

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.disks import Publisher, random_bytes
from bed.peer_tls import peer_credentials
from bed.processes import Process, Site
from bed.report import Report, asked_for_json, percentile_95

REPETITIONS: Final = 25
WARM_UP: Final = 3
SIZE: Final = 64 * 1024
REST_SECONDS: Final = 0.5
"""A pause after each turn, so that the worker waits at the service again when the next order leaves."""
Turn = tuple[float, float, float]
"""Seconds until the order, until its report shows, and until the request itself was answered."""
_ON_ITS_WAY: Final = frozenset({PlacementState.ASSIGNED})


async def bitdew_turn(grid: BitDew, publisher: Publisher, worker: Process, number: int) -> Turn:
    """A disk is made, and wanted once."""
    name = f"disk{number}"
    request = await publisher.send(random_bytes(SIZE, number), name, 1)
    began = time.time()
    disk = await publisher.commit(request)
    answered = time.time()
    # The service is left alone until the worker has its order: a question meanwhile would be a part of the span.
    line = await asyncio.to_thread(worker.line, lambda li: li.get("event") == "order" and li["subject"] == disk.uid)
    ordered = datetime.fromisoformat(line["time"]).timestamp()
    reply = await grid.where(disk.uid)
    while all(placement.state in _ON_ITS_WAY for placement in reply.placements):
        reply = await grid.where(disk.uid, since=reply.version, wait=20)
    reported = time.time()
    while not any(placement.state is PlacementState.HELD for placement in reply.placements):
        reply = await grid.where(disk.uid, since=reply.version, wait=20)
    return ordered - began, reported - began, answered - began


async def peer_turn(session: aiohttp.ClientSession, waiter: Process, number: int) -> Turn:
    """Something is added."""
    began = time.time()
    async with session.post("/add", json={"number": number}, server_hostname=SERVICE_NAME) as response:
        await response.read()
    answered = time.time()
    async with session.get("/seen", params={"past": number}, server_hostname=SERVICE_NAME) as response:
        await response.read()
    reported = time.time()
    line = await asyncio.to_thread(waiter.line, lambda li: li.get("event") == "order" and li["count"] == number + 1)
    return line["time"] - began, reported - began, answered - began


def commit_turn(database: sqlite3.Connection, number: int) -> float:
    """Seconds of one durable commit."""
    began = time.time()
    with database:
        database.execute("INSERT INTO turns VALUES (?)", (number,))
    return time.time() - began


def bare_database(path: Path) -> sqlite3.Connection:
    """A database as durable as the service's."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE turns (number INTEGER)")
    return database


async def measure(site: Site, report: Report) -> None:
    told = await asyncio.to_thread(site.serve)
    profile = Path(told["profile"])
    credentials, context = peer_credentials(site.folder)
    server = site.peer("serve", credentials)
    url = (await asyncio.to_thread(server.ready))["url"]
    waiter = site.peer("wait", credentials, url)
    await asyncio.to_thread(waiter.ready)
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        BitDew.connect(profile) as grid,
        Publisher(IdentityFolder(profile).load()) as publisher,
        aiohttp.ClientSession(url, connector=connector) as session,
    ):
        token = (await grid.create_token("worker")).token or ""
        worker = site.worker(1, told["url"], token)
        await asyncio.to_thread(worker.ready)
        ours, theirs, commits = [], [], []
        database = bare_database(site.folder / "bare.sqlite3")
        for number in range(WARM_UP + REPETITIONS):
            ours.append(await bitdew_turn(grid, publisher, worker, number))
            await asyncio.sleep(REST_SECONDS)
            theirs.append(await peer_turn(session, waiter, number))
            commits.append(commit_turn(database, number))
        database.close()
        tell(report, ours[WARM_UP:], theirs[WARM_UP:], commits[WARM_UP:])


def tell(report: Report, ours: list[Turn], theirs: list[Turn], commits: list[float]) -> None:
    """Turn the spans into ratios."""
    for index, span in enumerate(("order", "report", "answer")):
        mine, other = [turn[index] for turn in ours], [turn[index] for turn in theirs]
        report.keep(span, {"bitdew": mine, "long_poll": other})
        if span != "answer":
            says = f"request to {span}, BitDew / bare long poll"
            report.add(f"{span}, median", statistics.median(mine) / statistics.median(other), says)
            report.add(f"{span}, 95th percentile", percentile_95(mine) / percentile_95(other), says)
    report.keep("commit", commits)
    answer = statistics.median(turn[2] for turn in ours)
    order = statistics.median(turn[0] for turn in ours)
    report.add("order, in durable commits", order / statistics.median(commits), "request to order / one bare commit")
    report.add("order / answer, median", order / answer, "request to order / request to its own answer")


def main() -> None:
    as_json = asked_for_json(__doc__)
    report = Report(f"order_latency: an idle worker hears of an order, {REPETITIONS} turns")
    with Site() as site:
        asyncio.run(measure(site, report))
    report.show(as_json=as_json)


if __name__ == "__main__":
    main()
