"""The way to the service: one transport, replaced when the certificate is renewed, and patience while it is away.

Owns which failures are waited out. It must not know what is asked.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeVar

import stamina
import structlog
from pydantic import BaseModel

from bitdew.core.errors import BitDewError
from bitdew.wire.transport import REPLY_SECONDS, Transport

R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")

log = structlog.get_logger(__name__)

_FINAL_KEYS: Final = frozenset({"certificate.revoked", "certificate.role", "host.banned"})
"""What only the service itself can say: its reply came through a connection on which it proved who it is."""

_TLS_KEYS: Final = frozenset({"certificate.foreign", "certificate.expired"})
"""What our own end of TLS says of whoever answers: a captive portal may, or a clock may be wrong. It passes."""


def is_final(fault: BaseException) -> bool:
    """Whether the service will say the same to every further call: this host is not welcome, or not known."""
    return isinstance(fault, BitDewError) and fault.key in _FINAL_KEYS


def is_passing(fault: BaseException) -> bool:
    """Whether the service itself may be at fault, so that asking again later makes sense."""
    if not isinstance(fault, BitDewError):
        return False
    return fault.kind.fault == "service" or fault.kind.exit_code == 6 or fault.key in _TLS_KEYS


def can_wait(fault: BaseException) -> bool:
    """Whether to go on after `fault`: only what is final, and what is no failure of ours, ends a worker."""
    if not isinstance(fault, BitDewError) or is_final(fault):
        return False
    if fault.kind.fault == "host":
        log.warning("this host could not do its part, and tries again", key=fault.key, why=str(fault))
    elif not is_passing(fault):
        # A defect on one of the sides. The host goes on offering what it has.
        log.error("the service refuses what this host says", key=fault.key, why=str(fault))
    return True


async def patiently(call: Callable[[], Awaitable[T]], *, on: Callable[[Exception], bool] = is_passing) -> T:
    """The result of `call`, asked again while its failure is one that `on` accepts.

    The pauses grow from 0.2 to 10 s, each with up to 0.2 s of chance, so that the hosts of a service that was away
    do not come back in one moment.
    """
    retrying = stamina.AsyncRetryingCaller(
        attempts=None, timeout=None, wait_initial=0.2, wait_max=10.0, wait_jitter=0.2, wait_exp_base=2
    )
    return await retrying(on, call)


class ServiceLink:
    """Calls one service with the certificate in force. Use it as an async context manager."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self.url = url
        self._transport = Transport(url, context)
        self._calls: dict[Transport, int] = {}

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def transport(self) -> Transport:
        """The transport in force, for a single call."""
        return self._transport

    async def call(
        self,
        method: str,
        path: str,
        reply: type[R],
        *,
        body: BaseModel | AsyncIterator[bytes] | None = None,
        query: dict[str, str] | None = None,
        seconds: float | None = REPLY_SECONDS,
    ) -> R:
        """As `Transport.call`."""
        async with self._in_use() as used:
            return await used.call(method, path, reply, body=body, query=query, seconds=seconds)

    async def download(self, path: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """As `Transport.download`."""
        async with self._in_use() as used, aclosing(used.download(path, start, end)) as chunks:
            async for chunk in chunks:
                yield chunk

    @asynccontextmanager
    async def _in_use(self) -> AsyncIterator[Transport]:
        """The transport in force, which stays open for this one call."""
        used = self._transport
        self._calls[used] = self._calls.get(used, 0) + 1
        try:
            yield used
        finally:
            self._calls[used] -= 1
            if not self._calls[used]:
                del self._calls[used]
                if used is not self._transport:
                    await used.close()

    async def replace(self, context: ssl.SSLContext) -> None:
        """Use `context` from the next call on. Calls under way, a long poll above all, end as they began."""
        old, new = self._transport, Transport(self.url, context)
        await new.__aenter__()
        self._transport = new
        if old not in self._calls:
            await old.close()

    async def close(self) -> None:
        """Close all connections."""
        for transport in {self._transport, *self._calls}:
            await transport.close()

    async def local_address(self) -> str:
        """This machine's address on the way to the service: what other hosts can most likely reach it at.

        Nothing is sent for it: the system's table of routes tells.

        Raises:
            OSError: if there is no way to the service.
        """
        loop = asyncio.get_running_loop()
        remote = (self._transport.url.host or "", self._transport.url.port or 443)
        endpoint, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=remote)
        try:
            address = str(endpoint.get_extra_info("sockname")[0])
            return address.partition("%")[0]  # a zone has a meaning on this machine alone
        finally:
            endpoint.close()
