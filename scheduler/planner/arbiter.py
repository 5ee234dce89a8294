"""The arbiter: commits suggestions one by one and alone enforces what must always hold.

No policy can break these, however wrong it is:

- at most one action about a pair of datum and host, and about a machine, in a round;
- every move is one that the state tables allow;
- the last verified copy of data that is alive is never dropped, nor one that a machine runs from, nor a pinned one;
- no host is promised more than its quota, and none that is not eligible is promised anything: neither where the
  affinity's target is not held, nor more data of an attribute than `distrib` allows;
- no more repairs in a round than the settings allow;
- no life ends before its time, nor while a machine runs from a copy.
"""

from __future__ import annotations

from datetime import datetime

from bitdew.core.states import MACHINE, PLACEMENT, MachineState, PlacementState

from .actions import Action, Drop, Expire, Halt, Launch, Place, Refusal, Renew
from .eligibility import judge, unfit_to_run
from .ledger import Ledger
from .machines import renewal
from .snapshot import Snapshot

REPAIRS_ARE_CAPPED = "as many repairs as one round may begin were begun"


class Arbiter:
    """Keeps the books of one round."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.ledger = Ledger(snapshot, now)
        self.refusals: list[Refusal] = []

    def offer(self, action: Action) -> bool:
        """Commit `action`, or note why it can't be. Says whether it was committed."""
        reason = self._objection(action)
        if reason:
            self.refusals.append(Refusal(action, reason))
        else:
            self.ledger.commit(action)
        return not reason

    def _objection(self, action: Action) -> str:
        match action:
            case Place():
                return self._against_place(action)
            case Drop():
                return self._against_drop(action)
            case Launch():
                return self._against_launch(action)
            case Halt():
                return self._against_halt(action)
            case Renew():
                return self._against_renew(action)
            case Expire():
                return self._against_expire(action)

    def _against_place(self, action: Place) -> str:
        ledger, host = self.ledger, self.ledger.snapshot.hosts.get(action.host_id)
        if host is None or action.uid not in ledger.snapshot.data:
            return "the datum or the host is unknown"
        if ledger.touched(action.uid, action.host_id):
            return "another action about this datum on this host was committed"
        row = ledger.copies(action.uid).get(action.host_id)
        if row and not PLACEMENT.allows(row.state, PlacementState.ASSIGNED):
            return f"a copy that is {row.state} can't be assigned"
        judgement = judge(ledger, action.uid, host)
        if judgement.verdict != "eligible":
            return f"the host is not eligible: {judgement.reason}"
        if action.repair and ledger.repairs >= ledger.settings.repairs_per_round:
            ledger.held_back.add(action.uid)
            return REPAIRS_ARE_CAPPED
        return ""

    def _against_drop(self, action: Drop) -> str:
        ledger, row = self.ledger, self.ledger.copies(action.uid).get(action.host_id)
        if row is None:
            return "unknown is not delete: no such copy is recorded"
        if ledger.touched(action.uid, action.host_id):
            return "another action about this datum on this host was committed"
        if row.state is PlacementState.DROPPING or not PLACEMENT.allows(row.state, PlacementState.DROPPING):
            return f"a copy that is {row.state} can't be dropped"
        if ledger.in_use(action.uid, action.host_id):
            return "a machine runs from this copy"
        datum = ledger.snapshot.data[action.uid]
        if datum.alive and action.host_id in datum.pins:
            return "the copy is pinned to this host"
        others = (host_id for host_id in ledger.verified(action.uid) if host_id != action.host_id)
        if datum.alive and row.state is PlacementState.HELD and not any(others):
            return "it is the last verified copy on a living host of data that is alive"
        return ""

    def _against_launch(self, action: Launch) -> str:
        ledger = self.ledger
        machine, host = ledger.machines.get(action.machine_uid), ledger.snapshot.hosts.get(action.host_id)
        if machine is None or host is None or machine.data_uid not in ledger.snapshot.data:
            return "the machine, its disk or the host is unknown"
        if ledger.ordered(machine.uid):
            return "another action about this machine was committed"
        if machine.host_id is not None or not MACHINE.allows(machine.state, MachineState.PREPARING):
            return f"a machine that is {machine.state}{' on a host' if machine.host_id else ''} can't be launched"
        if machine.unwanted or machine.over(ledger.now) or not ledger.launches(machine.data_uid):
            return "nobody wants this machine any more"
        if not ledger.holds_verified(machine.data_uid, action.host_id):
            return "the host holds no verified copy of the disk"
        return unfit_to_run(ledger, machine, host)

    def _against_halt(self, action: Halt) -> str:
        machine = self.ledger.machines.get(action.machine_uid)
        if machine is None:
            return "the machine is unknown"
        if self.ledger.ordered(machine.uid):
            return "another action about this machine was committed"
        if machine.host_id != action.host_id:
            return "the machine is not on that host"
        if machine.state is MachineState.STOPPING or not MACHINE.allows(machine.state, MachineState.STOPPING):
            return f"a machine that is {machine.state} can't be halted"
        return ""

    def _against_renew(self, action: Renew) -> str:
        machine = self.ledger.machines.get(action.machine_uid)
        if machine is None:
            return "the machine is unknown"
        if self.ledger.ordered(machine.uid):
            return "another action about this machine was committed"
        found = renewal(self.ledger, machine)
        if found is None or found.at > self.ledger.now or found.fate is not action.fate:
            return f"a machine that is {machine.state} is not replaced{' yet' if found else ''}"
        return ""

    def _against_expire(self, action: Expire) -> str:
        ledger, datum = self.ledger, self.ledger.snapshot.data.get(action.uid)
        if datum is None or not datum.alive or ledger.expired(action.uid):
            return "there is no such datum that lives"
        if not ledger.over(action.uid):
            return "its life is not over"
        if ledger.runs_machines(action.uid):
            return "a machine runs from a copy of it"
        return ""
