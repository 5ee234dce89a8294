"""How simulated hosts and the service talk: what is said, what comes back, and what the network does to it.

Owns the way of words, and notes when an order made the last copy go. The grid, which has the hosts and the time, is
built on it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from typing import Final

from bitdew.core.errors import BitDewError
from bitdew.core.ids import HostId, Uid
from bitdew.core.orders import OrderKind
from bitdew.wire.models import SyncReply

from .audit import Audit
from .clock import VirtualClock
from .host import SimulatedHost
from .network import Faults
from .possessions import Said
from .service import REPOSITORY, SimulatedService

TOGETHER: Final = 64
"""Hosts that talk to the service at once."""
ASKED_AGAIN: Final = 5.0
"""Seconds after which a host whose reply was lost asks again."""
LATE: Final = 30.0
"""Seconds that a reply may be late, at most."""


class Talks:
    """The grid's part that carries words. What it needs of the rest is named here."""

    clock: VirtualClock
    chance: random.Random
    faults: Faults
    audit: Audit
    service: SimulatedService
    hosts: dict[HostId, SimulatedHost]
    living: set[Uid]
    _talking: dict[HostId, None]
    _misfortunes: dict[HostId, int]

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something done in so many seconds of virtual time."""
        raise NotImplementedError

    def talk(self, host: SimulatedHost) -> None:
        """The host has something to say, or to hear."""
        raise NotImplementedError

    def noticed(self, host: SimulatedHost) -> None:
        """Something changed on the host's disk."""
        raise NotImplementedError

    def kept(self, uid: Uid) -> Collection[HostId]:
        """The hosts that have a verified copy of a datum and may yet show it."""
        raise NotImplementedError

    def _talker(self, host: SimulatedHost) -> Callable[[], None]:
        raise NotImplementedError

    async def _converse(self) -> None:
        """Let those who have something to say, or to hear, talk to the service."""
        talking, self._talking = self._talking, {}
        hosts = [self.hosts[uid] for uid in talking]
        hosts = [host for host in hosts if host.online and not host.shut_out]
        for batch in (hosts[first : first + TOGETHER] for first in range(0, len(hosts), TOGETHER)):
            said = [host.say() for host in batch]
            replies = await asyncio.gather(*map(self._ask, batch, said))
            for host, words, reply in zip(batch, said, replies, strict=True):
                if reply is not None:
                    self._deliver(host, words, reply)

    async def _ask(self, host: SimulatedHost, said: Said) -> SyncReply | None:
        try:
            return await self.service.sync.sync(host.host, said.request, REPOSITORY)
        except BitDewError as fault:
            if fault.key != "host.banned":
                raise
            host.shut_out = True
            self._misfortunes[host.host] = self.clock.micros
            return None

    def _deliver(self, host: SimulatedHost, said: Said, reply: SyncReply) -> None:
        if self.faults.lost(self.chance):
            self.later(ASKED_AGAIN, self._talker(host))
            return
        self._take(host, said, reply)
        if self.faults.comes_again(self.chance):
            self._take(host, None, reply)
        if self.faults.comes_late(self.chance):
            boot = host.boot
            self.later(self.chance.uniform(0, LATE), lambda: self._take_late(host, boot, reply))

    def _take_late(self, host: SimulatedHost, boot: str, reply: SyncReply) -> None:
        if host.online and host.boot == boot:
            self._take(host, None, reply)

    def _take(self, host: SimulatedHost, said: Said | None, reply: SyncReply) -> None:
        dropped = [o for o in reply.orders if o.kind is OrderKind.DROP and host.holds(Uid(o.subject))]
        if said is not None:
            host.hear(said, reply)
        else:
            host.take(reply)
        self.noticed(host)
        for order in dropped:
            if not host.holds(Uid(order.subject)):
                self._check_not_lost(host, Uid(order.subject), order.generation)
        if host.gossip:
            self.talk(host)

    def _check_not_lost(self, host: SimulatedHost, uid: Uid, generation: int) -> None:
        """A verified copy was dropped by order: unless something befell the others meanwhile, one is left."""
        if uid not in self.living or self.kept(uid):
            return
        others = self.audit.relied_on.get((uid, host.host, generation), frozenset())
        if not any(other in self._misfortunes for other in others):
            self.audit.blame("data alive was lost by orders", f"{uid}, the last copy of which was at {host.name}")
