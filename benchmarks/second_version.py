"""What the next version of a disk costs a host that holds the one before, against fetching it all.

A service whose repository may send 20 MB/s and one worker, `bitdew` processes on loopback addresses of their own. A
disk of 128 MB comes by swarm; then versions of it, each from the one before: with 5 % of its blocks of 16 KiB
changed, here and there; with a block inserted near its beginning, which moves all that follows; and with as much
appended as the first one changed. Beside each stands a disk of as many bytes that has nothing in common with any.

`wire` is the payload that came over what is new in the bytes; 1 is the least there can be. The hashes of the blocks
come besides, 32 bytes for each 16 KiB of the disk: a share of 0.2 % of its size. The time runs from the request that
makes a disk until the service knows the copy as held. On loopback there is no link but the cap; what remains is
reading, hashing and writing a disk, which two processors share with the service.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Final

from bitdew import BitDew
from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.content import BLOCK
from bitdew.core.states import HostState, PlacementState
from bitdew.trust.identity import IdentityFolder

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.disks import Publisher, random_bytes
from bed.processes import Site
from bed.report import Report, asked_for_json

SIZE: Final = 128 * 2**20
SHARE: Final = 0.05
UPLOAD: Final = "20MB"
COUNTED_SECONDS: Final = 1.0
"""How long after the copy is held the repository's counter is read: it lags behind what was sent."""
WISH: Final = Attribute(replica=1, protocol=Protocol.BITTORRENT)


def scattered(old: bytes, seed: int) -> tuple[bytes, int]:
    """`old` with blocks changed all over; and how many bytes are new."""
    chance, new = random.Random(seed), bytearray(old)  # noqa: S311 - no secret
    blocks = len(old) // BLOCK
    chosen = chance.sample(range(blocks), round(blocks * SHARE))
    for block in chosen:
        new[block * BLOCK : (block + 1) * BLOCK] = chance.randbytes(BLOCK)
    return bytes(new), len(chosen) * BLOCK


def inserted(old: bytes, seed: int) -> tuple[bytes, int]:
    """`old` with one block more, near its beginning."""
    return old[: 3 * BLOCK] + random_bytes(BLOCK, seed) + old[3 * BLOCK :], BLOCK


def appended(old: bytes, seed: int) -> tuple[bytes, int]:
    """`old` with more at its end."""
    more = round(SIZE * SHARE) // BLOCK * BLOCK
    return old + random_bytes(more, seed), more


CHANGES: Final = {"5 % scattered": scattered, "a block inserted": inserted, "5 % appended": appended}


async def place(grid: BitDew, publisher: Publisher, content: bytes, name: str) -> tuple[float, int]:
    """Seconds until the copy is held, and how many bytes of it the repository sent: there is nobody else who has it."""
    request = await publisher.send(content, name, WISH)
    began = time.time()
    disk = await publisher.commit(request)
    reply = await grid.where(disk.uid)
    while not (held := [one for one in reply.placements if one.state is PlacementState.HELD]):
        reply = await grid.where(disk.uid, since=reply.version, wait=20)
    await asyncio.sleep(COUNTED_SECONDS)
    return held[0].since.timestamp() - began, (await grid.disk(disk.uid)).egress


async def measure(site: Site, report: Report) -> None:
    told = await asyncio.to_thread(site.serve, "--upload", UPLOAD)
    profile = Path(told["profile"])
    async with BitDew.connect(profile) as grid, Publisher(IdentityFolder(profile).load()) as publisher:
        token = (await grid.create_token("worker", uses=1)).token or ""
        await asyncio.to_thread(site.worker(1, told["url"], token).ready)
        while not any(host.state is HostState.ALIVE for host in await grid.hosts()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        content = random_bytes(SIZE, 0)
        await place(grid, publisher, content, "first")
        for seed, (what, change) in enumerate(CHANGES.items(), 1):
            content, new = change(content, seed)
            ours, came = await place(grid, publisher, content, f"version{seed}")
            whole, all_of_it = await place(grid, publisher, random_bytes(len(content), 100 + seed), f"other{seed}")
            report.add(f"{what}: wire", came / new, "bytes that came / bytes that are new", at_most=1.1)
            report.add(f"{what}: saved", all_of_it / max(1, came), "bytes of a disk fetched whole / bytes that came")
            report.add(f"{what}: time", ours / whole, "time / that of a disk fetched whole", at_most=1.0)
            report.keep(what, {"seconds": ours, "whole": whole, "came": came, "new": new})
            await grid.remove_disk(f"other{seed}")


def main() -> None:
    as_json = asked_for_json(__doc__)
    report = Report(f"second version: a disk of {SIZE >> 20} MB, from a repository that may send {UPLOAD} a second")
    with Site() as site:
        asyncio.run(measure(site, report))
    report.show(as_json=as_json)


if __name__ == "__main__":
    main()
