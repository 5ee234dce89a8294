"""A connection to one service by the identity of one profile: opened, renewed, asked, closed.

Owns the line and who one is on it. What may be asked stands in the modules beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self, TypeVar

from pydantic import BaseModel

from bitdew.core.errors import BitDewError
from bitdew.core.ids import checked_name
from bitdew.trust.identity import Identity, IdentityFolder
from bitdew.trust.tls import client_context
from bitdew.wire import models as m
from bitdew.wire.transport import REPLY_SECONDS, Transport

from .enrolment import renew
from .profiles import chosen_profile, missing_profile, profile_folder
from .sending import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

R = TypeVar("R", bound=BaseModel)
POLL: Final = 50.0
"""Seconds that a watch lets a reply be held open: under what proxies and firewalls cut."""
ADOPT_SECONDS: Final = 120.0
"""Seconds that the service may take to make a complete upload a datum: much more than it takes."""
SMALL_AT_ONCE: Final = 32
"""Small data that are put or read at a time by one connection: more would not be faster, and each takes a line."""
GRACE: Final = 15.0
"""Seconds beyond a held reply's own before it counts as lost."""


class Connection:
    """A line to a service. An async context manager.

    Attributes:
        patience: Seconds for which a service that is away is waited for while bytes are sent.
        turns: Held while a small datum is put or read: of a thousand calls at once, some have theirs.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self._folder = IdentityFolder(folder)
        self._url = url
        self.patience = PATIENCE
        self.turns = asyncio.Semaphore(SMALL_AT_ONCE)
        self._identity: Identity | None = None
        self._line: Transport | None = None

    @classmethod
    def connect(cls, profile: str | Path | None = None, url: str | None = None) -> Self:
        """The service of `profile`: a name, a folder, or `BITDEW_PROFILE`, or "default". Use it with `async with`.

        `url` is where the same service is reached instead of where it was joined.
        """
        return cls(profile_folder(chosen_profile(profile)), url)

    async def __aenter__(self) -> Self:
        """Raises UserError `profile.missing`, HostError `storage.failed`."""
        if not await asyncio.to_thread(self._folder.exists):
            raise await asyncio.to_thread(missing_profile, self._folder.folder)
        self._identity = identity = await asyncio.to_thread(self._folder.load)
        line = await self._open(identity)
        try:
            # A renewal that fails is tried again next time: the identity in force is still good.
            with contextlib.suppress(BitDewError):
                renewed = await renew(line, self._folder, identity, datetime.now(UTC))
                if renewed:
                    await line.close()
                    self._identity, line = renewed, await self._open(renewed)
        except BaseException:
            await line.close()
            raise
        self._line = line
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    @property
    def identity(self) -> Identity:
        """Who one is to this service."""
        if self._identity is None:
            raise RuntimeError("use `async with BitDew.connect() as ...`")
        return self._identity

    @property
    def profile(self) -> Path:
        """The folder of the profile."""
        return self._folder.folder

    async def service(self) -> m.ServiceReply:
        """What the service says of itself and of the caller."""
        return await self._call("GET", "/v1/service", m.ServiceReply)

    async def health(self) -> m.HealthReply:
        """Whether the service can do its work.

        Raises:
            HostError: `storage.failed`, if it can't: its database or its repository does not answer.
        """
        return await self._call("GET", "/v1/health", m.HealthReply)

    async def summary(self) -> m.SummaryReply:
        """The grid at a glance: counts, and of each kind what is busiest. A service reads it anew every two seconds.

        Raises:
            HostError: `storage.failed`.
        """
        return await self._call("GET", "/v1/summary", m.SummaryReply)

    async def _open(self, identity: Identity) -> Transport:
        identity.require_valid(datetime.now(UTC))
        context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
        return await Transport(self._url or identity.url, context).__aenter__()

    async def call(self, method: str, path: str, reply: type[R], *, body: BaseModel | None = None) -> R:
        """Call a route of the service that has no method here. Raises what the service says."""
        return await self._call(method, path, reply, body=body)

    async def _call(
        self,
        method: str,
        path: str,
        reply: type[R],
        *,
        body: BaseModel | AsyncIterator[bytes] | None = None,
        query: dict[str, str] | None = None,
        seconds: float | None = REPLY_SECONDS,
    ) -> R:
        if self._line is None:
            raise RuntimeError("use `async with BitDew.connect() as ...`")
        return await self._line.call(method, path, reply, body=body, query=query, seconds=seconds)


def name_part(name: str) -> str:
    """`name` where it may stand in a path: what names nothing is refused before it is sent."""
    return checked_name(name)
