"""What is fetched from hosts now: a host that keeps a copy away from its swarm asks whether somebody wants it.

Owns the answer. Hosts that fetch are known by their placements, which are stored; who has none, the repository that
mends itself or a person who gets a datum, is remembered for a while, in memory. Forgetting costs a fetch some time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bitdew.core.ids import ContentRoot, HostId
from bitdew.wire import limits
from bitdew.wire.models import SoughtReply

from ..catalog.feed import Told
from .calls import Calls
from .known import Known

SECONDS: Final = 60.0
"""How long a content is sought after somebody said so."""
MOST: Final = 10_000
"""Contents that are remembered at a time: whoever asks for more has to wait."""


class Sought:
    """Which contents hosts are asked for."""

    def __init__(self, known: Known, calls: Calls) -> None:
        """`calls` has holders join their swarms at once, rather than when they ask."""
        self._known = known
        self._calls = calls
        self._until: dict[ContentRoot, float] = {}

    async def seek(self, root: ContentRoot) -> None:
        """Somebody who has no placement fetches `root` from hosts, or still does."""
        self.hear([root])
        self._known.tell(Told(sought=(root,)), stored=False)
        await self._calls.seek(root)

    def hear(self, roots: Iterable[ContentRoot]) -> None:
        """As `seek`, said to another process."""
        now = self._known.clock.monotonic()
        for root in roots:
            self._until.pop(root, None)  # the dictionary is in the order of time
            self._until[root] = now + SECONDS
        while self._until and (len(self._until) > MOST or self._until[next(iter(self._until))] <= now):
            del self._until[next(iter(self._until))]

    async def at(self, host: HostId) -> SoughtReply:
        """The contents that `host` holds and somebody else fetches now, as many as a reply may name."""
        self.hear(())
        roots = await self._known.store.sought_at(host, list(self._until), limits.SOUGHT)
        return SoughtReply(roots=[str(root) for root in roots])
