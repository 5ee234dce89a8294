"""What a run amounts to: copies missing and copies too many over time, how long repairs took, and what was moved.

Owns the sums, kept as things happen. It counts what is so, on hosts that are up, and not what the service believes: a
host that went is missed at once, though the service notices later.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from bitdew.core.attribute import EVERYWHERE, Attribute
from bitdew.core.ids import HostId, Uid

from .clock import MICRO
from .grid import SimulatedGrid


@dataclass(slots=True)
class _Line:
    """One datum's account."""

    attribute: Attribute
    target: Uid | None
    since: int
    wanted: int = 0
    up: int = 0
    short_since: int | None = None
    whole_once: bool = False
    deficit: float = 0.0
    surplus: float = 0.0


@dataclass(slots=True)
class Figures:
    """The sums of a run. Times in seconds, of virtual time.

    Attributes:
        placing: How long each datum took until all its copies were there for the first time.
        repairs: How long each datum with fault tolerance that had all its copies was short of some, each time.
    """

    grid: SimulatedGrid
    placing: list[float] = field(default_factory=list)
    repairs: list[float] = field(default_factory=list)
    _lines: dict[Uid, _Line] = field(default_factory=dict)
    _followers: defaultdict[Uid, list[Uid]] = field(default_factory=lambda: defaultdict(list))
    _wide: list[Uid] = field(default_factory=list)
    _matching: dict[str, int] = field(default_factory=dict)

    def add(self, uid: Uid, attribute: Attribute, target: Uid | None = None) -> None:
        """Account for a datum; `target` is the datum that its affinity names, if it names one."""
        self._lines[uid] = _Line(attribute, target, self.grid.clock.micros, short_since=self.grid.clock.micros)
        if target is not None:
            self._followers[target].append(uid)
        elif attribute.replicas == EVERYWHERE:
            self._wide.append(uid)
        self.grid.changed[uid] = None

    def hosts_moved(self) -> None:
        """Hosts came or went: who wants all of them wants another number."""
        self._matching.clear()
        self.grid.changed.update(dict.fromkeys(self._wide))

    def observe(self) -> None:
        """Account for what changed up to now."""
        changed, self.grid.changed = self.grid.changed, {}
        followers = [follower for target in changed for follower in self._followers.get(target, ())]
        for uid in [*changed, *followers]:
            if (line := self._lines.get(uid)) is not None:
                self._book(uid, line)

    def _book(self, uid: Uid, line: _Line) -> None:
        now = self.grid.clock.micros
        self._carry(line, now)
        line.up = len(self._up(uid))
        line.wanted = self._wanted(line) if uid in self.grid.living else 0
        if line.up >= line.wanted:
            if line.short_since is not None and (line.attribute.fault_tolerance or not line.whole_once):
                (self.repairs if line.whole_once else self.placing).append((now - line.short_since) / MICRO)
            line.short_since, line.whole_once = None, True
        elif line.short_since is None:
            line.short_since = now

    @staticmethod
    def _carry(line: _Line, now: int) -> None:
        hours, line.since = (now - line.since) / MICRO / 3600, now
        line.deficit += max(0, line.wanted - line.up) * hours
        line.surplus += max(0, line.up - line.wanted) * hours

    def _up(self, uid: Uid) -> list[HostId]:
        holders = self.grid.holders.get(uid, {})
        return [host for host in holders if self.grid.hosts[host].online and not self.grid.hosts[host].shut_out]

    def _wanted(self, line: _Line) -> int:
        replicas = line.attribute.replicas
        if line.target is not None:
            places = sum(self._matches(host, line.attribute) for host in self._up(line.target))
            return places if replicas == EVERYWHERE else min(replicas, places)
        return self._all_matching(line.attribute) if replicas == EVERYWHERE else replicas

    def _all_matching(self, attribute: Attribute) -> int:
        text = attribute.requires.text
        if text not in self._matching:
            up = (host for host, known in self.grid.hosts.items() if known.online)
            self._matching[text] = sum(self._matches(host, attribute) for host in up)
        return self._matching[text]

    def _matches(self, host: HostId, attribute: Attribute) -> bool:
        return attribute.requires.stays(self.grid.hosts[host].report().to_facts(host)).matches

    # Results ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """The run is over: account for the time up to now."""
        self.observe()
        for line in self._lines.values():
            self._carry(line, self.grid.clock.micros)

    @property
    def deficit(self) -> float:
        """Copy-hours that were missing."""
        return sum(line.deficit for line in self._lines.values())

    @property
    def surplus(self) -> float:
        """Copy-hours beyond those wanted."""
        return sum(line.surplus for line in self._lines.values())

    @property
    def short(self) -> Counter[str]:
        """How many data are short of copies now: those that never had all, and those that had and are repaired."""
        lines = [line for line in self._lines.values() if line.short_since is not None]
        lines = [line for line in lines if line.attribute.fault_tolerance or not line.whole_once]
        return Counter("repair" if line.whole_once else "placing" for line in lines)

    def least(self, sizes: Iterable[tuple[Uid, int]]) -> int:
        """Bytes that had to be moved in any case: every copy that is wanted now, once."""
        return sum(self._lines[uid].wanted * size for uid, size in sizes)


def quantile(values: Iterable[float], part: float) -> float:
    """The value below which so great a part of `values` lies, by the nearest rank; 0 if there are none."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * round(part * 100) // 100) - 1)] if ranked else 0.0
