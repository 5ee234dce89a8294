"""The routes of standing jobs. A handler calls its room and returns a model."""

from __future__ import annotations

from bitdew.wire.models import (
    Nothing,
    StandingEnd,
    StandingExplanation,
    StandingList,
    StandingRequest,
    StandingView,
)
from bitdew.wire.server import PEOPLE, Call, Routes

from .standing_desk import StandingDesk


def standing_routes(desk: StandingDesk) -> Routes:
    """Standing jobs, for people."""
    routes = Routes()

    async def submit(call: Call[StandingRequest]) -> StandingView:
        return await desk.submit(call.body, call.caller)

    async def show_all(call: Call[Nothing]) -> StandingList:
        return await desk.all(call.caller.subject_id if call.query.get("mine") else None)

    async def show(call: Call[Nothing]) -> StandingView:
        return await desk.show(call.path["uid"])

    async def explain(call: Call[Nothing]) -> StandingExplanation:
        return await desk.explain(call.path["uid"])

    async def end(call: Call[StandingEnd]) -> StandingView:
        return await desk.end(call.path["uid"], call.body, call.caller)

    routes.add("POST", "/v1/standing-jobs", submit, body=StandingRequest, roles=PEOPLE)
    routes.add("GET", "/v1/standing-jobs", show_all, roles=PEOPLE)
    routes.add("GET", "/v1/standing-jobs/{uid}", show, roles=PEOPLE)
    routes.add("GET", "/v1/standing-jobs/{uid}/explain", explain, roles=PEOPLE)
    routes.add("POST", "/v1/standing-jobs/{uid}/cancel", end, body=StandingEnd, roles=PEOPLE)
    return routes
