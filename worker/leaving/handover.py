"""Handing over: the service empties this host, as far as others can take what it has.

Owns what is asked of the service for that, and when it is enough. It removes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from bitdew.core.draining import Drain
from bitdew.core.errors import BitDewError, error
from bitdew.trust.identity import Identity
from bitdew.trust.tls import client_context
from bitdew.wire.models import DrainRequest, DrainView, Nothing
from bitdew.wire.transport import Transport

from ..link import patiently

LOOK_AGAIN: Final = 1.0
"""Seconds between two looks at what is left."""
_PATH: Final = "/v1/leave"
_OUT: Final = frozenset({"certificate.revoked", "host.banned"})

Tell = Callable[[DrainView], None]
"""Is told what is left, each time that it is looked at."""


class Service:
    """What this host asks of its service when it leaves."""

    def __init__(self, line: Transport) -> None:
        self._line = line

    async def view(self) -> DrainView | None:
        """What is on this host; None if it is shut out, or never worked.

        Raises:
            ServiceError: `service.unreachable` and its like.
        """
        return await self._ask("GET")

    async def stay(self) -> DrainView | None:
        """Take the wish to leave back."""
        return await self._ask("DELETE")

    async def hand_over(self, tell: Tell, seconds: float | None) -> DrainView | None:
        """Have the service empty this host; what is left when nothing more can be done. None as `view`.

        First machines that restart are moved, and copies are made elsewhere; then the machines that are left stop, and
        what they ran from is handed over too. What stays is also in the repository or on another host, and nobody can
        take it. A service that is away is waited for.

        Raises:
            UserError: `host.not-empty`, when `seconds` are over. The host stays drained.
        ServiceError: `service.unreachable`, if it is away from the beginning.
        """
        view: DrainView | None = None
        try:
            async with asyncio.timeout(seconds):
                await self._ask("POST", Drain.KEEP)  # without patience: who can't be reached at all is told so
                for machines in (Drain.KEEP, Drain.STOP):
                    view = await patiently(partial(self._ask, "POST", machines))
                    while view is not None and not _enough(view, machines):
                        tell(view)
                        await asyncio.sleep(LOOK_AGAIN)
                        view = await patiently(self.view)
                    if view is None:
                        return None
        except TimeoutError:
            left = f"{view.copies} copies and {view.machines} machines are left" if view else "nothing was heard"
            do = "Run it again to go on; or leave at once, which says what is lost: bitdew worker leave --now"
            raise error("host.not-empty", "Not everything was handed over in time", why=left, do=do) from None
        if view is not None:
            tell(view)
        return view

    async def give_up(self) -> None:
        """Give this host's identity up. One that was given up, or taken, already is no failure."""
        try:
            await self._line.call("DELETE", "/v1/identity", Nothing)
        except BitDewError as fault:
            if fault.key not in _OUT:
                raise

    async def _ask(self, method: str, machines: Drain | None = None) -> DrainView | None:
        body = DrainRequest(machines=machines) if machines else None
        try:
            return await self._line.call(method, _PATH, DrainView, body=body)
        except BitDewError as fault:
            if fault.key in _OUT | {"host.not-found"}:
                return None
            raise


@asynccontextmanager
async def service_of(identity: Identity) -> AsyncIterator[Service]:
    """The service that this host works for."""
    context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
    async with Transport(identity.url, context) as line:
        yield Service(line)


def _enough(view: DrainView, machines: Drain) -> bool:
    """Whether waiting brings nothing more."""
    if view.only_here or view.moving or view.copies > len(view.left):
        return False
    if machines is Drain.STOP:
        return not view.machines
    return not any(machine.moving for machine in view.left_machines)
