"""The service's end of HTTP: typed routes, who may call them, bounded bodies, and errors as replies.

A handler is three lines: it is given a parsed `Call`, calls its room, and returns a model. What every route needs
is done here once: the client certificate, the role, the guard against revoked ones, parsing, and the error's shape.
Where the reply is a file's bytes, the handler returns a `FileReply` in a model's place; where it is a text for another
kind of program, a `TextReply`.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio.sslproto import SSLProtocol
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ValidationError

from bitdew.core.errors import BitDewError, error
from bitdew.core.host import Endpoint
from bitdew.trust.roles import Role, Subject, subject_of_peer

from . import limits
from .models import ErrorReply, ErrorView, Nothing
from .pacing import Pace

log = structlog.get_logger(__name__)

B = TypeVar("B", bound=BaseModel)
Guard = Callable[[Subject], Awaitable[None]]
RepositoryAddress = Callable[[web.Request], Endpoint]
"""Where the repository's swarm listens, as the caller of a request can reach it."""
GUARD: Final[web.AppKey[Guard]] = web.AppKey("guard")
EVERYONE: Final = frozenset({Role.OPERATOR, Role.PUBLISHER, Role.USER, Role.WORKER})
TLS_BUFFER: Final = 64 * 1024
"""Bytes that a TLS connection reads at once. asyncio takes 256 KB, and each connection keeps as much for as long as it
lasts: 2.6 GB for ten thousand hosts that wait. An upload costs 1.4 times the processor time this way (measured)."""
PEOPLE: Final = frozenset({Role.OPERATOR, Role.PUBLISHER, Role.USER})


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """One request: who calls, with what."""

    subject: Subject | None
    body: B
    path: dict[str, str]
    query: dict[str, str]
    request: web.Request

    @property
    def caller(self) -> Subject:
        """Who calls; never missing on a route that names roles."""
        if self.subject is None:
            raise error("certificate.missing", "This needs a client certificate")
        return self.subject

    def number(self, name: str, default: float, most: float) -> float:
        """The query's number `name`, from 0 to `most`."""
        text = self.query.get(name)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= most:
            raise error("input.invalid", f"{name}={(text or '')[:40]!r} is not a number from 0 to {most:g}", field=name)
        return value


class FileReply(web.FileResponse):
    """A reply that is a file's bytes, or the range of them that the caller asks for (RFC 9110, section 14).

    The file is opened when the reply begins. One that is gone by then is answered with 404 and no body.
    """

    def __init__(
        self,
        path: Path,
        on_sent: Callable[[int], None] | None = None,
        pace: Pace | None = None,
        may_go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """Nothing is sent yet.

        Args:
            path: The file.
            on_sent: Told once how many bytes of the file were sent, also where the caller went away meanwhile.
            pace: The rate that this reply keeps with others.
            may_go_on: Asked before each part; where it says no, the reply breaks off.
        """
        super().__init__(path, chunk_size=limits.CHUNK, headers={"Content-Type": "application/octet-stream"})
        self._on_sent = on_sent
        self._pace = pace
        self._may_go_on = may_go_on

    async def _sendfile(self, request: web.BaseRequest, fobj: IO[Any], offset: int, count: int) -> AbstractStreamWriter:
        # Over TLS asyncio's sendfile has nothing to hand to the kernel: it reads 16 KiB at a time, each in a thread, at
        # seven times the cost in CPU. Where aiohttp has no such method any more, this one is not called.
        writer = await web.StreamResponse.prepare(self, request)
        if writer is None:
            raise ConnectionResetError("the caller went away")
        before = writer.output_size
        try:
            with self._pace.sending() if self._pace else nullcontext():
                await self._send(writer, fobj, offset, count)
            return writer
        finally:
            if self._on_sent is not None:
                self._on_sent(min(count, writer.output_size - before))

    async def _send(self, writer: AbstractStreamWriter, fobj: IO[Any], offset: int, count: int) -> None:
        def read(at: int, size: int) -> bytes:
            fobj.seek(at)
            return bytes(fobj.read(size))

        end = offset + count
        while offset < end:
            size = min(self._pace.part if self._pace else limits.CHUNK, end - offset)
            if self._pace:
                await self._pace.take(size)
            if not self._may_go_on():
                raise ConnectionResetError("the caller took too long")
            chunk = await asyncio.to_thread(read, offset, size)
            if not chunk:
                raise ConnectionResetError("the file became shorter")
            await writer.write(chunk)
            offset += len(chunk)
        await writer.drain()


@dataclass(frozen=True, slots=True)
class TextReply:
    """A reply in a format of somebody else's, as text."""

    text: str
    content_type: str


Reply = BaseModel | FileReply | TextReply


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the routes' table; the reference in the docs is made from it."""

    method: str
    path: str
    body: type[BaseModel]
    roles: frozenset[Role] | None
    handler: Callable[[Call[Any]], Awaitable[Reply]]
    streams: bool = False


class Routes:
    """The routes of one room."""

    def __init__(self) -> None:
        self.table: list[Route] = []

    def add(
        self,
        method: str,
        path: str,
        handler: Callable[[Call[Any]], Awaitable[Reply]],
        *,
        body: type[BaseModel] = Nothing,
        roles: Iterable[Role] | None,
        streams: bool = False,
    ) -> None:
        """Serve `path`. `roles=None` admits callers without a certificate; `streams` leaves the body unread."""
        self.table.append(Route(method, path, body, None if roles is None else frozenset(roles), handler, streams))

    def install(self, app: web.Application) -> None:
        """Register every route on `app`."""
        for route in self.table:
            app.router.add_route(route.method, route.path, _serve(route))


def new_application(guard: Guard) -> web.Application:
    """An application that answers every failure with an `ErrorReply`. `guard` refuses revoked or banned callers."""
    # For all TLS connections of this process: there is no other way to say it.
    SSLProtocol.max_size = TLS_BUFFER
    app = web.Application(middlewares=[_answer_errors], client_max_size=limits.BODY)
    app[GUARD] = guard
    return app


def new_runner(app: web.Application, *, shutdown_timeout: float) -> web.AppRunner:
    """What runs `app`, and gives its requests `shutdown_timeout` seconds to end.

    Compressed bodies are refused: what a few bytes would become is not bounded.
    """
    return web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=shutdown_timeout,
        handle_signals=False,
        auto_decompress=False,
        logger=_HttpLog(logging.getLogger("bitdew.http"), {}),
    )


class _HttpLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log. Bytes that are no HTTP are no fault of ours: they get a line, where it would print a traceback."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **more: Any) -> None:
        if isinstance(exc_info, HttpProcessingError):
            why = exc_info.message.partition("\n")[0].rstrip(":")  # what came itself stands in the lines that follow
            log.info("what came is no HTTP", caller=next(iter(args), None), why=why)
        else:
            super().exception(msg, *args, exc_info=exc_info, **more)


def _serve(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        subject = _subject(request)
        if route.roles is not None:
            if subject is None:
                raise error("certificate.missing", "The request came without a client certificate")
            if subject.role not in route.roles:
                wanted = ", ".join(sorted(route.roles))
                why = f"it needs the role {wanted}; yours is {subject.role}"
                raise error("certificate.role", f"{request.method} {request.path} is not for you", why=why)
            await request.app[GUARD](subject)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            why = "it is compressed (Content-Encoding), and is to come as it is"
            raise error("input.invalid", "The request's body can't be read", why=why)
        body = Nothing() if route.streams else await _parse(request, route.body)
        call = Call(subject, body, dict(request.match_info), dict(request.query), request)
        reply = await route.handler(call)
        if isinstance(reply, FileReply):
            return reply
        if isinstance(reply, TextReply):
            return web.Response(body=reply.text.encode(), headers={"Content-Type": reply.content_type})
        return web.Response(body=reply.model_dump_json().encode(), content_type="application/json")

    return serve


_subjects: Final[WeakKeyDictionary[asyncio.Transport, Subject]] = WeakKeyDictionary()
"""Who is at the other end of each connection: a certificate is shown once, and read once."""


def _subject(request: web.Request) -> Subject | None:
    if (transport := request.transport) is None:
        return None
    if (known := _subjects.get(transport)) is not None:
        return known
    certificate = transport.get_extra_info("peercert")
    if not certificate:
        return None
    subject = _subjects[transport] = subject_of_peer(certificate)
    return subject


async def _parse(request: web.Request, model: type[B]) -> B:
    raw = await request.read()
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:200]  # an unknown key is the caller's own text
        raise error(
            "input.invalid", f"The request's {place or 'body'} is not valid", why=first["msg"], field=place
        ) from None


def _reply(fault: BitDewError, status: int | None = None) -> web.Response:
    body = ErrorReply(error=ErrorView.of(fault)).model_dump_json(fallback=str)
    return web.Response(status=status or fault.kind.status, body=body.encode(), content_type="application/json")


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except BitDewError as fault:
        if fault.kind.fault == "service":
            log.warning("request failed", path=request.path, key=fault.key, message=str(fault))
        return _reply(fault)
    except web.HTTPRequestEntityTooLarge:
        return _reply(error("input.too-large", f"The body is over {limits.BODY} bytes"))
    except web.HTTPException as fault:
        if fault.status in {404, 405}:
            why = f"{request.method} {request.path[:200]}"
            return _reply(error("route.not-found", "There is nothing here", why=why), fault.status)
        raise
    except web.RequestPayloadError:
        return _reply(error("input.invalid", "The request's body can't be read", why="it is not as its headers say"))
    except Exception as fault:
        if isinstance(fault, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            return _reply(error("interrupted", "The caller went away"))  # nobody hears it
        # The caller gets no traceback: the log has it, under the same key.
        log.exception("defect", path=request.path, key="internal")
        return _reply(error("internal", f"The service failed at {request.path[:200]}"))
