"""How the scheduler's work grows with the number of hosts, and what an idle host costs.

Planning: the pure planner, in this process, over snapshots of 100, 1,000 and 5,000 hosts in which one datum changed.
Its time is put against the time with 100 hosts, and against a bound: one pass over the same hosts that picks the
three with the most room. Three cases: a new disk that wants three copies, one that has them, one that wants a copy
everywhere. Reading the snapshot from the database is no part of it.

An idle host: the syncs of a host that holds nothing, one after another over one kept TLS connection, against an
aiohttp handler that answers JSON with JSON: the same client, the same bytes, one server process each, in turns. The
ratio of the servers' processor time depends least on what else the machine does.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp
import psutil
from bitdew.scheduler.planner import DatumRow, HostRow, PlacementRow, Snapshot, plan
from bitdew.worker.enrol import join
from bitdew.worker.settings import WorkerSettings

from bitdew import BitDew
from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.host import HostFacts, Resources, Sharing
from bitdew.core.ids import ContentRoot, HostId, Uid, new_uid
from bitdew.core.states import HostState, PlacementState
from bitdew.trust.tls import SERVICE_NAME, client_context
from bitdew.wire.models import HostReport, SyncRequest

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.peer_tls import peer_credentials
from bed.processes import Site
from bed.report import Report, asked_for_json

HOSTS: Final = (100, 1_000, 5_000)
ROUNDS: Final = 9
GB: Final = 2**30
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
BLOCKS: Final = 10
BLOCK: Final = 200
"""Syncs between two turns."""

# Planning ------------------------------------------------------------------------------------------------------------


def snapshot(hosts: int, replica: int, held: int) -> Snapshot:
    """`hosts` hosts of various room, and one disk that wants `replica` copies and has `held`."""
    long_ago = NOW - timedelta(days=1)
    rows = {}
    for number in range(hosts):
        host = HostId(f"{number:032x}")
        used = (number * 7919 % 19) * GB
        facts = HostFacts(host, f"host{number}", Resources(8, 16 * GB, 40 * GB, used, 80 * GB), {}, (Sharing("qemu"),))
        rows[host] = HostRow(facts, HostState.ALIVE, long_ago, None, used)
    uid = Uid(f"{1:032x}")
    data = Data(uid, "disk", ContentRoot("00" * 32), 2 * GB, 4 * 2**20, long_ago, "owner")
    copies = tuple(PlacementRow(uid, host, PlacementState.HELD, long_ago) for host in list(rows)[:held])
    return Snapshot(rows, {uid: DatumRow(data, Attribute(replica=replica))}, {uid: copies})


def three_with_most_room(facts: Snapshot) -> list[HostId]:
    """The bound: one look at each host, and a choice."""
    room = sorted((row.committed - row.facts.resources.quota, host) for host, row in facts.hosts.items())
    return [host for _, host in room[:3]]


def seconds_of(work: Callable[[], object]) -> float:
    """Processor seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure_planning(report: Report) -> None:
    cases = {"a new disk, 3 copies": (3, 0), "3 of 3 copies held": (3, 3), "a copy on every host": (-1, 0)}
    for case, (replica, held) in cases.items():
        facts = {hosts: snapshot(hosts, replica, held) for hosts in HOSTS}
        times: dict[int, list[float]] = {hosts: [] for hosts in HOSTS}
        bounds: dict[int, list[float]] = {hosts: [] for hosts in HOSTS}
        for _ in range(ROUNDS):
            for hosts, known in facts.items():
                times[hosts].append(seconds_of(lambda known=known: plan(known, NOW)))  # type: ignore[misc]
                bounds[hosts].append(seconds_of(lambda known=known: three_with_most_room(known)))  # type: ignore[misc]
        first = statistics.median(times[HOSTS[0]])
        for hosts in HOSTS[1:]:
            grown = statistics.median(times[hosts]) / first
            report.add(
                f"{case}: {hosts:,} / {HOSTS[0]} hosts", grown, f"time, with {hosts // HOSTS[0]} times the hosts"
            )
        most = HOSTS[-1]
        report.add(
            f"{case}: {most:,} hosts / bound",
            statistics.median(times[most]) / statistics.median(bounds[most]),
            "time of the plan / of one pass over the hosts",
        )
        report.keep(case, {"plan": times, "one_pass": bounds})


# An idle host --------------------------------------------------------------------------------------------------------


class Line:
    """One kept connection to one server, and that server's processor time."""

    def __init__(self, url: str, path: str, context: ssl.SSLContext, pid: int) -> None:
        self._session = aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=context, limit=1))
        self._path = path
        self._process = psutil.Process(pid)
        self.seconds: list[float] = []
        self.processor: list[float] = []

    async def post(self, body: bytes) -> dict[str, object]:
        """One request; its answer."""
        headers = {"Content-Type": "application/json"}
        sending = self._session.post(self._path, data=body, headers=headers, server_hostname=SERVICE_NAME)
        async with sending as response:
            reply = await response.json()
            if response.status != 200:
                raise RuntimeError(f"{self._path} answered {response.status}: {reply}")
            return dict(reply)

    async def block(self, body: bytes) -> None:
        """A turn: many requests, one after another."""
        used, began = self._used(), time.perf_counter()
        for _ in range(BLOCK):
            await self.post(body)
        self.seconds.append(time.perf_counter() - began)
        self.processor.append(self._used() - used)

    def _used(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    async def close(self) -> None:
        """Close the connection."""
        await self._session.close()


async def measure_syncs(site: Site, report: Report) -> None:
    told = await asyncio.to_thread(site.serve)
    credentials, context = peer_credentials(site.folder)
    peer = await asyncio.to_thread(site.peer("serve", credentials).ready)
    async with BitDew.connect(Path(told["profile"])) as grid:
        token = (await grid.create_token("worker")).token or ""
    identity = await join(told["url"], token, WorkerSettings(home=site.folder / "host", name="idle"))
    ours = Line(told["url"], "/v1/sync", client_context(identity.ca, identity.identity), told["pid"])
    theirs = Line(peer["url"], "/echo", context, peer["pid"])
    boot = new_uid()
    about = HostReport(name="idle", swarm="127.0.1.1:1", cpus=2, memory=GB, quota=GB, used=0, free=GB)
    try:
        first = SyncRequest(boot=boot, generation=0, full=True, host=about)
        await ours.post(first.model_dump_json().encode())
        idle = SyncRequest(boot=boot, generation=0).model_dump_json().encode()
        reply = await ours.post(idle)
        if reply["full"] or reply["orders"]:
            raise RuntimeError(f"the host is not idle: {json.dumps(reply)}")
        for number in range(BLOCKS + 1):
            for line in (ours, theirs):
                await line.block(idle)
                if number == 0:  # to warm up
                    line.seconds.clear()
                    line.processor.clear()
    finally:
        await ours.close()
        await theirs.close()
    pairs = list(zip(ours.seconds, theirs.seconds, strict=True))
    report.add("idle syncs/s, BitDew / bare handler", statistics.median(b / a for a, b in pairs), "1 is as many")
    processor = sum(ours.processor) / sum(theirs.processor)
    report.add("processor time of one, BitDew / bare handler", processor, "of the server's process")
    report.keep("blocks of syncs", {"size": BLOCK, "bitdew": ours.seconds, "bare": theirs.seconds})
    report.keep("processor time of blocks", {"bitdew": ours.processor, "bare": theirs.processor})


def main() -> None:
    as_json = asked_for_json(__doc__)
    report = Report("planner: one changed datum among many hosts, and the syncs of an idle host")
    measure_planning(report)
    with Site() as site:
        asyncio.run(measure_syncs(site, report))
    report.show(as_json=as_json)


if __name__ == "__main__":
    main()
