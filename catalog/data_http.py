"""The routes by which data come, change and go. What shows them is the scheduler's: it knows where they are."""

from __future__ import annotations

from bitdew.wire import limits
from bitdew.wire.models import (
    AttributeChoice,
    AttributeView,
    DataCreated,
    DataRequest,
    DoubtReply,
    DoubtRequest,
    Nothing,
    UploadDone,
)
from bitdew.wire.server import PEOPLE, Call, Routes

from .attributes import Attributes
from .data import DataRoom
from .doubts import Doubts
from .registry import PUBLISHERS


def datum_routes(data: DataRoom, attributes: Attributes, doubts: Doubts) -> Routes:
    """Data of any kind; disks have routes of their own, since they come with a record."""
    routes = Routes()

    async def create(call: Call[DataRequest]) -> DataCreated:
        return DataCreated(uids=list(await data.create(call.body.data, call.caller)))

    async def receive(call: Call[Nothing]) -> UploadDone:
        chunks = call.request.content.iter_chunked(limits.CHUNK)
        datum = await data.receive(call.path["name"], chunks, call.caller)
        return UploadDone(root=datum.data.root, size=datum.data.size)

    async def choose(call: Call[AttributeChoice]) -> AttributeView:
        record = await data.choose(call.path["name"], call.body.attribute, call.caller)
        return await attributes.show(record.uid)

    async def remove(call: Call[Nothing]) -> Nothing:
        await data.remove(call.path["name"], call.caller)
        return Nothing()

    async def doubt(call: Call[DoubtRequest]) -> DoubtReply:
        datum = await data.living(call.path["name"])
        return DoubtReply(bad=await doubts.hear(datum.data.root, call.body.piece))

    routes.add("POST", "/v1/data", create, body=DataRequest, roles=PUBLISHERS)
    routes.add("PUT", "/v1/data/{name}/content", receive, roles=PUBLISHERS, streams=True)
    routes.add("PUT", "/v1/data/{name}/attribute", choose, body=AttributeChoice, roles=PUBLISHERS)
    routes.add("DELETE", "/v1/data/{name}", remove, roles=PUBLISHERS)
    routes.add("POST", "/v1/data/{name}/doubt", doubt, body=DoubtRequest, roles=PEOPLE)
    return routes
