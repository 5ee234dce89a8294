"""The peers that BitDew is compared with: the least that aiohttp needs for the same task, over the same TLS.

A program: `peer.py serve CREDENTIALS [--rate N] [--file F]` and `peer.py wait CREDENTIALS URL`. It keeps nothing on
disk, checks no message and decides nothing, so it is the lower bound for a service in the same language.

The server's routes: `/wait` is held open until something was added, `/seen` until the waiter reported it, `/echo`
answers JSON with JSON, `/file` sends one file to any number of clients, by a token bucket for all of them together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from bitdew.trust.keys import KeyPair
from bitdew.trust.tls import SERVICE_NAME, client_context, server_context

CHUNK: Final = 64 * 1024
CATCH_UP_SECONDS: Final = 0.1
"""What the token bucket saves up: as much as a late wake-up of the event loop costs."""
HOLD_SECONDS: Final = 20.0


class TokenBucket:
    """One rate for everyone together, in bytes per second; 0 is unlimited. Whoever came first goes first."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        """Return when `size` more bytes may be sent."""
        if not self._rate:
            return
        now = time.monotonic()
        turn = max(self._free_at, now - CATCH_UP_SECONDS)
        self._free_at = turn + size / self._rate
        if turn > now:
            await asyncio.sleep(turn - now)


class Server:
    """What the peer's service knows: two counters, and who waits for them."""

    def __init__(self, rate: float, file: Path | None) -> None:
        self._bucket = TokenBucket(rate)
        self._content = file.read_bytes() if file else b""
        self._count = {"added": 0, "reported": 0}
        self._moved = asyncio.Condition()

    def application(self) -> web.Application:
        """Its routes."""
        app = web.Application()
        app.router.add_post("/add", self._add)
        app.router.add_get("/wait", self._wait)
        app.router.add_post("/report", self._report)
        app.router.add_get("/seen", self._seen)
        app.router.add_post("/echo", self._echo)
        app.router.add_get("/file", self._file)
        return app

    async def _add(self, request: web.Request) -> web.Response:
        await request.read()
        return await self._move("added")

    async def _report(self, request: web.Request) -> web.Response:
        await request.read()
        return await self._move("reported")

    async def _move(self, counter: str) -> web.Response:
        async with self._moved:
            self._count[counter] += 1
            self._moved.notify_all()
        return web.json_response({})

    async def _wait(self, request: web.Request) -> web.Response:
        return await self._until("added", int(request.query["past"]))

    async def _seen(self, request: web.Request) -> web.Response:
        return await self._until("reported", int(request.query["past"]))

    async def _until(self, counter: str, past: int) -> web.Response:
        try:
            async with asyncio.timeout(HOLD_SECONDS), self._moved:
                await self._moved.wait_for(lambda: self._count[counter] > past)
        except TimeoutError:
            pass  # an empty reply, as the end of a heartbeat's period gives one
        return web.json_response({"count": self._count[counter]})

    async def _echo(self, request: web.Request) -> web.Response:
        return web.json_response({"boot": (await request.json())["boot"]})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(self._content))})
        await response.prepare(request)
        view = memoryview(self._content)
        for start in range(0, len(view), CHUNK):
            part = view[start : start + CHUNK]
            await self._bucket.take(len(part))
            await response.write(part)
        return response


async def serve(context: ssl.SSLContext, rate: float, file: Path | None) -> None:
    """Serve until stopped."""
    runner = web.AppRunner(Server(rate, file).application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        _tell({"ready": True, "url": f"https://127.0.0.1:{runner.addresses[0][1]}", "pid": os.getpid()})
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def wait(context: ssl.SSLContext, url: str) -> None:
    """Wait for what is added, tell the time at which it came, and report it, until stopped."""
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=context)) as session:
        _tell({"ready": True, "pid": os.getpid()})
        count = 0
        while True:
            async with session.get("/wait", params={"past": count}, server_hostname=SERVICE_NAME) as response:
                now, reply = time.time(), await response.json()
            if reply["count"] > count:
                count = reply["count"]
                _tell({"event": "order", "count": count, "time": now})
                async with session.post("/report", json={"count": count}, server_hostname=SERVICE_NAME) as response:
                    await response.read()


def _tell(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


async def _until_stopped(work: asyncio.Task[None]) -> None:
    """Run `work` until SIGTERM, or until whoever started us is gone and our stdin ends with it."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, work.cancel)
    loop.add_reader(0, work.cancel)
    try:
        await asyncio.wait({work})
    finally:
        loop.remove_reader(0)
    if not work.cancelled():
        work.result()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["serve", "wait"])
    parser.add_argument("credentials", type=Path)
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--file", type=Path)
    chosen = parser.parse_args()
    found = json.loads(chosen.credentials.read_text())
    if chosen.part == "serve":
        context = server_context(KeyPair(**found["service"]), found["ca"])
        work = serve(context, chosen.rate, chosen.file)
    else:
        work = wait(client_context(found["ca"], KeyPair(**found["client"])), chosen.url)
    await _until_stopped(asyncio.create_task(work))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
