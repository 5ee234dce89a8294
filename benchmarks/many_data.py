"""What thousands of small data that one host holds cost its worker while nobody fetches them.

A service and one worker, `bitdew` processes on loopback addresses of their own. Data of 4 KB each are put that want one
copy, so that the worker holds all of them. It is then left alone, and its processor time, its wake-ups and its memory
are read from the system; at last it is stopped and started again, and the time runs until it says that it is ready, and
until its work is done.

Idle is measured once without any data, and then with all: what the data add is the difference. Wake-ups are the
voluntary context switches of all its threads. The target of idle time is of the whole worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bitdew import BitDew
from bitdew.core.attribute import Attribute
from bitdew.core.states import HostState

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.disks import random_bytes
from bed.processes import Process, Site
from bed.report import Report, options

DATA: Final = 500
FULL_DATA: Final = 5_000
SIZE: Final = 4096
SETTLING: Final = 90.0
"""Seconds after which the last connection of those that brought the data is gone, and whole files dial nobody."""
WATCHED: Final = 60.0
AT_ONCE: Final = 8
GIVEN_UP: Final = 1800.0
QUIET: Final = 0.05
IDLE_TARGET: Final = 0.005
MEMORY_TARGET: Final = 80 * 2**20
EACH_TARGET: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Idle:
    """What a process does when it has nothing to do.

    Attributes:
        busy: Its processor time over the time that passed: 1 is a whole core.
        wakes: How often one of its threads woke, in a second.
        memory: Bytes of memory that are its own: proportional set size.
    """

    busy: float
    wakes: float
    memory: int


def watch(pid: int, seconds: float) -> Idle:
    """Look at a process for some time."""
    process = psutil.Process(pid)

    def now() -> tuple[float, float, dict[str, int]]:
        times = process.cpu_times()
        return time.monotonic(), times.user + times.system, _switches(pid)

    began, used, woken = now()
    time.sleep(seconds)
    ended, used_then, woken_then = now()
    passed = ended - began
    wakes = sum(number - woken.get(task, 0) for task, number in woken_then.items())
    return Idle((used_then - used) / passed, wakes / passed, process.memory_full_info().pss)


def _switches(pid: int) -> dict[str, int]:
    """Of each thread, how often it woke so far; one that ends meanwhile is left out."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    found[task.name] = int(line.split()[1])
    return found


async def put_all(grid: BitDew, folder: Path, number: int) -> None:
    """Put so many data, a few at a time."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def put(index: int) -> None:
        path = folder / f"datum{index}"
        async with turn:
            await asyncio.to_thread(path.write_bytes, random_bytes(SIZE, index))
            await grid.put(path, f"datum{index}", Attribute(replica=1))
            await asyncio.to_thread(path.unlink)

    await asyncio.gather(*(put(index) for index in range(number)))


async def all_held(grid: BitDew, number: int) -> None:
    """Return when the host holds so many data, as the service knows."""
    async with asyncio.timeout(GIVEN_UP):
        while (await grid.hosts())[0].held < number:  # noqa: ASYNC110
            await asyncio.sleep(0.25)


async def measure(site: Site, report: Report, number: int, settling: float, watched: float) -> None:
    told = await asyncio.to_thread(site.serve)
    async with BitDew.connect(Path(told["profile"])) as grid:
        token = (await grid.create_token("worker", uses=1)).token or ""
        worker: Process = site.worker(1, told["url"], token)
        await asyncio.to_thread(worker.ready)
        while not any(host.state is HostState.ALIVE for host in await grid.hosts()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        empty = await asyncio.to_thread(watch, worker.pid, watched)
        began = time.monotonic()
        await put_all(grid, site.folder, number)
        put = time.monotonic() - began
        await all_held(grid, number)
        fetched = time.monotonic() - began
        await asyncio.sleep(settling)
        full = await asyncio.to_thread(watch, worker.pid, watched)
        site.stop(worker)
        began = time.monotonic()
        worker = site.worker(1, told["url"], token)
        await asyncio.to_thread(worker.ready)
        ready = time.monotonic() - began
        await asyncio.to_thread(quiet, worker.pid)
        offered = time.monotonic() - began
        await asyncio.sleep(settling)
        again = await asyncio.to_thread(watch, worker.pid, watched)
    report.add("idle: without data", empty.busy, "share of a core", at_most=IDLE_TARGET)
    for what, idle in (("idle", full), ("idle after a restart", again)):
        report.add(f"{what}: with {number} data", idle.busy, "share of a core", at_most=IDLE_TARGET)
        report.add(f"{what}: wake-ups", idle.wakes / empty.wakes, "with all data / with none", at_most=1.2)
        each = (idle.memory - empty.memory) / number
        report.add(f"{what}: memory of a datum", each / 1024, "KiB", at_most=EACH_TARGET / 1024)
    report.add("memory without data", empty.memory / MEMORY_TARGET, "of 80 MiB", at_most=1.0)
    report.add("restart", offered / ready, "seconds until its work is done / until it is ready")
    behind = {"empty": empty, "full": full, "again": again}
    report.keep("idle", {name: dataclasses.asdict(idle) for name, idle in behind.items()})
    report.keep("seconds", {"put": put, "held": fetched, "ready": ready, "offered": offered})
    report.note(f"Put in {put:.1f} s, all held after {fetched:.1f} s; after a restart ready in {ready:.1f} s, and")
    report.note(
        f"quiet after {offered:.1f} s. Wake-ups a second: {empty.wakes:.0f} without, {again.wakes:.0f} with data."
    )


def quiet(pid: int) -> None:
    """Return when a process has taken less than `QUIET` of a core for a second."""
    until = time.monotonic() + GIVEN_UP
    while watch(pid, 1.0).busy > QUIET:
        if time.monotonic() > until:
            raise TimeoutError


def main() -> None:
    asked = options(__doc__, full=f"{FULL_DATA} data in place of {DATA}")
    number = FULL_DATA if asked.full else DATA
    report = Report(f"many data: {number} of {SIZE} bytes on one idle host")
    with Site() as site:
        asyncio.run(measure(site, report, number, SETTLING, WATCHED))
    report.show(as_json=asked.json)


if __name__ == "__main__":
    main()
