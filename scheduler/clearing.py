"""Machines and deployments that are over are forgotten: when their user says so, or after a while.

Owns what may be forgotten. What a host keeps of a machine goes first, so that nobody's disk is full of what nobody
knows; and a host that has still to hear that a machine is not wanted hears it before.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid, new_uid
from bitdew.core.orders import ErrandKind, ErrandState
from bitdew.core.states import MACHINE, HostState
from bitdew.trust.roles import Subject

from .errands import Errands
from .finding import find_deployment, own_machine, require_owner
from .known import Known
from .records import ErrandRecord, MachineRecord

log = structlog.get_logger(__name__)

PATIENCE: Final = 30.0
"""Seconds that whoever removes a machine waits for its host."""
AT_ONCE: Final = 500
"""Machines that are forgotten at a time: few enough that nobody waits for long."""


class Clearing:
    """Forgets what is over."""

    def __init__(self, known: Known, errands: Errands) -> None:
        self._known = known
        self._errands = errands

    async def remove_machine(self, text: str, caller: Subject) -> None:
        """Forget a machine that has ended, and have its host remove what is kept of it.

        Raises:
            UserError: as `own_machine`; `machine.not-ended`.
            ServiceError: `machine.unreachable`, if its host has to do or to hear something first.
        """
        await self._remove([await own_machine(self._known.store, text, caller)])

    async def remove_deployment(self, text: str, caller: Subject) -> None:
        """Forget a deployment whose machines have all ended, and them with it.

        Raises:
            UserError: as `find_deployment`, `require_owner`; `machine.not-ended`.
            ServiceError: `machine.unreachable`.
        """
        deployment = await find_deployment(self._known.store, text)
        require_owner(deployment, caller)
        await self._remove(await self._known.store.machines(deployment=deployment.uid))
        async with self._known.database.facts():
            await self._known.store.remove_deployments([deployment.uid])

    async def _remove(self, machines: list[MachineRecord]) -> None:
        for machine in machines:
            if machine.state not in MACHINE.ends():
                why = f"it is {machine.state}"
                raise error("machine.not-ended", f"Machine {machine.uid[:8]} has not ended", why=why)
        for machine in machines:
            if machine.snapshots and not self._banned(machine):
                await self._have_cleared(machine)
        async with self._known.database.facts():
            uids = [machine.uid for machine in machines]
            if unheard := await self._known.store.in_orders(uids):
                why = "its host has still to hear that it is not wanted"
                raise error("machine.unreachable", f"Machine {min(unheard)[:8]} can't be forgotten yet", why=why)
            await self._known.store.remove_machines(uids)

    def _banned(self, machine: MachineRecord) -> bool:
        host = self._known.hosts.get(machine.host) if machine.host is not None else None
        return host is None or host.state is HostState.BANNED

    async def _have_cleared(self, machine: MachineRecord) -> None:
        errand = await self._ask(machine)
        deadline = self._known.clock.monotonic() + PATIENCE
        while errand.state is ErrandState.WAITING:
            seen = self._known.changes.version(errand.uid)
            (errand,) = await self._known.store.errands([errand.uid])
            left = deadline - self._known.clock.monotonic()
            if errand.state is ErrandState.WAITING and not await self._known.changes.wait(errand.uid, seen, left):
                why = "it was asked to remove what it keeps, and did not answer yet"
                raise error("machine.unreachable", f"The host of machine {machine.uid[:8]} is busy", why=why)
        if errand.reason is not None:
            why = str(errand.reason.get("message", ""))
            raise error("machine.unreachable", f"What is kept of machine {machine.uid[:8]} is still there", why=why)

    async def _ask(self, machine: MachineRecord) -> ErrandRecord:
        now = self._known.clock.now()
        if machine.host is None:
            raise error("machine.unreachable", f"Machine {machine.uid[:8]} has no host")
        errand = ErrandRecord(new_uid(), machine.uid, machine.host, ErrandKind.CLEAR, None, ErrandState.WAITING, now)
        await self._errands.add(errand)
        return errand

    async def purge(self, before: datetime) -> int:
        """Forget what was over before then; how many machines those are. What hosts keep of them is cleared first."""
        store = self._known.store
        old = await store.ended_machines(before, AT_ONCE)
        gone: list[Uid] = []
        for machine in old:
            if not machine.snapshots or self._banned(machine):
                gone.append(machine.uid)
                continue
            try:
                await self._ask(machine)
            except BitDewError as fault:  # its host is away; it is asked again
                log.info("what a host keeps of an old machine stays for now", machine=machine.uid, why=str(fault))
        async with self._known.database.facts():
            unheard = await store.in_orders(gone)
            await store.remove_machines([uid for uid in gone if uid not in unheard])
            await store.remove_deployments(await store.empty_deployments(before))
        return len(gone) - len(unheard)
