"""Many small data through the developer's API: put, placed on eight workers, and fetched back.

A service and eight workers, `bitdew` processes on loopback addresses of their own, and this program as their user.
The same bytes go to a plain HTTP server over the same TLS, which keeps them as durably, and come back from it. Placing
has no peer there: eight readers get an eighth of the files each, and keep them durably.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

import bitdew
from bitdew import Attribute, Dew
from bitdew.trust.tls import SERVICE_NAME

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.disks import random_bytes
from bed.joined import joined
from bed.peer_tls import peer_credentials
from bed.processes import Site
from bed.report import Report, parser
from bed.shelf import keep

DATA: Final = 1000
SIZE: Final = 16 * 1024
HOSTS: Final = 8
AT_ONCE: Final = 16
GIVEN_UP: Final = 1800.0
SHELF: Final = Path(__file__).parent / "bed/shelf.py"


async def each(number: int, work: Callable[[int], Awaitable[None]], at_once: int = AT_ONCE) -> float:
    """Seconds that `work` takes for all of them, so many at a time."""
    turn = asyncio.Semaphore(at_once)

    async def one(index: int) -> None:
        async with turn:
            await work(index)

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for index in range(number):
            group.create_task(one(index))
    return time.monotonic() - began


def require_same(found: bytes, wanted: bytes) -> None:
    """Fail, if other bytes come back than went there."""
    if found != wanted:
        raise ValueError("other bytes came back")


@asynccontextmanager
async def shelf(site: Site) -> AsyncIterator[aiohttp.ClientSession]:
    """The plain server, and a session with it."""
    credentials, context = await asyncio.to_thread(peer_credentials, site.folder)
    folder = site.folder / "shelf"
    told = await asyncio.to_thread(site.program("shelf", SHELF, str(credentials), str(folder)).ready)
    connector = aiohttp.TCPConnector(ssl=context, limit=AT_ONCE)
    async with aiohttp.ClientSession(told["url"], connector=connector) as session:
        yield session


async def plain(site: Site, raws: list[bytes]) -> dict[str, float]:
    """Seconds of the plain server, by what is done."""
    async with shelf(site) as session:

        async def put(index: int) -> None:
            async with session.put(f"/{index}", data=raws[index], server_hostname=SERVICE_NAME) as reply:
                await reply.read()

        async def get(index: int) -> bytes:
            async with session.get(f"/{index}", server_hostname=SERVICE_NAME) as reply:
                return await reply.read()

        async def keep_one(index: int) -> None:
            await asyncio.to_thread(keep, site.folder / f"kept-{index}", await get(index))

        async def back(index: int) -> None:
            require_same(await get(index), raws[index])

        return {
            "put": await each(len(raws), put),
            "placed": await each(len(raws), keep_one, HOSTS),
            "back": await each(len(raws), back),
        }


async def ours(dew: Dew, raws: list[bytes]) -> tuple[dict[str, float], Counter[str]]:
    """Seconds of BitDew, by what is done, and how many copies each host has."""
    on: Counter[str] = Counter()
    await dew.define("small", Attribute(replica=1))

    async def put(index: int) -> None:
        await dew.put(raws[index], "small", name=f"datum-{index}")

    async def back(index: int) -> None:
        require_same(await dew.read(f"datum-{index}"), raws[index])

    async def placed() -> float:
        async with asyncio.timeout(GIVEN_UP), aclosing(dew.events("held", attr="small", since="oldest")) as events:
            async for event in events:
                on[event.host_name] += 1
                if on.total() == len(raws):
                    return time.monotonic()
        raise AssertionError("events have no end")

    began = time.monotonic()
    waiting = asyncio.create_task(placed())
    put_in = await each(len(raws), put)
    return {"put": put_in, "placed": await waiting - began, "back": await each(len(raws), back)}, on


async def measure(site: Site, report: Report, number: int) -> None:
    raws = [random_bytes(SIZE, index) for index in range(number)]
    told = await asyncio.to_thread(site.serve)
    async with bitdew.connect(Path(told["profile"])) as dew:
        await joined(site, dew, told["url"], HOSTS)
        bare = await plain(site, raws)
        found, on = await ours(dew, raws)
    report.add("put", found["put"] / bare["put"], "seconds of BitDew / of plain HTTP")
    report.add("put and placed", found["placed"] / (bare["put"] + bare["placed"]), "the same")
    report.add("fetched back", found["back"] / bare["back"], "the same")
    report.add("hosts that got copies", len(on) / HOSTS, "of all", at_least=1.0)
    report.keep("seconds", {"bitdew": found, "plain": bare})
    report.keep("copies", dict(on))
    for name, seconds in (("BitDew", found), ("plain", bare)):
        rates = ", ".join(f"{what} {number / took:.0f}" for what, took in seconds.items())
        report.note(f"{name}, data a second: {rates}.")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=int, default=DATA, help="How many data.")
    asked = made.parse_args()
    report = Report(f"the developer's API: {asked.data} data of {SIZE} bytes, {HOSTS} workers")
    with Site() as site:
        asyncio.run(measure(site, report, asked.data))
    report.show(as_json=asked.json)


if __name__ == "__main__":
    main()
