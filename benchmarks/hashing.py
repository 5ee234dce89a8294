"""How fast a file is identified: the ratio to one bare pass of SHA-256 over the same bytes, and what the loop feels.

The bare pass is `hashlib.sha256` over 16 KiB blocks in one thread, of bytes in memory: the least that any identity of
this kind costs. Then the same bytes lie in a file, in the page cache. "Serial" is one pass of the hasher in one thread;
"reader" is what publishing does, on all processors. While it runs, the event loop is asked for a turn every
millisecond. Beside the time that passed stands the processor time of all threads, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import tempfile
import time
from pathlib import Path

from bitdew.client.image import FileSource
from bitdew.client.reading import Reader
from bitdew.core.content import BLOCK, Content, ContentHasher

MB = 2**20
TURN = 0.001


class Watch:
    """Seconds since it was made: those that passed, and those of the processors."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Both."""
        return time.perf_counter() - self._started[0], time.process_time() - self._started[1]


def bare(path: Path) -> tuple[float, float]:
    """The time of one bare pass."""
    raw = memoryview(path.read_bytes())
    watch = Watch()
    for offset in range(0, len(raw), BLOCK):
        hashlib.sha256(raw[offset : offset + BLOCK]).digest()
    return watch.read()


def serial(path: Path) -> tuple[tuple[float, float], Content]:
    """The time of the hasher in one thread, reading included, and what it says."""
    watch = Watch()
    hasher = ContentHasher(path.stat().st_size)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(MB):
            hasher.update(chunk)
    content = hasher.finish()
    return watch.read(), content


async def reading(path: Path) -> tuple[tuple[float, float], Content, list[float]]:
    """The time of the reader, what it says, and by how many seconds each turn of the loop came late."""
    late: list[float] = []

    async def turns() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TURN)
            late.append(time.perf_counter() - before - TURN)

    ticking = asyncio.create_task(turns())
    watch = Watch()
    async with Reader(await asyncio.to_thread(FileSource, path)) as reader:
        content = await reader.identify()
    took = watch.read()
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    return took, content, sorted(late)


def _ratio(took: tuple[float, float], least: tuple[float, float]) -> str:
    return f"{took[0] / least[0]:.2f} of its time ({took[1] / least[1]:.2f} of its processor time)"


def main() -> None:
    """Measure, and print one line a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="megabytes of the file")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            for number in range(asked.size):
                file.write(random.Random(number).randbytes(MB))  # noqa: S311 - no secret
        print(f"{asked.size} MB, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        for _ in range(asked.rounds):
            least = bare(path)
            alone, content = serial(path)
            together, same, late = asyncio.run(reading(path))
            if content != same:
                raise SystemExit("the reader says something else than the hasher")
            print(
                f"bare {asked.size / least[0]:.0f} MB/s; "
                f"serial {asked.size / alone[0]:.0f} MB/s, {_ratio(alone, least)}; "
                f"reader {asked.size / together[0]:.0f} MB/s, {_ratio(together, least)}; "
                f"the loop late by {1e3 * late[len(late) // 2]:.1f} ms, at most {1e3 * late[-1]:.1f} ms; "
                f"load {os.getloadavg()[0]:.1f}"
            )


if __name__ == "__main__":
    main()
