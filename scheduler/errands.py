"""What machines' users ask of their hosts once: to pause, picture, save or go back. Nothing is chosen here.

Owns an errand from the question to its end. It is stored before it is sent, sent by the process that leads, and told by
the host on a way of its own. A host that does not answer in time is not waited for: the order is taken back then.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid, new_uid
from bitdew.core.orders import ErrandKind, ErrandState, OrderKind
from bitdew.core.states import MACHINE, HostState, MachineState
from bitdew.tasks import to_the_end
from bitdew.trust.roles import Subject
from bitdew.wire import limits
from bitdew.wire.models import ErrandReport, ErrandRequest, ErrandView, ErrorView, SnapshotModel

from ..catalog.feed import Told
from ..catalog.leadership import Leadership
from .engine import Engine
from .finding import own_machine, require_usable
from .inner_hosts import ENDED, InnerHosts
from .known import Known
from .records import ErrandRecord, MachineRecord, OrderRecord

log = structlog.get_logger(__name__)

ANSWER: Final = timedelta(minutes=2)
"""How long a host has for an errand, but for a snapshot: the machine's memory may go to a slow disk."""
SAVING: Final = timedelta(minutes=12)
KEPT: Final = timedelta(minutes=10)
"""How long an errand is remembered after it was asked for, its picture included."""
BELL: Final = "errands"
"""The topic of errands that are to be sent."""
LONGEST_NAP: Final = 3600.0
AGAIN: Final = 5.0
"""Seconds before what could not be stored is tried again."""
_RUNS: Final = frozenset({MachineState.RUNNING, MachineState.PAUSED})


class Errands:
    """Takes, sends and ends errands."""

    def __init__(self, known: Known, engine: Engine, leadership: Leadership, inner: InnerHosts) -> None:
        self._known = known
        self._engine = engine
        self._leadership = leadership
        self._inner = inner

    async def ask(self, text: str, request: ErrandRequest, caller: Subject) -> ErrandView:
        """Have the host of a machine do something with it.

        A machine that has ended can only be restored: another one goes on in its stead, on the same host.

        Raises:
            UserError: as `own_machine`; `machine.not-running`, `snapshot.not-found`, `input.invalid`.
            ServiceError: `machine.unreachable`.
        """
        machine, kind, now = await own_machine(self._known.store, text, caller), request.kind, self._known.clock.now()
        name = request.name
        if kind is ErrandKind.SNAPSHOT:
            name = name or f"{now:%Y%m%d-%H%M%S}"
        elif kind is ErrandKind.RESTORE and (name is None or name not in {found.name for found in machine.snapshots}):
            have = ", ".join(found.name for found in machine.snapshots) or "none"
            raise error("snapshot.not-found", f"Machine {machine.uid[:8]} has no such snapshot", why=f"it has {have}")
        elif kind is ErrandKind.CLEAR:
            raise error("input.invalid", "What is left of a machine is removed with it", do="Say: bitdew vm rm")
        if kind is ErrandKind.RESTORE and machine.state in MACHINE.ends():
            return await self._go_on(machine, str(name))
        if machine.state not in _RUNS or machine.host is None:
            raise error("machine.not-running", f"Machine {machine.uid[:8]} is {machine.state}", uid=machine.uid)
        errand = ErrandRecord(new_uid(), machine.uid, machine.host, kind, name, ErrandState.WAITING, now)
        await self.add(errand)
        return _view(errand)

    async def add(self, errand: ErrandRecord) -> None:
        """Store an errand and have it sent.

        Raises:
            ServiceError: `machine.unreachable`, if its host is not there.
        """
        host = self._known.hosts.get(errand.host)
        if host is None or host.state not in {HostState.ALIVE, HostState.SUSPECT, HostState.DRAINED}:
            why = f"{self._known.hosts.name(errand.host)} is {host.state if host else 'unknown'}"
            raise error("machine.unreachable", f"The host of machine {errand.machine[:8]} does not answer", why=why)
        told = Told(topics=(BELL,))
        await self._known.store.add_errand(errand, told)
        self._known.tell(told, stored=True)

    async def _go_on(self, old: MachineRecord, name: str) -> ErrandView:
        """Request a machine that goes on from a snapshot of one that ended."""
        known, now = self._known, self._known.clock.now()
        async with known.database.facts():
            for other in await known.store.continuing(old.uid):
                if other.state not in MACHINE.ends() or other.snapshots:
                    do = f"Ask that one: bitdew vm restore {other.uid[:8]} {name}"
                    raise error("input.invalid", f"Machine {old.uid[:8]} goes on as {other.uid[:8]} already", do=do)
            disk = (await known.data.get([old.data]))[old.data]
            require_usable(disk)
            deployment = (await known.store.deployments([old.deployment]))[old.deployment]
            if deployment.ends is not None and deployment.ends <= now:
                raise error("input.invalid", "The deployment's life is over", do="Make another: bitdew vm deploy")
            if not disk.alive:
                raise error("data.not-found", "The disk's life is over", why="no more machines can run from it")
            cause = f"goes on from the snapshot {name} of machine {old.uid[:8]}"
            going_on = {"continues": old.uid, "snapshot": name, "bound": old.host}
            machine = MachineRecord.requested(new_uid(), old.deployment, old.data, now, cause, **going_on)
            free = old.successor is None and not old.stop_wanted and not old.draining
            await known.store.go_on(machine, place_of=old.uid if free else None)
            await self._inner.hand_over(old.uid, machine.uid)
        known.changes.bump(machine.deployment)
        self._engine.look_at(old.data)
        return ErrandView(
            uid=new_uid(),
            machine=machine.uid,
            kind=ErrandKind.RESTORE,
            name=name,
            state=ErrandState.DONE,
            asked=now,
        )

    async def errand(self, uid: str, seconds: float, caller: Subject) -> ErrandView:
        """How far an errand is, held open until it is over.

        Raises:
            UserError: `errand.not-found`; `certificate.role` for whoever may not touch its machine.
        """
        seen = self._known.changes.version(uid)
        found = await self._find(uid)
        await own_machine(self._known.store, found.machine, caller)
        if found.state is ErrandState.WAITING and await self._known.changes.wait(uid, seen, seconds):
            found = await self._find(uid)
        return _view(found, await self._known.store.picture(found.uid))

    async def report(self, uid: str, report: ErrandReport, caller: Subject) -> None:
        """A host says what came of an errand; again changes nothing.

        Raises:
            UserError: `errand.not-found`, also for any other host.
        """
        known = self._known
        async with known.database.facts():
            found = await self._find(uid)
            if found.host != caller.subject_id:
                raise _unknown(uid)
            if report.picture is not None and found.kind is ErrandKind.SCREENSHOT:
                await known.store.put_picture(found.uid, report.picture)
            machines = await known.store.machines(uids=[found.machine])
            kept = [_afterwards(m, found, known.clock.now()) for m in machines if report.reason is None]
            await self._end([(found, report.reason)], [m for m in kept if m is not None])

    # Sending ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send what was asked for and end what nobody answered, whenever this process leads; until cancelled."""
        while True:
            await self._leadership.gained()
            seen = self._known.changes.version(BELL)
            try:
                nap = await to_the_end(self.step())
            except Exception as fault:
                if not isinstance(fault, BitDewError):
                    log.exception("errands could not be sent")
                nap = AGAIN
            await self._known.changes.wait(BELL, seen, nap)

    async def step(self) -> float:
        """Send and end what is due; the seconds until something is due again."""
        known, now = self._known, self._known.clock.now()
        async with known.database.facts():
            await known.store.forget_errands(now - KEPT)
            errands = await known.store.errands()
            waiting = [errand for errand in errands if errand.state is ErrandState.WAITING]
            late = [errand for errand in waiting if now >= _due(errand)]
            await self._send([errand for errand in waiting if not errand.sent and errand not in late], now)
            fault = error("machine.unreachable", "The machine's host did not answer in time")
            await self._end([(errand, ErrorView.of(fault)) for errand in late], [])
        moments = [_due(e) if e.state is ErrandState.WAITING else e.asked + KEPT for e in errands if e not in late]
        return min([LONGEST_NAP, *((moment - now).total_seconds() + 0.01 for moment in moments)])

    async def _send(self, errands: list[ErrandRecord], now: datetime) -> None:
        hosts = self._known.hosts
        orders = [
            OrderRecord(
                new_uid(),
                e.host,
                hosts.next_generation(e.host),
                OrderKind.ERRAND,
                e.uid,
                "the machine's user asks for it",
            )
            for e in errands
            if hosts.get(e.host) is not None
        ]
        if not orders:
            return
        waiting = {order.host: order.generation for order in orders}
        told = Told(topics=tuple(waiting), hosts=tuple(waiting), waiting=waiting)
        sent = {order.subject for order in orders}
        await self._known.store.record(
            now=now,
            orders=orders,
            errands=[replace(errand, sent=True) for errand in errands if errand.uid in sent],
            check=self._leadership.check,
            told=told,
        )
        for order in orders:
            hosts.order_waits(order.host, order.generation)
        self._known.tell(told, stored=True)

    async def _end(self, ended: list[tuple[ErrandRecord, ErrorView | None]], machines: list[MachineRecord]) -> None:
        if not ended:
            return
        told = Told(topics=(*(errand.uid for errand, _ in ended), BELL, ENDED))
        await self._known.store.record(
            now=self._known.clock.now(),
            errands=[
                replace(
                    errand,
                    state=ErrandState.FAILED if reason else ErrandState.DONE,
                    reason=reason.model_dump(mode="json") if reason else None,
                    sent=True,
                )
                for errand, reason in ended
            ],
            done=[(errand.host, errand.uid) for errand, _ in ended],
            machines=machines,
            told=told,
        )
        self._known.tell(told, stored=True)

    async def _find(self, uid: str) -> ErrandRecord:
        found = await self._known.store.errands([Uid(uid)])
        if not found:
            raise _unknown(uid)
        return found[0]


def _unknown(uid: str) -> BitDewError:
    return error("errand.not-found", f"Nothing is known of {uid[:40]!r}", uid=uid[:40])


def _due(errand: ErrandRecord) -> datetime:
    return errand.asked + (SAVING if errand.kind is ErrandKind.SNAPSHOT else ANSWER)


def _afterwards(machine: MachineRecord, errand: ErrandRecord, now: datetime) -> MachineRecord | None:
    """The machine after an errand was done: whoever asked sees it right away, before its host's next report."""
    if errand.kind is ErrandKind.CLEAR:
        return replace(machine, snapshots=())
    names = {found.name for found in machine.snapshots}
    full = len(machine.snapshots) >= limits.SNAPSHOTS
    if errand.kind is not ErrandKind.SNAPSHOT or errand.name is None or errand.name in names or full:
        return None
    return replace(machine, snapshots=(*machine.snapshots, SnapshotModel(name=errand.name, at=now)))


def _view(errand: ErrandRecord, picture: bytes | None = None) -> ErrandView:
    return ErrandView(
        uid=errand.uid,
        machine=errand.machine,
        kind=errand.kind,
        name=errand.name,
        state=errand.state,
        asked=errand.asked,
        reason=ErrorView.model_validate(errand.reason) if errand.reason else None,
        picture=picture,
    )
