"""What a plan's actions make of placements, machines and orders. Pure but for the generations, which are handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from bitdew.core.errors import error
from bitdew.core.ids import HostId, Uid, new_uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import MACHINE, MachineState, PlacementState
from bitdew.wire.models import ErrorView

from ..catalog.events import told_of
from ..catalog.feed import Told
from .inner_hosts import ENDED
from .planner import Action, Drop, Expire, Fate, Halt, Launch, Place, Renew
from .records import MachineRecord, OrderRecord, PlacementRecord
from .reports import HISTORY


@dataclass(slots=True)
class Decisions:
    """What is to be stored together: an order never stands without the state that it leads to."""

    placements: list[PlacementRecord] = field(default_factory=list)
    machines: list[MachineRecord] = field(default_factory=list)
    requested: list[MachineRecord] = field(default_factory=list)
    """New ones, in others' places."""
    orders: list[OrderRecord] = field(default_factory=list)
    ended: dict[Uid, str] = field(default_factory=dict)
    """The data whose life ends, and why."""

    def told(self) -> Told:
        """What others hear of it."""
        topics: list[str] = [order.host for order in self.orders]
        topics += [*told_of([p.data for p in self.placements]), *(machine.uid for machine in self.machines)]
        topics += [machine.deployment for machine in (*self.machines, *self.requested)]
        if any(machine.state in MACHINE.ends() for machine in self.machines):
            topics.append(ENDED)
        return Told(
            topics=tuple(dict.fromkeys(topics)),
            hosts=tuple(dict.fromkeys(order.host for order in self.orders)),
            waiting={order.host: order.generation for order in self.orders},
        )


def decide(
    actions: Iterable[Action],
    placements: Mapping[tuple[Uid, HostId], PlacementRecord],
    machines: Mapping[Uid, MachineRecord],
    next_generation: Callable[[HostId], int],
    now: datetime,
) -> Decisions:
    """The records that follow from `actions`, given the present ones of whatever they touch."""
    decided = Decisions()

    def order(host: HostId, kind: OrderKind, subject: Uid, cause: str) -> int:
        generation = next_generation(host)
        decided.orders.append(OrderRecord(new_uid(), host, generation, kind, subject, cause))
        return generation

    for action in actions:
        match action:
            case Place(uid=uid, host_id=host):
                generation = order(host, OrderKind.PLACE, uid, action.cause)
                decided.placements.append(_assigned(placements.get((uid, host)), action, generation, now))
            case Drop(uid=uid, host_id=host):
                generation = order(host, OrderKind.DROP, uid, action.cause)
                decided.placements.append(_dropping(placements[uid, host], action, generation, now))
            case Launch(machine_uid=uid, host_id=host):
                generation = order(host, OrderKind.LAUNCH, uid, action.cause)
                launched = replace(machines[uid], host=host, generation=generation, cause=action.cause)
                decided.machines.append(launched)
            case Halt(machine_uid=uid) if action.host_id is None:
                stopped = replace(machines[uid], state=MachineState.STOPPED, since=now, cause=action.cause)
                decided.machines.append(stopped)
            case Halt(machine_uid=uid) if action.host_id is not None:
                generation = order(action.host_id, OrderKind.HALT, uid, action.cause)
                stopping = replace(machines[uid], state=MachineState.STOPPING, since=now, cause=action.cause)
                decided.machines.append(replace(stopping, generation=generation))
            case Renew(machine_uid=uid):
                decided.machines.append(_replaced(machines[uid], action, order, now))
                decided.requested.append(_successor(machines[uid], action, now))
            case Expire(uid=uid):
                decided.ended[uid] = action.cause
    return decided


def _replaced(
    known: MachineRecord, action: Renew, order: Callable[[HostId, OrderKind, Uid, str], int], now: datetime
) -> MachineRecord:
    """The machine whose place another takes. If its host comes back with it, it hears that it is not wanted there."""
    fresh = replace(known, successor=action.successor)
    if action.halt_on is not None:
        generation = order(action.halt_on, OrderKind.HALT, known.uid, "another machine took its place")
        fresh = replace(fresh, generation=generation)
    if action.fate is Fate.STOPS:
        return replace(fresh, state=MachineState.STOPPING, since=now, cause=action.cause)
    if action.fate is Fate.OVER and known.state not in MACHINE.ends():
        fault = error("machine.host-lost", f"Machine {known.uid[:8]} was given up", why=action.cause)
        view = ErrorView.of(fault).model_dump(mode="json")
        fresh = replace(fresh, state=MachineState.FAILED, since=now, reason=view)
    return fresh


def _successor(known: MachineRecord, action: Renew, now: datetime) -> MachineRecord:
    cause = f"in place of another: {action.cause}"
    return MachineRecord.requested(action.successor, known.deployment, known.data, now, cause, attempt=action.attempt)


def _assigned(known: PlacementRecord | None, action: Place, generation: int, now: datetime) -> PlacementRecord:
    if known is None:
        return PlacementRecord(
            data=action.uid,
            host=action.host_id,
            state=PlacementState.ASSIGNED,
            since=now,
            assigned=now,
            generation=generation,
            lease_until=action.lease_until,
            retry_at=None,
            failures=0,
            reason=None,
            cause=action.cause,
            done=0,
            seconds=None,
            from_repository=0,
            from_peers=0,
        )
    return replace(
        known,
        state=PlacementState.ASSIGNED,
        since=now,
        generation=generation,
        lease_until=action.lease_until,
        retry_at=None,
        cause=action.cause,
        seconds=None,
        freed=0,
        history=[*known.history, str(known.state)][-HISTORY:],
    )


def _dropping(known: PlacementRecord, action: Drop, generation: int, now: datetime) -> PlacementRecord:
    return replace(
        known,
        state=PlacementState.DROPPING,
        since=now,
        generation=generation,
        cause=action.cause,
        lease_until=None,
        retry_at=None,
        history=[*known.history, str(known.state)][-HISTORY:],
    )
