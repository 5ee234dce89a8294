"""What a run of the simulator of jobs amounts to: how long each user's jobs waited, and how evenly room was shared.

Owns the sums. Times are virtual seconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bitdew.core.ids import Uid
from bitdew.core.states import JobState, RunState

from ..jobs.settling import Case
from .clock import BEGINNING
from .figures import quantile


@dataclass(slots=True)
class JobFigures:
    """The sums of a run.

    Attributes:
        departures: How often a host left.
        lost: Runs that were lost with their host.
        waited: How long each user's jobs waited for their first run.
        urgent: The same, of those that had priority alone.
        contested: Seconds in which two users or more had jobs that waited.
    """

    departures: int = 0
    lost: int = 0
    waited: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    urgent: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    contested: float = 0.0
    _began: set[Uid] = field(default_factory=set)
    _at: float = 0.0
    _working: Mapping[str, int] = field(default_factory=dict)
    _waiting: Collection[str] = ()
    _shares: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _there: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _evenness: float = 0.0
    _used: float = 0.0
    _cases: list[Case] = field(default_factory=list)

    def begun(self, case: Case, seconds: float) -> None:
        """A run of this job begins; only the first one counts."""
        if case.job.uid not in self._began:
            self._began.add(case.job.uid)
            wait = seconds - (case.job.created - BEGINNING).total_seconds()
            self.waited[case.job.owner].append(wait)
            if case.job.spec.priority > 0:
                self.urgent[case.job.owner].append(wait)

    def passing(self, seconds: float, working: Mapping[str, int], waiting: Collection[str]) -> None:
        """From now on so many processors work for each user, and these have jobs that wait: until the next call."""
        length = seconds - self._at
        self._used += length * sum(self._working.values())
        if len(self._waiting) > 1:
            self.contested += length
            shares = [self._working.get(user, 0) for user in sorted(self._waiting)]
            self._evenness += length * jain(shares)
            for user, share in zip(sorted(self._waiting), shares, strict=True):
                self._shares[user] += length * share
                self._there[user] += length
        self._at, self._working, self._waiting = seconds, dict(working), frozenset(waiting)

    def over(self, seconds: float, cases: Iterable[Case]) -> None:
        """It ends here."""
        self.passing(seconds, {}, ())
        self._cases = list(cases)

    def report(self) -> dict[str, Any]:
        """All of it, as one document."""
        users = {name: self._user(name) for name in sorted({case.job.owner for case in self._cases})}
        return {
            "hours": self._at / 3600,
            "departures": self.departures,
            "runs lost": self.lost,
            "processor hours": self._used / 3600,
            "contested hours": self.contested / 3600,
            "evenness": self._evenness / self.contested if self.contested else None,
            "users": users,
        }

    def _user(self, name: str) -> dict[str, Any]:
        its = [case for case in self._cases if case.job.owner == name]
        states = Counter(case.job.state for case in its)
        runs = [run for case in its for run in case.runs.values() if run.state is not RunState.CANCELLED]
        there = self._there[name]
        return {
            "jobs": len(its),
            "done": states[JobState.DONE],
            "failed": states[JobState.FAILED],
            "unfinished": sum(not case.job.ended for case in its),
            "runs": len(runs),
            "wait": _spread(self.waited[name]),
            "urgent wait": _spread(self.urgent[name]),
            "processors while contested": self._shares[name] / there if there else None,
        }


def jain(shares: Collection[float]) -> float:
    """How even shares are: 1 if all are the same, 1/n if one of n has everything.

    R. Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness and Discrimination for Resource Allocation in Shared
    Computer Systems", DEC TR-301, 1984.
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def _spread(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    return {
        "median": quantile(seconds, 0.5),
        "p95": quantile(seconds, 0.95),
        "max": max(seconds),
    }
