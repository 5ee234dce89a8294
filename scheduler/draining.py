"""Hosts that are to be emptied: the wish is stored here, and told how far it is. What follows from it is planned.

Owns the answer to "what is still there, and why?". It moves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from bitdew.core.draining import Drain
from bitdew.core.errors import error
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import INTENDED, HostState, PlacementState
from bitdew.wire.models import DrainView, HostView, LeftCopy, LeftMachine

from ..catalog.data_store import Datum
from .engine import Engine
from .known import Known
from .planner import Place, Renew, explain, plan
from .records import MachineRecord, PlacementRecord
from .views import Views

MOST_TOLD: Final = 100
"""Copies, and machines, that are told one by one, with the reason."""
_LEFT: Final = frozenset(PlacementState) - {PlacementState.GONE, PlacementState.LOST, PlacementState.FAILED}


@dataclass(frozen=True, slots=True)
class _Left:
    """What is still on a host."""

    copies: Mapping[Uid, PlacementRecord]
    elsewhere: Mapping[Uid, Collection[PlacementRecord]]
    data: Mapping[Uid, Datum]
    machines: Collection[MachineRecord]


class Draining:
    """Takes the wish that a host be emptied, and tells what is left there."""

    def __init__(self, known: Known, engine: Engine, views: Views) -> None:
        self._known = known
        self._engine = engine
        self._views = views

    async def drain(self, text: str, drain: Drain | None) -> DrainView:
        """Have a host emptied, by its name or uid, or no more; it is said at once, and done over time.

        Raises:
            UserError: `host.not-found`, `host.banned`; `input.invalid`, if several have that name.
        """
        return await self._told(await self._set(await self._views.host(text), drain))

    async def leave(self, host: HostId, drain: Drain | None) -> DrainView:
        """The same for the host that asks.

        Raises:
            UserError: `host.not-found`, where it never synced.
        """
        return await self._told(await self._set(await self._views.host(host), drain))

    async def view(self, text: str) -> DrainView:
        """What is on a host, and why it is there still.

        Raises:
            UserError: `host.not-found`; `input.invalid`, if several have that name.
        """
        return await self._told(await self._views.host(text))

    async def _set(self, view: HostView, drain: Drain | None) -> HostView:
        if view.state is HostState.BANNED:
            raise error("host.banned", f"The host {view.name} was banned", why="it is given nothing, and asked nothing")
        await self._engine.drain(HostId(view.host), drain)
        return await self._views.host(view.host)

    async def _told(self, view: HostView) -> DrainView:
        host = HostId(view.host)
        left = await self._look(host)
        only_here = {uid for uid in left.copies if self._is_only_here(uid, left)}
        told = sorted(left.copies, key=lambda uid: (uid not in only_here, left.data[uid].data.name))[:MOST_TOLD]
        explained = await self._explain(host, [*told, *(machine.data for machine in left.machines)], left)
        copies = [self._left_copy(uid, left, explained[uid], only_here=uid in only_here) for uid in told]
        machines = [self._left_machine(m, left, explained[m.data]) for m in left.machines]
        return DrainView(
            host=view,
            copies=len(left.copies),
            size=sum(left.data[uid].data.size for uid in left.copies),
            only_here=len(only_here),
            moving=sum(copy.moving for copy in copies),
            machines=len(left.machines),
            empty=not left.copies and not left.machines,
            left=copies,
            left_machines=machines[:MOST_TOLD],
        )

    async def _look(self, host: HostId) -> _Left:
        store = self._known.store
        copies = {uid: row for uid, row in (await store.placements_on(host)).items() if row.state in _LEFT}
        machines = await store.machines(host=host, unfinished=True)
        data = await self._known.data.get({*copies, *(machine.data for machine in machines)})
        copies = {uid: row for uid, row in copies.items() if uid in data}
        placed = await store.placements_of(list(copies))
        elsewhere = {uid: [row for row in placed[uid] if row.host != host] for uid in copies}
        return _Left(copies, elsewhere, data, machines)

    def _is_only_here(self, uid: Uid, left: _Left) -> bool:
        datum = left.data[uid]
        verified = left.copies[uid].state is PlacementState.HELD
        if not verified or not datum.alive or not (datum.awaited or datum.damaged):
            return False
        return not any(row.state is PlacementState.HELD and self._lives(row.host) for row in left.elsewhere[uid])

    def _lives(self, host: HostId) -> bool:
        record = self._known.hosts.get(host)
        return record is not None and record.state in {HostState.ALIVE, HostState.DRAINED}

    # Why ----------------------------------------------------------------------------------------------------------

    async def _explain(self, host: HostId, uids: Collection[Uid], left: _Left) -> dict[Uid, _Why]:
        """For each of these data, what is under way and what the planner says of it and its machines."""
        if not uids:
            return {}
        snapshot, now = await self._engine.snapshot(list(dict.fromkeys(uids))), self._known.clock.now()
        planned = plan(snapshot, now)
        placing = {action.uid for action in planned.actions if isinstance(action, Place)}
        renewed = {action.machine_uid for action in planned.actions if isinstance(action, Renew)}
        found = {}
        for uid in dict.fromkeys(uids):
            outlook, told = planned.outlooks[uid], explain(snapshot, uid, now)
            bound = _bound(host, uid, left)
            others = [row for row in left.elsewhere.get(uid, ()) if self._lives(row.host)]
            tried_again = outlook.held_back or (outlook.missing > 0 and outlook.wake_at is not None)
            moving = uid in placing or tried_again or any(row.state in INTENDED for row in others)
            machines = {judged.machine_uid: judged.reason for judged in told.machines}
            reason = _said(told.next, bound, moving=moving)
            found[uid] = _Why(moving=moving, reason=reason, machines=machines, renewed=renewed)
        return found

    @staticmethod
    def _left_copy(uid: Uid, left: _Left, why: _Why, *, only_here: bool) -> LeftCopy:
        datum, row = left.data[uid].data, left.copies[uid]
        return LeftCopy(
            uid=uid,
            name=datum.name,
            size=datum.size,
            state=row.state,
            only_here=only_here,
            moving=why.moving,
            reason=why.reason,
        )

    @staticmethod
    def _left_machine(machine: MachineRecord, left: _Left, why: _Why) -> LeftMachine:
        reason, moving = why.machines.get(machine.uid, ""), machine.successor is not None or machine.uid in why.renewed
        disk = left.data[machine.data].data.name
        return LeftMachine(uid=machine.uid, disk=disk, state=machine.state, moving=moving, reason=reason)


@dataclass(frozen=True, slots=True)
class _Why:
    moving: bool
    reason: str
    machines: Mapping[Uid, str]
    renewed: Collection[Uid]
    """The machines whose place another is about to take."""


def _bound(host: HostId, uid: Uid, left: _Left) -> str:
    """What keeps a copy where it is whatever is made elsewhere, or ""."""
    if any(machine.data == uid for machine in left.machines):
        return "a machine runs from it"
    return "it is pinned to this host" if host in left.data[uid].attribute.pins else ""


def _said(following: Collection[str], bound: str, *, moving: bool) -> str:
    if bound:
        return bound
    if sentence := next((sentence for sentence in following if sentence), ""):
        return sentence
    return "another copy is on its way" if moving else "it is the last verified copy"
