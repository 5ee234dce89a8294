"""The conversation with the service: orders come in by a long poll, reports go out as things change.

Owns what is confirmed and what is not. Two loops: the poll waits at the service and carries nothing, so that an order
arrives at once; reports go out one after another, so that the service never learns an older state after a newer one.
Both hand the replies to one place. What a lost reply would have said comes again: an order is new until the service
hears its generation from us, a change is told until the service answered 200. It must not decide what an order means.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError
from bitdew.core.orders import OrderKind
from bitdew.wire import limits
from bitdew.wire.models import SyncReply, SyncRequest

from .events import EventKind
from .link import can_wait, is_final, patiently

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bitdew.core.clock import Clock
    from bitdew.wire.models import HostReport, MachineReport, Order

    from .console import ConsolePart
    from .entries import Recollection
    from .errands import Errands
    from .events import Announcer
    from .jobs.jobs import Jobs
    from .journal import Journal
    from .link import ServiceLink
    from .machines import Machines
    from .outbox import Outbox
    from .placements import Placements

log = structlog.get_logger(__name__)
_T = TypeVar("_T")

PERIOD: Final = 20.0
"""Seconds that a poll is held open, until the service says otherwise."""
REPLY_GRACE: Final = 10.0
"""Seconds that a reply may take beyond the time that it may be held open."""
PROGRESS_SECONDS: Final = 0.5
"""How often figures alone are reported."""
TOGETHER_SECONDS: Final = 0.02
"""What changes within this time is reported together."""
SHORTEST_POLL: Final = 0.2
"""A service that answers a poll with nothing sooner than this is asked again only after it."""
CONSOLE_ROOM: Final = 256 * 1024
"""Bytes of all consoles in one report: escaped six-fold at worst, they fit into a body."""
LAST_WORD_SECONDS: Final = 2.0


class Sync:
    """One host's conversation with its service."""

    def __init__(
        self,
        *,
        boot: str,
        link: ServiceLink,
        journal: Journal,
        recalled: Recollection,
        placements: Placements,
        machines: Machines,
        errands: Errands,
        jobs: Jobs,
        outbox: Outbox,
        host: Callable[[], Awaitable[HostReport]],
        clock: Clock,
        announcer: Announcer,
        has_expired: Callable[[], bool],
        doubt: Callable[[str], None],
    ) -> None:
        """`host` makes the host's report as it is now; `recalled` is what the journal had at the start.

        `has_expired` says whether this host's own certificate has ended. `doubt` is told each content of which a peer
        got wrong pieces from here.
        """
        self._doubt = doubt
        self._has_expired = has_expired
        self.generation = recalled.generation
        self._last = dict(recalled.generations)
        self._boot = boot
        self._link = link
        self._journal = journal
        self._placements = placements
        self._machines = machines
        self._errands = errands
        self._jobs = jobs
        self._outbox = outbox
        self._host = host
        self._clock = clock
        self._announcer = announcer
        self._period = PERIOD
        self._full = True
        self._told_host: HostReport | None = None
        self._taking = asyncio.Lock()
        self._reached: bool | None = None

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Tell everything once, then leave two tasks in `tasks` that listen and report until cancelled.

        The tasks stand beside those that orders begin, in one group: where that group ends, none of them takes a
        further step.

        Raises:
            BitDewError: here, or in one of the tasks, what makes further calls useless: `certificate.revoked`,
                `certificate.role`, `host.banned`; `certificate.expired`, if this host's own has ended.
        """
        await self._patiently(self.report)
        tasks.create_task(self._listen(), name="listen")
        tasks.create_task(self._tell(), name="tell")

    async def last_word(self) -> None:
        """Tell how everything ended, in `LAST_WORD_SECONDS` at most; what can't be told is told at the next start."""
        if not self._reached:
            return
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                while self._outbox.placements.latest or self._outbox.machines.latest:
                    await self.report(taking_orders=False)
        except (TimeoutError, BitDewError) as fault:
            log.info("the service was not told how everything ended", why=str(fault))

    # The loops

    async def _listen(self) -> None:
        while True:
            began = self._clock.monotonic()
            fresh = await self._patiently(self._poll)
            spent = self._clock.monotonic() - began
            if not fresh and spent < min(SHORTEST_POLL, self._period):
                await self._clock.sleep(SHORTEST_POLL - spent)

    async def _poll(self) -> int:
        wait = min(self._period, limits.LONGEST_POLL)
        return await self._take(await self._exchange(self._request(wait)))

    async def _tell(self) -> None:
        outbox, told = self._outbox, self._clock.monotonic()
        while True:
            await outbox.waiting.wait()
            left = told + PROGRESS_SECONDS - self._clock.monotonic()
            if not outbox.urgent.is_set() and left > 0:
                await wait_at_most(self._clock, left, outbox.urgent.wait())
            await self._clock.sleep(TOGETHER_SECONDS)
            outbox.waiting.clear()
            outbox.urgent.clear()
            told = self._clock.monotonic()
            await self._patiently(self.report)

    # One exchange

    async def report(self, *, taking_orders: bool = True) -> None:
        """Tell what changed since the service last confirmed, or everything if it asked for that.

        Raises:
            BitDewError: what the service said, or `service.unreachable`. Nothing is confirmed then.
        """
        full, outbox = self._full, self._outbox
        if full and not self._fits():
            # What a full report leaves out counts as gone: so many are told in parts, none of them called full.
            full = self._full = False
            self._told_host = None
            for uid in self._placements.entries:
                outbox.mark_placement(uid, urgent=True)
            for uid in self._machines.machines:
                outbox.mark_machine(uid, urgent=True)
        subjects = set(outbox.placements.latest) | (set(self._placements.entries) if full else set())
        told = _numbers(outbox.placements.latest, sorted(subjects)[: limits.PLACEMENTS])
        placements = [r for r in map(self._placements.report, told) if r is not None]
        subjects = set(outbox.machines.latest) | (set(self._machines.machines) if full else set())
        told_machines = _numbers(outbox.machines.latest, sorted(subjects)[: limits.MACHINES])
        machines = await self._machine_reports(told_machines)
        host = await self._host()  # last: what a drop in this report freed is no more used in it
        request = self._request(0).model_copy(
            update={
                "full": full,
                "host": host if full or host != self._told_host else None,
                "placements": placements,
                "machines": [report for report, _ in machines],
            }
        )
        reply = await self._exchange(request)
        if full:
            self._full = False
        self._told_host = host
        outbox.placements.confirm(told)
        outbox.machines.confirm(told_machines)
        for placement in placements:
            await self._placements.confirmed(placement)
        for machine, part in machines:
            await self._machines.confirmed(machine, part)
        if taking_orders:
            await self._take(reply)
        if outbox.placements.latest or outbox.machines.latest:
            outbox.waiting.set()

    def _fits(self) -> bool:
        """Whether one report can say everything."""
        placements = self._placements.entries.keys() | self._outbox.placements.latest.keys()
        machines = self._machines.machines.keys() | self._outbox.machines.latest.keys()
        return len(placements) <= limits.PLACEMENTS and len(machines) <= limits.MACHINES

    async def _machine_reports(self, subjects: dict[str, int]) -> list[tuple[MachineReport, ConsolePart | None]]:
        room, found = CONSOLE_ROOM, []
        for uid in subjects:
            made = await self._machines.report(uid, max(room, 1))
            if made is None:
                continue
            report, part = made
            if part is not None:
                room -= len(part.text.encode())
            found.append((report, part))
        return found

    def _request(self, wait: float) -> SyncRequest:
        return SyncRequest(boot=self._boot, generation=self.generation, wait=wait)

    async def _exchange(self, request: SyncRequest) -> SyncReply:
        try:
            seconds = request.wait + REPLY_GRACE
            reply = await self._link.call("POST", "/v1/sync", SyncReply, body=request, seconds=seconds)
        except BitDewError as fault:
            if self._reached is not False and not self._is_over(fault):
                self._reached = False
                self._announcer.tell(EventKind.SERVICE_LOST, self._link.url, str(fault), key=fault.key)
            raise
        if not self._reached:
            if self._reached is False:
                self._outbox.wake()  # the way to the service may be another one now, and so our address
            self._reached = True
            self._announcer.tell(EventKind.JOINED, self._link.url, f"in touch with {self._link.url}")
        return reply

    async def _take(self, reply: SyncReply) -> int:
        """Accept the orders of `reply` and begin to carry them out; how many were new."""
        async with self._taking:
            self._period = min(max(reply.period, 1.0), limits.LONGEST_POLL)
            fresh: dict[str, Order] = {}
            for order in sorted(reply.orders, key=lambda o: o.generation):
                if order.generation > self._last.get(order.subject, -1):
                    fresh[order.subject] = order
                else:
                    self._tell_again(order)
            generation = max([self.generation, reply.generation, *(o.generation for o in reply.orders)])
            if fresh or generation > self.generation:
                await self._journal.accept(list(fresh.values()), generation)
                self.generation = generation
                self._outbox.wake()
            for order in fresh.values():
                self._last[order.subject] = order.generation
                await self._carry_out(order)
        for root in reply.doubted:
            self._doubt(root)
        for call in reply.calls:
            self._placements.call(call.root, call.peer)
        if reply.full and not self._full:
            self._full = True
            self._outbox.wake()
        return len(fresh)

    async def _carry_out(self, order: Order) -> None:
        text = f"ordered to {order.kind} {order.subject[:8]}: {order.cause}"
        self._announcer.tell(EventKind.ORDER, order.subject, text, order=order.uid, order_kind=str(order.kind))
        try:
            if order.kind in {OrderKind.PLACE, OrderKind.DROP}:
                await self._placements.apply(order)
            elif order.kind is OrderKind.ERRAND:
                self._errands.apply(order)
            elif order.kind in {OrderKind.RUN, OrderKind.CANCEL}:
                await self._jobs.apply(order)
            else:
                await self._machines.apply(order)
        except BitDewError:
            log.exception("an order could not be begun", order=order.uid, subject=order.subject)

    def _tell_again(self, order: Order) -> None:
        """The service does not know yet that `order` was received: tell where its subject stands."""
        if order.kind in {OrderKind.PLACE, OrderKind.DROP}:
            self._outbox.mark_placement(order.subject, urgent=True)
        elif order.kind in {OrderKind.LAUNCH, OrderKind.HALT}:  # what came of others is told on ways of their own
            self._outbox.mark_machine(order.subject, urgent=True)

    async def _patiently(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """As `patiently`; whatever the service says that is not final is waited out."""
        return await patiently(call, on=self._may_wait)

    def _may_wait(self, fault: BaseException) -> bool:
        return can_wait(fault) and not (isinstance(fault, BitDewError) and self._is_over(fault))

    def _is_over(self, fault: BitDewError) -> bool:
        return is_final(fault) or (fault.key == "certificate.expired" and self._has_expired())


def _numbers(latest: dict[str, int], subjects: list[str]) -> dict[str, int]:
    """Each subject with the number of its latest change; 0 if it has none."""
    return {subject: latest.get(subject, 0) for subject in subjects}
