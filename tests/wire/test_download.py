"""Files over HTTP: the part that was asked for, in order and no byte more, or an error of ours that is true."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
import structlog
from aiohttp import web

from bitdew.core.errors import BitDewError, error
from bitdew.trust.roles import Role
from bitdew.trust.tls import SERVICE_NAME
from bitdew.wire.models import Nothing
from bitdew.wire.server import Call, FileReply, Routes
from bitdew.wire.transport import Transport

MIB = 2**20
CONTENT = bytes(range(256)) * 4096 * 3  # 3 MiB


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "file.gz"  # no name makes it anything but bytes
    made.write_bytes(CONTENT)
    return made


@pytest.fixture
def sent() -> list[int]:
    """How many bytes the service says it sent, by reply."""
    return []


@pytest.fixture
async def url(wire, path, sent) -> str:
    async def content(call: Call[Nothing]) -> FileReply:
        if call.path["name"] != "file":
            raise error("data.not-found", "There is no such file")
        return FileReply(path, sent.append)

    routes = Routes()
    routes.add("GET", "/files/{name}", content, roles=[Role.USER])
    return await wire.serve(routes)


async def got(line: Transport, start: int, end: int, path: str = "/files/file", **options: Any) -> bytes:
    async with aclosing(line.download(path, start, end, **options)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def refused(line: Transport, start: int = 0, end: int = 100, **options: Any) -> BitDewError:
    with pytest.raises(BitDewError) as fault:
        await got(line, start, end, **options)
    return fault.value


@pytest.mark.parametrize(
    ("start", "end"), [(0, len(CONTENT)), (0, 1), (len(CONTENT) - 1, len(CONTENT)), (70_001, 2 * MIB + 3)]
)
async def test_the_part_that_was_asked_for_comes_and_is_counted(wire, url, sent, start, end):
    assert await got(await wire.line(url), start, end) == CONTENT[start:end]
    assert sent == [end - start]


async def test_the_whole_file_is_served_to_whoever_asks_for_no_part(wire, url):
    line = await wire.line(url)
    async with line._opened().get(f"{url}/files/file", server_hostname=SERVICE_NAME) as response:
        assert response.status == 200
        assert response.content_type == "application/octet-stream"
        assert await response.read() == CONTENT


async def test_what_the_service_says_instead_is_raised(wire, url):
    fault = await refused(await wire.line(url), path="/files/other")
    assert (fault.key, fault.message) == ("data.not-found", "There is no such file")


async def test_files_are_for_the_roles_that_a_route_names_and_for_nobody_who_is_revoked(wire, url):
    assert (await refused(await wire.line(url, Role.WORKER))).key == "certificate.role"
    wire.gate.refusal = error("certificate.revoked", "The certificate was revoked")
    assert (await refused(await wire.line(url))).key == "certificate.revoked"


async def test_a_file_that_vanished_is_told(wire, url, path):
    await asyncio.to_thread(path.unlink)
    assert "404" in (await refused(await wire.line(url))).why


async def test_a_part_beyond_the_end_is_told(wire, url):
    assert "416" in (await refused(await wire.line(url), len(CONTENT), len(CONTENT) + 1)).why
    fault = await refused(await wire.line(url), 0, len(CONTENT) + 1)
    assert fault.key == "service.version"
    assert f"bytes 0-{len(CONTENT) - 1}" in fault.why


async def test_leaving_early_ends_the_transfer_and_is_no_defect_of_the_service(wire, url, path, sent):
    with path.open("ab") as file:
        file.truncate(200 * MIB)  # far more than all buffers hold
    line = await wire.line(url)
    with structlog.testing.capture_logs() as logs:
        async with aclosing(line.download("/files/file", 0, 200 * MIB)) as chunks:
            assert (await anext(chunks))[:256] == CONTENT[:256]
        assert await got(line, 0, 10) == CONTENT[:10]
        await line.close()
        async with asyncio.timeout(5):
            while any("RequestHandler" in repr(task.get_coro()) for task in asyncio.all_tasks()):
                await asyncio.sleep(0.01)
    assert [entry for entry in logs if entry["log_level"] == "error"] == []
    assert min(sent) == 10
    assert 0 < max(sent) < 100 * MIB


# Services that are none -----------------------------------------------------------------------------------------------


async def answering(
    wire, status: int, content_range: str, *parts: bytes, length: int | None = None, hang: bool = False
):
    """A transport to a server that sends `parts` as `content_range`, and then ends, or hangs."""
    done = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(status=status)
        if content_range:
            reply.headers["Content-Range"] = content_range
        if length is not None:
            reply.content_length = length
        else:
            reply.enable_chunked_encoding()
        await reply.prepare(request)
        for part in parts:
            await reply.write(part)
        if hang:
            await done.wait()
        elif length is not None and request.transport is not None:
            request.transport.close()
        return reply

    app = web.Application()
    app.router.add_get("/files/file", answer)
    return await wire.line(await wire.serve_app(app)), done


@pytest.mark.parametrize(
    ("status", "content_range"),
    [
        (200, ""),
        (206, ""),
        (206, "bytes 1-100/200"),
        (206, "bytes 0-98/200"),
        (200, "bytes 0-99/200"),
    ],
)
async def test_another_part_than_the_one_asked_for_is_refused(wire, status, content_range):
    line, _ = await answering(wire, status, content_range, b"x" * 100)
    fault = await refused(line)
    assert fault.key == "service.version"
    assert "bytes 0-99" in fault.why


async def test_how_long_the_whole_file_is_need_not_be_said(wire):
    line, _ = await answering(wire, 206, "bytes 0-99/*", b"x" * 60, b"x" * 40)
    assert await got(line, 0, 100) == b"x" * 100


@pytest.mark.parametrize("length", [None, 100])
async def test_a_part_that_breaks_off_is_told(wire, length):
    line, _ = await answering(wire, 206, "bytes 0-99/200", b"x" * 40, length=length)
    assert (await refused(line)).key == "service.unreachable"


async def test_more_than_was_asked_for_is_not_taken(wire):
    line, _ = await answering(wire, 206, "bytes 0-99/200", b"x" * 140)
    assert (await refused(line)).key == "service.unreachable"


async def test_silence_ends_a_download(wire):
    line, done = await answering(wire, 206, "bytes 0-99/200", b"x" * 40, hang=True)
    fault = await refused(line, seconds=0.2)
    assert (fault.key, fault.why) == ("service.unreachable", "no reply in 0.2 s")
    done.set()


async def test_nobody_there_is_told(wire, url):
    line = await wire.line("https://127.0.0.1:9")
    assert (await refused(line)).key == "service.unreachable"
