"""Where this host's swarm listens: at the port that it had before, if any would do.

Owns `<home>/swarm.port`. Hosts that know this one dial it there, so that a swarm whose hosts all restarted finds
together again without a service that names them to each other. The port is a habit and no promise: if it is taken,
another will do.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.core.errors import BitDewError
from bitdew.swarm.session import Swarm

if TYPE_CHECKING:
    from pathlib import Path

    from bitdew.core.host import Endpoint
    from bitdew.swarm.credentials import SwarmCredentials
    from bitdew.swarm.settings import SwarmLimits

log = structlog.get_logger(__name__)

FILE: Final = "swarm.port"


async def start_swarm(
    home: Path, listen: Endpoint, credentials: SwarmCredentials, limits: SwarmLimits
) -> tuple[Swarm, bool]:
    """Listen at `listen`; if its port is 0, at the last one that `home` knows, or any that is free.

    Also whether that is another port than `home` knows of.

    Raises:
        UserError: `port.in-use`.
        HostError: `swarm.failed`.
    """
    path = home / FILE
    earlier = await asyncio.to_thread(_read, path)
    wanted = listen if listen.port else replace(listen, port=earlier)
    try:
        swarm = await Swarm.start(wanted, credentials, limits)
    except BitDewError as fault:
        if listen.port or not earlier:
            raise
        log.info("the swarm's earlier port can't be had", port=earlier, key=fault.key)
        swarm = await Swarm.start(listen, credentials, limits)
    if swarm.endpoint.port != earlier:
        await asyncio.to_thread(_write, path, swarm.endpoint.port)
    return swarm, swarm.endpoint.port != earlier != 0


def _read(path: Path) -> int:
    """The port in the file; 0 if there is none, or no port is in it."""
    try:
        port = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 2**16 else 0


def _write(path: Path, port: int) -> None:
    try:
        path.write_text(f"{port}\n", encoding="ascii")
    except OSError as cause:
        log.info("the swarm's port can't be kept", why=str(cause))
