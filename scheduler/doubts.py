"""Copies under suspicion: a peer got wrong pieces from a host, which is to read its copy and see.

Owns whom to tell, and for how long. It must not judge: the host does, by reading. A doubt is kept in memory and said in
each reply for a while, so that a lost reply costs nothing; one that is lost with its service costs time, since hosts
read back what they hold anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import structlog

from bitdew.core.errors import BitDewError
from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot, HostId
from bitdew.core.states import PlacementState
from bitdew.wire import limits
from bitdew.wire.models import PlacementReport

from ..catalog.feed import Told
from .known import Known

log = structlog.get_logger(__name__)
Doubt = tuple[HostId, ContentRoot]
SECONDS: Final = 60.0
"""How long a doubt is said."""
BESIDE: Final = 8
"""Hosts at one address that are all doubted where a connection does not tell which of them it was."""


class Doubts:
    """Who is to read which copy."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._since: defaultdict[HostId, dict[ContentRoot, float]] = defaultdict(dict)
        self._fresh: set[HostId] = set()

    async def raise_from(self, reporter: HostId, reports: Iterable[PlacementReport]) -> None:
        """Doubt the copies from which `reporter` got wrong pieces, as far as it says from whom."""
        doubted: set[Doubt] = set()
        for report in reports:
            if report.reason is not None and report.reason.key == "swarm.corrupt":
                root = ContentRoot(report.root)
                doubted |= {(host, root) for host in await self._holders(root, report.reason.fields, reporter)}
        if doubted:
            names = sorted({self._known.hosts.name(host) for host, _root in doubted})
            log.warning("wrong pieces came from hosts, which are to look", hosts=names)
            self.hear(doubted)
            self._known.tell(Told(doubted=tuple(sorted(doubted))), stored=False)

    def hear(self, doubted: Collection[Doubt]) -> None:
        """Say these doubts to their hosts, should they sync here."""
        now = self._known.clock.monotonic()
        for host, root in doubted:
            known = self._since[host]
            if len(known) < limits.DOUBTS:
                known[root] = now
                self._fresh.add(host)
                self._known.changes.bump(host)

    def is_waiting(self, host: HostId) -> bool:
        """Whether there is a doubt that `host` was not told yet."""
        return host in self._fresh

    def of(self, host: HostId) -> list[str]:
        """What `host` is to read, told again for a while."""
        if host not in self._since:
            return []
        now = self._known.clock.monotonic()
        self._fresh.discard(host)
        kept = {root: since for root, since in self._since[host].items() if now - since < SECONDS}
        if kept:
            self._since[host] = kept
        else:
            del self._since[host]
        return [str(root) for root in kept]

    async def _holders(self, root: ContentRoot, fields: Mapping[str, object], reporter: HostId) -> set[HostId]:
        """Who holds the content of those that the report means: who listens there, or else those at that address."""
        try:
            peer = Endpoint.parse(str(fields.get("peer", "")))
        except BitDewError:
            return set()
        there = {host: where for host in self._known.hosts.records() if (where := self._known.hosts.endpoint(host))}
        meant = [host for host, where in there.items() if where == peer and host != reporter]
        if not meant:
            meant = [host for host, where in there.items() if where.host == peer.host and host != reporter][:BESIDE]
        uids = [datum.data.uid for datum in await self._known.data.of_root(root)] if meant else []
        placed = await self._known.store.placements_at([(uid, host) for uid in uids for host in meant]) if uids else {}
        return {host for (_uid, host), placement in placed.items() if placement.state is PlacementState.HELD}
