"""How volunteers come and go: sessions and absences, some of them for good, some with an empty disk.

Owns the availability model. Sessions and absences are Weibull-distributed with a shape below 1: whoever has stayed long
is likely to stay. That family, or a hyperexponential, fitted the availability of desktop grids and of machines at large
far better than an exponential or a Pareto distribution in D. Nurmi, J. Brevik, R. Wolski, "Modeling Machine
Availability in Enterprise and Wide-Area Distributed Computing Environments", Euro-Par 2005, and is among those that fit
the traces of 230,000 hosts in B. Javadi, D. Kondo, J.-M. Vincent, D. P. Anderson, "Discovering Statistical Models of
Availability in Large Distributed Systems: An Empirical Study of SETI@home", IEEE TPDS 22(11), 2011. The figures of
`Availability` are ours, and are there to be changed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from .grid import SimulatedGrid
from .host import SimulatedHost

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Availability:
    """How hosts come and go.

    Attributes:
        churn: How many of a host's sessions end in an hour, on average: 0.01 stands for sessions of 100 hours.
        absence: Hours of an absence, on average.
        for_good: Of those who leave, the part that never returns; a newcomer joins in each one's stead.
        wiped: Of those who return, the part whose disk is empty.
        shape: Of the Weibull distributions; 1 makes them exponential.
    """

    churn: float
    absence: float = 4.0
    for_good: float = 0.2
    wiped: float = 0.1
    shape: float = 0.6

    def session(self, chance: random.Random) -> float:
        """Seconds of a session that begins."""
        return self._length(1 / self.churn, chance)

    def rest_of_session(self, chance: random.Random) -> float:
        """Seconds that are left of a session of which we happen to become witnesses: long ones are met more often."""
        scale = self._scale(1 / self.churn)
        whole = scale * float(chance.gammavariate(1 + 1 / self.shape, 1) ** (1 / self.shape))
        return chance.random() * whole * HOUR

    def absence_of(self, chance: random.Random) -> float:
        """Seconds of an absence."""
        return self._length(self.absence, chance)

    def _length(self, mean: float, chance: random.Random) -> float:
        return chance.weibullvariate(self._scale(mean), self.shape) * HOUR

    def _scale(self, mean: float) -> float:
        return mean / math.gamma(1 + 1 / self.shape)


class Churn:
    """Lets hosts come and go.

    Attributes:
        departures: How often a host left.
        losses: How often one left for good, or lost its disk.
    """

    def __init__(
        self,
        grid: SimulatedGrid,
        availability: Availability,
        newcomer: Callable[[], SimulatedHost],
        moved: Callable[[], None],
    ) -> None:
        """`newcomer` makes a host that joins; `moved` is told whenever a host came or went."""
        self._grid = grid
        self._availability = availability
        self._newcomer = newcomer
        self._moved = moved
        self._chance = random.Random(grid.chance.getrandbits(64))  # noqa: S311 (nothing is kept secret by it)
        self.departures = 0
        self.losses = 0

    def begin(self) -> None:
        """All hosts are in the middle of a session."""
        if self._availability.churn > 0:
            for host in self._grid.hosts.values():
                self._end_session(host, self._availability.rest_of_session(self._chance))

    def _end_session(self, host: SimulatedHost, seconds: float) -> None:
        self._grid.later(seconds, lambda: self._leave(host))

    def _leave(self, host: SimulatedHost) -> None:
        if not host.online:
            return
        self.departures += 1
        for_good = self._chance.random() < self._availability.for_good
        self.losses += for_good
        self._grid.fall_silent(host, for_good=for_good)
        self._moved()
        absence = self._availability.absence_of(self._chance)
        self._grid.later(absence, self._join if for_good else lambda: self._return(host))

    def _join(self) -> None:
        host = self._newcomer()
        self._moved()
        self._end_session(host, self._availability.session(self._chance))

    def _return(self, host: SimulatedHost) -> None:
        if host.departed:
            return
        wiped = self._chance.random() < self._availability.wiped
        self.losses += wiped
        self._grid.return_(host, rebooted=True, wiped=wiped)
        self._moved()
        self._end_session(host, self._availability.session(self._chance))

    def lose(self, fraction: float) -> None:
        """That part of the hosts that are there is gone for good, all at once."""
        there = [host for host in self._grid.hosts.values() if host.online]
        for host in self._chance.sample(there, round(fraction * len(there))):
            self.losses += 1
            self._grid.fall_silent(host, for_good=True)
        self._moved()
