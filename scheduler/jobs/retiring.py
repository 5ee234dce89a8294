"""Machines that are drained: no job begins in them any more, and each ends once nothing needs it.

Owns when a drained machine may end. That it is halted then, and that none takes its place, is the planner's part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.draining import Drain
from bitdew.core.errors import BitDewError
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import MACHINE, HostState
from bitdew.tasks import first_of, to_the_end
from bitdew.trust.roles import Role, Subject

from ...catalog.leadership import Leadership
from ..draining import Draining
from ..engine import Engine
from ..finding import find_deployment, find_machine, own_machine, require_owner
from ..inner_hosts import InnerHosts
from ..known import Known
from ..records import MachineRecord
from .store import QUEUE, JobStore

log = structlog.get_logger(__name__)

RETIRING: Final = "drained machines"
"""The topic of machines that are to be drained."""
NAP: Final = 60.0
SHORT_NAP: Final = 5.0
"""Seconds until another look while a machine drains: where the last copy of something is changes without a word."""
DEFECT_PAUSE: Final = 5.0
_GONE: Final = frozenset({HostState.LOST, HostState.BANNED})


class Retiring:
    """Takes the wish that machines be drained, and ends them when they may."""

    def __init__(
        self,
        known: Known,
        store: JobStore,
        engine: Engine,
        leadership: Leadership,
        inner: InnerHosts,
        draining: Draining,
    ) -> None:
        self._known = known
        self._store = store
        self._engine = engine
        self._leadership = leadership
        self._inner = inner
        self._draining = draining
        self._drains = False

    # As people ask ----------------------------------------------------------------------------------------------------

    async def deployment(self, text: str, caller: Subject) -> Uid:
        """Drain all machines of a deployment; it is of none from then on. Its uid.

        Raises:
            UserError: `deployment.not-found`; `certificate.role` for whoever is neither its user nor an operator.
        """
        deployment = await find_deployment(self._known.store, text)
        require_owner(deployment, caller)
        async with self._known.database.facts():  # so that none takes another's place meanwhile
            machines = await self._known.store.machines(deployment=deployment.uid)
            await self._drain([m for m in machines if m.state not in MACHINE.ends() or m.successor is None])
        return deployment.uid

    async def machine(self, text: str, caller: Subject) -> Uid:
        """Drain one machine, and whichever took its place. Its uid.

        Raises:
            UserError: `machine.not-found`; `certificate.role` for whoever is neither its user nor an operator.
        """
        store = self._known.store
        first = await own_machine(store, text, caller)
        async with self._known.database.facts():
            line = [await find_machine(store, first.uid)]
            while (successor := line[-1].successor) is not None:
                line.append(await find_machine(store, successor))
            await self._drain([m for m in line if m.state not in MACHINE.ends() or m.successor is None])
        return first.uid

    async def host(self, text: str, caller: Subject) -> list[Uid]:
        """Drain the machines on a host, by its name or uid: all of them for an operator, else the caller's own.

        Raises:
            UserError: `host.not-found`; `input.invalid`, if several have that name.
        """
        store = self._known.store
        host = (await self._draining.view(text)).host.host
        async with self._known.database.facts():
            machines = await store.machines(host=HostId(host), unfinished=True)
            deployments = await store.deployments({m.deployment for m in machines})
            operates = caller.role is Role.OPERATOR
            its = [m for m in machines if operates or deployments[m.deployment].owner == caller.subject_id]
            await self._drain(its)
        return [machine.uid for machine in its]

    async def _drain(self, machines: Sequence[MachineRecord]) -> None:
        await self._known.store.want_drained([machine.uid for machine in machines], RETIRING)
        for data in {machine.data for machine in machines}:
            self._engine.look_at(data)
        self._known.changes.bump(RETIRING)

    async def keeping(self, machines: Sequence[MachineRecord]) -> Mapping[Uid, str]:
        """What each of these machines still has to wait for; those that wait for nothing are left out."""
        inner = await self._inner.of([machine.uid for machine in machines])
        runs = await self._store.live_on(list(inner.values()))
        found = {}
        for machine in machines:
            if why := await self._kept(inner.get(machine.uid), runs):
                found[machine.uid] = why
        return found

    async def _kept(self, host: HostId | None, runs: Mapping[HostId, int]) -> str:
        record = self._known.hosts.get(host) if host is not None else None
        if host is None or record is None or record.state in _GONE:
            return ""
        if number := runs.get(host, 0):
            return "ends once the job in it is done" if number == 1 else f"ends once the {number} jobs in it are done"
        if only := (await self._draining.view(host)).only_here:
            return f"ends once other hosts hold what is only there, {only} of its copies"
        return ""

    # Over time ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """End what may end while this process leads, until cancelled."""
        changes = self._known.changes
        while True:
            await self._leadership.gained()
            seen, jobs = changes.version(RETIRING), changes.version(QUEUE)
            try:
                await to_the_end(self.step())
            except Exception:
                log.exception("the drained machines can't be looked at")
                await self._known.clock.sleep(DEFECT_PAUSE)
                continue
            nap = SHORT_NAP if self._drains else NAP
            changed = [changes.wait(RETIRING, seen, nap)]
            if self._drains:
                changed.append(changes.wait(QUEUE, jobs, nap))
            await wait_at_most(self._known.clock, nap, first_of(*changed, self._leadership.lost.wait()))

    async def step(self) -> None:
        """Let no job begin in drained machines, and have those end that nothing needs."""
        machines = [m for m in await self._known.store.draining_machines() if m.host is not None]
        self._drains = bool(machines)
        inner = await self._inner.of([machine.uid for machine in machines])
        for host in inner.values():
            record = self._known.hosts.get(host)
            if record is not None and record.drain is None and record.state not in _GONE:
                await self._engine.drain(host, Drain.KEEP)
        kept = await self.keeping(machines)  # jobs are given under the lock that `drain` took: none begins after it
        for machine in machines:
            if machine.uid in kept:
                continue
            try:
                await self._known.store.want_stop(machine.uid)
            except BitDewError as fault:
                log.warning("a drained machine can't be stopped", machine=machine.uid, why=str(fault))
                continue
            log.info("a drained machine ends", machine=machine.uid)
            self._engine.look_at(machine.data)
