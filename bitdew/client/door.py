"""What a person shows to peers: a key that is never stored, and a certificate for swarms that ends soon.

Owns the key and when its certificate is renewed. It must not know what is exchanged.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bitdew.swarm.credentials import SwarmCredentials
from bitdew.trust.keys import certificate_request, needs_renewal, new_key
from bitdew.wire import models as m

from .connection import Connection

if TYPE_CHECKING:
    from bitdew.trust.identity import Identity


class SwarmCalls(Connection):
    """The part of `BitDew` by which a person is let into swarms."""

    async def admitted(self, csr: str) -> str:
        """A certificate for swarms."""
        body = m.SwarmRequest(swarm_csr=csr)
        return (await self._call("POST", "/v1/identity/swarm", m.SwarmReply, body=body)).swarm


class Door:
    """The credentials of one node."""

    def __init__(self, grid: SwarmCalls) -> None:
        """`renew` comes first."""
        self._grid = grid
        self._key = new_key()
        self._certificate = ""

    @property
    def _identity(self) -> Identity:
        return self._grid.identity

    @property
    def credentials(self) -> SwarmCredentials:
        """As the swarm wants them."""
        return SwarmCredentials(self._identity.ca, self._certificate, self._key)

    async def renew(self) -> bool:
        """Get a certificate, if there is none or it is old; whether it is another now."""
        if self._certificate and not needs_renewal(self._certificate, datetime.now(UTC)):
            return False
        self._certificate = await self._grid.admitted(certificate_request(self._key, self._identity.subject.name))
        return True
