"""What it costs to fetch a thousand small data at once, by swarm, onto one worker and onto two.

A service and workers, `bitdew` processes on loopback addresses of their own. Data of 100 KB each are put, which want
a copy on every host and may come by swarm alone. Then the workers join, so that all orders are there at once, and the
time runs until the service knows that every copy is held. Meanwhile the memory, the processor time, the threads and the
open files of each process are read from the system, several times a second: what counts is the most that they had.

The peer is the same worker with an eighth of the data: what it takes beyond that is what the number costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bitdew import BitDew
from bitdew.core.attribute import Attribute, Protocol

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.disks import random_bytes
from bed.processes import Process, Site
from bed.report import Report, options

DATA: Final = 200
FULL_DATA: Final = 1_000
SIZE: Final = 100_000
PART: Final = 8
AT_ONCE: Final = 8
LOOK: Final = 0.1
GIVEN_UP: Final = 1800.0


@dataclass(slots=True)
class Most:
    """The most that a process had. Bytes, and numbers; `busy` are seconds of the processor since its start."""

    memory: int = 0
    files: int = 0
    threads: int = 0
    busy: float = 0.0


class Watch:
    """Looks at processes in a thread, until it is left."""

    def __init__(self, **pids: int) -> None:
        self.most = {name: Most() for name in pids}
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> dict[str, Most]:
        self._thread.start()
        return self.most

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(LOOK):
            for name, process in self._processes.items():
                with contextlib.suppress(psutil.Error):
                    self._look(self.most[name], process)

    @staticmethod
    def _look(most: Most, process: psutil.Process) -> None:
        most.memory = max(most.memory, process.memory_info().rss)
        most.files = max(most.files, process.num_fds())
        most.threads = max(most.threads, process.num_threads())
        times = process.cpu_times()
        most.busy = times.user + times.system


@dataclass(frozen=True, slots=True)
class Took:
    """What one run took: seconds until everything was held, and the most of each process."""

    seconds: float
    most: dict[str, Most]


async def run(hosts: int, number: int) -> Took:
    """Have `hosts` fresh workers fetch `number` data."""
    with Site() as site:
        told = await asyncio.to_thread(site.serve)
        async with BitDew.connect(Path(told["profile"])) as grid:
            turn = asyncio.Semaphore(AT_ONCE)
            wish = Attribute(replica=hosts, protocol=Protocol.BITTORRENT)

            async def put(index: int) -> None:
                path = site.folder / f"datum{index}"
                async with turn:
                    await asyncio.to_thread(path.write_bytes, random_bytes(SIZE, index))
                    await grid.put(path, f"datum{index}", wish)
                    await asyncio.to_thread(path.unlink)

            await asyncio.gather(*(put(index) for index in range(number)))
            workers = list[Process]()
            for index in range(1, hosts + 1):
                token = (await grid.create_token("worker", uses=1)).token or ""
                workers.append(site.worker(index, told["url"], token))
            service = next(p.pid for p in site.processes if p not in workers)
            with Watch(service=service, **{f"host{n}": one.pid for n, one in enumerate(workers, 1)}) as most:
                began = time.monotonic()
                async with asyncio.timeout(GIVEN_UP):
                    seen = await grid.hosts()
                    while sum(host.held for host in seen) < hosts * number:
                        await asyncio.sleep(0.25)
                        seen = await grid.hosts()
                took = time.monotonic() - began
            return Took(took, most)


def compare(report: Report, hosts: int, number: int) -> None:
    """Fetch few and fetch many, and put them side by side."""
    few, many = asyncio.run(run(hosts, number // PART)), asyncio.run(run(hosts, number))
    of, against = f"{number} data, {hosts} worker{'s' * (hosts > 1)}", f"of that with {number // PART}"
    names = [name for name in many.most if name != "service"]
    report.add(f"{of}: time of each", many.seconds / few.seconds / PART, against)
    for what in ("memory", "files", "threads"):
        ratio = max(getattr(many.most[name], what) / getattr(few.most[name], what) for name in names)
        report.add(f"{of}: most {what} of a worker", ratio, against)
    report.keep(of, {"few": dataclasses.asdict(few), "many": dataclasses.asdict(many)})
    worst, service = max((many.most[name] for name in names), key=lambda most: most.memory), many.most["service"]
    report.note(f"{of}: {many.seconds:.1f} s, and {sum(one.busy for one in many.most.values()):.1f} s of processors.")
    report.note(
        f"A worker had {worst.memory / 2**20:.0f} MiB, {worst.files} files and {worst.threads} threads at most,"
    )
    report.note(f"the service {service.memory / 2**20:.0f} MiB, {service.files} files and {service.threads} threads.")


def main() -> None:
    asked = options(__doc__, full=f"{FULL_DATA} data in place of {DATA}")
    number = FULL_DATA if asked.full else DATA
    report = Report(f"many fetched: {number} data of {SIZE} bytes at once")
    for hosts in (1, 2):
        compare(report, hosts, number)
    report.show(as_json=asked.json)


if __name__ == "__main__":
    main()
