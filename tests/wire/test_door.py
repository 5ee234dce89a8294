"""Which doors may be called that are no service of ours, and what one call to them is bounded by."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.wire import limits
from bitdew.wire.door import door_url, is_loopback, shown_url
from bitdew.wire.door_call import call_door


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:4327",
        "http://127.8.9.1/",
        "http://[::1]:80/x?y=1",
        "http://localhost:1",
        "https://hooks.example.org/a",
    ],
)
def test_this_machine_and_what_is_encrypted_may_be_called(text):
    assert str(door_url(text)).startswith(text[:12])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:4327",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://",
        "http://10.0.0.7:80",
        "http://127.0.0.1.example.org/",
        "http://localhost.example.org/",
        "http://0.0.0.0:80",
        "http://[::ffff:10.0.0.7]/",
        "https://user:secret@example.org/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/#part",
        "http://127.0.0.1/" + "x" * limits.URL,
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(BitDewError) as caught:
        door_url(text)
    assert caught.value.key == "input.invalid"
    assert "secret" not in str(caught.value)


def test_another_machine_without_encryption_has_to_be_allowed():
    assert not is_loopback(door_url("http://10.0.0.7:80", plain_elsewhere=True))


@given(st.text(max_size=80))
def test_no_text_breaks_the_judgement(text):
    for spelled in (text, f"http://{text}", f"https://{text}/x"):
        try:
            url = door_url(spelled)
        except BitDewError as fault:
            assert fault.key == "input.invalid"  # noqa: PT017
        else:
            assert url.scheme == "https" or is_loopback(url)


def test_what_is_shown_of_a_url_has_no_token():
    assert shown_url(door_url("https://example.org/hook?token=secret")) == "https://example.org/hook"


@pytest.fixture
async def answering():
    """Starts a server that answers each request with the bytes that it is given, or in silence with None."""
    servers, tasks = [], set()

    async def start(answer):
        async def serve(reader, writer):
            tasks.add(asyncio.current_task())
            try:
                await reader.readuntil(b"\r\n\r\n")
                if answer is None:
                    await asyncio.sleep(3600)
                writer.write(answer)
                await writer.drain()
                while answer.endswith(b"..."):
                    writer.write(b"x" * 65536)
                    await writer.drain()
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return door_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")

    yield start
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_success_is_success_and_the_rest_is_told(answering):
    await call_door("GET", await answering(b"HTTP/1.1 204 No\r\n\r\n"), seconds=5)
    for answer, why in [
        (b"HTTP/1.1 302 Moved\r\nLocation: http://10.0.0.7/\r\nContent-Length: 0\r\n\r\n", "it answered 302"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "it answered 500"),
        (b"nonsense\r\n\r\n", "can't be told"),
    ]:
        with pytest.raises(BitDewError, match=why) as caught:
            await call_door("GET", await answering(answer), seconds=5)
        assert caught.value.key == "bridge.unreachable"


async def test_silence_ends_in_time(answering):
    began = time.monotonic()
    with pytest.raises(BitDewError, match=r"no reply in 0\.3 s"):
        await call_door("GET", await answering(None), seconds=0.3)
    assert time.monotonic() - began < 5


async def test_a_reply_without_end_is_read_to_its_bound_alone(answering):
    began = time.monotonic()
    await call_door("GET", await answering(b"HTTP/1.1 200 Yes\r\n\r\n..."), seconds=20)
    assert time.monotonic() - began < 10
