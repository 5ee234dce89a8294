"""Keeping the host's certificates valid: renewed when two thirds of their time have passed, without a pause.

Owns when that is looked at. A service that is away is asked again: a third of the validity is left for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bitdew.client.enrolment import renew
from bitdew.core.errors import error
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.tls import client_context

from .events import EventKind
from .link import can_wait, patiently

if TYPE_CHECKING:
    from bitdew.core.clock import Clock
    from bitdew.swarm.session import Swarm
    from bitdew.trust.identity import Identity

    from .events import Announcer
    from .link import ServiceLink

LOOK_SECONDS: Final = 3600.0
"""How often the time left is looked at; short, as a laptop may sleep through any long wait."""


def swarm_credentials(identity: Identity) -> SwarmCredentials:
    """What the host shows in swarms.

    Raises:
        UserError: `certificate.missing`, if it was never granted: the identity is not a worker's.
    """
    if identity.swarm is None:
        do = "Join the service as a worker: bitdew worker join URL --token T"
        raise error("certificate.missing", f"{identity.folder} has no certificate for swarms", do=do)
    return SwarmCredentials(identity.ca, identity.swarm.certificate, identity.swarm.private_key)


class Renewal:
    """Renews one identity for as long as the worker runs."""

    def __init__(self, identity: Identity, link: ServiceLink, swarm: Swarm, clock: Clock, announcer: Announcer) -> None:
        self.identity = identity
        self._link = link
        self._swarm = swarm
        self._clock = clock
        self._announcer = announcer

    async def run(self) -> None:
        """Look at once, and every hour; what fails is tried again.

        Raises:
            BitDewError: what is final: `certificate.revoked`, `certificate.role`, `host.banned`.
        """
        while True:
            await patiently(self.look, on=can_wait)
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Renew what is due, and use it from now on.

        Raises:
            BitDewError: as the service says; `service.unreachable`, `storage.failed`.
        """
        folder, now = IdentityFolder(self.identity.folder), self._clock.now()
        renewed = await renew(self._link.transport, folder, self.identity, now)
        if renewed is None:
            return
        context = await asyncio.to_thread(client_context, renewed.ca, renewed.identity)
        self.identity = renewed
        self._swarm.set_credentials(swarm_credentials(renewed))
        await self._link.replace(context)
        self._announcer.tell(EventKind.RENEWED, renewed.subject.subject_id, "the host's certificates were renewed")
