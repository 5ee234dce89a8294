"""A whole grid in virtual time: the real catalog and scheduler, and any number of simulated hosts.

Owns time and what happens in it: instants are visited one after another, and in each everything is done that is due, in
one fixed order, until nothing is left: bytes arrive, hosts talk, silence is judged, the engine plans, orders go out.
There are no tasks that run on their own, so that all of it follows from the seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import INTENDED, MACHINE, MachineState, PlacementState

from ..planner import PlannerSettings
from .audit import Audit, watched
from .clock import MICRO, VirtualClock, micros_of
from .database import SimulatedDatabase, put_empty_database
from .host import SimulatedHost
from .identities import identities_from, uid_from
from .links import Links
from .network import Faults
from .possessions import Copy, Lent
from .repository import SimulatedRepository
from .service import SimulatedService
from .talks import Talks

BOOTING: Final = 20.0
"""Seconds that a machine takes to boot, or to stop."""
REPAIRS_ASKED: Final = MICRO
"""Microseconds between two looks at whether further repairs may begin."""
MOST_TURNS: Final = 2000
"""Turns in one instant after which it is taken for granted that they will never end."""


class SimulatedGrid(Talks):
    """The grid. An async context manager; its database stays in `folder`.

    Attributes:
        clock: Everyone's time.
        chance: Where everything that happens by chance comes from.
        service: The service as it runs now.
        audit: What was found wrong.
        hosts: All hosts that ever were.
        holders: For each datum, the hosts with a verified copy on their disk.
        changed: The data of which copies changed since somebody last looked and emptied it.
        rounds: How often the engine planned.
        planning: Seconds of this machine's processors that it took.
    """

    service: SimulatedService

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 0,
        period: float = 20.0,
        planner: PlannerSettings | None = None,
        faults: Faults | None = None,
        tick: float = 0.0,
    ) -> None:
        """What happens within `tick` seconds happens at its end, if it is more than 0: large grids are faster so."""
        self.clock = VirtualClock()
        self.chance = random.Random(seed)  # noqa: S311 (nothing is kept secret by it)
        self.planner = planner or PlannerSettings()
        self.period = period
        self.faults = faults or Faults()
        self.audit = Audit(self.planner)
        self.repository = SimulatedRepository()
        self.hosts: dict[HostId, SimulatedHost] = {}
        self.holders: dict[Uid, dict[HostId, None]] = {}
        self.changed: dict[Uid, None] = {}
        self.living: set[Uid] = set()
        self.rounds = 0
        self.planning = 0.0
        self.links = Links(self.hosts, self.repository)
        self._path = folder / "simulated.sqlite3"
        self._tick = round(tick * MICRO)
        self._numbers = itertools.count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._judgements: list[int] = []
        self._talking: dict[HostId, None] = {}
        self._fetching: dict[tuple[HostId, Uid], tuple[SimulatedHost, Copy]] = {}
        self._seen: dict[HostId, dict[Uid, PlacementState]] = {}
        self._reported: dict[tuple[HostId, Uid], float] = {}
        self._misfortunes: dict[HostId, int] = {}
        self._stale = False
        self._beating = False
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            exits.enter_context(identities_from(random.Random(self.chance.getrandbits(64))))  # noqa: S311
            await put_empty_database(self._path)
            await self._start_service()
            exits.push_async_callback(self._stop_service)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def _start_service(self) -> None:
        self.service = SimulatedService(
            database=SimulatedDatabase.in_file(self._path),
            store=watched(self.audit),
            repository=self.repository,
            period=self.period,
            planner=self.planner,
            clock=self.clock,
            ending=self._ends,
        )
        self.audit.service = self.service
        await self.service.open()

    async def _stop_service(self) -> None:
        await self.service.close()

    async def restart_service(self) -> None:
        """End the service, and start it anew on what is stored. Hosts find it back within a period."""
        await self._stop_service()
        await self._start_service()
        for host in self.hosts.values():
            if host.online:
                self.later(self.chance.uniform(0, self.period), self._talker(host))
            elif not host.departed:
                self._expect_silence()
        await self._instant()

    async def _ends(self, uid: Uid, because: str) -> None:
        await self.audit.judge_end(uid, because)
        self.ended(uid)

    def ended(self, uid: Uid) -> None:
        """The life of a datum ended."""
        self.living.discard(uid)
        self.changed[uid] = None

    # Hosts --------------------------------------------------------------------------------------------------------

    def join(self, name: str, lent: Lent | None = None) -> SimulatedHost:
        """A new host, which says hello at once."""
        uid = HostId(uid_from(self.chance))
        host = SimulatedHost(uid, name, lent or Lent(), random.Random(self.chance.getrandbits(64)))  # noqa: S311
        self.hosts[uid] = host
        self.talk(host)
        return host

    def fall_silent(self, host: SimulatedHost, *, for_good: bool = False) -> None:
        """It reaches nobody any more, for a while or for good; its disk keeps what it has."""
        self.service.hosts.hear(host.host, host.generation)  # the last that is heard of it
        host.online, host.departed = False, for_good
        if for_good:
            self._misfortunes[host.host] = self.clock.micros
        self._concern(host)
        self._expect_silence()

    def return_(self, host: SimulatedHost, *, rebooted: bool = False, wiped: bool = False) -> None:
        """It is back: as it was, started again, or with an empty disk."""
        if wiped:
            host.wipe()
            self._misfortunes[host.host] = self.clock.micros
        elif rebooted:
            host.reboot()
        host.online, host.departed = True, False
        self.noticed(host)
        self._concern(host)
        host.change()
        self.talk(host)

    def unlucky(self, host: SimulatedHost) -> None:
        """Something befell its disk: what was relied on may be gone."""
        self._misfortunes[host.host] = self.clock.micros
        self.noticed(host)
        self.talk(host)

    def talk(self, host: SimulatedHost) -> None:
        """It has something to say."""
        if host.online and not host.shut_out:
            self._talking[host.host] = None

    def _talker(self, host: SimulatedHost) -> Callable[[], None]:
        return lambda: self.talk(host)

    def noticed(self, host: SimulatedHost) -> None:
        """What is on its disk may have changed."""
        before = self._seen.get(host.host, {})
        after = {uid: copy.state for uid, copy in host.copies.items()}
        for uid in [*after, *(uid for uid in before if uid not in after)]:
            state = after.get(uid)
            key = host.host, uid
            if state in INTENDED:
                self._fetching[key] = host, host.copies[uid]
            if state is before.get(uid):
                continue
            self.changed[uid], self._stale = None, True
            if state is PlacementState.HELD:
                self.holders.setdefault(uid, {})[host.host] = None
            else:
                self.holders.get(uid, {}).pop(host.host, None)
            if state not in INTENDED:
                self._fetching.pop(key, None)
                self._reported.pop(key, None)
        self._seen[host.host] = after
        if any(m.state in {MachineState.PREPARING, MachineState.STOPPING} for m in host.machines.values()):
            self.later(BOOTING, lambda: self._run_machines(host))

    def _concern(self, host: SimulatedHost) -> None:
        """It came or went: so did its copies."""
        self._stale = True
        self.changed.update(dict.fromkeys(host.copies))

    def set_stalled(self, host: SimulatedHost, *, stalled: bool) -> None:
        """It makes no progress any more, or does again."""
        host.stalled, self._stale = stalled, True
        self.noticed(host)

    def _run_machines(self, host: SimulatedHost) -> None:
        if host.online and not host.stalled:
            host.run_machines()
            self.noticed(host)
            self.talk(host)

    # Time ---------------------------------------------------------------------------------------------------------

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have `action` done in so many seconds."""
        at = self.clock.micros + round(seconds * MICRO)
        heapq.heappush(self._events, (at, next(self._numbers), action))

    def _expect_silence(self) -> None:
        """A host fell silent: it is judged when it is suspect, and when it is lost. Between, nothing could change."""
        quarter = round(self.period / 4 * MICRO)
        for periods in (1.5, 3.5):
            at = self.clock.micros + round(self.period * periods * MICRO)
            heapq.heappush(self._judgements, (at // quarter + 1) * quarter)

    async def advance(self, seconds: float, passed: Callable[[float], None] = lambda _seconds: None) -> None:
        """Let so much time pass; `passed` is told the time of the clock now and then."""
        target = self.clock.micros + round(seconds * MICRO)
        await self._instant()
        while (following := self._next()) is not None and following <= target:
            if self._tick:
                following = min(target, -(-following // self._tick) * self._tick)
            self.clock.move_to(following)
            await self._instant()
            passed(self.clock.monotonic())
        self.clock.move_to(target)
        await self._instant()

    def _next(self) -> int | None:
        agenda = self.service.engine.agenda
        wake_at = agenda.wake_at
        instants = [
            self.clock.micros + REPAIRS_ASKED if agenda.held_back else None,
            self._events[0][0] if self._events else None,
            self._judgements[0] if self._judgements else None,
            self.links.next_arrival(),
            micros_of(wake_at) if wake_at is not None else None,
        ]
        return min((at for at in instants if at is not None), default=None)

    async def settle(self) -> None:
        """Do all that is due now."""
        await self._instant()

    async def _instant(self) -> None:
        for host, copy in self.links.advance(self.clock.micros):
            host.arrived(copy.uid)
            self.noticed(host)
            self.talk(host)
        while self._events and self._events[0][0] <= self.clock.micros:
            heapq.heappop(self._events)[2]()
        turns = 0
        while await self._turn():
            turns += 1
            if turns > MOST_TURNS:
                self.audit.blame("the engine and the hosts never rest", f"{turns} turns in one instant")
                break
        self._share_links()

    async def _turn(self) -> bool:
        """Do what is due first; whether there was anything."""
        if self._talking:
            await self._converse()
            return True
        if self._judgements and self._judgements[0] <= self.clock.micros:
            heapq.heappop(self._judgements)
            self._heartbeats()
            await self._converse()
            await self.service.engine.judge_hosts()
            return True
        if self.service.engine.is_due():
            began = time.process_time()
            await self.service.engine.step()
            self.planning += time.process_time() - began
            self.rounds += 1
            self._call()
            return True
        return False

    def _call(self) -> None:
        """Whoever waits for orders hears of them."""
        called, self.service.ears.called = self.service.ears.called, {}
        for uid in called:
            if (host := self.hosts.get(uid)) is not None:
                self.talk(host)

    def _heartbeats(self) -> None:
        """Who has nothing to say is heard once a period; nobody looks at that but when silence is judged."""
        hosts = self.service.hosts
        for host in self.hosts.values():
            if not host.online or host.shut_out:
                continue
            calm = hosts.hear(host.host, host.generation) and hosts.waiting(host.host) <= host.generation
            if not calm:
                self.talk(host)

    def _share_links(self) -> None:
        if self._stale:
            self._stale = False
            self.links.share(self._fetching.values(), self.holders)
        if self._fetching and not self._beating:
            self._beating = True
            beat = round(self.planner.lease.total_seconds() / 4 * MICRO)
            at = (self.clock.micros // beat + 1) * beat
            heapq.heappush(self._events, (at, next(self._numbers), self._tell_progress))

    def _tell_progress(self) -> None:
        self._beating = False
        for (uid, data), (host, copy) in self._fetching.items():
            if host.online and not host.stalled and self._reported.get((uid, data)) != copy.done:
                self._reported[uid, data] = copy.done
                host.mark(data)
                self.talk(host)

    def kept(self, uid: Uid) -> Collection[HostId]:
        """The hosts that have a verified copy of a datum and may yet show it."""
        hosts = (self.hosts[host] for host in self.holders.get(uid, ()))
        return [host.host for host in hosts if not host.departed and not host.shut_out]

    def running(self, data: Uid) -> bool:
        """Whether a machine runs from any copy of a datum."""
        ends = MACHINE.ends()
        machines = (machine for host in self.hosts.values() for machine in host.machines.values())
        return any(machine.data == data and machine.state not in ends for machine in machines)
