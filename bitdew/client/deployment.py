"""`Deployment` and `Machine`: machines in a program's hands, to await, follow, scale, look into and stop.

Owns no state but what was last seen of them: every answer is the service's. A wait that is cancelled leaves them going.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid
from bitdew.core.restarting import MOST_ATTEMPTS
from bitdew.core.states import MACHINE, MachineState
from bitdew.wire import models as m

from .connection import POLL
from .following import patiently
from .handle import Handle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class MachineEvent:
    """One thing that happened to a machine.

    Attributes:
        machine: Its uid.
        state: The state that it is in since.
        at: Since when, UTC.
        host_name: Its host; "" as long as it has none.
        why: Why it failed, or was given to that host.
    """

    machine: Uid
    state: MachineState
    at: datetime
    host_name: str = ""
    why: str = ""

    def __str__(self) -> str:
        """As people read it: `3fa90c12 running on h2`."""
        where = f" on {self.host_name}" if self.host_name else ""
        why = f": {self.why}" if self.why and self.state is MachineState.FAILED else ""
        return f"{self.machine[:8]} {self.state}{where}{why}"


class Machine(Handle[m.MachineView]):
    """One machine of a deployment.

    Attributes:
        view: What the service last said of it.
    """

    @property
    def state(self) -> MachineState:
        """The state that it was last seen in."""
        return self.view.state

    @property
    def host_name(self) -> str:
        """The host that it runs on; "" as long as it has none."""
        return self.view.host_name

    @property
    def ports(self) -> dict[int, int]:
        """Its TCP ports, each with the port of its host that leads there; `view.ports` says at which address."""
        return {port.guest: port.host for port in self.view.ports}

    def __repr__(self) -> str:
        return f"<Machine {_event_of(self.view)}>"

    async def refresh(self) -> m.MachineView:
        """Look again; what is so now. Raises UserError `machine.not-found`."""
        self.view = await self._grid.machine(self.uid)
        return self.view

    async def log(self) -> str:
        """What it wrote on its console so far, as far as it is kept. Raises `machine.not-found`, `certificate.role`."""
        return (await self._grid.console(self.uid)).text

    async def console(self) -> AsyncGenerator[str]:
        """What it writes on its console, part by part, from the beginning, until it has ended. Raises as `log`."""
        offset = 0
        while True:
            reply = await patiently(
                self._grid,
                lambda: self._grid.console(self.uid, offset, POLL),  # noqa: B023 (called at once)
            )
            if reply.text:
                yield reply.text
            elif reply.state in MACHINE.ends():
                return
            offset = max(offset, reply.offset + len(reply.text))

    async def stop(self) -> None:
        """Ask that it stops; none takes its place. Raises `machine.not-found`, `certificate.role`."""
        self.view = await self._grid.stop_machine(self.uid)

    async def pause(self) -> None:
        """Have it stand still. Raises what `BitDew.pause_machine` does."""
        await self._grid.pause_machine(self.uid)

    async def resume(self) -> None:
        """Let it go on. Raises what `BitDew.resume_machine` does."""
        await self._grid.resume_machine(self.uid)

    async def screenshot(self) -> bytes:
        """A picture of its screen, as PNG. Raises what `BitDew.screenshot` does."""
        return await self._grid.screenshot(self.uid)

    async def snapshot(self, name: str | None = None) -> None:
        """Save its memory and disk on its host, as `name`. Raises what `BitDew.snapshot` does."""
        await self._grid.snapshot(self.uid, name)

    async def restore(self, name: str) -> Machine:
        """Have it go on from the snapshot `name`: the machine that does, another one if this one has ended.

        Raises:
            BitDewError: as `BitDew.restore`.
        """
        done = await self._grid.restore(self.uid, name)
        return Machine(self._grid, await self._grid.machine(done.machine))


class Deployment(Handle[m.DeploymentView]):
    """So many machines from one disk, as `Dew.deploy` and `Dew.deployment` give them. Await it until they run.

    Attributes:
        view: What the service last said of it.
    """

    @property
    def disk(self) -> str:
        """The name of the disk."""
        return self.view.disk

    @property
    def count(self) -> int:
        """How many machines are wanted."""
        return self.view.count

    @property
    def machines(self) -> list[Machine]:
        """Its machines as they were last seen, oldest first, without those whose place another one took."""
        return [Machine(self._grid, one) for one in _standing(self.view)]

    def __repr__(self) -> str:
        running = sum(one.state is MachineState.RUNNING for one in _standing(self.view))
        return f"<Deployment {self.uid[:8]} of {self.disk}: {running} of {self.count} machines run>"

    # Waiting --------------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, list[Machine]]:
        """As `running()`."""
        return self.running().__await__()

    async def running(self, machines: int | None = None, *, timeout: float | None = None) -> list[Machine]:  # noqa: ASYNC109
        """Return the machines that run, once there are `machines` of them, or as many as are wanted.

        Args:
            machines: How many.
            timeout: Seconds to wait at most; the machines go on after that.

        Raises:
            TimeoutError: So many did not run in time.
            BitDewError: Why a machine failed, if as many as are asked for can't run any more: `hypervisor.failed`, …;
                `machine.not-running`, if they were stopped. `deployment.not-found`; `service.unreachable`, if the
                service is away for longer than `patience`.
        """
        async with asyncio.timeout(timeout), aclosing(self._looks()) as looks:
            async for view in looks:
                found = [one for one in _standing(view) if one.state is MachineState.RUNNING]
                wanted = view.count if machines is None else machines
                if len(found) >= wanted:
                    return [Machine(self._grid, one) for one in found]
                _require_hope(view, wanted)
        raise AssertionError("looks have no end")

    async def stopped(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Return once all its machines have ended.

        Raises:
            TimeoutError: They have not all ended within `timeout` seconds.
            BitDewError: as `events`.
        """
        async with asyncio.timeout(timeout), aclosing(self._looks()) as looks:
            async for view in looks:
                if all(one.state in MACHINE.ends() for one in view.machines):
                    return

    async def events(self) -> AsyncGenerator[MachineEvent]:
        """How its machines stand now, and then what happens to them, without end: `3fa90c12 running on h2`.

        A machine that passes two states at once is told in the last.

        Raises:
            BitDewError: `deployment.not-found`; `service.unreachable`, if the service is away for longer than
                `patience`.
        """
        known: dict[str, MachineEvent] = {}
        async with aclosing(self._looks()) as looks:
            async for view in looks:
                for machine in view.machines:
                    event = _event_of(machine)
                    before = known.get(machine.uid)
                    known[machine.uid] = event
                    if before is None or (before.state, before.host_name) != (event.state, event.host_name):
                        yield event

    async def refresh(self) -> m.DeploymentView:
        """Look again; what is so now. Raises UserError `deployment.not-found`."""
        self.view = await self._grid.deployment(self.uid)
        return self.view

    async def explain(self) -> m.DeploymentExplanation:
        """Why it is as it is, and what happens next. Raises UserError `deployment.not-found`."""
        return await self._grid.explain_deployment(self.uid)

    # Changing -------------------------------------------------------------------------------------------------------

    async def scale(self, count: int) -> None:
        """Have it be of `count` machines. Raises what `BitDew.scale` does."""
        self.view = await self._grid.scale(self.uid, count)

    async def stop(self) -> None:
        """Stop all its machines; `stopped` waits for that. Raises what `BitDew.scale` does."""
        await self.scale(0)

    async def remove(self) -> None:
        """Forget it, once its machines have ended. Raises what `BitDew.remove_deployment` does."""
        await self._grid.remove_deployment(self.uid)

    async def _looks(self) -> AsyncGenerator[m.DeploymentView]:
        """The deployment now and after each change, without end."""
        since = 0
        while True:
            self.view = view = await patiently(
                self._grid,
                lambda: self._grid.deployment(self.uid, since=since, wait=POLL if since else 0.0),  # noqa: B023
            )
            if view.version != since:
                yield view
            since = view.version


def _standing(view: m.DeploymentView) -> list[m.MachineView]:
    return [one for one in view.machines if one.successor is None]


def _event_of(view: m.MachineView) -> MachineEvent:
    reason = view.reason
    why = view.cause if reason is None else ": ".join(part for part in (reason.message, reason.why) if part)
    return MachineEvent(Uid(view.uid), view.state, view.since, view.host_name, why)


def _require_hope(view: m.DeploymentView, wanted: int) -> None:
    """Raise why so many machines can't run any more, if it is so."""
    ended = [one for one in _standing(view) if one.state in MACHINE.ends() or one.state is MachineState.STOPPING]
    final = [one for one in ended if not view.restart.replaces(one.state) or one.attempt >= MOST_ATTEMPTS]
    # More than are asked for may be asked for yet.
    if len(_standing(view)) - len(final) >= min(wanted, view.count):
        return
    failed = [one.reason for one in final if one.state is MachineState.FAILED and one.reason is not None]
    if failed:
        fault = failed[-1].to_error()
        raise _of(fault, view)
    ends = f"{len(final)} of its machines have ended, and none takes their places"
    message = f"{wanted} machines of {view.disk} can't run"
    raise error("machine.not-running", message, why=ends, deployment=view.uid)


def _of(fault: BitDewError, view: m.DeploymentView) -> BitDewError:
    fields = {**fault.fields, "deployment": view.uid}
    return error(fault.key, fault.message, why=fault.why, do=fault.do, **fields)
