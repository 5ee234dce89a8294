"""Holders that are called: another host has begun to fetch by swarm what they hold, and may keep away from its swarm.

Owns who is called, and that a call goes out with the next reply, at once where a poll is held open. The holder joins
its swarm, and dials whoever fetches: so nobody waits until a dial that was refused is tried again. A call is kept in
memory and said once; one that is lost costs a fetch some seconds, since a holder asks what is sought when a peer comes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Final

from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.wire import limits
from bitdew.wire.models import CallView, PlacementReport

from ..catalog.feed import Told
from .known import Known

Call = tuple[HostId, ContentRoot, str]
"""A holder, what it holds, and where whoever fetches it listens; "" if that can't be dialled."""
HOLDERS: Final = 4
"""Holders that are called for one fetch: enough to begin with, however many there are."""
WAITING: Final = 1_000
"""Hosts for which calls wait at a time. Some never ask this process, and what waits for long is of no use."""
REMEMBERED: Final = 10_000
"""Fetches that are remembered at a time, so that each has its holders called once."""


class Calls:
    """What hosts are to join their swarms for."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._begun: dict[tuple[HostId, Uid], None] = {}
        self._calls: defaultdict[HostId, dict[ContentRoot, str]] = defaultdict(dict)

    async def note(self, host: HostId, reports: Iterable[PlacementReport]) -> None:
        """Call the holders of what `host` has begun to fetch by swarm, as it says."""
        roots = dict[Uid, ContentRoot]()
        for report in reports:
            pair = host, Uid(report.uid)
            if not report.seeks:
                self._begun.pop(pair, None)
            elif pair not in self._begun:
                self._begun[pair] = None
                roots[pair[1]] = ContentRoot(report.root)
        while len(self._begun) > REMEMBERED:
            del self._begun[next(iter(self._begun))]
        if roots:
            await self._call(roots, host)

    async def seek(self, root: ContentRoot) -> None:
        """Call holders of `root` for somebody who is no host."""
        data = await self._known.data.of_root(root)
        await self._call({datum.data.uid: root for datum in data}, HostId(""))

    async def _call(self, roots: dict[Uid, ContentRoot], fetching: HostId) -> None:
        where = self._known.hosts.endpoint(fetching) if fetching else None
        found = await self._known.store.peers_of(roots, fetching, HOLDERS)
        calls = [
            (host, roots[uid], str(where or ""))
            for uid, others in found.items()
            for host in [host for host, held in others.items() if held][:HOLDERS]
        ]
        if calls:
            self.hear(calls)
            self._known.tell(Told(calls=tuple(calls)), stored=False)

    def hear(self, calls: Collection[Call]) -> None:
        """Say these to their hosts, should they sync here."""
        for host, root, where in calls:
            waiting = self._calls[host]
            if root in waiting or len(waiting) < limits.CALLS:
                waiting[root] = where
                self._known.changes.bump(host)
        while len(self._calls) > WAITING:
            del self._calls[next(iter(self._calls))]

    def is_waiting(self, host: HostId) -> bool:
        """Whether there is a call that `host` was not told yet."""
        return host in self._calls

    def of(self, host: HostId) -> list[CallView]:
        """What `host` is called for; it is told once."""
        calls = self._calls.pop(host, {})
        return [CallView(root=str(root), peer=where or None) for root, where in calls.items()]
