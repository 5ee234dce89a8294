"""Why things are as they are: what is wanted of a datum, what there is, each host's standing, what comes next.

Owns the telling, not the deciding: it makes the same plan by the same code and reads the answer aloud.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bitdew.core.errors import error
from bitdew.core.ids import HostId, Uid

from .actions import Action, Drop, Expire, Halt, Launch, Outlook, Place, Renew
from .effects import effects, lifetime
from .eligibility import HostJudgement, instant, judge, unfit_to_run
from .emptying import stays_for_now
from .ledger import Ledger
from .machines import waits_for_host
from .round import plan
from .rows import MachineRow
from .snapshot import Snapshot

MOST_HOLDERS_TOLD: Final = 5
"""How many holders that can't run a machine are named."""


@dataclass(frozen=True, slots=True)
class MachineJudgement:
    """Where a machine stands: on which host, or why on none yet."""

    machine_uid: Uid
    host_id: HostId | None
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to "why?" for one datum.

    Attributes:
        uid: The datum.
        wanted: Copies wanted; for "everywhere", as many as there are hosts that hold it, await it or could.
        held: Verified copies that count.
        intended: Copies on their way whose lease runs.
        displaced: Verified copies that don't count, because they may not stay where they are.
        missing: Copies wanted that are neither held nor on their way.
        summary: The same as a sentence.
        effects: What each wish of the attribute comes to here, those left at their defaults aside.
        lifetime: When the datum's life ends, as a sentence; "" if only its owner ends it.
        hosts: Every host's standing, by name.
        machines: The machines of this disk that have not ended.
        next: What happens next, and when.
        wake_at: When it is looked at again though nothing happens.
    """

    uid: Uid
    wanted: int
    held: int
    intended: int
    displaced: int
    missing: int
    summary: str
    effects: tuple[str, ...]
    lifetime: str
    hosts: tuple[HostJudgement, ...]
    machines: tuple[MachineJudgement, ...]
    next: tuple[str, ...]
    wake_at: datetime | None = None


def explain(snapshot: Snapshot, uid: Uid, now: datetime) -> Explanation:
    """Explain the datum `uid` at `now`. Other data in `snapshot` compete with it, as they do in a plan.

    Raises:
        UserError: `data.not-found`, if the datum is not in the snapshot.
    """
    if uid not in snapshot.data:
        raise error("data.not-found", f"The planner knows no datum {uid}")
    before = Ledger(snapshot, now)
    planned = plan(snapshot, now)
    tally = before.tally(uid)
    judgements = {host_id: judge(before, uid, host) for host_id, host in snapshot.hosts.items()}
    missing = tally.missing(sum(judgement.verdict == "eligible" for judgement in judgements.values()))
    if not before.has_source(uid) and tally.everywhere:
        missing = 0
    about = [a for a in planned.actions if isinstance(a, Place | Drop | Expire) and a.uid == uid]
    moves = [action for action in about if not isinstance(action, Expire)]
    judgements |= {action.host_id: _ordered(judgements[action.host_id], action) for action in moves}
    machines = [row for row in before.machines.values() if row.data_uid == uid and not row.ended]
    concerned = {row.uid for row in machines}
    renewed = [a for a in planned.actions if isinstance(a, Renew) and before.machines[a.machine_uid].data_uid == uid]
    orders = [a for a in planned.actions if isinstance(a, Launch | Halt) and a.machine_uid in concerned]
    return Explanation(
        uid=uid,
        wanted=len(tally.held) + len(tally.intended) + missing if tally.everywhere else tally.replica,
        held=len(tally.held),
        intended=len(tally.intended),
        displaced=len(tally.displaced),
        missing=missing,
        summary=_summary(before, uid, missing),
        effects=effects(before, uid),
        lifetime=lifetime(before, uid),
        hosts=tuple(sorted(judgements.values(), key=lambda judgement: (judgement.name, judgement.host_id))),
        machines=tuple(_judge_machine(before, machine, orders) for machine in machines),
        next=_next(before, uid, [*about, *orders, *renewed], planned.outlooks[uid]),
        wake_at=planned.outlooks[uid].wake_at,
    )


def _summary(ledger: Ledger, uid: Uid, missing: int) -> str:
    if ledger.snapshot.data[uid].alive:
        return ledger.tally(uid).figures(missing)
    return f"{ledger.over(uid) or 'it was removed'}: every copy is dropped"


def _ordered(judgement: HostJudgement, action: Place | Drop) -> HostJudgement:
    verdict = "chosen" if isinstance(action, Place) else judgement.verdict
    reason = action.cause if isinstance(action, Place) else f"to be dropped: {action.cause}"
    return HostJudgement(judgement.host_id, judgement.name, verdict, reason)


def _judge_machine(ledger: Ledger, machine: MachineRow, orders: list[Launch | Halt]) -> MachineJudgement:
    order = next((order for order in orders if order.machine_uid == machine.uid), None)
    if order:
        return MachineJudgement(machine.uid, order.host_id, order.cause)
    said = ledger.snapshot.data[machine.data_uid].deprecated
    if said and machine.host_id is None:
        return MachineJudgement(machine.uid, None, f"no machine is launched from a disk that is deprecated: {said}")
    if machine.host_id or not waits_for_host(ledger, machine):
        stays = stays_for_now(ledger, machine)
        return MachineJudgement(machine.uid, machine.host_id, f"{machine.state}{f'; {stays}' if stays else ''}")
    holders = [ledger.snapshot.hosts[host_id] for host_id in ledger.verified(machine.data_uid)]
    more = [f"and {len(holders) - MOST_HOLDERS_TOLD} more holders"] if len(holders) > MOST_HOLDERS_TOLD else []
    reasons = [
        f"{host.facts.name}: {unfit_to_run(ledger, machine, host) or 'taken by other machines'}"
        for host in holders[:MOST_HOLDERS_TOLD]
    ]
    why = "; ".join(reasons + more) or "no living host holds a verified copy of its disk yet"
    return MachineJudgement(machine.uid, None, why)


def _next(ledger: Ledger, uid: Uid, actions: list[Action], outlook: Outlook) -> tuple[str, ...]:
    told = [_tell(ledger, action) for action in actions]
    if ledger.thrives(uid) and not ledger.has_source(uid):
        datum = ledger.snapshot.data[uid]
        told.append(
            "it waits for its publisher: the same command with --seed, run again, goes on"
            if datum.awaited and datum.seeded
            else "it is placed as soon as its bytes have come"
            if datum.awaited
            else "nothing can be fetched until the original is added again or a host that holds a copy returns"
        )
    elif outlook.reason:
        told.append(f"{outlook.reason}{'; a host that becomes eligible is chosen' if outlook.open else ''}")
    if outlook.wake_at:
        told.append(f"at {instant(outlook.wake_at)}: {outlook.why}")
    return tuple(told)


def _tell(ledger: Ledger, action: Action) -> str:
    if isinstance(action, Expire):
        return f"end its life: {action.cause}"
    if isinstance(action, Renew):
        return f"have another machine take the place of {action.machine_uid}: {action.cause}"
    host = ledger.snapshot.hosts[action.host_id].facts.name if action.host_id else "no host"
    match action:
        case Place():
            return f"place on {host}: {action.cause}"
        case Drop():
            return f"drop from {host}: {action.cause}"
        case Launch():
            return f"launch machine {action.machine_uid} on {host}: {action.cause}"
        case Halt():
            return f"halt machine {action.machine_uid} on {host}: {action.cause}"
