"""Workers that have joined a service, as many as a benchmark asks for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bitdew.core.states import HostState

if TYPE_CHECKING:
    from bitdew import Dew

    from .processes import Site

GIVEN_UP = 1800.0


async def joined(site: Site, dew: Dew, url: str, hosts: int) -> None:
    """Start as many workers, and return when the service hears them all."""
    token = (await dew.grid.create_token("worker", uses=hosts)).token or ""
    for host in range(1, hosts + 1):
        site.worker(host, url, token)
    async with asyncio.timeout(GIVEN_UP):
        while sum(host.state is HostState.ALIVE for host in await dew.hosts()) < hosts:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
