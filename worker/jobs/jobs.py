"""The runs on this host, as ordered: run and cancel are carried out here.

Owns which runs there are. How one lives stands in `attempt`. A run's command goes on while the worker is away, for as
long as its lease lasts, and the next worker finds it; one of which no order is known is ended and removed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.core.job import JobsAllowed
from bitdew.core.orders import OrderKind
from bitdew.core.states import RunState
from bitdew.tasks import to_the_end
from bitdew.wire.models import ErrorView, RunReply, RunReport

from ..events import EventKind
from ..link import patiently
from ..room import Claim
from .attempt import Attempt, Premises, remove
from .running import Runner

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bitdew.core.clock import Clock
    from bitdew.wire.models import Order

    from ..activity.leave import Leave
    from ..bandwidth import Bandwidth
    from ..copies import Copies
    from ..events import Announcer
    from ..journal import Journal
    from ..link import ServiceLink
    from ..room import Room
    from ..settings import WorkerSettings
    from ..sharings import Sharings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Surrounding:
    """What the runs of a worker need of its other parts."""

    settings: WorkerSettings
    sharings: Sharings
    leave: Leave
    bandwidth: Bandwidth
    link: ServiceLink
    copies: Copies
    journal: Journal
    clock: Clock
    announcer: Announcer
    room: Room


async def new_jobs(around: Surrounding) -> Jobs:
    """The runs of a worker. On a host that can't keep its owner's files safe from them there are none."""
    settings, sharings = around.settings, around.sharings
    anything = settings.jobs is JobsAllowed.ANYTHING
    runner, folder = Runner(anything=anything, network=anything), settings.home / "jobs"
    await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)
    if not anything and (lacks := (await runner.isolation(folder)).lacks):
        sharings.takes_no_jobs("; ".join(lacks))
    premises = Premises(
        folder=folder,
        home=settings.home,
        runner=runner,
        copies=around.copies,
        link=around.link,
        clock=around.clock,
        leave=around.leave,
        bandwidth=around.bandwidth,
        programs=lambda: sharings.programs,
    )
    jobs = Jobs(premises, around.journal, around.announcer, settings, around.room)
    around.room.jobs = jobs.taken
    return jobs


class Jobs:
    """All runs on this host.

    Attributes:
        attempts: Those that have not ended, by uid.
    """

    def __init__(
        self, premises: Premises, journal: Journal, announcer: Announcer, settings: WorkerSettings, room: Room
    ) -> None:
        """`room` is shared with machines."""
        self.attempts: dict[str, Attempt] = {}
        self._on = premises
        self._journal = journal
        self._announcer = announcer
        self._settings = settings
        self._room = room
        self._tasks: asyncio.TaskGroup | None = None

    async def resume(self, orders: Iterable[Order], tasks: asyncio.TaskGroup) -> None:
        """Go on where the journal says that the worker was, and end what nobody ordered."""
        self._tasks = tasks
        known = list(orders)
        await self._sweep({order.subject for order in known if order.kind is OrderKind.RUN})
        for order in known:
            await self._carry_out(order)

    def lend(self, settings: WorkerSettings) -> None:
        """Take as many jobs as `settings` say from now on. What runs goes on."""
        self._settings = settings

    @property
    def under_way(self) -> int:
        """The runs that go on: those that have ended, or are being ended, are not counted by the service either."""
        return sum(attempt.goes_on for attempt in self.attempts.values())

    def taken(self) -> Claim:
        """What the runs have that go on."""
        caps = [attempt.caps for attempt in self.attempts.values() if attempt.goes_on]
        return Claim(sum(one.memory for one in caps), sum(one.cpus for one in caps))

    def _refusal(self, order: Order) -> str:
        """Why this is not run here, or nothing."""
        settings = self._settings
        if settings.jobs is JobsAllowed.NONE:
            return "its volunteer lends nothing to jobs"
        most = settings.jobs_at_once
        if most and self.under_way >= most:
            return f"{most} jobs run here at once at most"
        return self._room.refuses_job(Claim(order.run.spec.caps.memory, order.run.spec.caps.cpus)) if order.run else ""

    @property
    def needed(self) -> set[str]:
        """The contents that runs read."""
        return {one.root for attempt in self.attempts.values() for one in attempt.inputs}

    @property
    def running(self) -> bool:
        """Whether any command runs, or is about to."""
        return bool(self.attempts)

    async def apply(self, order: Order) -> None:
        """Carry out a run or cancel order that the journal has accepted; or refuse what is more than is lent."""
        fresh = order.kind is OrderKind.RUN and order.subject not in self.attempts
        if fresh and self._tasks is not None and (why := self._refusal(order)):
            fault = error("job.refused", f"Run {order.subject[:8]} was not begun", why=why)
            log.warning("a run was refused", run=order.subject, why=why)
            said = RunReport(state=RunState.FAILED, reason=ErrorView.of(fault))
            self._tasks.create_task(self._confirm(order, said), name=f"refuse {order.subject[:8]}")
            return
        await self._carry_out(order)

    async def _carry_out(self, order: Order) -> None:
        attempt = self.attempts.get(order.subject)
        if order.kind is OrderKind.CANCEL:
            if attempt is not None:
                attempt.order = order
                attempt.cancel()
            elif self._tasks is not None:
                gone = RunReport(state=RunState.CANCELLED)
                self._tasks.create_task(self._confirm(order, gone), name=f"confirm {order.subject[:8]}")
            return
        if attempt is None and order.run is not None and self._tasks is not None:
            attempt = self.attempts[order.subject] = Attempt(self._on, order, order.run)
            self._tasks.create_task(self._live(attempt), name=f"run {order.subject[:8]}")

    async def _live(self, attempt: Attempt) -> None:
        uid = attempt.order.subject
        self._tell(uid, f"run {uid[:8]} begins: {attempt.called}")
        try:
            await attempt.live()
        except BitDewError as fault:
            # The service did not hear how it ended: the order stays, and the next start says it.
            log.warning("a run could not be reported", run=uid, why=str(fault))
            return
        finally:
            self.attempts.pop(uid, None)
        self._tell(uid, f"run {uid[:8]} is over: {attempt.state}")
        await self._journal.forget_run(uid, attempt.order.generation)

    def _tell(self, uid: str, text: str) -> None:
        self._announcer.tell(EventKind.JOB, uid, text)

    async def _confirm(self, order: Order, said: RunReport) -> None:
        """There is no such run here: the service hears so, and may forget that it asked."""
        path = f"/v1/runs/{order.subject}"
        try:
            await patiently(lambda: self._on.link.call("POST", path, RunReply, body=said))
        except BitDewError as fault:
            if fault.key != "run.not-found":
                log.warning("the end of a run could not be told", run=order.subject, why=str(fault))
                return
        await self._journal.forget_run(order.subject, order.generation)

    async def _sweep(self, known: set[str]) -> None:
        """End and remove runs that nobody ordered: left over from a journal that was set aside."""
        folder = self._on.folder
        for directory in await asyncio.to_thread(lambda: sorted(folder.iterdir())):
            if directory.name in known:
                continue
            job = await self._on.runner.recover(directory)
            if job is not None:
                log.warning("a run that is not known was ended", run=directory.name)
                await job.stop("it is not known here", kindly=False)
            await to_the_end(asyncio.to_thread(remove, directory))

    async def close(self) -> None:
        """The worker is leaving: what runs goes on, for as long as its lease lasts."""
        self._tasks = None
        await self._on.runner.close()
