"""The scheduler's routes. A handler calls its room and returns a model."""

from __future__ import annotations

from bitdew.core.ids import HostId
from bitdew.trust.roles import Role
from bitdew.wire import limits
from bitdew.wire.models import (
    ConsoleReply,
    DataList,
    DataView,
    DeploymentView,
    DeployRequest,
    DiskList,
    DiskRequest,
    DiskView,
    ExplainReply,
    HostList,
    HostView,
    MachineList,
    MachineView,
    Nothing,
    SyncReply,
    SyncRequest,
    WhereReply,
)
from bitdew.wire.server import PEOPLE, Call, RepositoryAddress, Routes

from ..catalog.disks import Disks
from ..catalog.registry import PUBLISHERS
from .deployments import Deployments
from .sync import Sync
from .views import Views


def shown_data_routes(disks: Disks, views: Views) -> Routes:
    """Data and disks, with where they are: adding is the catalog's work, showing copies needs the scheduler's."""
    routes = Routes()

    async def add(call: Call[DiskRequest]) -> DiskView:
        return views.disk_view(await disks.add(call.body, call.caller), [])

    async def show_disks(_call: Call[Nothing]) -> DiskList:
        return await views.disks()

    async def show_disk(call: Call[Nothing]) -> DiskView:
        return await views.disk(call.path["name"])

    async def show_data(call: Call[Nothing]) -> DataList:
        prefix, after = call.query.get("prefix", "")[:128], call.query.get("after", "")[:128] or None
        return await views.data(prefix, after, max(1, int(call.number("limit", 100, limits.PAGE))))

    async def show_datum(call: Call[Nothing]) -> DataView:
        return await views.datum(call.path["name"])

    async def where(call: Call[Nothing]) -> WhereReply:
        since, seconds = int(call.number("since", 0, 2**53)), call.number("wait", 0, limits.LONGEST_POLL)
        return await views.where(call.path["name"], since, seconds)

    async def explain(call: Call[Nothing]) -> ExplainReply:
        return await views.explain(call.path["name"])

    routes.add("POST", "/v1/disks", add, body=DiskRequest, roles=PUBLISHERS)
    routes.add("GET", "/v1/disks", show_disks, roles=PEOPLE)
    routes.add("GET", "/v1/disks/{name}", show_disk, roles=PEOPLE)
    routes.add("GET", "/v1/data", show_data, roles=PEOPLE)
    routes.add("GET", "/v1/data/{name}", show_datum, roles=PEOPLE)
    for kind in ("disks", "data"):  # a disk is a datum: both ways lead to it
        routes.add("GET", f"/v1/{kind}/{{name}}/where", where, roles=PEOPLE)
        routes.add("GET", f"/v1/{kind}/{{name}}/explain", explain, roles=PEOPLE)
    return routes


def host_routes(sync: Sync, views: Views, repository: RepositoryAddress) -> Routes:
    """Hosts, as they sync and as people see them."""
    routes = Routes()

    async def take_sync(call: Call[SyncRequest]) -> SyncReply:
        body = call.body
        if body.host is not None:  # what a host is called stands in its certificate, whatever it says
            body = body.model_copy(update={"host": body.host.model_copy(update={"name": call.caller.name})})
        return await sync.sync(HostId(call.caller.subject_id), body, repository(call.request))

    async def show_all(_call: Call[Nothing]) -> HostList:
        return await views.hosts()

    async def show(call: Call[Nothing]) -> HostView:
        return await views.host(call.path["host"])

    routes.add("POST", "/v1/sync", take_sync, body=SyncRequest, roles={Role.WORKER})
    routes.add("GET", "/v1/hosts", show_all, roles=PEOPLE)
    routes.add("GET", "/v1/hosts/{host}", show, roles=PEOPLE)
    return routes


def machine_routes(deployments: Deployments) -> Routes:
    """Deployments and machines."""
    routes = Routes()

    async def deploy(call: Call[DeployRequest]) -> DeploymentView:
        return await deployments.deploy(call.body, call.caller.subject_id)

    async def show_all(_call: Call[Nothing]) -> MachineList:
        return await deployments.machines()

    async def show(call: Call[Nothing]) -> MachineView:
        return await deployments.machine(call.path["uid"])

    async def stop(call: Call[Nothing]) -> MachineView:
        return await deployments.stop(call.path["uid"], call.caller)

    async def console(call: Call[Nothing]) -> ConsoleReply:
        offset, seconds = int(call.number("offset", 0, 2**53)), call.number("wait", 0, limits.LONGEST_POLL)
        return await deployments.console(call.path["uid"], offset, seconds, call.caller)

    routes.add("POST", "/v1/deployments", deploy, body=DeployRequest, roles=PEOPLE)
    routes.add("GET", "/v1/machines", show_all, roles=PEOPLE)
    routes.add("GET", "/v1/machines/{uid}", show, roles=PEOPLE)
    routes.add("POST", "/v1/machines/{uid}/stop", stop, roles=PEOPLE)
    routes.add("GET", "/v1/machines/{uid}/console", console, roles=PEOPLE)
    return routes
