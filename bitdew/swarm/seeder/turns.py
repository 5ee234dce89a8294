"""How many peers are sent to at a time: as few as fill the uplink.

Pure: rates in, a number out. What fills the uplink is found out by trying twice as many, as long as that makes it
faster. Later, when the links of the peers fill with what they send each other, it takes more; then fewer again.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FEWEST: Final = 4
"""While one asks, others are sent to. With two, a fast source began half idle, and hosts lost a third of a second; on
slow links four cost nothing."""
MOST: Final = 64
WINDOW: Final = 6
"""Measurements that a rate is judged by: a connection takes its bytes in gulps."""
TRIAL: Final = 4
"""Measurements after which a trial is judged."""
GAIN: Final = 1.1
"""A trial that makes it so much faster is followed by the next."""
TOO_SLOW: Final = 0.9
FAST_ENOUGH: Final = 0.97
PATIENCE: Final = 80
"""Measurements for which a number that was too small is not tried again."""
FORGETTING: Final = 0.998
"""What is left of the best rate after each measurement: links change."""


class Turns:
    """The number of turns, learned from how fast it goes.

    Attributes:
        number: Peers that may be sent to at a time.
    """

    def __init__(self) -> None:
        self.number = FEWEST
        self._rates: deque[float] = deque(maxlen=WINDOW)
        self._since = 0
        self._best = 0.0
        self._before: tuple[int, float] | None = None  # the number and the rate before a change that is tried
        self._tries = True
        self._floor = FEWEST
        self._floor_lasts = 0

    @property
    def best(self) -> float:
        """Bytes per second that the uplink has proved to carry."""
        return self._best

    def measure(self, rate: float, *, waiting: bool) -> None:
        """So many bytes per second were sent since the last time; `waiting` if further peers could be sent to."""
        self._rates.append(rate)
        self._since += 1
        self._floor_lasts -= 1
        if self._floor_lasts <= 0:
            self._floor = FEWEST
        if not rate and not self._best:
            return
        if self._tries:
            self._try(waiting=waiting)
        elif self._since >= WINDOW:
            self._judge(sum(self._rates) / len(self._rates), waiting=waiting)

    def _judge(self, lately: float, *, waiting: bool) -> None:
        """More if it became slow; fewer as long as that costs nothing."""
        if self._before is not None and lately < FAST_ENOUGH * self._before[1]:
            self._floor, self._floor_lasts = self._before[0], PATIENCE
            self._turn(self._before[0])
        elif lately < TOO_SLOW * self._best and waiting:
            self._floor, self._floor_lasts = self.number + max(1, self.number // 4), PATIENCE
            self._turn(self._floor)
        elif lately > FAST_ENOUGH * self._best and self.number > self._floor:
            self._turn(self.number - 1)
            self._before = self.number + 1, lately
        self._best = max(FORGETTING * self._best, lately)

    def _try(self, *, waiting: bool) -> None:
        if self._since < TRIAL:
            return
        lately = sum(list(self._rates)[-TRIAL + 1 :]) / (TRIAL - 1)
        if self._before is not None and lately < GAIN * self._before[1]:
            self._tries = False
            self._best = max(self._before[1], lately)
            self._turn(self._before[0])
        elif waiting and self.number < MOST:
            before = self.number, lately
            self._turn(2 * self.number)
            self._before = before
        self._best = max(self._best, lately)

    def _turn(self, number: int) -> None:
        self.number = min(MOST, max(FEWEST, number))
        self._since = 0
        self._before = None
