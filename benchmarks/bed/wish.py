"""A grid user on the service's own host: puts data that nobody wants yet, states wishes, and waits until they are true.

A program that reads and prints JSON lines: `wish.py PROFILE`. It asks for `{"put": FILE, "name": N}`, which is answered
when the repository has the bytes, and for `{"name": N, "wish": COPIES}`, which is answered when so many hosts hold
them: with when the wish was stated, when each copy was held, and what the repository had sent by then.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from bitdew import BitDew
from bitdew.core.attribute import Attribute, Protocol
from bitdew.core.states import PlacementState

COUNTED_SECONDS = 1.0
"""How long after the last copy the repository's counter is read: it lags behind what was sent."""


async def wish(grid: BitDew, name: str, copies: int, protocol: str) -> dict[str, Any]:
    """State the wish, and wait until it is true."""
    reply = await grid.where(name)
    stated = time.time()
    await grid.choose(name, Attribute(replica=copies, protocol=Protocol(protocol)))
    while len(held := [p for p in reply.placements if p.state is PlacementState.HELD]) < copies:
        reply = await grid.where(name, since=reply.version, wait=20)
    await asyncio.sleep(COUNTED_SECONDS)
    sent = (await grid.datum(name)).egress
    return {"stated": stated, "held": sorted(p.since.timestamp() for p in held), "sent": sent}


async def main() -> None:
    loop = asyncio.get_running_loop()
    async with BitDew.connect(Path(sys.argv[1])) as grid:
        print(json.dumps({"ready": True}), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            asked = json.loads(line)
            if "put" in asked:
                await grid.put(Path(asked["put"]), asked["name"], Attribute(replica=0))
                said: dict[str, Any] = {}
            elif "wish" in asked:
                said = await wish(grid, asked["name"], asked["wish"], asked.get("protocol", "auto"))
            elif "remove" in asked:
                await grid.remove(asked["remove"])
                said = {}
            elif "workers" in asked:
                while len([h for h in await grid.hosts() if h.state == "alive"]) < asked["workers"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                said = {}
            else:
                said = {"token": (await grid.create_token("worker", uses=asked["token"])).token}
            print(json.dumps(said | {"done": True}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
