"""The caller's end of HTTP: whatever answers, or does not, the caller gets a model or an error of ours that is true."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from yarl import URL

from bitdew.core.errors import BitDewError, error
from bitdew.trust.roles import Role
from bitdew.trust.tls import bootstrap_context, client_context
from bitdew.wire import limits, transport
from bitdew.wire.models import Nothing, UploadDone
from bitdew.wire.server import Call, Routes
from bitdew.wire.transport import Transport, service_url

ROOT = "b" * 64


class Texts(BaseModel):
    texts: list[str]


async def nothing(call: Call[Any]) -> Nothing:
    return Nothing()


def one_route(handler: Callable[[Call[Any]], Awaitable[BaseModel]] = nothing, **options: Any) -> Routes:
    routes = Routes()
    routes.add("POST", "/x", handler, roles=[Role.USER], **options)
    return routes


async def refused(line: Transport, **options: Any) -> BitDewError:
    with pytest.raises(BitDewError) as fault:
        await line.call("POST", "/x", Nothing, **options)
    assert str(line.url) in fault.value.message or not fault.value.key.startswith(("service", "certificate.foreign"))
    return fault.value


async def answering(wire, *, body: bytes = b"", status: int = 200, headers: dict[str, str] | None = None) -> Transport:
    """A transport to an HTTPS server that answers all requests so, and is no service of ours."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    return await wire.line(await wire.serve_app(app))


# URLs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://host:8440", "https://host:8440"),
        ("https://host", "https://host"),
        ("https://host:8440/", "https://host:8440"),
        ("HTTPS://10.0.0.7:1", "https://10.0.0.7:1"),
        ("https://[::1]:8440", "https://[::1]:8440"),
    ],
)
def test_a_services_url_is_a_host_and_a_port(text: str, url: str) -> None:
    assert service_url(text) == URL(url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:8440",
        "//host",
        "http://host:8440",
        "ftp://host",
        "https://",
        "https://:8440",
        "https://host:99999",
        "https://host:port",
        "https://[::1",
        "https://host/v1",
        "https://host?x=1",
        "https://host#top",
        "https://ada:secret@host",
        "https://ada@host",
    ],
)
def test_what_is_no_services_url_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BitDewError, match="is not a service's URL") as fault:
        service_url(text)
    assert fault.value.key == "input.invalid"
    assert "https://host:8440" in fault.value.do
    with pytest.raises(BitDewError):
        Transport(text, bootstrap_context())


@given(st.text() | st.text().map("https://{}".format) | st.text("[]:/@?#.%a1", max_size=20).map("https://{}".format))
def test_any_text_is_a_services_url_or_refused(text: str) -> None:
    try:
        url = service_url(text)
    except BitDewError as fault:
        assert fault.key == "input.invalid"  # noqa: PT017  (either outcome is right)
    else:
        assert url.scheme == "https"
        assert url.host
        assert url == url.origin()


# Who answers ----------------------------------------------------------------------------------------------------------


async def test_nobody_answers_at_a_closed_port(wire) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        line = await wire.line(f"https://127.0.0.1:{free.getsockname()[1]}")
        fault = await refused(line)
    assert fault.key == "service.unreachable"
    assert "bitdew serve" in fault.do
    assert fault.fields == {"url": str(line.url)}


async def test_a_server_without_tls_is_no_service(wire) -> None:
    app = web.Application()
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        line = await wire.line(f"https://127.0.0.1:{runner.addresses[0][1]}")
        fault = await refused(line)
    finally:
        await runner.cleanup()
    assert fault.key == "service.not-bitdew"
    assert "TLS" in fault.why


async def test_a_service_of_another_ca_is_not_the_one_that_was_joined(wire, strangers) -> None:
    url = await wire.serve_app(web.Application(), await asyncio.to_thread(strangers.server))
    fault = await refused(await wire.line(url))
    assert fault.key == "certificate.foreign"
    assert "not issued by the service" in fault.why


@pytest.mark.parametrize(("age", "why"), [(400, "has expired"), (-30, "is not yet valid")])
async def test_a_service_whose_certificate_is_out_of_time_is_told_so_and_not_called_foreign(
    wire, parties, age: int, why: str
) -> None:
    context = await asyncio.to_thread(parties.server, timedelta(days=age))
    fault = await refused(await wire.line(await wire.serve_app(web.Application(), context)))
    assert fault.key == "certificate.expired"
    assert why in fault.why
    assert "clock" in fault.do


@pytest.mark.parametrize("whose", ["ours, expired", "another service's"])
async def test_a_client_that_the_service_does_not_accept_hears_that_it_may_be_its_certificate(
    wire, parties, strangers, whose: str
) -> None:
    # With TLS 1.3 the client's handshake is over when the service refuses: it sees a connection that was closed.
    url = await wire.serve(one_route())
    pair = parties.pair(age=timedelta(days=40)) if whose == "ours, expired" else strangers.pair()
    context = await asyncio.to_thread(client_context, parties.authority.certificate, pair)
    line = await wire.line(url, context=context)
    for _ in range(3):
        fault = await refused(line, body=Nothing())
        alert = {"certificate.expired", "certificate.foreign"}  # where the service's last word arrives before the reset
        assert fault.key in alert or (fault.key == "service.unreachable" and "your certificate" in fault.why)


async def test_a_client_of_the_same_service_is_let_in_until_its_certificate_ends(wire) -> None:
    line = await wire.line(await wire.serve(one_route()), age=timedelta(days=29))
    assert await line.call("POST", "/x", Nothing, body=Nothing()) == Nothing()


# What is answered -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("body", [b"", b"<html>Welcome</html>", b"\xff\xfe", b"{", b"[" * 100_000])
async def test_what_answers_without_json_is_no_service(wire, body: bytes, status: int) -> None:
    fault = await refused(await answering(wire, body=body, status=status))
    assert fault.key == "service.not-bitdew"
    assert str(status) in fault.why


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"surplus": 1}),
        (200, []),
        (200, None),
        (404, {}),
        (404, {"error": "Not found"}),
        (404, {"error": {"key": "x", "message": "m", "surplus": 1}}),
        (201, {}),
    ],
)
async def test_json_of_another_shape_is_another_version(wire, status: int, body: object) -> None:
    fault = await refused(await answering(wire, body=json.dumps(body).encode(), status=status))
    assert fault.key == "service.version"
    assert str(status) in fault.why
    assert "same release" in fault.do


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(wire, status: int) -> None:
    elsewhere = await answering(wire, body=b"{}")
    line = await answering(wire, status=status, headers={"Location": f"{elsewhere.url}/x"})
    assert (await refused(line)).key == "service.not-bitdew"


async def test_a_large_reply_arrives_whole(wire) -> None:
    async def much(call: Call[Any]) -> Texts:
        return Texts(texts=["x" * 1000] * 5000)

    line = await wire.line(await wire.serve(one_route(much)))
    assert len((await line.call("POST", "/x", Texts, body=Nothing())).texts) == 5000


async def test_a_reply_that_comes_in_pieces_is_waited_for(wire) -> None:
    async def dribble(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b'{"texts"', b': ["a", ', b'"b"]}'):
            await response.write(piece)
            await asyncio.sleep(0.02)
        return response

    app = web.Application()
    app.router.add_route("*", "/x", dribble)
    line = await wire.line(await wire.serve_app(app))
    assert (await line.call("GET", "/x", Texts)).texts == ["a", "b"]


async def test_a_reply_over_the_limit_is_not_taken(wire) -> None:
    line = await answering(wire, body=b" " * (limits.REPLY + 1) + b"{}")
    fault = await refused(line)
    assert fault.key == "service.not-bitdew"
    assert str(limits.REPLY) in fault.why


async def test_a_reply_that_grows_without_end_is_not_taken_either(wire) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(limits.CHUNK))

    app = web.Application()
    app.router.add_route("*", "/x", flood)
    fault = await refused(await wire.line(await wire.serve_app(app)))
    assert fault.key == "service.not-bitdew"


# Silence and breaks ---------------------------------------------------------------------------------------------------


async def test_a_service_that_does_not_reply_in_time_is_told_with_the_time(wire) -> None:
    release = asyncio.Event()

    async def hold(call: Call[Any]) -> Nothing:
        await release.wait()
        return Nothing()

    line = await wire.line(await wire.serve(one_route(hold)))
    fault = await refused(line, body=Nothing(), seconds=0.3)
    release.set()
    assert (fault.key, fault.why) == ("service.unreachable", "no reply in 0.3 s")


async def test_a_port_that_takes_connections_and_says_nothing_is_given_up(wire, monkeypatch) -> None:
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.3)
    done = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()
        await writer.wait_closed()

    line = await wire.line(await wire.listen(await asyncio.start_server(silent, "127.0.0.1", 0)))
    fault = await refused(line, seconds=30)
    done.set()
    assert (fault.key, fault.why) == ("service.unreachable", "no connection in 0.3 s")


async def test_a_reply_that_breaks_off_is_no_reply(wire) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        request.transport.abort()
        return response

    app = web.Application()
    app.router.add_route("*", "/x", break_off)
    assert (await refused(await wire.line(await wire.serve_app(app)))).key == "service.unreachable"


async def test_a_line_that_is_cut_while_something_is_sent_is_told_in_words(wire) -> None:
    line = await wire.line("https://127.0.0.1:1")
    cut = aiohttp.ClientOSError(None, "Can not write request body for https://127.0.0.1:1/x")  # as its writer says it
    assert line._failure(cut).why.startswith("it closed the connection")


async def test_a_service_that_was_started_again_is_found_by_the_next_call(wire, parties) -> None:
    context = await asyncio.to_thread(parties.server)

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b"{}")

    async def start(port: int) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/x", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, reuse_address=True).start()
        return runner

    first = await start(0)
    port = first.addresses[0][1]
    line = await wire.line(f"https://127.0.0.1:{port}")
    await line.call("POST", "/x", Nothing, body=Nothing())
    await first.cleanup()
    assert (await refused(line, body=Nothing())).key == "service.unreachable"
    second = await start(port)
    try:
        assert await line.call("POST", "/x", Nothing, body=Nothing()) == Nothing()
    finally:
        await second.cleanup()


# Sending --------------------------------------------------------------------------------------------------------------


async def test_a_stream_that_can_not_go_on_fails_the_call_with_its_own_error(wire) -> None:
    async def receive(call: Call[Any]) -> UploadDone:
        seen = 0
        async for chunk in call.request.content.iter_chunked(limits.CHUNK):
            seen += len(chunk)
        return UploadDone(root=ROOT, size=seen)

    async def changing() -> AsyncIterator[bytes]:
        yield bytes(100_000)
        raise error("disk.changed", "The file changed while it was being added")

    line = await wire.line(await wire.serve(one_route(receive, streams=True)))
    assert (await refused(line, body=changing())).key == "disk.changed"

    async def whole() -> AsyncIterator[bytes]:
        yield bytes(100_000)

    assert (await line.call("POST", "/x", UploadDone, body=whole())).size == 100_000


async def test_a_body_as_large_as_may_be_is_sent_whole(wire) -> None:
    async def count(call: Call[Texts]) -> UploadDone:
        return UploadDone(root=ROOT, size=len(call.body.texts))

    line = await wire.line(await wire.serve(one_route(count, body=Texts)))
    done = await line.call("POST", "/x", UploadDone, body=Texts(texts=["x" * 1000] * 4000))
    assert done.size == 4000


async def test_many_calls_at_once_share_one_transport(wire) -> None:
    async def name(call: Call[Texts]) -> Texts:
        return call.body

    line = await wire.line(await wire.serve(one_route(name, body=Texts)))
    replies = await asyncio.gather(*(line.call("POST", "/x", Texts, body=Texts(texts=[str(n)])) for n in range(30)))
    assert [reply.texts for reply in replies] == [[str(n)] for n in range(30)]


async def test_a_closed_transport_calls_nobody_and_may_be_closed_again(wire) -> None:
    line = await wire.line(await wire.serve(one_route()))
    await line.close()
    await line.close()
    with pytest.raises(RuntimeError, match="closed"):
        await line.call("POST", "/x", Nothing)
