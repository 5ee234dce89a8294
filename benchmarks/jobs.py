"""What running a command as a job costs, against a shell that only starts it: a thousand short ones.

Usage: python benchmarks/jobs.py [--count N] [--at-a-time K]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

from bitdew.worker.jobs import folder
from bitdew.worker.jobs.running import Runner
from bitdew.worker.jobs.runs import Run


async def jobs(place: Path, count: int, at_a_time: int) -> tuple[float, float]:
    """Seconds that `count` jobs took, and seconds of processors of their wardens."""
    runner = Runner()
    await runner.isolation(place)
    turn = asyncio.Semaphore(at_a_time)

    async def one(number: int) -> None:
        async with turn:
            run = Run("f" * 32, 1, ("true",), Path("/bin/true"), place / str(number))
            report = await (await runner.start(run)).wait()
            assert report.succeeded, report  # noqa: S101
            await asyncio.to_thread(folder.remove, run.directory)

    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    await asyncio.gather(*(one(number) for number in range(count)))
    took, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    await runner.close()
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--at-a-time", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        took, processors = asyncio.run(jobs(Path(place), asked.count, asked.at_a_time))
    begun = time.perf_counter()
    subprocess.run(
        ["/bin/sh", "-c", f"i=0; while [ $i -lt {asked.count} ]; do /bin/true; i=$((i+1)); done"], check=True
    )
    shell = time.perf_counter() - begun
    each = 1000 / asked.count
    print(f"{asked.count} jobs, {asked.at_a_time} at a time, at a load of {os.getloadavg()[0]:.1f}")
    print(
        f"a job: {took * each:.1f} ms, of which its warden and command took {processors * each:.1f} ms of a processor"
    )
    print(f"a shell that starts the command: {shell * each:.2f} ms")


if __name__ == "__main__":
    main()
