"""What the attributes of the data here are called now, where somebody chooses copies by that.

Owns when the service is asked: an order names the attribute, and a datum may be given another one later. A host where
nobody chooses by attributes asks nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from bitdew.core.errors import BitDewError
from bitdew.core.states import PlacementState
from bitdew.wire import limits
from bitdew.wire.models import AttributeNamesReply, AttributeNamesRequest

if TYPE_CHECKING:
    from bitdew.core.clock import Clock

    from ..link import ServiceLink
    from ..placements import Placements
    from .audience import Audience

log = structlog.get_logger(__name__)

AGAIN_SECONDS: Final = 30.0
"""How long a new name may go unnoticed."""


class Naming:
    """Keeps the names current. `run` it as a task."""

    def __init__(self, link: ServiceLink, placements: Placements, audience: Audience, clock: Clock) -> None:
        self._link = link
        self._placements = placements
        self._audience = audience
        self._clock = clock

    async def run(self) -> None:
        """Ask again and again, where anybody wants to know; until cancelled. A service that is away costs time only."""
        while True:
            if self._audience.chooses_by_attribute:
                try:
                    await self._look()
                except BitDewError as fault:
                    log.info("the service named no attributes", key=fault.key, why=str(fault))
            await self._clock.sleep(AGAIN_SECONDS)

    async def _look(self) -> None:
        held = [uid for uid, entry in self._placements.entries.items() if entry.state is PlacementState.HELD]
        if not held:
            return
        request = AttributeNamesRequest(data=held[: limits.PLACEMENTS])
        reply = await self._link.call("POST", "/v1/attribute-names", AttributeNamesReply, body=request)
        for uid, name in reply.names.items():
            await self._placements.take_attribute(uid, name[: limits.NAME])
