"""The routes of those who watch over a service. A handler calls its room and returns what that says."""

from __future__ import annotations

from bitdew.wire.models import HealthReply, Nothing, SummaryReply
from bitdew.wire.server import PEOPLE, Call, Routes, TextReply

from .figures import Figures
from .health import Health
from .summaries import Summaries


def watching_routes(health: Health, figures: Figures, summaries: Summaries) -> Routes:
    """Health for anybody, since whoever restarts a service has no certificate; figures and summaries for people."""
    routes = Routes()

    async def check(_call: Call[Nothing]) -> HealthReply:
        return await health.check()

    async def metrics(_call: Call[Nothing]) -> TextReply:
        return await figures.text()

    async def summary(_call: Call[Nothing]) -> SummaryReply:
        return await summaries.summary()

    routes.add("GET", "/v1/health", check, roles=None)
    routes.add("GET", "/v1/metrics", metrics, roles=PEOPLE)
    routes.add("GET", "/v1/summary", summary, roles=PEOPLE)
    return routes
