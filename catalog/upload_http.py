"""The routes of uploads. A handler calls its room and returns a model."""

from __future__ import annotations

from bitdew.trust.roles import Role
from bitdew.wire import limits
from bitdew.wire.models import (
    CompleteRequest,
    DataCreated,
    Nothing,
    PartDone,
    PutRequest,
    UploadDone,
    UploadReply,
    UploadRequest,
    UploadView,
)
from bitdew.wire.server import Call, Routes

from .publishing import Publishing
from .registry import PUBLISHERS


def upload_routes(publishing: Publishing) -> Routes:
    """Uploads: begun, sent part by part or at once, looked at, completed, made a datum, abandoned."""
    routes = Routes()

    async def begin(call: Call[UploadRequest]) -> UploadReply:
        return await publishing.begin(call.body, call.caller)

    async def receive(call: Call[Nothing]) -> PartDone | UploadDone:
        chunks = call.request.content.iter_chunked(limits.CHUNK)
        offset = int(call.number("offset", 0, limits.LARGEST_DISK)) if "offset" in call.query else None
        return await publishing.receive(call.path["upload"], offset, chunks, call.caller)

    async def show(call: Call[Nothing]) -> UploadView:
        return publishing.show(call.path["upload"], call.caller)

    async def complete(call: Call[CompleteRequest]) -> UploadDone:
        return await publishing.complete(call.path["upload"], call.body, call.caller)

    async def put(call: Call[PutRequest]) -> DataCreated:
        return DataCreated(uids=[await publishing.put(call.path["upload"], call.body, call.caller)])

    async def abandon(call: Call[Nothing]) -> Nothing:
        await publishing.abandon(call.path["upload"], call.caller)
        return Nothing()

    # What a host may send are the results of its runs, and a user what his jobs read: such uploads begin, and become
    # data, elsewhere.
    senders = PUBLISHERS | {Role.WORKER, Role.USER}
    routes.add("POST", "/v1/uploads", begin, body=UploadRequest, roles=PUBLISHERS)
    routes.add("GET", "/v1/uploads/{upload}", show, roles=senders)
    routes.add("PUT", "/v1/uploads/{upload}", receive, roles=senders, streams=True)
    routes.add("POST", "/v1/uploads/{upload}/complete", complete, body=CompleteRequest, roles=senders)
    routes.add("POST", "/v1/uploads/{upload}/datum", put, body=PutRequest, roles=PUBLISHERS)
    routes.add("DELETE", "/v1/uploads/{upload}", abandon, roles=senders)
    return routes
