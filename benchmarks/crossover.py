"""From which size on a swarm is faster than downloads from the repository, for 1, 4 and 8 hosts.

A service whose repository may send 20 MB/s, over HTTPS and by swarm alike, and eight workers without caps, all `bitdew`
processes on loopback addresses of their own. For each size and number of hosts data are made that want as many copies,
in turns with the wish for HTTP and for a swarm; the time runs from the request that makes the datum until the service
knows the last copy as held. The figure is the median of a few turns.

A ratio above 1 says that HTTP took longer. What `auto` does is decided by these figures: see `worker/way.py`. Option
`--picture FILE` draws them.

On loopback, hosts have no links to share, and nine processes share the processors: the more hosts, the more of the time
is theirs, in either way.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bitdew import BitDew
from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.states import HostState, PlacementState
from bitdew.core.units import format_size
from bitdew.trust.identity import IdentityFolder

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.disks import Publisher, random_bytes
from bed.picture import Axis, chart
from bed.processes import Site
from bed.report import Report, parser

KB: Final = 2**10
MB: Final = 2**20
UPLOAD: Final = "20MB"
SIZES: Final = (4 * KB, 64 * KB, 256 * KB, MB, 4 * MB, 16 * MB, 64 * MB)
HOSTS: Final = (1, 4, 8)
WAYS: Final = (Protocol.HTTP, Protocol.BITTORRENT)
Times = dict[tuple[int, int, Protocol], list[float]]


def turns(size: int, hosts: int) -> int:
    """How often it is measured: small data are quick, and their times spread."""
    return 5 if size * hosts <= 8 * MB else 3 if size * hosts <= 64 * MB else 1


async def seconds(grid: BitDew, publisher: Publisher, content: bytes, name: str, wish: Attribute) -> float:
    """From the request that makes a disk until its last copy is held."""
    request = await publisher.send(content, name, wish)
    began = time.time()
    disk = await publisher.commit(request)
    copies, reply = wish.replicas, await grid.where(disk.uid)
    while len(held := [p for p in reply.placements if p.state is PlacementState.HELD]) < copies:
        reply = await grid.where(disk.uid, since=reply.version, wait=20)
    ended = max(placement.since.timestamp() for placement in held)
    await grid.remove_disk(name)
    return ended - began


async def measure(site: Site, sizes: Sequence[int]) -> Times:
    told = await asyncio.to_thread(site.serve, "--upload", UPLOAD, "--http-egress", UPLOAD)
    profile, seeds = Path(told["profile"]), itertools.count()
    times: Times = {}
    async with BitDew.connect(profile) as grid, Publisher(IdentityFolder(profile).load()) as publisher:
        token = (await grid.create_token("worker", uses=max(HOSTS))).token or ""
        for number in range(1, max(HOSTS) + 1):
            await asyncio.to_thread(site.worker(number, told["url"], token).ready)
        while sum(host.state is HostState.ALIVE for host in await grid.hosts()) < max(HOSTS):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        for size, hosts in itertools.product(sizes, HOSTS):
            for _turn, way in itertools.product(range(turns(size, hosts)), WAYS):
                seed = next(seeds)
                wish = Attribute(replica=hosts, protocol=way)
                took = await seconds(grid, publisher, random_bytes(size, seed), f"disk{seed}", wish)
                times.setdefault((size, hosts, way), []).append(took)
    return times


def ratio(times: Times, size: int, hosts: int) -> float:
    """HTTP's time over the swarm's."""
    http, swarm = (statistics.median(times[size, hosts, way]) for way in WAYS)
    return http / swarm


def crossing(points: Sequence[tuple[float, float]]) -> float | None:
    """The size from which on the ratio stays above 1, between the measured ones on logarithmic axes; None if none."""
    below = [number for number, (_, value) in enumerate(points) if value <= 1]
    if not below:
        return points[0][0]
    last = below[-1]
    if last + 1 == len(points):
        return None
    (low, before), (high, after) = points[last], points[last + 1]
    share = (1 - before) / (after - before) if after > before else 0.0
    return float(low * (high / low) ** share)


def table(times: Times, sizes: Sequence[int]) -> list[str]:
    """The ratios in Markdown, as they stand in docs/performance.md."""
    rows = [
        "| time, HTTPS / swarm | " + " | ".join(f"{hosts} hosts" if hosts > 1 else "1 host" for hosts in HOSTS) + " |",
        "| --- | " + " | ".join("---" for _ in HOSTS) + " |",
    ]
    for size in sizes:
        cells = " | ".join(f"{ratio(times, size, hosts):.2f}" for hosts in HOSTS)
        rows.append(f"| {format_size(size)} | {cells} |")
    return rows


def tell(report: Report, times: Times, sizes: Sequence[int]) -> dict[str, list[tuple[float, float]]]:
    lines = {
        f"{hosts} hosts" if hosts > 1 else "1 host": [(float(size), ratio(times, size, hosts)) for size in sizes]
        for hosts in HOSTS
    }
    for size, hosts in itertools.product(sizes, HOSTS):
        report.add(f"{format_size(size)}, {hosts} hosts", ratio(times, size, hosts), "time by HTTP / time by swarm")
    for name, points in lines.items():
        found = crossing(points)
        report.note(f"{name}: the swarm is faster from {format_size(found)} on" if found else f"{name}: HTTP is faster")
    for row in table(times, sizes):
        report.note(row)
    report.keep("seconds", {f"{way} {size} {hosts}": took for (size, hosts, way), took in times.items()})
    return lines


def picture(lines: dict[str, list[tuple[float, float]]]) -> str:
    across = Axis("size of the datum", {float(size): format_size(size) for size in SIZES}, SIZES[0], SIZES[-1])
    up = Axis("time by HTTPS / time by swarm", {v: f"{v:g}" for v in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)}, 0.1, 8.0)
    return chart("Downloads from the repository against a swarm", across, up, lines, (1.0, "as fast as each other"))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--picture", type=Path, help="Write the curve there, as SVG.")
    options.add_argument("--quick", action="store_true", help="Up to 4 MB only.")
    chosen: argparse.Namespace = options.parse_args()
    sizes = [size for size in SIZES if size <= 4 * MB] if chosen.quick else list(SIZES)
    report = Report(f"crossover: HTTPS or a swarm, from a repository that may send {UPLOAD} a second")
    with Site() as site:
        times = asyncio.run(measure(site, sizes))
    lines = tell(report, times, sizes)
    if chosen.picture:
        chosen.picture.write_text(picture(lines), encoding="utf-8")
    report.show(as_json=chosen.json)


if __name__ == "__main__":
    main()
