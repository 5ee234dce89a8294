"""Plain HTTP with the same TLS: files are put on a shelf, kept durably as BitDew keeps them, and got from it.

A program: `shelf.py CREDENTIALS FOLDER`. It prints a JSON line when it is ready, and ends with its stdin. It knows no
names but paths, decides nothing, and checks nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from bitdew.trust.keys import KeyPair
from bitdew.trust.tls import server_context


def keep(path: Path, raw: bytes) -> None:
    """Write a file, and have it on the disk."""
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


async def serve(found: dict[str, Any], folder: Path) -> None:
    """Serve until stdin ends."""

    async def put(request: web.Request) -> web.Response:
        await asyncio.to_thread(keep, folder / request.match_info["name"], await request.read())
        return web.json_response({})

    async def get(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(folder / request.match_info["name"])

    app = web.Application(client_max_size=2**30)
    app.router.add_put("/{name}", put)
    app.router.add_get("/{name}", get)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        context = server_context(KeyPair(**found["service"]), found["ca"])
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        print(json.dumps({"ready": True, "url": f"https://127.0.0.1:{runner.addresses[0][1]}"}), flush=True)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(0, ended.set)
        await ended.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir()
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])))
