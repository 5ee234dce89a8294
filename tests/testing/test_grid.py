"""The in-process grid leaves nothing behind, whatever goes on in it when it ends."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import psutil

import bitdew
from bitdew.testing.grid import Grid

SLEEP = ("python3", "-c", "import time; print('up', flush=True); time.sleep(600)")


async def test_a_job_that_runs_ends_with_the_grid() -> None:
    async with Grid(0) as grid:
        await grid.add_host("h1", jobs="anything", memory=2**30, cpus=2)
        async with bitdew.connect(grid.folder / "operator") as dew:
            job = await dew.submit(*SLEEP, runtime="10m", memory="256MB", output="1MB")
            async with asyncio.timeout(60), aclosing(job.logs()) as parts:
                await anext(parts)
    left = [process for process in psutil.process_iter(["cmdline"]) if tuple(process.info["cmdline"] or ()) == SLEEP]
    assert left == []
