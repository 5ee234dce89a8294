"""The routes of publishers who offer bytes from where they are."""

from __future__ import annotations

from bitdew.wire.models import DescribedDisk, DescribedDiskRequest, Nothing, OriginReply, OriginRequest
from bitdew.wire.server import Call, Routes

from .disks import Disks
from .origins import Origins
from .registry import PUBLISHERS


def origin_routes(disks: Disks, origins: Origins) -> Routes:
    """Describing a disk without its bytes, and offering those of any datum."""
    routes = Routes()

    async def describe(call: Call[DescribedDiskRequest]) -> DescribedDisk:
        return DescribedDisk(uid=await disks.describe(call.body, call.caller))

    async def offer(call: Call[OriginRequest]) -> OriginReply:
        return await origins.offer(call.path["name"], call.body, call.caller)

    async def withdraw(call: Call[Nothing]) -> Nothing:
        await origins.withdraw(call.path["name"], call.caller)
        return Nothing()

    routes.add("POST", "/v1/disks/described", describe, body=DescribedDiskRequest, roles=PUBLISHERS)
    routes.add("PUT", "/v1/data/{name}/origin", offer, body=OriginRequest, roles=PUBLISHERS)
    routes.add("DELETE", "/v1/data/{name}/origin", withdraw, roles=PUBLISHERS)
    return routes
