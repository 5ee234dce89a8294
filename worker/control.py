"""How a running worker is told things on its own machine: a socket in its home that its owner alone can open.

Owns `<home>/control.sock` and what is said over it: lines of JSON, a request `{"verb": …, "body": …}` answered by one
`{"reply": …}` or `{"error": …}`. Both sides stand here. It must not know what a verb means: the daemon, which is the
socket's one owner, hands in what answers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import structlog
from pydantic import Field, ValidationError

from bitdew.core.errors import BitDewError, error
from bitdew.tasks import to_the_end
from bitdew.wire import limits
from bitdew.wire.model import ErrorView, Model

T = TypeVar("T", bound=Model)

log = structlog.get_logger(__name__)

NAME: Final = "control.sock"
STOP: Final = "stop"
"""The verb by which a worker is told to end."""
IDLE_SECONDS: Final = 10.0
"""How long a command may be silent while it is connected."""
ANSWER_SECONDS: Final = 30.0
"""How long an answer may take."""
_LONGEST_ADDRESS: Final = 100
"""Bytes of a socket's address that every system has room for: Linux 107, others 103."""
_OPEN_FILES: Final = Path("/proc/self/fd")


class ControlRequest(Model):
    """One line to a worker."""

    verb: Annotated[str, Field(max_length=64)]
    body: dict[str, Any] = Field(default_factory=dict)


class ControlReply(Model):
    """One line from a worker: what the verb answers, or what is wrong."""

    reply: dict[str, Any] | None = None
    error: ErrorView | None = None


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that a worker can be told: the shape of what is asked, and what answers it."""

    asked: type[Model]
    answer: Callable[[Any], Awaitable[Model]]


class Control:
    """The worker's end. `open` it when all verbs can be answered, under the lock of the home; `close` it before."""

    def __init__(self, home: Path, verbs: Mapping[str, Verb]) -> None:
        self._home = home
        self._verbs = verbs
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. What an earlier process left there is replaced.

        Raises:
            HostError: `storage.failed`, if this system or the home's file system has no such sockets.
        """
        listening = await to_the_end(asyncio.to_thread(_listen, self._home))
        try:
            self._server = await asyncio.start_unix_server(self._accept, sock=listening, limit=limits.CONTROL)
        except BaseException:
            listening.close()
            raise

    async def close(self) -> None:
        """End all calls, and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        with contextlib.suppress(OSError):
            await asyncio.to_thread((self._home / NAME).unlink, missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._calls) >= limits.CONTROL_CALLS:
            writer.transport.abort()
            return
        call = asyncio.ensure_future(self._serve(reader, writer))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                while True:
                    async with asyncio.timeout(IDLE_SECONDS):
                        line = await _line(reader)
                    reply = await self._answer(line)
                    async with asyncio.timeout(IDLE_SECONDS):
                        writer.write(reply.model_dump_json(exclude_none=True).encode() + b"\n")
                        await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes | None) -> ControlReply:
        if line is None:
            return _refusal(error("input.too-large", f"A line has more than {limits.CONTROL} bytes"))
        try:
            request = ControlRequest.model_validate_json(line)
            verb = self._verbs.get(request.verb)
            if verb is None:
                known = ", ".join(sorted(self._verbs))
                return _refusal(error("input.invalid", f"A worker knows no {request.verb!r}", why=f"it knows {known}"))
            answer = await verb.answer(verb.asked.model_validate(request.body))
            return ControlReply(reply=answer.model_dump(mode="json"))
        except ValidationError as fault:
            first = fault.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "it"
            return _refusal(error("input.invalid", f"{place[:200]} is impossible", why=first["msg"], field=place[:200]))
        except BitDewError as fault:
            return _refusal(fault)
        except Exception as fault:
            log.exception("defect", key="internal")
            return _refusal(error("internal", "The worker could not answer", why=type(fault).__name__))


async def ask(home: Path, verb: str, body: Model, reply: type[T]) -> T | None:
    """What the worker that runs in `home` answers; None if none runs there.

    Raises:
        HostError: `worker.unreachable`; `storage.failed`, if its socket can't be opened.
        BitDewError: what it says.
    """
    connection = await to_the_end(asyncio.to_thread(_connect, home))
    if connection is None:
        return None
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=limits.CONTROL)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            request = ControlRequest(verb=verb, body=body.model_dump(mode="json"))
            writer.write(request.model_dump_json().encode() + b"\n")
            await writer.drain()
            line = await _line(reader)
        if line is None:
            raise ValueError("its answer is too long")  # noqa: TRY301 (told below like any other)
        found = ControlReply.model_validate_json(line)
        answer = None if found.error else reply.model_validate(found.reply)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as cause:
        why = str(cause) or "it did not answer in time"
        raise error("worker.unreachable", f"The worker in {home} does not answer", why=why) from cause
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if found.error is not None:
        raise found.error.to_error()
    return answer


async def _line(reader: asyncio.StreamReader) -> bytes | None:
    """The next line; None if it is too long: then it was read to its end, and thrown away."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        while (part := await reader.read(limits.CONTROL)) and not part.endswith(b"\n"):
            pass
        return None


def _refusal(fault: BitDewError) -> ControlReply:
    return ControlReply(error=ErrorView.of(fault))


def _listen(home: Path) -> socket.socket:
    """A socket that listens in `home`. Blocks."""
    if not hasattr(socket, "AF_UNIX"):
        do = "Stop the worker to change what it lends."
        raise error("storage.failed", "A running worker can't be told anything on this system", why=_NONE, do=do)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(made.fileno(), 0o600)  # Linux makes the file with this mode; the other call is for others
        (home / NAME).unlink(missing_ok=True)
        with _address(home) as address:
            made.bind(address)
        (home / NAME).chmod(0o600)
        made.listen(limits.CONTROL_CALLS)
        made.setblocking(False)
    except BaseException as cause:
        made.close()
        if isinstance(cause, OSError):
            raise error("storage.failed", f"{home / NAME} can't be made", why=str(cause.strerror)) from cause
        raise
    return made


_NONE: Final = "there are no sockets in the file system"


def _connect(home: Path) -> socket.socket | None:
    """A connection to the worker in `home`, or None if none listens. Blocks."""
    if not hasattr(socket, "AF_UNIX"):
        return None
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(IDLE_SECONDS)
        with _address(home) as address:
            made.connect(address)
        made.setblocking(False)
    except BaseException as cause:
        made.close()
        if isinstance(cause, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
            return None
        if isinstance(cause, OSError):
            why = cause.strerror or str(cause)
            raise error("storage.failed", f"{home / NAME} can't be opened", why=why) from cause
        raise
    return made


@contextmanager
def _address(home: Path) -> Iterator[str]:
    """The socket's address. One that is too long for the system goes by the open home instead, where there is /proc."""
    path = home / NAME
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not (_OPEN_FILES / str(descriptor)).exists():
            do = "Choose a --home with a shorter path."
            raise error("storage.failed", f"{path} is too long for a socket's address on this system", do=do)
        yield str(_OPEN_FILES / str(descriptor) / NAME)
    finally:
        os.close(descriptor)
