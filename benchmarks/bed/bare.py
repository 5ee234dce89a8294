"""libtorrent alone, with the same TLS and the settings that BitDew gives it: the bound for one source and one host.

A program: `bare.py seed|fetch CREDENTIALS TORRENT FILE ADDRESS [PEER]`. It prints JSON lines: that it is ready, with
its address, and for `fetch`, which waits for a line on stdin, when it began and when it had everything.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from bitdew.core.host import Endpoint
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.metainfo import Metainfo, read_metainfo
from bitdew.swarm.session import Swarm


async def run(metainfo: Metainfo, shown: SwarmCredentials) -> None:
    part, _, _, file, listen, *peers = sys.argv[1:]
    loop = asyncio.get_running_loop()
    async with await Swarm.start(Endpoint.parse(listen), shown) as swarm:
        if part == "seed":
            await swarm.add(metainfo, Path(file), complete=True)
        print(json.dumps({"ready": True, "endpoint": str(swarm.endpoint)}), flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        if part == "fetch":
            began = time.time()
            transfer = await swarm.add(metainfo, Path(file), peers=[Endpoint.parse(peer) for peer in peers])
            seen = 0
            while transfer.progress.state not in {"finished", "seeding"}:
                seen = await transfer.next_change(seen)
            print(json.dumps({"began": began, "ended": time.time()}), flush=True)


def main() -> None:
    metainfo = read_metainfo(Path(sys.argv[3]).read_bytes())
    asyncio.run(run(metainfo, SwarmCredentials(**json.loads(Path(sys.argv[2]).read_text()))))


if __name__ == "__main__":
    main()
