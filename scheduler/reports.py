"""What a host's report makes of what is known. Pure: the sync endpoint stores what this returns.

A report of an older generation than the last order about its subject is stale: the host had not heard of the order yet.
Everything else is the truth about that host, also where our table does not foresee the way there.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from bitdew.core.errors import error
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import INTENDED, MACHINE, PLACEMENT, MachineState, PlacementState
from bitdew.wire.models import ErrorView, MachineReport, PlacementReport

from .planner.snapshot import PlannerSettings
from .records import MachineRecord, PlacementRecord

HISTORY: Final = 20
"""States that a placement remembers."""


def judge_placement(
    known: PlacementRecord | None, report: PlacementReport, host: HostId, now: datetime, settings: PlannerSettings
) -> PlacementRecord | None:
    """The placement as it is after `report`, or None if the report changes nothing that is stored."""
    if known is None:
        known = PlacementRecord(
            data=Uid(report.uid),
            host=host,
            state=PlacementState.LOST,
            since=now,
            assigned=now,
            generation=report.generation,
            lease_until=None,
            retry_at=None,
            failures=0,
            reason=None,
            cause="the host reported a copy that was not known: adopted",
            done=0,
            seconds=None,
            from_repository=0,
            from_peers=0,
            history=[],
        )
    elif report.generation < known.generation:
        return None
    reason = report.reason.model_dump(mode="json") if report.reason else None
    if report.state is known.state and (reason is None or reason == known.reason):
        return None
    if known.state is PlacementState.GONE and report.state is not PlacementState.HELD:
        return None
    history = [*known.history, str(known.state)][-HISTORY:] if report.state is not known.state else known.history
    if not PLACEMENT.allows(known.state, report.state):
        history = [*history, f"unforeseen {report.state}"][-HISTORY:]
    failures, retry_at, lease = known.failures, known.retry_at, known.lease_until
    if report.state is PlacementState.FAILED:
        failures += 1
        retry_at, lease = now + settings.retry_delay(failures), None
    elif report.state is PlacementState.HELD:
        failures, retry_at, lease = 0, None, None
    elif report.state not in INTENDED:
        lease = None
    return replace(
        known,
        state=report.state,
        since=now if report.state is not known.state else known.since,
        generation=max(known.generation, report.generation),
        lease_until=lease,
        retry_at=retry_at,
        failures=failures,
        reason=None if report.state is PlacementState.HELD else reason,
        done=report.done,
        seconds=report.seconds,
        from_repository=report.from_repository,
        from_peers=report.from_peers,
        reused=report.reused,
        history=history,
        freed=report.freed if report.state is PlacementState.GONE else 0,
    )


def vanished_placement(known: PlacementRecord, now: datetime, *, ordered: bool) -> PlacementRecord | None:
    """The placement of a copy that a full inventory does not show, or None if nothing follows from its absence.

    What was held and is not there any more has to be made again, and what was being dropped is gone. What is on its way
    comes if its order still stands (`ordered`); else the host forgot it, and has to be told anew.
    """
    history = [*known.history, str(known.state)][-HISTORY:]
    if known.state is PlacementState.HELD or (known.state in INTENDED and not ordered):
        fault = error("storage.failed", "The host no longer has its copy", why="its inventory does not show it")
        view = ErrorView.of(fault).model_dump(mode="json")
        lost = replace(known, state=PlacementState.FAILED, since=now, retry_at=now, lease_until=None, done=0)
        return replace(lost, reason=view, history=history)
    if known.state is PlacementState.DROPPING:
        return replace(known, state=PlacementState.GONE, since=now, history=history, done=0)
    return None


def judge_machine(known: MachineRecord, report: MachineReport, host: HostId, now: datetime) -> MachineRecord | None:
    """The machine as it is after `report`, or None if nothing changed. What has ended stays ended."""
    if known.host != host or report.generation < known.generation:
        return None
    snapshots, ports = tuple(report.snapshots), tuple(report.ports)
    if known.state in MACHINE.ends():
        return replace(known, snapshots=snapshots) if snapshots != known.snapshots else None
    reason = report.reason.model_dump(mode="json") if report.reason else None
    same = (report.state, report.hypervisor or known.hypervisor, reason, snapshots, ports)
    if same == (known.state, known.hypervisor, known.reason, known.snapshots, known.ports):
        return None
    ended = known.state is MachineState.RUNNING and report.state in MACHINE.ends()
    return replace(
        known,
        state=report.state,
        since=now if report.state is not known.state else known.since,
        ran=(now - known.since).total_seconds() if ended else known.ran,
        generation=max(known.generation, report.generation),
        hypervisor=report.hypervisor or known.hypervisor,
        reason=reason,
        snapshots=snapshots,
        ports=ports,
    )


def vanished_machine(known: MachineRecord, now: datetime) -> MachineRecord | None:
    """A machine that its host's full inventory does not show: it has failed, unless its launch is still on its way."""
    if known.state in MACHINE.ends() or known.state in {MachineState.REQUESTED, MachineState.WAITING}:
        return None
    if known.state is MachineState.STOPPING:
        return replace(known, state=MachineState.STOPPED, since=now)
    fault = error("hypervisor.failed", "The machine is no longer on its host", why="its inventory does not show it")
    view = ErrorView.of(fault).model_dump(mode="json")
    return replace(known, state=MachineState.FAILED, since=now, reason=view)
