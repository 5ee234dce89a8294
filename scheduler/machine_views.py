"""Machines and deployments as people see them, one by one and page by page. Reads; never decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bitdew.core.errors import error
from bitdew.core.ids import HostId, Uid
from bitdew.wire import limits
from bitdew.wire.models import (
    DeploymentList,
    DeploymentSummary,
    DeploymentView,
    ErrorView,
    MachineList,
    MachineView,
)

from ..catalog.data_store import Datum, Disk
from .finding import find_deployment
from .inner_hosts import InnerHosts
from .known import Known
from .records import DeploymentRecord, MachineRecord


class MachineViews:
    """Shows machines and deployments."""

    def __init__(self, known: Known, inner: InnerHosts) -> None:
        self._known = known
        self._inner = inner

    async def deployments(self, after: str, limit: int) -> DeploymentList:
        """A page of the deployments, oldest first, without their machines.

        Raises:
            UserError: `input.invalid`, for an `after` that no page gave.
        """
        place = _read_place(after, 1) if after else None
        found = await self._known.store.deployment_page(place and (place[0], place[1][0]), limit + 1)
        page, more = found[:limit], len(found) > limit
        states = await self._known.store.machine_states([one.uid for one in page])
        names = await self._known.data.get({one.data for one in page})
        views = [DeploymentSummary(**_figures(one, names[one.data], states[one.uid])) for one in page]
        return DeploymentList(deployments=views, next=_place(page[-1].created, page[-1].uid) if more else None)

    async def machine_page(self, deployment: str, after: str, limit: int) -> MachineList:
        """A page of all machines, or of one deployment's: those of the oldest deployment first.

        Raises:
            UserError: `deployment.not-found`; `input.invalid`, for an `after` that no page gave.
        """
        place = _read_place(after, 2) if after else None
        behind = place and (place[0], place[1][0], place[1][1])
        its = (await find_deployment(self._known.store, deployment)).uid if deployment else None
        found = await self._known.store.machine_page(behind, limit + 1, its)
        page, more = found[:limit], len(found) > limit
        following = None
        if more:
            created, last = page[-1]
            following = _place(created, last.deployment, last.uid)
        return MachineList(machines=await self.machines([machine for _, machine in page]), next=following)

    async def deployment(self, deployment: DeploymentRecord) -> DeploymentView:
        """A deployment with its machines: of very many those are left out that ended longest ago."""
        store = self._known.store
        version = self._known.changes.version(deployment.uid)  # before what it is said of is read
        disk = (await self._known.data.get([deployment.data]))[deployment.data]
        machines = await store.latest_machines(deployment.uid, limits.PAGE)
        whole = len(machines) < limits.PAGE
        left_out = 0 if whole else await store.machine_count(deployment.uid) - len(machines)
        states = (await store.machine_states([deployment.uid]))[deployment.uid]
        figures = _figures(deployment, disk, states)
        shown = await self.machines(machines)
        return DeploymentView(**figures, machines=shown, left_out=max(0, left_out), version=version)

    async def machines(self, machines: Sequence[MachineRecord]) -> list[MachineView]:
        """These machines."""
        names = await self._known.data.get({machine.data for machine in machines})
        inner = await self._inner.of([machine.uid for machine in machines])
        return [self._machine(one, names[one.data], inner.get(one.uid)) for one in machines]

    def _machine(self, machine: MachineRecord, disk: Datum, inner: HostId | None) -> MachineView:
        inside = self._known.hosts.get(inner) if inner is not None else None
        return MachineView(
            uid=machine.uid,
            deployment=machine.deployment,
            disk=disk.data.name,
            deprecated=disk.deprecated if isinstance(disk, Disk) else "",
            host=machine.host,
            host_name=self._known.hosts.name(machine.host),
            state=machine.state,
            since=machine.since,
            hypervisor=machine.hypervisor,
            reason=ErrorView.model_validate(machine.reason) if machine.reason else None,
            cause=machine.cause,
            console=machine.console_end,
            attempt=machine.attempt,
            draining=machine.draining,
            successor=machine.successor,
            continues=machine.continues,
            snapshots=list(machine.snapshots),
            ports=list(machine.ports),
            inner=inner,
            inner_state=inside.state if inside is not None else None,
        )


def _figures(deployment: DeploymentRecord, disk: Datum, states: dict[Any, int]) -> dict[str, Any]:
    return {
        "uid": deployment.uid,
        "disk": disk.data.name,
        "count": deployment.count,
        "created": deployment.created,
        "states": states,
        "restart": deployment.restart,
        "network": deployment.network,
        "memory": deployment.memory,
        "cpus": deployment.cpus,
        "requires": deployment.requires,
        "ports": list(deployment.ports),
        "ends": deployment.ends,
    }


def _place(created: datetime, *uids: Uid) -> str:
    return "_".join([created.isoformat(), *uids])


def _read_place(text: str, uids: int) -> tuple[datetime, list[Uid]]:
    try:
        created, *rest = text.split("_")
        moment = datetime.fromisoformat(created)
        if moment.tzinfo is None or len(rest) != uids:
            raise ValueError("it is of another list")  # noqa: TRY301
    except ValueError:
        raise error("input.invalid", f"{text[:80]!r} is no place in the list", field="after") from None
    return moment, [Uid(uid) for uid in rest]
