"""The catalog's routes. A handler parses nothing and decides nothing: it calls its room and returns a model."""

from __future__ import annotations

from bitdew import __version__
from bitdew.core.ids import ContentRoot, HostId
from bitdew.trust.roles import Role
from bitdew.wire import API_VERSION, limits
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
    TokenList,
    TokenRequest,
    TokenView,
    UploadDone,
    UploadReply,
    UploadRequest,
)
from bitdew.wire.server import EVERYONE, Call, FileReply, RepositoryAddress, Routes

from .announce import Announce
from .disks import Disks
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

    async def create_token(call: Call[TokenRequest]) -> TokenView:
        return await registry.create_token(call.body, call.caller.subject_id)

    async def tokens(_call: Call[Nothing]) -> TokenList:
        return await registry.tokens()

    async def revoke_token(call: Call[Nothing]) -> Nothing:
        await registry.revoke_token(call.path["uid"])
        return Nothing()

    async def revoke_identity(call: Call[Nothing]) -> Nothing:
        await registry.revoke(call.path["subject"])
        return Nothing()

    routes.add("GET", "/v1/ca", authority, roles=None)
    routes.add("POST", "/v1/enrol", enrol, body=EnrolRequest, roles=None)
    routes.add("GET", "/v1/service", service, roles=EVERYONE)
    routes.add("POST", "/v1/identity/renew", renew, body=RenewRequest, roles=EVERYONE)
    routes.add("POST", "/v1/tokens", create_token, body=TokenRequest, roles={Role.OPERATOR})
    routes.add("GET", "/v1/tokens", tokens, roles={Role.OPERATOR})
    routes.add("DELETE", "/v1/tokens/{uid}", revoke_token, roles={Role.OPERATOR})
    routes.add("DELETE", "/v1/identities/{subject}", revoke_identity, roles={Role.OPERATOR})
    return routes


def data_routes(disks: Disks, announce: Announce, repository: RepositoryAddress) -> Routes:
    """Uploads, and what swarms need to begin. What shows disks is the scheduler's: it knows where they are."""
    routes = Routes()

    async def begin_upload(call: Call[UploadRequest]) -> UploadReply:
        asked = call.body
        upload = await disks.begin_upload(asked.name, asked.size, asked.attribute, call.caller.subject_id)
        return UploadReply(upload=upload.uid)

    async def receive(call: Call[Nothing]) -> UploadDone:
        chunks = call.request.content.iter_chunked(limits.CHUNK)
        content = await disks.repository.receive(call.path["upload"], chunks)
        return UploadDone(root=content.root, size=content.size)

    async def abandon(call: Call[Nothing]) -> Nothing:
        await disks.repository.abandon(call.path["upload"])
        return Nothing()

    async def remove(call: Call[Nothing]) -> Nothing:
        await disks.remove(call.path["name"], call.caller)
        return Nothing()

    async def metainfo(call: Call[Nothing]) -> MetainfoReply:
        return MetainfoReply(metainfo=await disks.repository.metainfo(ContentRoot(call.path["root"])))

    async def content(call: Call[Nothing]) -> FileReply:
        root, kept = ContentRoot(call.path["root"]), disks.repository
        return FileReply(await kept.file_of(root), lambda size: kept.count_sent(root, size))

    async def announced(call: Call[AnnounceRequest]) -> AnnounceReply:
        root, asking = ContentRoot(call.body.root), HostId(call.caller.subject_id)
        return await announce.peers(root, asking, repository(call.request))

    routes.add("POST", "/v1/uploads", begin_upload, body=UploadRequest, roles=PUBLISHERS)
    routes.add("PUT", "/v1/uploads/{upload}", receive, roles=PUBLISHERS, streams=True)
    routes.add("DELETE", "/v1/uploads/{upload}", abandon, roles=PUBLISHERS)
    routes.add("DELETE", "/v1/disks/{name}", remove, roles=PUBLISHERS)
    routes.add("GET", "/v1/metainfo/{root:[0-9a-f]{64}}", metainfo, roles={Role.WORKER})
    routes.add("GET", "/v1/content/{root:[0-9a-f]{64}}", content, roles=EVERYONE)
    routes.add("POST", "/v1/announce", announced, body=AnnounceRequest, roles={Role.WORKER})
    return routes
