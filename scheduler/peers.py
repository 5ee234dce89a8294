"""Which hosts one is told of for some content, and in which order: near ones first.

Owns what near means: the same value of the label `site`; who has no such label is near nobody. Bytes from a near host
cost a local network and nothing else. It reads nothing stored, and chance is handed in.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sortedcontainers import SortedSet

from bitdew.core.ids import HostId

SITE: Final = "site"
"""The label that says where a host stands."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host that has some content, or is to have it.

    Attributes:
        host: Who it is.
        holds: Whether it has a verified copy, and not only an order to fetch one.
        near: Whether it stands at the site of the host that asks.
    """

    host: HostId
    holds: bool
    near: bool


def near_first(candidates: Iterable[Candidate], chance: random.Random) -> list[HostId]:
    """The hosts of `candidates`: near ones first; of these, and of the others, holders first; the rest is chance.

    By chance, so that many who ask are not all sent to the same few.
    """
    drawn = [(not one.near, not one.holds, chance.random(), one.host) for one in candidates]
    return list(dict.fromkeys(host for *_, host in sorted(drawn)))


class Sites:
    """The hosts of each site, in memory."""

    def __init__(self) -> None:
        self._hosts: dict[str, SortedSet[HostId]] = {}
        self._site: dict[HostId, str] = {}

    def put(self, host: HostId, labels: Mapping[str, str]) -> None:
        """`host` has these labels now."""
        site, old = labels.get(SITE, ""), self._site.get(host, "")
        if site == old:
            return
        if old:
            self._hosts[old].discard(host)
            if not self._hosts[old]:
                del self._hosts[old]
        self._site[host] = site
        if site:
            self._hosts.setdefault(site, SortedSet()).add(host)

    def beside(self, host: HostId, most: int) -> list[HostId]:
        """Hosts at the site of `host`, `most` of them at most: those that come next to it on the circle of all ids.

        So at a large site not everybody is told of the same few.
        """
        others = self._hosts.get(self._site.get(host, ""))
        if not others:
            return []
        start = others.bisect_right(host)
        following = [others[(start + step) % len(others)] for step in range(min(most, len(others) - 1))]
        return [other for other in following if other != host]
