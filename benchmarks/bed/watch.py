"""Tells when more bytes than so many have come over this host's link: `watch.py BYTES`. It prints JSON lines."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

COUNTER = Path("/sys/class/net/eth0/statistics/rx_bytes")
LOOK_SECONDS = 0.002


def main() -> None:
    wanted = int(COUNTER.read_text()) + int(sys.argv[1])
    print(json.dumps({"ready": True}), flush=True)
    while int(COUNTER.read_text()) < wanted:
        time.sleep(LOOK_SECONDS)
    print(json.dumps({"came": time.time()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
