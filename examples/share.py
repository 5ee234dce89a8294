"""Share files on a LAN: everybody who runs this gets what anybody offers, by swarm, from each other.

    python examples/share.py https://192.168.1.5:8440 TOKEN ~/shared holiday.mp4

The token is a worker's. Offering needs a profile too (`bitdew user join`): the file is sent from where it is, and the
service never has its bytes. What arrives is linked into the folder.
"""

import asyncio
import os
import sys
from pathlib import Path

import bitdew
from bitdew import Attribute


async def main(url: str, token: str, folder: Path, *offered: str) -> None:
    """Take part until interrupted."""
    async with (
        bitdew.host(url, token, home=folder / ".bitdew", labels={"lan": "yes"}) as host,
        asyncio.TaskGroup() as group,
    ):
        for path in offered:
            group.create_task(offer(Path(path)))
        async for copy in host.arrivals():
            await asyncio.to_thread(os.link, copy.path, folder / copy.name)
            print(f"{copy.name} is here: {copy.size} bytes", flush=True)


async def offer(path: Path) -> None:
    """Offer one file to everybody."""
    everybody = Attribute(replica=-1, requires="lan = yes", protocol="bittorrent")
    async with bitdew.connect() as dew, dew.seeding(path, everybody) as offered:
        await offered.stay()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:]))
