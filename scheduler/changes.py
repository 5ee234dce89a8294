"""Who waits for what: versions per topic, so that a long poll returns the moment something changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from bitdew.clock import wait_at_most
from bitdew.core.clock import Clock


class Changes:
    """Counts the changes of topics (a datum's uid, a host's, a machine's) and wakes whoever waits for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Versions begin at the time of day, so that one from before a restart is always past.
        self._first = int(clock.now().timestamp() * 1000)
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._ended = False

    def version(self, topic: str) -> int:
        """A number that grows with every change of `topic`, also over a restart of the service."""
        return self._first + self._versions[topic]

    def bump(self, topic: str) -> None:
        """`topic` changed."""
        self._versions[topic] += 1
        for event in self._waiting.pop(topic, ()):
            event.set()

    async def wait(self, topic: str, since: int, seconds: float) -> bool:
        """Return once `topic` is past version `since`, or after `seconds`; whether it is."""
        if self.version(topic) > since:
            return True
        if seconds <= 0 or self._ended:
            return False
        event = asyncio.Event()
        self._waiting[topic].add(event)
        try:
            return await wait_at_most(self._clock, seconds, event.wait())
        finally:
            if waiting := self._waiting.get(topic):
                waiting.discard(event)
                if not waiting:
                    del self._waiting[topic]

    def bump_all(self) -> None:
        """Nobody knows what changed: everyone who waits looks again."""
        for topic in list(self._waiting):
            self.bump(topic)

    def release(self) -> None:
        """Wake everyone, and let no one wait any more: the service stops."""
        self._ended = True
        self.bump_all()
