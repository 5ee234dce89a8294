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
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def version(self, topic: str) -> int:
        """How often `topic` changed since the service started, and one."""
        return self._versions[topic] + 1

    def bump(self, topic: str) -> None:
        """`topic` changed."""
        self._versions[topic] += 1
        for event in self._waiting.pop(topic, ()):
            event.set()

    async def wait(self, topic: str, since: int, seconds: float) -> bool:
        """Return once `topic` is past version `since`, or after `seconds`; whether it is."""
        if self.version(topic) > since:
            return True
        if seconds <= 0:
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

    def release(self) -> None:
        """Wake everyone: the service stops."""
        for topic in list(self._waiting):
            self.bump(topic)
