"""The links: how fast copies arrive.

Owns the bytes on their way. The model is coarse, for it only has to give transfers a length. Links are shared evenly:
a host's by what it fetches, the repository's by the data that are fetched. In a swarm each of n fetchers then gets at
most what all sources send, and at most the n-th part of what sources and fetchers send together: the fluid bounds of
R. Kumar, K. W. Ross, "Peer-Assisted File Distribution: The Minimum Distribution Time", HotWeb 2006.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import INTENDED

from .clock import MICRO
from .host import SimulatedHost
from .possessions import MBIT, Copy
from .repository import SimulatedRepository

REPOSITORY_UP: Final = 1000 * MBIT


class Links:
    """Moves the bytes of all copies.

    Attributes:
        moved: Bytes that arrived, in all.
        fetched: The same by datum.
    """

    def __init__(self, hosts: Mapping[HostId, SimulatedHost], repository: SimulatedRepository) -> None:
        self._hosts = hosts
        self._repository = repository
        self._rates: dict[tuple[HostId, Uid], float] = {}
        self._at = 0
        self.moved = 0.0
        self.fetched: dict[Uid, float] = {}

    def advance(self, now: int) -> list[tuple[SimulatedHost, Copy]]:
        """Let the bytes arrive that did so by `now`, microseconds; the copies that are whole."""
        seconds, self._at = (now - self._at) / MICRO, now
        whole = []
        for (host_id, uid), rate in self._rates.items():
            host = self._hosts[host_id]
            copy = host.copies.get(uid)
            if copy is None or copy.state not in INTENDED:
                continue
            came = min(rate * seconds, copy.size - copy.done)
            copy.done += came
            self.moved += came
            self.fetched[uid] = self.fetched.get(uid, 0.0) + came
            if rate and copy.size - copy.done < 1:
                whole.append((host, copy))
        return whole

    def share(self, fetching: Collection[tuple[SimulatedHost, Copy]], holders: Mapping[Uid, Iterable[HostId]]) -> None:
        """Share the links anew among the copies on their way; `holders` hold what others fetch."""
        going = [(host, copy) for host, copy in fetching if host.online and not host.stalled]
        at_host: Counter[HostId] = Counter(host.host for host, _ in going)
        fetchers: Counter[Uid] = Counter(copy.uid for _, copy in going)
        seeded = {copy.uid for _, copy in going if copy.root in self._repository.contents}
        sent: dict[Uid, float] = {}
        for uid in fetchers:
            up = (self._hosts[host].lent.up for host in holders.get(uid, ()) if self._hosts[host].online)
            sent[uid] = sum(up) + (REPOSITORY_UP / len(seeded) if uid in seeded else 0.0)
        passed_on = dict.fromkeys(fetchers, 0.0)
        for host, copy in going:
            passed_on[copy.uid] += host.lent.up / at_host[host.host]
        self._rates = {}
        for host, copy in going:
            together = (sent[copy.uid] + passed_on[copy.uid]) / fetchers[copy.uid]
            self._rates[host.host, copy.uid] = min(host.lent.down / at_host[host.host], sent[copy.uid], together)

    def next_arrival(self) -> int | None:
        """When the next copy will be whole, microseconds, if nothing changes until then."""
        soonest = None
        for (host_id, uid), rate in self._rates.items():
            copy = self._hosts[host_id].copies.get(uid)
            if rate <= 0 or copy is None or copy.state not in INTENDED:
                continue
            left = (copy.size - copy.done) / rate
            soonest = left if soonest is None else min(soonest, left)
        return None if soonest is None else self._at + int(soonest * MICRO) + 1
