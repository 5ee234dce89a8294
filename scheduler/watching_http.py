"""The routes of those who watch over a service. A handler calls its room and returns what that says."""

from __future__ import annotations

from bitdew.wire.models import HealthReply, Nothing
from bitdew.wire.server import PEOPLE, Call, Routes, TextReply

from .figures import Figures
from .health import Health


def watching_routes(health: Health, figures: Figures) -> Routes:
    """Health for anybody, since whoever restarts a service has no certificate; figures for people."""
    routes = Routes()

    async def check(_call: Call[Nothing]) -> HealthReply:
        return await health.check()

    async def metrics(_call: Call[Nothing]) -> TextReply:
        return await figures.text()

    routes.add("GET", "/v1/health", check, roles=None)
    routes.add("GET", "/v1/metrics", metrics, roles=PEOPLE)
    return routes
