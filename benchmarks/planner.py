"""How the planner's work grows with the number of hosts, and what an idle host costs.

Planning: the pure planner, in this process, with 100 and with 100,000 hosts in its index, in turns. One datum is new;
what it wishes differs from case to case. Its time with 100,000 hosts is put against that with 100. So is the time that
the index takes to note that a host has less room, and the building of the index against one pass over the same hosts
that sorts them by their room. Reading the facts from the database is no part of it.

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
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp
import psutil
from bitdew.scheduler.planner import Census, DatumRow, HostIndex, HostRow, Snapshot, plan
from bitdew.worker.enrol import join
from bitdew.worker.settings import WorkerSettings

from bitdew import BitDew
from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.host import HostFacts, Resources, Sharing
from bitdew.core.ids import ContentRoot, HostId, Uid, new_uid
from bitdew.core.requirement import Requirement
from bitdew.core.states import HostState
from bitdew.trust.tls import SERVICE_NAME, client_context
from bitdew.wire.models import HostReport, SyncRequest

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.peer_tls import peer_credentials
from bed.processes import Site
from bed.report import Report, asked_for_json

FEW: Final = 100
MANY: Final = 100_000
ROUNDS: Final = 300
WARMING: Final = 20
"""Rounds that are not counted: the index makes its pools on first use."""
GB: Final = 2**30
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
BLOCKS: Final = 10
BLOCK: Final = 200
"""Syncs between two turns."""

# Planning ------------------------------------------------------------------------------------------------------------


CENSUS: Final = Census()
WISHES: Final[dict[str, Attribute]] = {
    "3 copies at one site": Attribute(replica=3, requires=Requirement("site = a")),
    "3 copies at 3 sites": Attribute(replica=3, spread="site"),
    "3 copies, at most 2 of the kind on a host": Attribute(replica=3, distrib=2),
    "3 copies that no host has room for": Attribute(replica=3, requires=Requirement("quota >= 1TB")),
}


def hosts(number: int) -> list[HostRow]:
    """`number` hosts of various room at three sites."""
    rows = []
    for each in range(number):
        host, used = HostId(f"{each:032x}"), each * 7919 % 19 * GB
        resources = Resources(8, 16 * GB, 40 * GB, used, 80 * GB)
        facts = HostFacts(host, f"host{each}", resources, {"site": "abc"[each % 3]}, (Sharing("qemu"),))
        rows.append(HostRow(facts, HostState.ALIVE, NOW - timedelta(days=1), None, used))
    return rows


def snapshot(index: HostIndex, number: int, wishes: Attribute) -> Snapshot:
    """The facts about one new disk: each has its own, so that each begins at another point of the index."""
    uid = Uid(f"{number:032x}")
    data = Data(uid, "disk", ContentRoot("00" * 32), 2 * GB, 4 * 2**20, NOW - timedelta(days=1), "owner")
    return Snapshot(index, {uid: DatumRow(data, wishes, Uid("a" * 32))}, census=CENSUS)


def seconds_of(work: Callable[[], object]) -> float:
    """Processor seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure_planning(report: Report) -> None:
    rows = {number: hosts(number) for number in (FEW, MANY)}
    indexes = {number: HostIndex(known) for number, known in rows.items()}
    for case, wishes in WISHES.items():
        times: dict[int, list[float]] = {number: [] for number in indexes}
        for each in range(ROUNDS):
            for number, index in indexes.items():
                facts = snapshot(index, each, wishes)
                times[number].append(seconds_of(lambda facts=facts: plan(facts, NOW)))  # type: ignore[misc]
        few, many = (statistics.median(times[number][WARMING:]) for number in (FEW, MANY))
        report.add(f"{case}: {MANY:,} / {FEW} hosts", many / few, f"time, with {MANY // FEW:,} times the hosts")
        report.keep(case, times)
    measure_index(report, rows, indexes)


def measure_index(report: Report, rows: dict[int, list[HostRow]], indexes: dict[int, HostIndex]) -> None:
    times: dict[int, list[float]] = {number: [] for number in indexes}
    for each in range(ROUNDS):
        for number, index in indexes.items():
            old = index[rows[number][each % FEW].facts.host_id]
            new = replace(old, committed=old.committed + 2**20)
            times[number].append(seconds_of(lambda index=index, new=new: index.put(new)))  # type: ignore[misc]
    few, many = (statistics.median(times[number][WARMING:]) for number in (FEW, MANY))
    report.add(
        f"a host has less room: {MANY:,} / {FEW} hosts", many / few, f"time, in an index with {len(WISHES)} pools"
    )
    known = rows[MANY]

    def build() -> None:
        next(HostIndex(known).candidates(Requirement("site = a"), GB, Uid("0" * 32)))

    def sort_by_room() -> None:
        sorted((row.committed - row.facts.resources.quota, row.facts.host_id) for row in known)

    ratio = statistics.median(seconds_of(build) / seconds_of(sort_by_room) for _ in range(3))
    report.add(
        f"the index of {MANY:,} hosts / a sorted list of them", ratio, "time to make, once when a service starts"
    )
    report.keep("noting less room", times)


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
    report = Report("planner: one new datum among many hosts, and the syncs of an idle host")
    measure_planning(report)
    with Site() as site:
        asyncio.run(measure_syncs(site, report))
    report.show(as_json=as_json)


if __name__ == "__main__":
    main()
