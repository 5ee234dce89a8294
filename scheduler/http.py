"""The scheduler's routes. A handler calls its room and returns a model."""

from __future__ import annotations

from bitdew.core.ids import HostId
from bitdew.trust.roles import Role
from bitdew.wire import limits
from bitdew.wire.models import (
    ConsoleReply,
    DataList,
    DataView,
    DeploymentExplanation,
    DeploymentList,
    DeploymentView,
    DeployRequest,
    DeprecationRequest,
    DiskList,
    DiskRequest,
    DiskView,
    DrainRequest,
    DrainView,
    ErrandReport,
    ErrandRequest,
    ErrandView,
    EventsReply,
    ExplainReply,
    HostList,
    HostView,
    MachineList,
    MachineSeed,
    MachineView,
    Nothing,
    PeersReply,
    ScaleRequest,
    SoughtReply,
    SyncReply,
    SyncRequest,
    WhereReply,
    WholeRequest,
)
from bitdew.wire.server import PEOPLE, Call, RepositoryAddress, Routes

from ..catalog.data import DataRoom
from ..catalog.disks import Disks
from ..catalog.registry import PUBLISHERS
from ..catalog.small import SmallData
from .clearing import Clearing
from .deployments import Deployments
from .draining import Draining
from .errands import Errands
from .seeds import Seeds
from .sought import Sought
from .sync import Sync
from .telling import Telling
from .views import Views


def shown_data_routes(disks: Disks, small: SmallData, views: Views) -> Routes:
    """Data and disks, with where they are: adding is the catalog's work, showing copies needs the scheduler's."""
    routes = Routes()

    async def whole(call: Call[WholeRequest]) -> DataView:
        datum, is_new = await small.put(call.body, call.caller)
        return views.data_view(datum, []) if is_new else await views.datum(datum.data.uid, call.caller)

    async def add(call: Call[DiskRequest]) -> DiskView:
        return views.disk_view(await disks.add(call.body, call.caller), [])

    async def show_disks(call: Call[Nothing]) -> DiskList:
        prefix, after = call.query.get("prefix", "")[:128], call.query.get("after", "")[:128] or None
        return await views.disks(prefix, after, _page(call))

    async def show_disk(call: Call[Nothing]) -> DiskView:
        return await views.disk(call.path["name"])

    async def show_data(call: Call[Nothing]) -> DataList:
        prefix, after = call.query.get("prefix", "")[:128], call.query.get("after", "")[:128] or None
        return await views.data(prefix, after, _page(call), call.caller)

    async def show_datum(call: Call[Nothing]) -> DataView:
        return await views.datum(call.path["name"], call.caller)

    async def where(call: Call[Nothing]) -> WhereReply:
        since, seconds = int(call.number("since", 0, 2**53)), call.number("wait", 0, limits.LONGEST_POLL)
        return await views.where(call.path["name"], since, seconds, call.caller)

    async def explain(call: Call[Nothing]) -> ExplainReply:
        return await views.explain(call.path["name"], call.caller)

    routes.add("POST", "/v1/whole", whole, body=WholeRequest, roles=PUBLISHERS)
    routes.add("POST", "/v1/disks", add, body=DiskRequest, roles=PUBLISHERS)
    routes.add("GET", "/v1/disks", show_disks, roles=PEOPLE)
    routes.add("GET", "/v1/disks/{name}", show_disk, roles=PEOPLE)
    routes.add("GET", "/v1/data", show_data, roles=PEOPLE)
    routes.add("GET", "/v1/data/{name}", show_datum, roles=PEOPLE)
    for kind in ("disks", "data"):  # a disk is a datum: both ways lead to it
        routes.add("GET", f"/v1/{kind}/{{name}}/where", where, roles=PEOPLE)
        routes.add("GET", f"/v1/{kind}/{{name}}/explain", explain, roles=PEOPLE)
    return routes


def deprecation_routes(disks: Disks, views: Views) -> Routes:
    """What publishers say of disks that are not to be used any more."""
    routes = Routes()

    async def deprecate(call: Call[DeprecationRequest]) -> DiskView:
        return views.disk_view(await disks.deprecate(call.path["name"], call.body.why, call.caller), [])

    async def reinstate(call: Call[Nothing]) -> DiskView:
        return views.disk_view(await disks.deprecate(call.path["name"], "", call.caller), [])

    said = "/v1/disks/{name}/deprecation"
    routes.add("POST", said, deprecate, body=DeprecationRequest, roles=PUBLISHERS)
    routes.add("DELETE", said, reinstate, roles=PUBLISHERS)
    return routes


def host_routes(sync: Sync, sought: Sought, data: DataRoom, views: Views, repository: RepositoryAddress) -> Routes:
    """Hosts, as they sync and as people see them."""
    routes = Routes()

    async def take_sync(call: Call[SyncRequest]) -> SyncReply:
        body = call.body
        if body.host is not None:  # what a host is called stands in its certificate, whatever it says
            body = body.model_copy(update={"host": body.host.model_copy(update={"name": call.caller.name})})
        return await sync.sync(HostId(call.caller.subject_id), body, repository(call.request))

    async def sought_there(call: Call[Nothing]) -> SoughtReply:
        return await sought.at(HostId(call.caller.subject_id))

    async def peers(call: Call[Nothing]) -> PeersReply:
        datum = await data.living(call.path["name"])
        await sought.seek(datum.data.root)  # whoever asks is about to dial them
        return PeersReply(peers=[str(peer) for peer in await sync.sources(datum)])

    async def show_all(call: Call[Nothing]) -> HostList:
        return await views.hosts(call.query.get("after", "")[:256], _page(call))

    async def show(call: Call[Nothing]) -> HostView:
        return await views.host(call.path["host"])

    routes.add("POST", "/v1/sync", take_sync, body=SyncRequest, roles={Role.WORKER})
    routes.add("GET", "/v1/data/{name}/peers", peers, roles=PEOPLE)
    routes.add("GET", "/v1/sought", sought_there, roles={Role.WORKER})
    routes.add("GET", "/v1/hosts", show_all, roles=PEOPLE)
    routes.add("GET", "/v1/hosts/{host}", show, roles=PEOPLE)
    return routes


def draining_routes(draining: Draining) -> Routes:
    """Hosts that are to be emptied: by an operator's word, or by their own."""
    routes = Routes()

    async def drain(call: Call[DrainRequest]) -> DrainView:
        return await draining.drain(call.path["host"], call.body.machines)

    async def undrain(call: Call[Nothing]) -> DrainView:
        return await draining.drain(call.path["host"], None)

    async def show(call: Call[Nothing]) -> DrainView:
        return await draining.view(call.path["host"])

    async def leave(call: Call[DrainRequest]) -> DrainView:
        return await draining.leave(HostId(call.caller.subject_id), call.body.machines)

    async def stay(call: Call[Nothing]) -> DrainView:
        return await draining.leave(HostId(call.caller.subject_id), None)

    async def show_own(call: Call[Nothing]) -> DrainView:
        return await draining.view(call.caller.subject_id)

    routes.add("POST", "/v1/hosts/{host}/drain", drain, body=DrainRequest, roles={Role.OPERATOR})
    routes.add("DELETE", "/v1/hosts/{host}/drain", undrain, roles={Role.OPERATOR})
    routes.add("GET", "/v1/hosts/{host}/drain", show, roles=PEOPLE)
    routes.add("POST", "/v1/leave", leave, body=DrainRequest, roles={Role.WORKER})
    routes.add("DELETE", "/v1/leave", stay, roles={Role.WORKER})
    routes.add("GET", "/v1/leave", show_own, roles={Role.WORKER})
    return routes


def event_routes(telling: Telling) -> Routes:
    """What happened to data and to their copies."""
    routes = Routes()

    async def events(call: Call[Nothing]) -> EventsReply:
        return await telling.events(
            call.query.get("after", ""),
            call.caller,
            data=call.query.get("data", ""),
            attribute=call.query.get("attribute", ""),
            kinds=call.query.get("kinds", ""),
            limit=_page(call),
            seconds=call.number("wait", 0, limits.LONGEST_POLL),
        )

    routes.add("GET", "/v1/events", events, roles=PEOPLE)
    return routes


def deployment_routes(deployments: Deployments, clearing: Clearing) -> Routes:
    """Deployments."""
    routes = Routes()

    async def deploy(call: Call[DeployRequest]) -> DeploymentView:
        return await deployments.deploy(call.body, call.caller.subject_id)

    async def show_all(call: Call[Nothing]) -> DeploymentList:
        return await deployments.views.deployments(call.query.get("after", "")[:128], _page(call))

    async def show(call: Call[Nothing]) -> DeploymentView:
        since, seconds = int(call.number("since", 0, 2**53)), call.number("wait", 0, limits.LONGEST_POLL)
        return await deployments.deployment(call.path["uid"], since, seconds)

    async def scale(call: Call[ScaleRequest]) -> DeploymentView:
        return await deployments.scale(call.path["uid"], call.body.count, call.caller)

    async def explain(call: Call[Nothing]) -> DeploymentExplanation:
        return await deployments.explain(call.path["uid"])

    async def remove(call: Call[Nothing]) -> Nothing:
        await clearing.remove_deployment(call.path["uid"], call.caller)
        return Nothing()

    routes.add("DELETE", "/v1/deployments/{uid}", remove, roles=PEOPLE)
    routes.add("POST", "/v1/deployments", deploy, body=DeployRequest, roles=PEOPLE)
    routes.add("GET", "/v1/deployments", show_all, roles=PEOPLE)
    routes.add("GET", "/v1/deployments/{uid}", show, roles=PEOPLE)
    routes.add("POST", "/v1/deployments/{uid}/scale", scale, body=ScaleRequest, roles=PEOPLE)
    routes.add("GET", "/v1/deployments/{uid}/explain", explain, roles=PEOPLE)
    return routes


def machine_routes(deployments: Deployments, seeds: Seeds, clearing: Clearing) -> Routes:
    """Machines, and what they are told."""
    routes = Routes()

    async def seed(call: Call[Nothing]) -> MachineSeed:
        return await seeds.seed(call.path["uid"], call.caller)

    async def show_all(call: Call[Nothing]) -> MachineList:
        of, after = call.query.get("deployment", "")[:32], call.query.get("after", "")[:128]
        return await deployments.views.machine_page(of, after, _page(call))

    async def show(call: Call[Nothing]) -> MachineView:
        return await deployments.machine(call.path["uid"])

    async def stop(call: Call[Nothing]) -> MachineView:
        return await deployments.stop(call.path["uid"], call.caller)

    async def console(call: Call[Nothing]) -> ConsoleReply:
        offset, seconds = int(call.number("offset", 0, 2**53)), call.number("wait", 0, limits.LONGEST_POLL)
        return await deployments.console(call.path["uid"], offset, seconds, call.caller)

    async def remove(call: Call[Nothing]) -> Nothing:
        await clearing.remove_machine(call.path["uid"], call.caller)
        return Nothing()

    routes.add("DELETE", "/v1/machines/{uid}", remove, roles=PEOPLE)
    routes.add("GET", "/v1/machines", show_all, roles=PEOPLE)
    routes.add("GET", "/v1/machines/{uid}", show, roles=PEOPLE)
    routes.add("POST", "/v1/machines/{uid}/seed", seed, roles={Role.WORKER})
    routes.add("POST", "/v1/machines/{uid}/stop", stop, roles=PEOPLE)
    routes.add("GET", "/v1/machines/{uid}/console", console, roles=PEOPLE)
    return routes


def errand_routes(errands: Errands) -> Routes:
    """What machines' hosts are asked to do once."""
    routes = Routes()

    async def ask(call: Call[ErrandRequest]) -> ErrandView:
        return await errands.ask(call.path["uid"], call.body, call.caller)

    async def show(call: Call[Nothing]) -> ErrandView:
        return await errands.errand(call.path["uid"], call.number("wait", 0, limits.LONGEST_POLL), call.caller)

    async def report(call: Call[ErrandReport]) -> Nothing:
        await errands.report(call.path["uid"], call.body, call.caller)
        return Nothing()

    routes.add("POST", "/v1/machines/{uid}/errands", ask, body=ErrandRequest, roles=PEOPLE)
    routes.add("GET", "/v1/errands/{uid}", show, roles=PEOPLE)
    routes.add("POST", "/v1/errands/{uid}/result", report, body=ErrandReport, roles={Role.WORKER})
    return routes


def _page(call: Call[Nothing]) -> int:
    """How many a page of what is asked for has at most."""
    return max(1, int(call.number("limit", 100, limits.PAGE)))
