"""Estimate pi by throwing darts on many hosts: python examples/estimate_pi.py CALLS.

The function goes to the hosts by its code, the counts come back, and nothing is left there.
"""

import random
import sys

import bitdew.blocking

DARTS = 200_000


def hits(seed: int) -> int:
    """How many of so many darts that hit the square hit the circle in it too."""
    draw = random.Random(seed)  # noqa: S311 (nothing is kept secret by it)
    return sum(draw.random() ** 2 + draw.random() ** 2 < 1 for _ in range(DARTS))


def main(calls: int) -> float:
    """Have `calls` hosts throw, and put together what they counted."""
    with bitdew.blocking.connect() as dew, dew.executor(runtime="10m", memory="256MB") as pool:
        return 4 * sum(pool.map(hits, range(calls))) / (DARTS * calls)


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
