"""Machines and deployments as a developer asks for them, and sees them.

Owns the calls and their order. Everything that decides is on the other side of the wire.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from bitdew.core.errors import error
from bitdew.core.restarting import Restart
from bitdew.core.states import MACHINE, MachineState
from bitdew.wire import limits
from bitdew.wire import models as m

from .connection import GRACE, POLL, Connection, name_part
from .paging import pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class MachineCalls(Connection):
    """The part of `BitDew` that runs machines."""

    async def deploy(
        self,
        disk: str,
        count: int = 1,
        *,
        memory: int = 256 * 2**20,
        cpus: int = 1,
        restart: Restart = Restart.ON_FAILURE,
        network: m.Network = "none",
        user_data: str = "",
        requires: str = "",
        ports: Sequence[tuple[int, int]] = (),
        lifetime: str = "",
    ) -> m.DeploymentView:
        """Ask for machines from a disk.

        Args:
            disk: Its name or uid.
            count: How many are kept running.
            memory: Bytes of each.
            cpus: Processors of each.
            restart: Which of them another takes the place of.
            network: "user" lets them reach what their host reaches; the worker inside can then join this service.
            user_data: What each is told, as `user-data` of its seed; a text that begins with `#!` is run.

            requires: What their hosts have to be, as in an attribute: `site = orsay`.
            ports: TCP ports of the host's loopback, 0 for any that is free, and the machines' ports that they lead to.
            lifetime: How long the deployment lives, its machines with it: `2h`, `2026-12-31`.

        Raises:
            BitDewError: `data.not-found`, `input.invalid`, `input.too-large`, `attribute.requires`,
                `attribute.invalid`.
        """
        if len(user_data) > limits.USER_DATA or "\0" in user_data:
            why = f"it has {len(user_data)} characters, and {limits.USER_DATA} without a NUL are allowed"
            raise error("input.too-large", "Machines can't be told so much", why=why)
        request = m.DeployRequest(
            disk=name_part(disk),
            count=count,
            memory=memory,
            cpus=cpus,
            restart=restart,
            network=network,
            user_data=user_data,
            requires=requires,
            ports=[m.PortModel(host=outer, guest=inner) for outer, inner in ports],
            lifetime=lifetime,
        )
        return await self._call("POST", "/v1/deployments", m.DeploymentView, body=request)

    async def deployment_page(self, after: str = "", limit: int | None = None) -> m.DeploymentList:
        """Deployments, oldest first, those behind `after`, which a page gave: at most `limit`, or a page."""
        query = {"after": after, "limit": str(limit or limits.PAGE)}
        return await self._call("GET", "/v1/deployments", m.DeploymentList, query={k: v for k, v in query.items() if v})

    async def deployments(self) -> list[m.DeploymentSummary]:
        """All deployments, oldest first, asked for page by page."""
        return [one async for page in pages(self.deployment_page) for one in page.deployments]

    async def whole_deployments(self) -> list[m.DeploymentView]:
        """All deployments, oldest first, each with all its machines. It takes no more requests for more deployments."""
        deployments = await self.deployments()
        machines: defaultdict[str, list[m.MachineView]] = defaultdict(list)
        if deployments:
            for machine in sorted(await self.machines(), key=lambda one: (one.since, one.uid)):
                machines[machine.deployment].append(machine)
        return [m.DeploymentView(**dict(one), machines=machines[one.uid]) for one in deployments]

    async def deployment(self, uid: str, *, since: int = 0, wait: float = 0.0) -> m.DeploymentView:
        """One deployment, by its uid or the beginning of it; with `wait`, held open so long until it is past `since`.

        Its version grows with every change of it or of its machines. Seconds.

        Raises:
            UserError: `deployment.not-found`.
        """
        query = {"since": str(since), "wait": f"{wait:g}"} if wait else {}
        path = f"/v1/deployments/{name_part(uid)}"
        return await self._call("GET", path, m.DeploymentView, query=query, seconds=wait + GRACE)

    async def scale(self, uid: str, count: int) -> m.DeploymentView:
        """Have a deployment be of `count` machines; 0 stops them all."""
        path = f"/v1/deployments/{name_part(uid)}/scale"
        return await self._call("POST", path, m.DeploymentView, body=m.ScaleRequest(count=count))

    async def drain_deployment(self, uid: str) -> m.DeploymentView:
        """Have a deployment be of no machine: each ends once the jobs in it are done, and none takes its place.

        Raises:
            BitDewError: `deployment.not-found`, `certificate.role`.
        """
        return await self._call("POST", f"/v1/deployments/{name_part(uid)}/drain", m.DeploymentView)

    async def drain_machine(self, uid: str) -> m.MachineView:
        """Have a machine end once the jobs in it are done; none takes its place.

        Raises:
            BitDewError: `machine.not-found`, `certificate.role`.
        """
        return await self._call("POST", f"/v1/machines/{name_part(uid)}/drain", m.MachineView)

    async def drain_machines_on(self, host: str) -> list[m.MachineView]:
        """Drain all of one's machines on a host, by its name or id; for an operator, everybody's. These machines.

        Raises:
            BitDewError: `host.not-found`.
        """
        return (await self._call("POST", f"/v1/hosts/{name_part(host)}/machines/drain", m.MachineList)).machines

    async def explain_deployment(self, uid: str) -> m.DeploymentExplanation:
        """Why a deployment is as it is, and what happens next."""
        return await self._call("GET", f"/v1/deployments/{name_part(uid)}/explain", m.DeploymentExplanation)

    async def machine_page(self, deployment: str = "", after: str = "", limit: int | None = None) -> m.MachineList:
        """Machines, or those of one deployment, behind `after`, which a page gave: at most `limit`, or a page."""
        query = {"deployment": deployment, "after": after, "limit": str(limit or limits.PAGE)}
        return await self._call("GET", "/v1/machines", m.MachineList, query={k: v for k, v in query.items() if v})

    async def machines(self, deployment: str = "") -> list[m.MachineView]:
        """All machines, or those of one deployment, asked for page by page."""
        found = pages(lambda after: self.machine_page(deployment, after))
        return [machine async for page in found for machine in page.machines]

    async def machine(self, uid: str) -> m.MachineView:
        """One machine, by its uid or the beginning of it. Raises UserError `machine.not-found`."""
        return await self._call("GET", f"/v1/machines/{name_part(uid)}", m.MachineView)

    async def stop_machine(self, uid: str) -> m.MachineView:
        """Ask that a machine stops."""
        return await self._call("POST", f"/v1/machines/{name_part(uid)}/stop", m.MachineView)

    async def remove_machine(self, uid: str) -> None:
        """Forget a machine that has ended, with what its host keeps of it.

        Raises:
            BitDewError: `machine.not-found`, `machine.not-ended`, `machine.unreachable`, `certificate.role`.
        """
        await self._call("DELETE", f"/v1/machines/{name_part(uid)}", m.Nothing, seconds=POLL + GRACE)

    async def remove_deployment(self, uid: str) -> None:
        """Forget a deployment whose machines have all ended.

        Raises:
            BitDewError: `deployment.not-found`, `machine.not-ended`, `machine.unreachable`, `certificate.role`.
        """
        await self._call("DELETE", f"/v1/deployments/{name_part(uid)}", m.Nothing, seconds=None)

    async def console(self, uid: str, offset: int = 0, wait: float = 0.0) -> m.ConsoleReply:
        """What the machine wrote after `offset`; held open until there is more, `wait` seconds at most."""
        query = {"offset": str(offset), "wait": f"{wait:g}"}
        path = f"/v1/machines/{name_part(uid)}/console"
        return await self._call("GET", path, m.ConsoleReply, query=query, seconds=wait + GRACE)

    async def follow_console(self, uid: str) -> AsyncIterator[m.ConsoleReply]:
        """The machine's console from its beginning, part by part, until the machine has ended."""
        offset, state = 0, MachineState.REQUESTED
        while True:
            reply = await self.console(uid, offset, POLL)
            if reply.text or reply.state is not state:
                yield reply
            state = reply.state
            if state in MACHINE.ends() and not reply.text:
                return
            offset = max(offset, reply.offset + len(reply.text))
