"""The service's end of HTTP, over real TLS: who gets in, what is refused, and that every failure has its shape."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog
from pydantic import BaseModel

from bitdew.core.errors import BitDewError, error
from bitdew.trust.roles import Role
from bitdew.trust.tls import SERVICE_NAME
from bitdew.wire import limits
from bitdew.wire.models import ErrorReply, Nothing, UploadDone, UploadRequest
from bitdew.wire.server import EVERYONE, Call, Routes

ROOT = "b" * 64


class Echo(BaseModel):
    text: str


async def who(call: Call[Nothing]) -> Echo:
    return Echo(text=f"{call.caller.role} {call.caller.name} {call.caller.subject_id}")


async def anyone(call: Call[Nothing]) -> Echo:
    return Echo(text="nobody" if call.subject is None else str(call.subject.role))


async def take(call: Call[UploadRequest]) -> UploadDone:
    return UploadDone(root=ROOT, size=call.body.size)


async def count(call: Call[Nothing]) -> UploadDone:
    seen = 0
    async for chunk in call.request.content.iter_chunked(limits.CHUNK):
        seen += len(chunk)
    return UploadDone(root=ROOT, size=seen)


async def number(call: Call[Nothing]) -> Echo:
    return Echo(text=f"{call.number('wait', 5, 60):g} {call.path['name']}")


def raising(fault: BaseException) -> Callable[[Call[Any]], Awaitable[BaseModel]]:
    async def fail(call: Call[Any]) -> BaseModel:
        raise fault

    return fail


@pytest.fixture
def routes() -> Routes:
    routes = Routes()
    routes.add("GET", "/who", who, roles=EVERYONE)
    routes.add("GET", "/anyone", anyone, roles=None)
    routes.add("GET", "/careless", who, roles=None)
    routes.add("POST", "/take", take, body=UploadRequest, roles=[Role.USER])
    routes.add("PUT", "/count", count, roles=[Role.USER], streams=True)
    routes.add("GET", "/number/{name}", number, roles=[Role.USER])
    return routes


async def refused(call: Awaitable[Any]) -> BitDewError:
    with pytest.raises(BitDewError) as fault:
        await call
    return fault.value


async def raw(wire, url: str, request: bytes, role: Role | None = Role.USER) -> tuple[int, bytes]:
    """What the service answers to exactly these bytes: the status and the body."""
    context = await asyncio.to_thread(wire.parties.client, role)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(url.rpartition(":")[2]), ssl=context, server_hostname=SERVICE_NAME
    )
    try:
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        return int(head.split()[1]), await asyncio.wait_for(reader.readexactly(length), 10)
    finally:
        writer.transport.abort()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1".encode(), b"Host: x", b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


# Who gets in ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", sorted(EVERYONE))
async def test_a_caller_is_known_by_its_certificate(wire, routes: Routes, role: Role) -> None:
    line = await wire.line(await wire.serve(routes), role)
    assert (await line.call("GET", "/who", Echo)).text == f"{role} ada {'5' * 32}"
    assert [(subject.role, subject.name) for subject in wire.gate.seen] == [(role, "ada")]


async def test_a_caller_without_certificate_is_sent_to_join(wire, routes: Routes) -> None:
    line = await wire.line(await wire.serve(routes), None)
    for path in ("/who", "/careless"):
        fault = await refused(line.call("GET", path, Echo))
        assert fault.key == "certificate.missing"
        assert "Join" in fault.do
    assert wire.gate.seen == []


async def test_a_route_for_all_takes_whoever_comes_without_asking_the_guard(wire, routes: Routes) -> None:
    url = await wire.serve(routes)
    wire.gate.refusal = error("certificate.revoked", "no")
    assert (await (await wire.line(url, None)).call("GET", "/anyone", Echo)).text == "nobody"
    assert (await (await wire.line(url, Role.WORKER)).call("GET", "/anyone", Echo)).text == "worker"


async def test_a_role_that_a_route_is_not_for_is_told_which_is(wire, routes: Routes) -> None:
    line = await wire.line(await wire.serve(routes), Role.WORKER)
    fault = await refused(line.call("POST", "/take", UploadDone, body=UploadRequest(name="d", size=1)))
    assert fault.key == "certificate.role"
    assert fault.message == "POST /take is not for you"
    assert fault.why == "it needs the role user; yours is worker"


async def test_a_swarm_certificate_asks_nothing_not_even_what_is_for_all(wire, routes: Routes) -> None:
    line = await wire.line(await wire.serve(routes), Role.SWARM)
    for path in ("/who", "/anyone"):
        assert (await refused(line.call("GET", path, Echo))).key == "certificate.role"


async def test_whom_the_guard_refuses_is_refused_before_the_body_is_read(wire, routes: Routes) -> None:
    wire.gate.refusal = error("certificate.revoked", "The certificate of ada was revoked")
    url = await wire.serve(routes)
    line = await wire.line(url)
    assert (await refused(line.call("GET", "/who", Echo))).key == "certificate.revoked"
    status, body = await raw(wire, url, post("/take", b"no json"))
    assert (status, json.loads(body)["error"]["key"]) == (403, "certificate.revoked")


async def test_a_caller_who_is_refused_in_the_middle_of_an_upload_hears_why(wire, routes: Routes) -> None:
    async def much() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield bytes(limits.CHUNK)

    line = await wire.line(await wire.serve(routes), Role.WORKER)
    assert (await refused(line.call("PUT", "/count", UploadDone, body=much()))).key == "certificate.role"


# Bodies ---------------------------------------------------------------------------------------------------------------


async def test_a_body_is_parsed_and_a_stream_is_left_to_its_handler(wire, routes: Routes) -> None:
    async def much() -> AsyncIterator[bytes]:
        for _ in range(2 * limits.BODY // limits.CHUNK):
            yield bytes(limits.CHUNK)

    line = await wire.line(await wire.serve(routes))
    done = await line.call("POST", "/take", UploadDone, body=UploadRequest(name="debian", size=7))
    assert done == UploadDone(root=ROOT, size=7)
    assert (await line.call("PUT", "/count", UploadDone, body=much())).size == 2 * limits.BODY


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "name"),
        (b"{}", "name"),
        (b"not json", ""),
        (b'{"name": "d", "size": 1', ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
        (b"[]", ""),
        (b"null", ""),
        (b'{"name": "d", "size": "many"}', "size"),
        (b'{"name": "d", "size": 1e400}', "size"),
        (b'{"name": "\\ud800", "size": 1}', ""),
        (b'{"name": "d", "size": 1, "surplus": 1}', "surplus"),
        (b'{"name": "d", "size": 1, "%s": 1}' % (b"x" * 100_000), "x" * 200),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_at_the_field(wire, routes: Routes, body: bytes, field: str) -> None:
    status, reply = await raw(wire, await wire.serve(routes), post("/take", body))
    view = ErrorReply.model_validate_json(reply).error
    assert (status, view.key, view.fields) == (422, "input.invalid", {"field": field})
    assert view.why
    assert len(reply) < 2000


async def test_a_body_that_is_too_large_is_refused_and_the_service_serves_on(wire, routes: Routes) -> None:
    class Padded(UploadRequest):
        padding: str

    line = await wire.line(await wire.serve(routes))
    largest = Padded(name="d", size=1, padding="x" * (limits.BODY + 1))
    fault = await refused(line.call("POST", "/take", UploadDone, body=largest))
    assert fault.key == "input.too-large"
    assert str(limits.BODY) in fault.message
    assert await line.call("POST", "/take", UploadDone, body=UploadRequest(name="d", size=1))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_body_is_refused_unread_whatever_is_in_it(wire, routes: Routes, caplog, encoding) -> None:
    url = await wire.serve(routes)
    for body in (b"0123456789", zlib.compress(b'{"name": "d", "size": 1}')):
        status, reply = await raw(wire, url, post("/take", body, b"Content-Encoding: " + encoding.encode()))
        fault = json.loads(reply)["error"]
        assert (status, fault["key"]) == (422, "input.invalid")
        assert "compressed" in fault["why"]
    assert caplog.records == []


async def test_a_caller_who_goes_away_in_the_middle_is_no_defect(wire, caplog) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def receive(call: Call[Nothing]) -> BaseModel:
        begun.set()
        try:
            return await count(call)
        finally:
            left.set()

    routes = Routes()
    routes.add("POST", "/count", receive, roles=[Role.USER], streams=True)
    routes.add("GET", "/who", who, roles=[Role.USER])
    url = await wire.serve(routes)
    context = await asyncio.to_thread(wire.parties.client, Role.USER)
    _, writer = await asyncio.open_connection(
        "127.0.0.1", int(url.rpartition(":")[2]), ssl=context, server_hostname=SERVICE_NAME
    )
    with structlog.testing.capture_logs() as logged:
        writer.write(post("/count", b"only the beginning")[:-5])
        await asyncio.wait_for(begun.wait(), 10)
        writer.transport.abort()
        await asyncio.wait_for(left.wait(), 10)
        assert (await (await wire.line(url)).call("GET", "/who", Echo)).text
    assert logged == []
    assert caplog.records == []


async def test_a_caller_who_gives_up_leaves_nothing_and_may_call_again(wire) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def hold(call: Call[Nothing]) -> Nothing:
        begun.set()
        await release.wait()
        return Nothing()

    routes = Routes()
    routes.add("POST", "/hold", hold, roles=[Role.USER])
    routes.add("GET", "/who", who, roles=[Role.USER])
    line = await wire.line(await wire.serve(routes))
    call = asyncio.create_task(line.call("POST", "/hold", Nothing, body=Nothing()))
    await asyncio.wait_for(begun.wait(), 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await line.call("GET", "/who", Echo)).text
    release.set()


# Paths and queries ----------------------------------------------------------------------------------------------------


async def test_an_unknown_path_or_method_is_told_as_an_error_of_ours(wire, routes: Routes) -> None:
    url = await wire.serve(routes)
    line = await wire.line(url)
    for method, path in (("GET", "/nowhere"), ("DELETE", "/who"), ("GET", "/" + "x" * 5000)):
        fault = await refused(line.call(method, path, Echo))
        assert fault.key == "route.not-found"
        assert fault.why == f"{method} {path}"[: len(method) + 201]
    assert (await raw(wire, url, b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 404
    assert (await raw(wire, url, b"DELETE /who HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 405


async def test_a_number_in_the_query_is_bounded(wire, routes: Routes) -> None:
    line = await wire.line(await wire.serve(routes))
    assert (await line.call("GET", "/number/a", Echo)).text == "5 a"
    assert (await line.call("GET", "/number/a.b-c", Echo, query={"wait": "0.5"})).text == "0.5 a.b-c"
    for text in ("-1", "61", "nan", "inf", "ten", "", "x" * 5000):
        fault = await refused(line.call("GET", "/number/a", Echo, query={"wait": text}))
        assert (fault.key, fault.fields) == ("input.invalid", {"field": "wait"})
        assert "from 0 to 60" in fault.message
        assert len(fault.message) < 120


# Failures -------------------------------------------------------------------------------------------------------------


async def test_an_error_of_a_room_arrives_as_it_was_raised(wire) -> None:
    raised = error("disk.name-taken", "debian is taken", why="ada has it", do="Choose another.", name="debian", n=[1])
    routes = Routes()
    routes.add("GET", "/x", raising(raised), roles=None)
    url = await wire.serve(routes)
    fault = await refused((await wire.line(url)).call("GET", "/x", Echo))
    for part in ("key", "message", "why", "do", "fields"):
        assert getattr(fault, part) == getattr(raised, part)
    assert (await raw(wire, url, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 409


@pytest.mark.parametrize(
    ("nonsense", "lines"),
    [
        (b"\0\1\2\r\n\r\n", 0),
        (b"GET /x HTTP/one\r\n\r\n", 1),
        (b"GET /x HTTP/1.1\r\nHost : x\r\n\r\n", 1),
        (b"GET /x HTTP/1.1\r\nA: " + b"a" * 9000, 1),
    ],
    ids=["binary", "no version", "no header", "a header without end"],
)
async def test_what_is_no_http_is_refused_and_logged_in_a_line_at_most(
    wire, caplog, nonsense: bytes, lines: int
) -> None:
    url = await wire.serve(Routes())
    with structlog.testing.capture_logs() as logged:
        status, reply = await raw(wire, url, nonsense)
    assert (status, b"Traceback" in reply) == (400, False)
    assert [(line["event"], line["caller"]) for line in logged] == [("what came is no HTTP", "127.0.0.1")] * lines
    assert not any("\n" in line["why"] for line in logged)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    "fault",
    [ValueError("secret"), ConnectionRefusedError("secret"), TimeoutError("secret"), KeyError("secret")],
    ids=lambda fault: type(fault).__name__,
)
async def test_an_unforeseen_failure_is_told_without_what_it_was_and_logged_with_it(wire, fault: Exception) -> None:
    routes = Routes()
    routes.add("GET", "/x", raising(fault), roles=None)
    url = await wire.serve(routes)
    with structlog.testing.capture_logs() as logged:
        status, reply = await raw(wire, url, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 500
    assert b"secret" not in reply
    assert b"Traceback" not in reply
    assert ErrorReply.model_validate_json(reply).error.key == "internal"
    assert [(entry["event"], entry["path"], entry["key"], entry["exc_info"]) for entry in logged] == [
        ("defect", "/x", "internal", True)
    ]


async def test_a_failure_of_the_service_is_logged_and_one_of_the_caller_is_not(wire) -> None:
    routes = Routes()
    routes.add("GET", "/service", raising(error("move.illegal", "no")), roles=None)
    routes.add("GET", "/user", raising(error("data.not-found", "no")), roles=None)
    line = await wire.line(await wire.serve(routes))
    with structlog.testing.capture_logs() as logged:
        for path in ("/service", "/user"):
            await refused(line.call("GET", path, Echo))
    assert [(entry["path"], entry["key"]) for entry in logged] == [("/service", "move.illegal")]


async def test_an_error_about_a_file_whose_name_is_no_unicode_arrives(wire) -> None:
    routes = Routes()
    routes.add("GET", "/x", raising(error("storage.failed", "/\udcff can't be read", path="/\udcff")), roles=None)
    fault = await refused((await wire.line(await wire.serve(routes))).call("GET", "/x", Echo))
    assert (fault.key, fault.message, fault.fields) == ("storage.failed", "/? can't be read", {"path": "/?"})


async def test_a_reply_that_is_not_what_the_handler_promised_is_a_defect(wire) -> None:
    async def wrong(call: Call[Nothing]) -> BaseModel:
        return UploadDone(root="short", size=1)

    routes = Routes()
    routes.add("GET", "/x", wrong, roles=None)
    fault = await refused((await wire.line(await wire.serve(routes))).call("GET", "/x", UploadDone))
    assert fault.key == "internal"
