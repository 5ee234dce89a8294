"""The catalog's routes. A handler parses nothing and decides nothing: it calls its room and returns a model."""

from __future__ import annotations

from bitdew import __version__
from bitdew.core.ids import ContentRoot, HostId
from bitdew.trust.roles import Role
from bitdew.wire import API_VERSION
from bitdew.wire.models import (
    AnnounceReply,
    AnnounceRequest,
    AuthorityReply,
    EnrolReply,
    EnrolRequest,
    MetainfoReply,
    Nothing,
    RenewRequest,
    ServiceReply,
    SketchReply,
    SwarmReply,
    SwarmRequest,
    TokenList,
    TokenRequest,
    TokenView,
)
from bitdew.wire.server import EVERYONE, PEOPLE, Call, FileReply, RepositoryAddress, Routes

from .announce import Announce
from .disks import Disks
from .egress import Egress
from .registry import PUBLISHERS, Registry


def identity_routes(registry: Registry, service_name: str) -> Routes:
    """Tokens, enrolment and renewal."""
    routes = Routes()

    async def authority(_call: Call[Nothing]) -> AuthorityReply:
        return AuthorityReply(certificate=registry.authority.certificate)

    async def enrol(call: Call[EnrolRequest]) -> EnrolReply:
        return await registry.enrol(call.body)

    async def service(call: Call[Nothing]) -> ServiceReply:
        return ServiceReply(
            name=service_name,
            version=__version__,
            api=API_VERSION,
            fingerprint=registry.authority.fingerprint,
            subject=call.caller.name,
            role=call.caller.role,
        )

    async def renew(call: Call[RenewRequest]) -> EnrolReply:
        return await registry.renew(call.caller, call.body)

    async def to_swarms(call: Call[SwarmRequest]) -> SwarmReply:
        return SwarmReply(swarm=await registry.admit_to_swarms(call.caller, call.body.swarm_csr))

    async def create_token(call: Call[TokenRequest]) -> TokenView:
        return await registry.create_token(call.body, call.caller.subject_id)

    async def tokens(_call: Call[Nothing]) -> TokenList:
        return await registry.tokens()

    async def revoke_token(call: Call[Nothing]) -> Nothing:
        await registry.revoke_token(call.path["uid"])
        return Nothing()

    routes.add("GET", "/v1/ca", authority, roles=None)
    routes.add("POST", "/v1/enrol", enrol, body=EnrolRequest, roles=None)
    routes.add("GET", "/v1/service", service, roles=EVERYONE)
    routes.add("POST", "/v1/identity/renew", renew, body=RenewRequest, roles=EVERYONE)
    routes.add("POST", "/v1/identity/swarm", to_swarms, body=SwarmRequest, roles=PEOPLE)
    routes.add("POST", "/v1/tokens", create_token, body=TokenRequest, roles={Role.OPERATOR})
    routes.add("GET", "/v1/tokens", tokens, roles={Role.OPERATOR})
    routes.add("DELETE", "/v1/tokens/{uid}", revoke_token, roles={Role.OPERATOR})
    return routes


def revocation_routes(registry: Registry) -> Routes:
    """Being shut out: by an operator, or by one's own wish."""
    routes = Routes()

    async def revoke(call: Call[Nothing]) -> Nothing:
        await registry.revoke(call.path["subject"])
        return Nothing()

    async def give_up(call: Call[Nothing]) -> Nothing:
        await registry.revoke(call.caller.subject_id)
        return Nothing()

    routes.add("DELETE", "/v1/identities/{subject}", revoke, roles={Role.OPERATOR})
    routes.add("DELETE", "/v1/identity", give_up, roles=EVERYONE)
    return routes


def data_routes(disks: Disks, announce: Announce, egress: Egress, repository: RepositoryAddress) -> Routes:
    """What swarms and copies over HTTP need to begin. What shows disks is the scheduler's: it knows where they are."""
    routes = Routes()

    async def remove(call: Call[Nothing]) -> Nothing:
        await disks.remove(call.path["name"], call.caller)
        return Nothing()

    async def metainfo(call: Call[Nothing]) -> MetainfoReply:
        return MetainfoReply(metainfo=await disks.repository.metainfo(ContentRoot(call.path["root"])))

    async def sketch(call: Call[Nothing]) -> SketchReply:
        repository = disks.repository
        return SketchReply(
            sketch=await repository.blocks.sketch(await repository.content(ContentRoot(call.path["root"])))
        )

    async def blocks(call: Call[Nothing]) -> FileReply:
        return await egress.blocks(ContentRoot(call.path["root"]))

    async def content(call: Call[Nothing]) -> FileReply:
        return await egress.content(ContentRoot(call.path["root"]))

    async def helped(call: Call[Nothing]) -> FileReply:
        return await egress.help(ContentRoot(call.path["root"]), HostId(call.caller.subject_id))

    async def announced(call: Call[AnnounceRequest]) -> AnnounceReply:
        root, asking = ContentRoot(call.body.root), HostId(call.caller.subject_id)
        return await announce.peers(root, asking, repository(call.request))

    routes.add("DELETE", "/v1/disks/{name}", remove, roles=PUBLISHERS)
    routes.add("GET", "/v1/metainfo/{root:[0-9a-f]{64}}", metainfo, roles=EVERYONE)
    routes.add("GET", "/v1/sketch/{root:[0-9a-f]{64}}", sketch, roles={Role.WORKER})
    routes.add("GET", "/v1/blocks/{root:[0-9a-f]{64}}", blocks, roles={Role.WORKER})
    routes.add("GET", "/v1/content/{root:[0-9a-f]{64}}", content, roles=EVERYONE)
    routes.add("GET", "/v1/help/{root:[0-9a-f]{64}}", helped, roles={Role.WORKER})
    routes.add("POST", "/v1/announce", announced, body=AnnounceRequest, roles={Role.WORKER})
    return routes
