"""Reading parts of a datum: from two hosts that hold it, by swarm, and from the repository, over HTTPS.

One process with a service, two workers and a reader, all over TLS on loopback. Ranges of 64 KiB at random places of
128 MB, which touch two pieces of 128 KiB at most, then all of it as a stream.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Final

from bitdew import Attribute, BitDew, Dew
from bitdew.core.host import Endpoint
from bitdew.testing.grid import Grid

SIZE: Final = 128 * 2**20
PART: Final = 65536
READS: Final = 100
NAME: Final = "disk"


async def measured(grid: BitDew, label: str) -> str:
    """One line of the table."""
    clock, chance = time.perf_counter, random.Random(3)  # noqa: S311 (the same places each time)
    began = clock()
    await grid.read(NAME, 0, 1)
    first, took = clock() - began, []
    for _ in range(READS):
        at = chance.randrange(SIZE - PART)
        began = clock()
        await grid.read(NAME, at, at + PART)
        took.append(clock() - began)
    began, came, soon = clock(), 0, 0.0
    async with aclosing(Dew(grid).stream(NAME)) as chunks:
        async for chunk in chunks:
            soon = soon or clock() - began
            came += len(chunk)
    rate = came / (clock() - began) / 2**20
    spread = statistics.quantiles(took, n=10)
    figures = [first, statistics.median(took), spread[-1], soon]
    return f"{label:<16}" + "".join(f"{1000 * seconds:>8.0f} ms" for seconds in figures) + f"{rate:>8.0f} MiB/s"


async def main(path: Path) -> None:
    """Print the table for the file at `path`."""
    async with Grid(2) as grid:
        attribute = Attribute(replica=2)
        async with grid.client.seed(path, NAME, attribute, listen=Endpoint("127.0.0.1", 0)) as offer:
            await offer.held()
        await grid.until(NAME, lambda where: where.data.origin is None)
        print("from              first read      median  9th decile  first part      stream")
        print(await measured(grid.client, "hosts"))
        await grid.client.put(path, NAME, attribute)
        print(await measured(grid.client, "the repository"))


with tempfile.TemporaryDirectory() as folder:
    disk = Path(folder, "disk.raw")
    disk.write_bytes(random.Random(11).randbytes(SIZE))  # noqa: S311 (any bytes)
    asyncio.run(main(disk))
