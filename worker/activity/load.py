"""How much of the processors others use: everything that has not stepped back, and is not this worker.

Owns the measure. Machines run with a niceness, and the kernel counts the time of what is nice apart: what is left is
the owner's, and the system's. Only Linux counts so; elsewhere nobody can tell.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

WINDOW_SECONDS: Final = 5.0
"""Over which a share is taken: shorter bursts are not worth a pause."""
QUIET_SECONDS: Final = 60.0
"""How long it must be quiet before it counts as quiet: a pause is quick, and going on is slow."""
_OWNERS_COLUMNS: Final = (1, 3, 6, 7)
"""Of the line `cpu` of /proc/stat: user, system, irq, softirq. Nice, idle, iowait and steal are left out."""
_ALL_COLUMNS: Final = range(1, 9)


class OthersLoad:
    """Measures from one call to the next; the first has nothing to compare with."""

    def __init__(
        self,
        *,
        stat: Path = Path("/proc/stat"),
        own: Callable[[], float] = time.process_time,
        ticks: float = float(os.sysconf("SC_CLK_TCK")) if hasattr(os, "sysconf") else 100.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`own` is this process's processor time in seconds, `ticks` what /proc/stat counts a second in."""
        self._stat = stat
        self._own = own
        self._ticks = ticks
        self._monotonic = monotonic
        self._last: tuple[float, float, float, float] | None = None
        self._shares: deque[tuple[float, float]] = deque()

    def share(self) -> float | None:
        """The largest share of the last minute, 0 to 1; 0 before there is one; None where it can't be told. Blocks."""
        now = self._monotonic()
        if self._last is None or now - self._last[0] >= WINDOW_SECONDS:
            words = self._words()
            if words is None:
                return None
            used, whole = (sum(int(words[column]) for column in of) for of in (_OWNERS_COLUMNS, _ALL_COLUMNS))
            fresh = now, float(used), float(whole), self._own() * self._ticks
            if self._last is not None and fresh[2] > self._last[2]:
                _, used_then, whole_then, own_then = self._last
                others = (fresh[1] - used_then) - (fresh[3] - own_then)
                self._shares.append((now, min(1.0, max(0.0, others / (fresh[2] - whole_then)))))
            self._last = fresh
        while self._shares and now - self._shares[0][0] > QUIET_SECONDS:
            self._shares.popleft()
        return max((share for _, share in self._shares), default=0.0)

    def _words(self) -> list[bytes] | None:
        try:
            with self._stat.open("rb") as file:
                words = file.readline(4096).split()
        except OSError:
            return None
        plain = len(words) > max(_ALL_COLUMNS) and words[0] == b"cpu" and all(word.isdigit() for word in words[1:])
        return words if plain else None
