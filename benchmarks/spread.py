"""How fast one disk reaches many hosts, and what it costs its repository, against downloads from one server.

A service whose repository may send 20 MB/s and six workers without caps, all `bitdew` processes on loopback addresses
of their own. A disk of 64 MB that wants N copies is made; the time runs from that request until the service knows the
last copy as held: fetched, verified and made durable.

The peer is central: N downloads at once by aiohttp from one aiohttp file server over the same kind of TLS, whose total
rate one token bucket caps at the same 20 MB/s. Nothing is verified there, and all downloads are in one process that
is running already, which is in the peer's favour. What no central server can beat is arithmetic: N * F / us. What no
distribution at all can beat, as every byte has to leave the repository once, is F / us.

On loopback, hosts have no links to share: the figures show what the repository's uplink costs, and the processor.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

import aiohttp

from bitdew import BitDew
from bitdew.core.states import HostState, PlacementState
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.tls import SERVICE_NAME
from bitdew.wire.models import PlacementView

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.disks import Publisher, random_bytes
from bed.peer_tls import peer_credentials
from bed.processes import Site
from bed.report import Report, asked_for_json

SIZE: Final = 64 * 2**20
RATE: Final = 20 * 2**20
UPLOAD: Final = "20MB"
"""`RATE` as `bitdew serve` reads it: its units are binary."""
COPIES: Final = (3, 6)
COUNTED_SECONDS: Final = 1.0
"""How long after the last copy the repository's counter is read: it lags behind what was sent."""


async def swarm(grid: BitDew, publisher: Publisher, copies: int) -> tuple[float, float]:
    """Seconds until the last of the copies is held, and how many times the disk left the repository."""
    request = await publisher.send(random_bytes(SIZE, copies), f"disk{copies}", copies)
    began = time.time()
    disk = await publisher.commit(request)
    reply = await grid.where(disk.uid)
    while len(held := _held(reply.placements)) < copies:
        reply = await grid.where(disk.uid, since=reply.version, wait=20)
    ended = max(placement.since.timestamp() for placement in held)
    await asyncio.sleep(COUNTED_SECONDS)
    return ended - began, (await grid.disk(disk.uid)).egress / SIZE


def _held(placements: list[PlacementView]) -> list[PlacementView]:
    return [placement for placement in placements if placement.state is PlacementState.HELD]


async def central(session: aiohttp.ClientSession, folder: Path, copies: int) -> float:
    """Seconds until the last of the downloads has ended."""
    began = time.time()
    await asyncio.gather(*(download(session, folder / f"download{number}") for number in range(copies)))
    return time.time() - began


async def download(session: aiohttp.ClientSession, path: Path) -> None:
    size = 0
    async with session.get("/file", server_hostname=SERVICE_NAME) as response:
        with await asyncio.to_thread(path.open, "wb") as file:
            async for chunk in response.content.iter_chunked(2**20):
                size += file.write(chunk)
    await asyncio.to_thread(path.unlink)
    if size != SIZE:
        raise RuntimeError(f"{size} bytes came instead of {SIZE}")


async def measure(site: Site, report: Report) -> None:
    told = await asyncio.to_thread(site.serve, "--upload", UPLOAD)
    profile = Path(told["profile"])
    credentials, context = peer_credentials(site.folder)
    served = site.folder / "served"
    await asyncio.to_thread(served.write_bytes, random_bytes(SIZE, 0))
    server = site.peer("serve", credentials, "--rate", str(RATE), "--file", str(served))
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with (
        BitDew.connect(profile) as grid,
        Publisher(IdentityFolder(profile).load()) as publisher,
        aiohttp.ClientSession((await asyncio.to_thread(server.ready))["url"], connector=connector) as session,
    ):
        token = (await grid.create_token("worker", uses=max(COPIES))).token or ""
        workers = [site.worker(number, told["url"], token) for number in range(1, max(COPIES) + 1)]
        for worker in workers:
            await asyncio.to_thread(worker.ready)
        while sum(host.state is HostState.ALIVE for host in await grid.hosts()) < len(workers):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        for copies in COPIES:
            ours, egress = await swarm(grid, publisher, copies)
            theirs = await central(session, site.folder, copies)
            tell(report, copies, ours, egress, theirs)


def tell(report: Report, copies: int, ours: float, egress: float, theirs: float) -> None:
    """Turn times into ratios."""
    bound, least = copies * SIZE / RATE, SIZE / RATE
    report.add(f"{copies} hosts: central / BitDew", theirs / ours, "time until the last host has it, measured both")
    report.add(f"{copies} hosts: central bound / BitDew", bound / ours, "N * F / us, arithmetic, over BitDew's time")
    report.add(f"{copies} hosts: central / its bound", theirs / bound, "1 is a peer that uses its uplink fully")
    report.add(f"{copies} hosts: BitDew / its bound", ours / least, "its time over F / us, the least there can be")
    report.add(f"{copies} hosts: repository egress", egress, f"times the disk; central sends it {copies} times")
    report.keep(f"{copies} hosts", {"bitdew": ours, "central": theirs, "central_bound": bound, "bound": least})


def main() -> None:
    as_json = asked_for_json(__doc__)
    report = Report(f"spread: a disk of {SIZE >> 20} MB, from a repository that may send {RATE >> 20} MB/s")
    with Site() as site:
        asyncio.run(measure(site, report))
    report.show(as_json=as_json)


if __name__ == "__main__":
    main()
