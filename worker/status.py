"""What a worker does right now, told to its owner; and the owner's word to pause and to go on.

Owns the verbs `status`, `pause` and `resume` of the control socket, and what is said at rest. It decides nothing: that
is the guard's matter.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from bitdew.core.states import MACHINE, MachineState
from bitdew.wire.model import Count, ErrorView, Model, Nothing, Sentence

from .activity.guard import Guard, PauseRequest
from .activity.manual import read_pause, write_pause
from .activity.rules import Pause, Swarms
from .adjusting import told_or_kept
from .bridges.desk import BridgeDesk, ListenerLine
from .bridges.desk import view_at_rest as bridges_at_rest
from .control import Verb, ask
from .limits import LimitsView, view_at_rest
from .settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bitdew.hypervisor import Fingerprint

    from .limits import Limits
    from .machines import Machines
    from .placements import Placements

MOST_ROWS: Final = 100
"""Machines, and data, that one status names; the rest are counted."""


class MachineLine(Model):
    """One machine on this host. Sizes in bytes."""

    uid: str
    disk: str
    """The name of the disk that it runs from; "" if that is not known here any more."""
    state: MachineState
    hypervisor: str
    cpus: int
    memory: int
    grown: Count
    """Bytes that it takes of the disk, beyond the copy that it runs from."""
    reason: ErrorView | None


class SeenView(Model):
    """What is seen of the host; None where no rule asks, or nothing here can tell."""

    idle_seconds: float | None = None
    sessions: int | None = None
    busy_percent: float | None = None
    on_battery: bool | None = None
    metered: bool | None = None


class StatusView(Model):
    """What one worker does, and why not more."""

    running: bool
    machines_may_run: bool
    swarms: Swarms
    reasons: list[Sentence]
    """Why not everything may run."""
    until: datetime | None
    """When time alone changes that."""
    paused: bool
    """Whether its owner said to pause."""
    paused_until: datetime | None
    seen: SeenView
    machines: Annotated[list[MachineLine], Field(max_length=MOST_ROWS)]
    machines_left_out: Count
    bridges: list[ListenerLine]
    """Bridges and plug-ins that are told of this host's copies; without the plug-ins where no worker runs."""
    limits: LimitsView
    held: dict[str, str] = Field(default_factory=dict)
    """For each hypervisor, how its machines are held to their share of memory and processors."""


class StatusDesk:
    """Answers the owner of a worker that runs."""

    def __init__(
        self,
        guard: Guard,
        limits: Limits,
        machines: Machines,
        placements: Placements,
        bridges: BridgeDesk,
        found: Mapping[str, Fingerprint],
    ) -> None:
        """`found` are the hypervisors that run machines here, by name."""
        self._guard = guard
        self._limits = limits
        self._machines = machines
        self._placements = placements
        self._bridges = bridges
        self._found = found
        self.verbs: Final = {
            "status": Verb(Nothing, self._status),
            "pause": Verb(PauseRequest, self._pause),
            "resume": Verb(Nothing, self._resume),
        }

    async def _status(self, _asked: Nothing) -> StatusView:
        return await self.view()

    async def _pause(self, asked: PauseRequest) -> StatusView:
        await self._guard.stop(asked)
        return await self.view()

    async def _resume(self, _asked: Nothing) -> StatusView:
        await self._guard.go_on()
        return await self.view()

    async def view(self) -> StatusView:
        """Everything, as it is now.

        Raises:
            HostError: `storage.failed`.
        """
        whole, guard = await self._limits.view(), self._guard
        verdict, seen, pause = guard.verdict, guard.seen, guard.pause
        lines, told = self._lines(), self._bridges.view()
        left_out = whole.left_out + max(0, len(whole.data) - MOST_ROWS)
        return StatusView(
            running=True,
            machines_may_run=verdict.machines,
            swarms=verdict.swarms,
            reasons=list(verdict.reasons),
            until=verdict.until,
            paused=pause is not None,
            paused_until=pause.until if pause else None,
            seen=SeenView(
                idle_seconds=seen.idle,
                sessions=seen.sessions,
                busy_percent=None if seen.busy is None else round(100 * seen.busy, 1),
                on_battery=seen.on_battery,
                metered=seen.metered,
            ),
            held={name: one.limits for name, one in self._found.items()},
            machines=lines[:MOST_ROWS],
            machines_left_out=max(0, len(lines) - MOST_ROWS),
            bridges=[*told.bridges, *told.plugins],
            limits=whole.model_copy(update={"data": whole.data[:MOST_ROWS], "left_out": left_out}),
        )

    def _lines(self) -> list[MachineLine]:
        """The machines, those that have not ended first."""
        entries = [machine.entry for machine in self._machines.machines.values()]
        names = {entry.uid: entry.order.name for entry in self._placements.entries.values()}
        return [
            MachineLine(
                uid=entry.uid,
                disk=names.get(entry.order.data, ""),
                state=entry.state,
                hypervisor=entry.hypervisor,
                cpus=entry.order.cpus,
                memory=entry.order.memory,
                grown=self._machines.disk_of(entry.uid),
                reason=entry.reason,
            )
            for entry in sorted(entries, key=lambda entry: (entry.state in MACHINE.ends(), entry.uid))
        ]


async def show_status(home: Path) -> StatusView:
    """What the worker in `home` does, or would do.

    Raises:
        UserError: `profile.missing`, `input.invalid`.
        HostError: `worker.unreachable`, `storage.failed`.
    """
    told = await ask(home, "status", Nothing(), StatusView)
    return told if told is not None else await asyncio.to_thread(_at_rest, home)


async def pause(home: Path, seconds: float | None) -> StatusView:
    """Have the worker in `home` leave its owner alone, for so long or until `resume`, also over restarts.

    Raises:
        UserError: `profile.missing`, `input.invalid`.
        HostError: `worker.unreachable`, `storage.failed`.
    """
    until = datetime.now(UTC) + timedelta(seconds=seconds) if seconds else None
    return await _say(home, "pause", PauseRequest(seconds=seconds), Pause(until))


async def resume(home: Path) -> StatusView:
    """Take a pause back. Rules hold all the same.

    Raises:
        UserError: `profile.missing`, `input.invalid`.
        HostError: `worker.unreachable`, `storage.failed`.
    """
    return await _say(home, "resume", Nothing(), None)


async def _say(home: Path, verb: str, body: Model, word: Pause | None) -> StatusView:
    def kept() -> StatusView:
        write_pause(home, word)
        return _at_rest(home)

    return await told_or_kept(home, lambda: ask(home, verb, body, StatusView), kept)


def _at_rest(home: Path) -> StatusView:
    """What holds of a worker that does not run. Blocks."""
    settings, word = WorkerSettings.load(home), read_pause(home)
    paused = word is not None and word.holds(datetime.now(UTC))
    return StatusView(
        running=False,
        machines_may_run=False,
        swarms="stopped",
        reasons=["the worker does not run"],
        until=None,
        paused=paused,
        paused_until=word.until if word and paused else None,
        seen=SeenView(),
        machines=[],
        machines_left_out=0,
        bridges=bridges_at_rest(settings).bridges,
        limits=view_at_rest(settings),
    )
