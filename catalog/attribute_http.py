"""The routes of attributes."""

from __future__ import annotations

from bitdew.core.ids import Uid
from bitdew.trust.roles import Role
from bitdew.wire.models import (
    AttributeList,
    AttributeNamesReply,
    AttributeNamesRequest,
    AttributeRequest,
    AttributeView,
    Nothing,
)
from bitdew.wire.server import PEOPLE, Call, Routes

from .attributes import Attributes
from .registry import PUBLISHERS


def attribute_routes(attributes: Attributes) -> Routes:
    """Named wishes: who publishes defines them, everyone may read them. Hosts may ask for their names."""
    routes = Routes()

    async def show_all(_call: Call[Nothing]) -> AttributeList:
        return await attributes.list()

    async def show(call: Call[Nothing]) -> AttributeView:
        return await attributes.show(call.path["name"])

    async def keep(call: Call[AttributeRequest]) -> AttributeView:
        work = attributes.keep if call.body.replace else attributes.define
        return await attributes.show((await work(call.path["name"], call.body.wishes, call.caller)).uid)

    async def remove(call: Call[Nothing]) -> Nothing:
        await attributes.remove(call.path["name"], call.caller)
        return Nothing()

    async def names(call: Call[AttributeNamesRequest]) -> AttributeNamesReply:
        found = await attributes.names(map(Uid, call.body.data))
        return AttributeNamesReply(names={str(uid): name for uid, name in found.items()})

    routes.add("POST", "/v1/attribute-names", names, body=AttributeNamesRequest, roles={Role.WORKER})
    routes.add("GET", "/v1/attributes", show_all, roles=PEOPLE)
    routes.add("GET", "/v1/attributes/{name}", show, roles=PEOPLE)
    routes.add("PUT", "/v1/attributes/{name}", keep, body=AttributeRequest, roles=PUBLISHERS)
    routes.add("DELETE", "/v1/attributes/{name}", remove, roles=PUBLISHERS)
    return routes
