"""Keep one file the same on every host: each release goes everywhere, and the one before it ends.

    python examples/updater.py app-2.tar 2

A release lives as long as its mark, a datum of no copies. When all hosts hold the new release, the old mark is
deleted, and the old release dies with it. Hosts that join later get the newest one.
"""

import asyncio
import sys
from pathlib import Path

import bitdew
from bitdew import Attribute


async def main(path: Path, version: str) -> None:
    """Release the file at `path` as `version`."""
    async with bitdew.connect() as dew:
        old = [mark.name async for mark in dew.search("app-mark-")]
        await dew.put(version.encode(), Attribute(replica=0), name=f"app-mark-{version}")
        release = await dew.put(path, Attribute(replica=-1, lifetime=f"app-mark-{version}"), name=f"app-{version}")
        held = (await release.held()).data.held
        for mark in old:
            await dew.delete(mark)
        print(f"{held} hosts have {release.name}; {len(old)} before it end")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
