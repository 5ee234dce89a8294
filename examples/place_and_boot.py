"""Place a disk on two hosts that share a hypervisor, boot a machine from it, and print what it says.

Run a service (`bitdew serve`) and two workers first, then: python examples/place_and_boot.py DISK NAME
"""

import asyncio
import sys
from pathlib import Path

from bitdew import Attribute, BitDew, Requirement


async def main(disk: Path, name: str) -> None:
    """Place `disk` under `name`, and follow the console of a machine that boots from it."""
    wishes = Attribute(replica=2, requires=Requirement("sharing=qemu or sharing=virtualbox"))
    async with BitDew.connect() as grid:
        await grid.add_disk(disk, name, wishes)
        async for where in grid.watch(name):
            print(f"{where.data.held} of {where.data.wanted} copies are held")
            if where.data.held == where.data.wanted:
                break
        machine = (await grid.deploy(name)).machines[0]
        async for part in grid.follow_console(machine.uid):
            print(part.text, end="", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
