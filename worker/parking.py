"""Which held copies are members of their swarms, and which are parked: verified on the disk, and in no session.

A member costs some 40 KiB of memory, most of it for TLS, whether anybody asks for it or not. So a host that holds
thousands of data keeps a bounded number of idle members, and parks the others. Owns who is parked and who is woken;
leaving and joining are the copy's own steps.

The service calls a host for what another one begins to fetch: the copy joins its swarm, and dials that host. Where no
call came, a peer that comes for a parked copy is refused by the session, which can't tell for what it came, and comes
again within seconds. It is a knock all the same: the service is asked what others fetch of what is held here, and that
is woken. If no service answers, nobody knows, and the parked copies are woken in turns, each of them for longer than a
peer waits between two attempts. Nothing is parked without the service's word that nobody fetches it, so that a swarm
under way stays as it is when the service is gone.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError
from bitdew.wire.models import SoughtReply

if TYPE_CHECKING:
    from bitdew.core.host import Endpoint

    from .surroundings import Surroundings

log = structlog.get_logger(__name__)

MOST_IDLE: Final = 256
"""Members that send nothing and that nobody seeks, at most; some more while it is being seen to.

Those that nobody is connected to are parked first. A connection on which nothing moves lasts for a minute, and does not
keep others' memory for so long: whoever needs more of it says so to the service.
"""
TOGETHER: Final = 32
"""So many beyond are parked together: each time, the service is asked once."""
AGAIN_SECONDS: Final = 30.0
"""Pause after which it is tried again where too many members could not be parked."""
ASK_SECONDS: Final = 1.0
"""Pause after each question, so that many knocks make one. It doubles while the answers wake nothing, up to"""
LONGEST_ASK: Final = 10.0
TURN: Final = 256
"""Parked copies that are woken together where no service answers."""
TURN_SECONDS: Final = 40.0
"""How long: a peer dials again after 32 seconds at most."""
SETTLING_SECONDS: Final = 5.0
"""The part of a turn in which its copies enter their swarms: knocks in it say nothing about the turn."""


class Parkable(Protocol):
    """A held copy, as far as this concerns it."""

    root: str
    parked: bool

    @property
    def visited(self) -> bool:
        """Whether a peer is connected."""

    @property
    def gives(self) -> bool:
        """Whether a peer was sent something lately."""

    def park(self, parked: bool, caller: Endpoint | None = None) -> None:
        """Leave the swarm soon, or join it again, and dial `caller`."""


class Parking:
    """The held copies of one host, each a member or parked."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._members: dict[str, Parkable] = {}  # whoever was not visited for longest comes first
        self._parked: dict[str, Parkable] = {}
        self._stirred = asyncio.Event()
        self._knocked = False
        self._pause = ASK_SECONDS
        around.swarm.on_knock = self.knock

    @property
    def parked(self) -> frozenset[str]:
        """The contents that are parked now."""
        return frozenset(self._parked)

    def knock(self) -> None:
        """A peer came for something that is in no swarm here."""
        self._knocked = True
        if self._parked:
            self._stirred.set()

    def admit(self, copy: Parkable) -> bool:
        """Count `copy`, which was verified by an earlier worker, as a member; False if it is to be parked at once."""
        if len(self._members) >= MOST_IDLE and not self._around.moved:
            return False  # at another port nobody would find us: this host has to dial
        self._members[copy.root] = copy
        return True

    def take(self, copy: Parkable) -> None:
        """`copy` is held."""
        (self._parked if copy.parked else self._members)[copy.root] = copy
        if self._surplus > TOGETHER:
            self._stirred.set()

    def release(self, root: str) -> None:
        """The copy of `root` is held no more."""
        self._members.pop(root, None)
        self._parked.pop(root, None)

    def call(self, root: str, caller: Endpoint | None) -> None:
        """Somebody, who listens at `caller`, has begun to fetch `root`: if it is parked it joins, and dials there."""
        copy = self._parked.get(root)
        if copy is not None:
            self._wake(copy, caller)

    async def run(self) -> None:
        """Park and wake, until cancelled. What nobody comes for costs no time at all."""
        while True:
            self._stirred.clear()
            if self._knocked and self._parked:
                await self._answer()
            if self._surplus > TOGETHER:
                await self._park_surplus()
            if self._surplus > TOGETHER:
                await wait_at_most(self._around.clock, AGAIN_SECONDS, self._stirred.wait())
            elif not (self._knocked and self._parked):
                await self._stirred.wait()

    # How it is done

    @property
    def _surplus(self) -> int:
        return len(self._members) - MOST_IDLE

    async def _park_surplus(self) -> None:
        sought = await self._ask()
        if sought is None:
            return
        for unless in (_is_visited, _gives):
            for root, copy in list(self._members.items()):
                if self._surplus <= 0:
                    return
                if root in sought or unless(copy):
                    self._members[root] = self._members.pop(root)
                else:
                    self._park(copy)

    async def _answer(self) -> None:
        """Wake what somebody came for."""
        self._knocked = False
        sought = await self._ask()
        if sought is None:
            await self._wake_in_turns()
            return
        woken = self._wake_those(sought)
        self._pause = ASK_SECONDS if woken else min(2 * self._pause, LONGEST_ASK)
        await self._around.clock.sleep(self._pause)

    async def _wake_in_turns(self) -> None:
        """Have all parked copies in their swarms for a while, one turn after another, as long as anybody knocks."""
        log.info("a peer came for what is parked, and no service says what it wants", parked=len(self._parked))
        waiting = list(reversed(self._parked))
        while turn := [self._parked[root] for root in islice(waiting, TURN) if root in self._parked]:
            del waiting[:TURN]
            for copy in turn:
                self._wake(copy)
            await self._around.clock.sleep(SETTLING_SECONDS)
            self._knocked = False
            await self._around.clock.sleep(TURN_SECONDS - SETTLING_SECONDS)
            for copy in turn:
                if copy.root in self._members and not copy.visited:
                    self._park(copy)
            if not self._knocked:
                return
            if (sought := await self._ask()) is not None:
                self._knocked = False
                self._wake_those(sought)
                return

    def _wake_those(self, sought: set[str]) -> int:
        found = [copy for root, copy in self._parked.items() if root in sought]
        for copy in found:
            self._wake(copy)
        return len(found)

    def _park(self, copy: Parkable) -> None:
        self._parked[copy.root] = self._members.pop(copy.root)
        copy.park(True)

    def _wake(self, copy: Parkable, caller: Endpoint | None = None) -> None:
        self._members[copy.root] = self._parked.pop(copy.root)
        copy.park(False, caller)
        if self._surplus > TOGETHER:
            self._stirred.set()

    async def _ask(self) -> set[str] | None:
        """What others fetch of what is held here; None if no service says so."""
        try:
            reply = await self._around.link.call("GET", "/v1/sought", SoughtReply, seconds=10.0)
        except BitDewError as fault:
            log.info("the service does not say what is sought", key=fault.key, why=str(fault))
            return None
        return set(reply.roots)


def _is_visited(copy: Parkable) -> bool:
    return copy.visited


def _gives(copy: Parkable) -> bool:
    return copy.gives
