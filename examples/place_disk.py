"""Place a VM disk on three hosts that can run it, and start a machine: python examples/place_disk.py root.img."""

import sys

import bitdew.blocking
from bitdew import Attribute


def main(image: str, requires: str = "sharing=qemu or sharing=virtualbox") -> None:
    """Place `image`, tell what happens, and start a machine from it."""
    with bitdew.blocking.connect() as dew:
        wishes = Attribute(replica=3, ft=True, requires=requires)
        disk = dew.put_disk(image, wishes, os="Debian 12")
        for event in disk.events():
            print(event, flush=True)
            if event.kind == "held" and disk.refresh().held == 3:
                break
        deployment = dew.portal.call(dew.twin.grid.deploy(disk.name))
        print(f"machine {deployment.machines[0].uid} is to run", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
