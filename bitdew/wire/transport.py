"""The caller's end of HTTP: one TLS connection pool to one service, models in and out, failures as our errors."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError
from yarl import URL

from bitdew.core.errors import BitDewError, error
from bitdew.trust.tls import SERVICE_NAME

from . import limits
from .models import ErrorReply

R = TypeVar("R", bound=BaseModel)
CONNECT_SECONDS: Final = 10.0
REPLY_SECONDS: Final = 30.0
_CLOSED: Final = frozenset({errno.ECONNRESET, errno.EPIPE})
_OUT_OF_TIME: Final = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def service_url(text: str) -> URL:
    """The service's base URL that `text` spells.

    Raises:
        UserError: `input.invalid`, if it is not `https://host[:port]`.
    """
    try:
        url = URL(text)
        bare = not (url.query_string or url.fragment or url.user or url.password)
        valid = url.scheme == "https" and bool(url.host) and url.path in {"", "/"} and bare
    except (ValueError, IndexError):  # yarl's parser stumbles over what is nearly a URL
        url, valid = URL(), False
    if not valid:
        raise error("input.invalid", f"{text[:200]!r} is not a service's URL", do="Write it like https://host:8440.")
    return url.origin()


class Transport:
    """Calls one service. Use it as an async context manager; it is safe for concurrent calls."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        """`context` carries the CA and the caller's certificate.

        Raises:
            UserError: `input.invalid` for what is not a service's URL.
        """
        self.url = service_url(url)
        self._context = context
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context, limit=0, enable_cleanup_closed=False),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections, and wait until they are."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

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
        """Send `body` and return the reply as the model `reply`; `seconds` bounds the whole call.

        Raises:
            BitDewError: what the service said, or `service.unreachable`, `service.not-bitdew`, `service.version`,
                `certificate.foreign`, `certificate.expired`; and what the iterator `body` raises.
        """
        status, raw = await self._exchange(method, path, body, query, seconds)
        try:
            if status == 200:
                return reply.model_validate_json(raw)
        except ValidationError as fault:
            raise self._foreign_reply(status, raw, fault) from None
        raise self._refusal(status, raw)

    async def download(
        self, path: str, start: int, end: int, *, seconds: float = REPLY_SECONDS
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to, not including, `end` of the file at `path`, in order, as they come.

        Close the generator if you leave it early (`contextlib.aclosing`). While it is not asked for more, the sender
        waits. `seconds` bounds each silence. What was yielded before an error is right as far as TLS can tell.

        Raises:
            BitDewError: as `call`; `service.version`, if something else than that part is sent.
        """
        left, part = end - start, f"bytes {start}-{end - 1}"
        headers = {"Range": part.replace(" ", "="), "Accept-Encoding": "identity"}
        with self._told(seconds):
            async with asyncio.timeout(seconds):
                response = await self._opened().get(
                    self.url / path.lstrip("/"),
                    headers=headers,
                    server_hostname=SERVICE_NAME,
                    allow_redirects=False,
                )
            async with response:
                if response.status >= 300:
                    async with asyncio.timeout(seconds):
                        raise self._refusal(response.status, await self._whole(response))
                sent = response.headers.get("Content-Range", "").partition("/")[0]
                if response.status != 206 or sent != part:
                    why = f"it was asked for {part} and sends {sent[:60] or 'something else'}"
                    raise error("service.version", f"{self.url} speaks another version", why=why, url=str(self.url))
                while left > 0:
                    async with asyncio.timeout(seconds):
                        chunk = await response.content.readany()
                    if not chunk or len(chunk) > left:
                        why = f"{len(chunk) or 'no'} bytes came where {left} were to come"
                        raise error("service.unreachable", f"{self.url} broke off", why=why, url=str(self.url))
                    left -= len(chunk)
                    yield chunk

    async def time_of_day(self, path: str, *, seconds: float = REPLY_SECONDS) -> datetime | None:
        """The service's time, UTC and to the second, as it stands in its reply to a GET of `path`; None if none does.

        Raises:
            BitDewError: as `call`, but for what the service says.
        """
        with self._told(seconds):
            async with (
                asyncio.timeout(seconds),
                self._opened().get(
                    self.url / path.lstrip("/"), server_hostname=SERVICE_NAME, allow_redirects=False
                ) as response,
            ):
                try:
                    told = parsedate_to_datetime(response.headers.get("Date", ""))
                except ValueError:
                    return None
                return told if told.tzinfo is not None else told.replace(tzinfo=UTC)

    def _refusal(self, status: int, raw: bytes) -> BitDewError:
        """The error that a reply other than a success stands for."""
        try:
            return ErrorReply.model_validate_json(raw).error.to_error()
        except ValidationError as fault:
            return self._foreign_reply(status, raw, fault)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the transport is closed")
        return self._session

    async def _exchange(
        self,
        method: str,
        path: str,
        body: BaseModel | AsyncIterator[bytes] | None,
        query: dict[str, str] | None,
        seconds: float | None,
    ) -> tuple[int, bytes]:
        # In a BytesIO, because aiohttp sends that in parts: a full inventory would hold up the event loop.
        data = io.BytesIO(body.model_dump_json().encode()) if isinstance(body, BaseModel) else body
        with self._told(seconds):
            async with (
                asyncio.timeout(seconds),
                self._opened().request(
                    method,
                    self.url / path.lstrip("/"),
                    data=data,
                    params=query,
                    server_hostname=SERVICE_NAME,
                    allow_redirects=False,
                ) as response,
            ):
                return response.status, await self._whole(response)

    @contextmanager
    def _told(self, seconds: float | None) -> Iterator[None]:
        """Turns the failures of one exchange, which may be silent for `seconds`, into ours."""
        try:
            yield
        except TimeoutError as fault:
            connecting = seconds is None or isinstance(fault, aiohttp.ServerTimeoutError)
            why = f"no connection in {CONNECT_SECONDS:g} s" if connecting else f"no reply in {seconds:g} s"
            cause = fault if connecting else None
            raise error("service.unreachable", f"{self.url} does not answer", why=why, url=str(self.url)) from cause
        except (aiohttp.ClientError, ssl.SSLError, OSError) as fault:
            if isinstance(fault.__cause__, BitDewError):  # the body could not go on, and says why itself
                raise fault.__cause__ from None
            raise self._failure(fault) from fault

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        raw = bytearray()
        async for chunk in response.content.iter_chunked(limits.CHUNK):
            raw += chunk
            if len(raw) > limits.REPLY:
                why = f"its reply is over {limits.REPLY} bytes"
                raise error("service.not-bitdew", f"{self.url} is not a BitDew service", why=why, url=str(self.url))
        return bytes(raw)

    def _failure(self, fault: Exception) -> BitDewError:
        cause: BaseException | None = fault
        text = ""
        while cause is not None:
            text += f" {cause}"
            cause = cause.__cause__ or getattr(cause, "os_error", None) if cause is fault else cause.__cause__
        url = str(self.url)
        lowered = text.lower()
        refused = getattr(fault, "certificate_error", None)
        if isinstance(refused, ssl.SSLCertVerificationError) and refused.verify_code in _OUT_OF_TIME:
            why = f"the service's {refused.verify_message}"
            do = "Check this machine's clock. If it is right, start the service again: it renews its certificate then."
            return error("certificate.expired", f"{url} can't be trusted now", why=why, do=do, url=url)
        if isinstance(fault, aiohttp.ClientConnectorCertificateError) or "certificate_verify_failed" in lowered:
            why = "its certificate was not issued by the service that this identity belongs to"
            return error("certificate.foreign", f"{url} is not the service you joined", why=why, url=url)
        if "unknown ca" in lowered or "unknown_ca" in lowered or "bad certificate" in lowered:
            why = "it does not know the CA that issued your certificate"
            return error("certificate.foreign", f"{url} refuses your certificate", why=why, url=url)
        if "certificate expired" in lowered or "certificate_expired" in lowered:
            return error("certificate.expired", f"{url} refuses your certificate", why="it has expired", url=url)
        if isinstance(fault, aiohttp.ClientConnectorSSLError) or "wrong_version_number" in lowered:
            why = "it does not speak TLS as a BitDew service does"
            return error("service.not-bitdew", f"{url} is not a BitDew service", why=why, url=url)
        why = str(fault) or type(fault).__name__
        if isinstance(fault, aiohttp.ServerDisconnectedError) or _is_closed(fault):
            # With TLS 1.3 a refused client certificate looks just like this: the handshake is over by then.
            why = "it closed the connection: it stopped, or does not accept your certificate, which may have expired"
        return error("service.unreachable", f"{url} does not answer", why=why, url=url)

    def _foreign_reply(self, status: int, raw: bytes, fault: ValidationError) -> BitDewError:
        try:
            json.loads(raw)
        except (ValueError, RecursionError):
            why = f"it answered {status} with something else than JSON"
            return error("service.not-bitdew", f"{self.url} is not a BitDew service", why=why, url=str(self.url))
        why = f"its reply ({status}) does not fit: {fault.errors(include_url=False)[0]['msg']}"
        return error("service.version", f"{self.url} speaks another version", why=why, url=str(self.url))


def _is_closed(fault: Exception) -> bool:
    """Whether the far end closed the connection while something was sent or awaited."""
    # The body's writer leaves the number out where the connection was closed before it wrote.
    cut = isinstance(fault, aiohttp.ClientOSError) and fault.errno is None and "body" in str(fault)
    return cut or getattr(fault, "errno", None) in _CLOSED


def is_nobody_there(fault: BitDewError) -> bool:
    """Whether a call failed before anything was sent, since no connection came about."""
    nobody = isinstance(fault.__cause__, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError)
    return nobody and fault.key == "service.unreachable"
