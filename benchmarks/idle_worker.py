"""What a joined worker costs its host while nothing happens: memory and processor time over a minute.

A service with its usual period of 20 s and a worker, both `bitdew` processes as people start them, without data and
machines. The worker is left alone for a while first: a start is not what is asked for. Memory is what the kernel counts
for it: PSS, where pages shared with other processes count in part, and RSS, where they count whole. Processor time is
the process's own, so that a busy machine changes little of it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from bitdew import BitDew

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.processes import Site
from bed.report import Report, asked_for_json

SETTLE_SECONDS: Final = 20.0
WATCHED_SECONDS: Final = 60.0
MB: Final = 2**20
MOST_MEMORY: Final = 80 * MB
MOST_PROCESSOR: Final = 0.005
"""Of one core."""


def main() -> None:
    """Measure, and tell."""
    as_json = asked_for_json("What a joined worker costs its host while nothing happens.")
    report = Report("An idle worker")
    with Site() as site:
        service = site.serve()
        token = asyncio.run(_token(service["profile"]))
        worker = site.worker(1, service["url"], token)
        worker.ready()
        process = psutil.Process(worker.pid)
        time.sleep(SETTLE_SECONDS)
        before, began = sum(process.cpu_times()[:2]), time.monotonic()
        time.sleep(WATCHED_SECONDS)
        share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
        memory, threads = process.memory_full_info(), process.num_threads()
    report.add(
        "memory",
        memory.pss / MOST_MEMORY,
        f"of 80 MB: {memory.pss / MB:.1f} MB PSS; {memory.uss / MB:.1f} MB its own, {memory.rss / MB:.1f} MB RSS",
        at_most=1,
    )
    report.add("processor", share / MOST_PROCESSOR, f"of 0.5 % of a core: {100 * share:.2f} %", at_most=1)
    report.keep("bytes", {"pss": memory.pss, "uss": memory.uss, "rss": memory.rss})
    report.keep("processor", share)
    report.keep("threads", threads)
    report.show(as_json=as_json)


async def _token(profile: str) -> str:
    async with BitDew.connect(Path(profile)) as grid:
        return (await grid.create_token("worker")).token or ""


if __name__ == "__main__":
    main()
