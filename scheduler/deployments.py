"""Deployments and their machines, as people ask for them. Where a machine runs is the planner's choice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from bitdew.core.errors import error
from bitdew.core.ids import Uid, new_uid
from bitdew.core.lifetime import For, With, parse_lifetime
from bitdew.core.requirement import Requirement
from bitdew.core.restarting import MOST_ATTEMPTS, Restart
from bitdew.core.states import MACHINE, MachineState
from bitdew.trust.roles import Subject
from bitdew.wire.models import (
    ConsoleReply,
    DeploymentExplanation,
    DeploymentView,
    DeployRequest,
    MachineList,
    MachineView,
)

from ..catalog.disks import Disks
from .engine import Engine
from .finding import find_deployment, find_machine, own_machine, require_owner, require_usable
from .inner_hosts import InnerHosts
from .known import Known
from .machine_views import MachineViews
from .planner import explain
from .records import DeploymentRecord, MachineRecord
from .written import Written

DECIDING: Final = 2.0
"""Seconds that a reply waits for the decision that follows from it."""
FIRST_FREE_PORT: Final = 1024
MOST_TOLD: Final = 100
"""Machines of which an explanation tells."""
_WELL: Final = frozenset({MachineState.RUNNING, MachineState.PAUSED, MachineState.STOPPED})
_LEAVING: Final = {MachineState.STOPPED: 0, MachineState.FAILED: 0, MachineState.PAUSED: 2, MachineState.RUNNING: 2}
"""Which machines go first when there are to be fewer: those that ended, then those that don't run yet."""


Keeping = Callable[[Sequence[MachineRecord]], Awaitable[Mapping[Uid, str]]]


class Deployments:
    """Starts, shows and stops machines.

    Attributes:
        views: Shows them.
        keeping: Says of machines that drain what each still waits for.
    """

    def __init__(self, known: Known, engine: Engine, disks: Disks, inner: InnerHosts) -> None:
        self._known = known
        self.views = MachineViews(known, inner)
        self._disks = disks
        self._engine = engine
        self.keeping: Keeping = _nothing_keeps

    async def deploy(self, request: DeployRequest, owner: str) -> DeploymentView:
        """Ask for machines; they are launched as soon as holders of the disk can.

        Raises:
            UserError: `data.not-found`, `attribute.requires`, `attribute.invalid` for an impossible lifetime,
                `input.invalid` for impossible ports.
        """
        _check_ports(request)
        disk = await self._disks.find(request.disk)
        require_usable(disk)
        now = self._known.clock.now()
        deployment = DeploymentRecord(
            uid=new_uid(),
            data=disk.data.uid,
            count=request.count,
            memory=request.memory,
            cpus=request.cpus,
            created=now,
            owner=owner,
            restart=request.restart,
            network=request.network,
            requires=Requirement(request.requires).text,
            ports=tuple(request.ports),
            ends=_end(request.lifetime, now),
        )
        machines = [new_uid() for _ in range(request.count)]
        await self._known.store.add_deployment(deployment, machines, user_data=request.user_data)
        self._look_at(disk.data.uid)
        return await self.views.deployment(deployment)

    async def deployment(self, text: str, since: int = 0, seconds: float = 0.0) -> DeploymentView:
        """The deployment whose uid begins with `text`, held open until it or a machine of it is past version `since`.

        Raises:
            UserError: `deployment.not-found`; `input.invalid`, if several begin so.
        """
        deployment = await find_deployment(self._known.store, text)
        if await self._known.changes.wait(deployment.uid, since, seconds):
            deployment = await find_deployment(self._known.store, deployment.uid)
        return await self.views.deployment(deployment)

    async def scale(self, text: str, count: int, caller: Subject) -> DeploymentView:
        """Have a deployment be of `count` machines: more are launched, or some are stopped, the youngest first.

        Raises:
            UserError: as `deployment`; `certificate.role` for whoever is neither its user nor an operator;
                `data.not-found`, if more are asked for and its disk's life is over.
        """
        deployment = await find_deployment(self._known.store, text)
        require_owner(deployment, caller)
        await self.have(deployment.uid, count)
        return await self.deployment(deployment.uid)

    async def have(self, uid: Uid, count: int) -> None:
        """As `scale`, whoever asks."""
        deployment = await find_deployment(self._known.store, uid)
        async with self._known.database.facts():  # so that none takes another's place meanwhile
            filling = [m for m in await self._known.store.machines(deployment=deployment.uid) if _fills_a_place(m)]
            disk = (await self._known.data.get([deployment.data]))[deployment.data]
            alive = disk.alive
            if count > len(filling) and deployment.ends is not None and deployment.ends <= self._known.clock.now():
                raise error("input.invalid", "The deployment's life is over", do="Make another: bitdew vm deploy")
            if count > len(filling) and not alive:
                raise error("data.not-found", "The disk's life is over", why="no more machines can run from it")
            if count > len(filling):
                require_usable(disk)
            filling.sort(key=lambda m: (_LEAVING.get(m.state, 1), -m.since.timestamp(), m.uid))
            fewer = [m.uid for m in filling[: max(0, len(filling) - count)]]
            more = [new_uid() for _ in range(count - len(filling))]
            await self._known.store.scale(deployment, count, more=more, fewer=fewer, now=self._known.clock.now())
        self._known.changes.bump(deployment.uid)
        self._look_at(deployment.data)

    async def explain(self, text: str) -> DeploymentExplanation:
        """Why a deployment is as it is: where each of its machines stands, and what comes next.

        Raises:
            UserError: as `deployment`.
        """
        deployment = await find_deployment(self._known.store, text)
        snapshot = await self._engine.snapshot([deployment.data])
        found = explain(snapshot, deployment.data, self._known.clock.now())
        machines = await self._known.store.machines(deployment=deployment.uid)
        filling = [m for m in machines if _fills_a_place(m)]
        standing = {judged.machine_uid: judged.reason for judged in found.machines}
        told = [f"{self._called(m)}: {standing.get(m.uid) or _how_it_ended(m, deployment.restart)}" for m in filling]
        drained = [m for m in machines if m.draining and m.state not in MACHINE.ends()]
        kept = await self.keeping(drained) if drained else {}
        told += [f"{self._called(m)}: {m.state}; it is drained, and {kept.get(m.uid) or 'ends now'}" for m in drained]
        well = sum(m.state in _WELL for m in filling)
        return DeploymentExplanation(
            deployment=await self.views.deployment(deployment),
            running=sum(m.state is MachineState.RUNNING for m in filling),
            missing=max(0, deployment.count - well),
            machines=told[:MOST_TOLD],
            next=[sentence for sentence in found.next if sentence],
        )

    def _called(self, machine: MachineRecord) -> str:
        return f"{machine.uid[:8]}{f' on {self._known.hosts.name(machine.host)}' if machine.host else ''}"

    async def these(self, uids: Sequence[Uid]) -> MachineList:
        """These machines, oldest first."""
        return MachineList(machines=await self.views.machines(await self._known.store.machines(uids=uids)))

    async def machine(self, text: str) -> MachineView:
        """The machine whose uid begins with `text`.

        Raises:
            UserError: `machine.not-found`; `input.invalid`, if several begin so.
        """
        machine = await find_machine(self._known.store, text)
        return (await self.views.machines([machine]))[0]

    async def stop(self, text: str, caller: Subject) -> MachineView:
        """Ask a machine to end. One that has ended stays as it is.

        Raises:
            UserError: as `machine`; `certificate.role` for whoever is neither its user nor an operator.
        """
        machine = await own_machine(self._known.store, text, caller)
        if machine.state not in MACHINE.ends():
            seen = self._known.changes.version(machine.uid)
            await self._known.store.want_stop((await self._latest(machine)).uid)
            self._known.changes.bump(machine.deployment)
            self._look_at(machine.data)
            # So that the reply shows that it is being stopped.
            await self._known.changes.wait(machine.uid, seen, DECIDING)
        return await self.machine(machine.uid)

    async def _latest(self, machine: MachineRecord) -> MachineRecord:
        """Who fills the machine's place now: it ends with the last of those that took it, one after the other."""
        while machine.successor is not None:
            machine = await find_machine(self._known.store, machine.successor)
        return machine

    async def console(self, text: str, offset: int, seconds: float, caller: Subject) -> ConsoleReply:
        """What a machine wrote after `offset` characters, held open until there is something or the machine has ended.

        Raises:
            UserError: as `stop`.
        """
        machine = await own_machine(self._known.store, text, caller)
        uid = machine.uid
        deadline = self._known.clock.monotonic() + seconds
        while True:
            seen = self._known.changes.version(uid)
            kept, end = await self._known.store.console(uid)
            state = (await find_machine(self._known.store, uid)).state
            left = deadline - self._known.clock.monotonic()
            if end > offset or state in MACHINE.ends() or not await self._known.changes.wait(uid, seen, left):
                start, text = Written(kept, end).beyond(offset)
                return ConsoleReply(offset=start, text=text, end=end, state=state)

    def _look_at(self, disk: Uid) -> None:
        self._engine.look_at(disk)  # the other processes were told along with what was stored


async def _nothing_keeps(_machines: Sequence[MachineRecord]) -> Mapping[Uid, str]:
    """Without jobs, nothing has to be waited for."""
    return {}


def _end(lifetime: str, now: datetime) -> datetime | None:
    """When a deployment ends whose life is `lifetime`, in words."""
    if not lifetime:
        return None
    found = parse_lifetime(lifetime)
    if isinstance(found, With):
        raise error("attribute.invalid", f"A deployment does not live as long as {found}", do="Give a span or a date.")
    end = now + found.span if isinstance(found, For) else found.moment
    if end <= now:
        raise error("attribute.invalid", f"The deployment would be over already: {lifetime}", value=lifetime)
    return end


def _check_ports(request: DeployRequest) -> None:
    """Refuse ports that no host could have.

    Raises:
        UserError: `input.invalid`.
    """
    outer = [port.host for port in request.ports if port.host]
    why = ""
    if request.ports and request.network == "none":
        why = "they lead nowhere without the network 'user'"
    elif any(port < FIRST_FREE_PORT for port in outer):
        why = f"those below {FIRST_FREE_PORT} belong to the host's own services"
    elif len(set(outer)) != len(outer):
        why = "two of them are one port of the host"
    if why:
        raise error("input.invalid", "Machines can't have these ports", why=why)


def _fills_a_place(machine: MachineRecord) -> bool:
    """Whether it is one of the wanted number: no other took its place, and its user did not stop it."""
    return machine.successor is None and not machine.stop_wanted and not machine.draining


def _how_it_ended(machine: MachineRecord, restart: Restart) -> str:
    reason = f": {machine.reason['message']}" if machine.reason else ""
    if not restart.replaces(machine.state):
        return f"{machine.state}{reason}; with restart={restart} its place stays empty"
    if machine.attempt >= MOST_ATTEMPTS:
        return f"{machine.state}{reason}; {machine.attempt} in a row did not run for long, and no other is tried"
    return f"{machine.state}{reason}; another takes its place soon"
