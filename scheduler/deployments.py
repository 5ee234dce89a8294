"""Deployments and their machines, as people ask for them. Where a machine runs is the planner's choice."""

from __future__ import annotations

from typing import Final

from bitdew.core.errors import error
from bitdew.core.ids import Uid, new_uid
from bitdew.core.states import MACHINE
from bitdew.trust.roles import Role, Subject
from bitdew.wire.models import ConsoleReply, DeploymentView, DeployRequest, ErrorView, MachineList, MachineView

from ..catalog.disks import Disks
from .engine import Engine
from .known import Known
from .records import DeploymentRecord, MachineRecord

DECIDING: Final = 2.0
"""Seconds that a reply waits for the decision that follows from it."""
SHORTEST_PREFIX: Final = 4
"""Digits of a machine's uid that name it, where they name only one."""


class Deployments:
    """Starts, shows and stops machines."""

    def __init__(self, known: Known, engine: Engine, disks: Disks) -> None:
        self._known = known
        self._disks = disks
        self._engine = engine

    async def deploy(self, request: DeployRequest, owner: str) -> DeploymentView:
        """Ask for machines; they are launched as soon as holders of the disk can.

        Raises:
            UserError: `data.not-found`.
        """
        disk = await self._disks.find(request.disk)
        now = self._known.clock.now()
        deployment = DeploymentRecord(new_uid(), disk.data.uid, request.count, request.memory, request.cpus, now, owner)
        await self._known.store.add_deployment(deployment, [new_uid() for _ in range(request.count)])
        self._look_at(disk.data.uid)
        machines = [m for m in await self._known.store.machines(data=[disk.data.uid]) if m.deployment == deployment.uid]
        return DeploymentView(
            uid=deployment.uid,
            disk=disk.data.name,
            count=request.count,
            created=now,
            machines=[self._view(machine, disk.data.name) for machine in machines],
        )

    async def machines(self) -> MachineList:
        """All machines, oldest first."""
        machines = await self._known.store.machines()
        names = await self._known.data.get({machine.data for machine in machines})
        return MachineList(machines=[self._view(machine, names[machine.data].data.name) for machine in machines])

    async def machine(self, text: str) -> MachineView:
        """The machine whose uid begins with `text`.

        Raises:
            UserError: `machine.not-found`; `input.invalid`, if several begin so.
        """
        machine = await self._find(text)
        return self._view(machine, (await self._known.data.get([machine.data]))[machine.data].data.name)

    async def stop(self, text: str, caller: Subject) -> MachineView:
        """Ask a machine to end. One that has ended stays as it is.

        Raises:
            UserError: as `machine`; `certificate.role` for whoever is neither its user nor an operator.
        """
        machine = await self._find(text)
        await self._check_owner(machine, caller)
        if machine.state not in MACHINE.ends():
            seen = self._known.changes.version(machine.uid)
            await self._known.store.want_stop(machine.uid)
            self._look_at(machine.data)
            # So that the reply shows that it is being stopped.
            await self._known.changes.wait(machine.uid, seen, DECIDING)
        return await self.machine(machine.uid)

    async def console(self, text: str, offset: int, seconds: float, caller: Subject) -> ConsoleReply:
        """What a machine wrote after `offset` characters, held open until there is something or the machine has ended.

        Raises:
            UserError: as `stop`.
        """
        machine = await self._find(text)
        await self._check_owner(machine, caller)
        uid = machine.uid
        deadline = self._known.clock.monotonic() + seconds
        while True:
            seen = self._known.changes.version(uid)
            kept, end = await self._known.store.console(uid)
            state = (await self._find(uid)).state
            left = deadline - self._known.clock.monotonic()
            if end > offset or state in MACHINE.ends() or not await self._known.changes.wait(uid, seen, left):
                start = max(offset, end - len(kept))
                return ConsoleReply(offset=start, text=kept[len(kept) - (end - start) :], end=end, state=state)

    def _look_at(self, disk: Uid) -> None:
        self._engine.look_at(disk)  # the other processes were told along with what was stored

    async def _check_owner(self, machine: MachineRecord, caller: Subject) -> None:
        deployment = (await self._known.store.deployments([machine.deployment]))[machine.deployment]
        if caller.role is not Role.OPERATOR and deployment.owner != caller.subject_id:
            why = "only whoever deployed it or an operator may"
            raise error("certificate.role", f"Machine {machine.uid[:8]} is not yours", why=why)

    async def _find(self, text: str) -> MachineRecord:
        found = await self._known.store.machines(prefix=text) if len(text) >= SHORTEST_PREFIX else []
        if len(found) > 1:
            raise error("input.invalid", f"{text!r} is the beginning of {len(found)} machines", do="Give more digits.")
        if not found:
            raise error("machine.not-found", f"There is no machine {text[:40]!r}", uid=text[:40])
        return found[0]

    def _view(self, machine: MachineRecord, disk: str) -> MachineView:
        return MachineView(
            uid=machine.uid,
            deployment=machine.deployment,
            disk=disk,
            host=machine.host,
            host_name=self._known.hosts.name(machine.host),
            state=machine.state,
            since=machine.since,
            hypervisor=machine.hypervisor,
            reason=ErrorView.model_validate(machine.reason) if machine.reason else None,
            cause=machine.cause,
            console=machine.console_end,
        )
