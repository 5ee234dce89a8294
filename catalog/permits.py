"""Permits to take some content over HTTPS though it is to come by swarm: few hosts at a time, in turns.

Owns who has one. A permit is a lease: it lasts while its holder takes bytes, and ends by itself when it does not. So
what a stuck swarm needs is fetched by a few of its hosts, which pass it on; its hosts never come to the repository all
at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bitdew.core.clock import Clock
from bitdew.core.ids import ContentRoot, HostId

AT_ONCE: Final = 2
"""Hosts that have a permit for one content at a time."""
LEASE_SECONDS: Final = 10.0
"""How long a permit lasts after the last byte that was taken with it."""
TURN_SECONDS: Final = 60.0
"""How long a host keeps its permit while others wait for one."""
RETRY_SECONDS: Final = 5.0
"""When to ask again, for those who got none."""
_FORGOTTEN: Final = 4 * RETRY_SECONDS
"""Who waits and does not ask again for so long has no need any more."""


@dataclass(slots=True)
class _Content:
    """`holders` have a permit: since when, and until when. `waiting` asked for one, in that order: when last."""

    holders: dict[HostId, tuple[float, float]] = field(default_factory=dict)
    waiting: dict[HostId, float] = field(default_factory=dict)


class Permits:
    """Who may take what."""

    def __init__(self, clock: Clock, at_once: int = AT_ONCE) -> None:
        self._clock = clock
        self._at_once = at_once
        self._contents: dict[ContentRoot, _Content] = {}

    def ask(self, root: ContentRoot, host: HostId) -> float:
        """0 if `host` has a permit for `root` now, new or still; otherwise in how many seconds it should ask again."""
        now = self._clock.monotonic()
        self._tidy(now)
        content = self._contents.setdefault(root, _Content())
        held = content.holders.get(host)
        if held is not None:
            if now - held[0] < TURN_SECONDS or not content.waiting:
                content.holders[host] = held[0], now + LEASE_SECONDS
                return 0.0
            del content.holders[host]
        content.waiting.setdefault(host, now)
        first = list(content.waiting)[: self._at_once - len(content.holders)]
        if host not in first:
            content.waiting[host] = now
            return RETRY_SECONDS
        del content.waiting[host]
        content.holders[host] = now, now + LEASE_SECONDS
        return 0.0

    def prolong(self, root: ContentRoot, host: HostId) -> bool:
        """`host` takes bytes of `root`; False if its permit has ended meanwhile."""
        now = self._clock.monotonic()
        content = self._contents.get(root)
        held = content.holders.get(host) if content is not None else None
        if content is None or held is None or held[1] <= now:
            return False
        content.holders[host] = held[0], now + LEASE_SECONDS
        return True

    def holders(self, root: ContentRoot) -> set[HostId]:
        """Who has a permit for `root` now."""
        self._tidy(self._clock.monotonic())
        return set(self._contents[root].holders) if root in self._contents else set()

    def _tidy(self, now: float) -> None:
        """Forget permits that ended, and those who wait no more. There are few: a handful for each troubled swarm."""
        for root, content in list(self._contents.items()):
            content.holders = {host: held for host, held in content.holders.items() if held[1] > now}
            content.waiting = {host: asked for host, asked in content.waiting.items() if now - asked < _FORGOTTEN}
            if not content.holders and not content.waiting:
                del self._contents[root]
