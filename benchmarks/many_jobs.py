"""A thousand short jobs over four hosts: how many a second, and what each costs beside a shell loop that runs them.

A service and four workers that run any command, `bitdew` processes on loopback addresses of their own. The jobs are one
array of `true`; the loop starts as many processes of it, one after the other, on the same machine in the same run.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import bitdew
from bitdew import Caps, JobSpec
from bitdew.core.states import JobState

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.joined import joined
from bed.processes import Site
from bed.report import Report, parser

JOBS: Final = 1000
HOSTS: Final = 4
GIVEN_UP: Final = 1800.0
CAPS: Final = Caps(runtime=60, memory=16 * 2**20, output=2**20)


def loop(count: int) -> float:
    """Seconds that a shell takes for as many processes."""
    began = time.monotonic()
    subprocess.run(["/bin/sh", "-c", f"i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i + 1)); done"], check=True)
    return time.monotonic() - began


async def measure(site: Site, report: Report, count: int) -> None:
    """Measure both."""
    told = await asyncio.to_thread(site.serve)
    async with bitdew.connect(Path(told["profile"])) as dew:
        await joined(site, dew, told["url"], HOSTS)
        async with asyncio.timeout(GIVEN_UP):
            bare = await asyncio.to_thread(loop, count)
            began = time.monotonic()
            jobs = await dew.grid.submit(JobSpec(("true",), caps=CAPS), values=[str(n) for n in range(count)])
            submitted = time.monotonic() - began
            ended = await dew.grid.finished(jobs[0].array)
            took = time.monotonic() - began
    report.add("done", ended.get(JobState.DONE, 0) / count, "of all", at_least=1.0)
    report.add("a job", took / bare, "seconds of BitDew / of the loop")
    report.add("submitting", submitted / took, "of all the time")
    report.keep("seconds", {"bitdew": took, "submitting": submitted, "loop": bare})
    report.note(f"{count / took:.1f} jobs a second over {HOSTS} hosts; {1000 * took / count:.0f} ms each.")


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--jobs", type=int, default=JOBS, help="How many jobs.")
    asked = made.parse_args()
    os.environ["BITDEW_WORKER_JOBS"] = "anything"
    report = Report(f"short jobs: {asked.jobs} of `true`, {HOSTS} workers")
    with Site() as site:
        asyncio.run(measure(site, report, asked.jobs))
    report.show(as_json=asked.json)


if __name__ == "__main__":
    main()
