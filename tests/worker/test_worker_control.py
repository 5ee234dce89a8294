"""The socket by which a worker is told things: who may open it, what may be said, and what is answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from typing import Any

import pytest
from bitdew.worker import control
from bitdew.worker.control import Control, Verb, ask
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from bitdew.core.errors import BitDewError, error
from bitdew.wire import limits
from bitdew.wire.model import Model


class Question(Model):
    number: int = Field(default=0, ge=0, le=1000)
    text: str = ""


class Answer(Model):
    doubled: int
    text: str = ""


async def double(question: Question) -> Answer:
    if question.number == 13:
        raise error("storage.full", "There is no room", why="of the test's own", size=13)
    if question.number == 14:
        raise ZeroDivisionError
    return Answer(doubled=2 * question.number, text=question.text)


async def never(_: Question) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


VERBS = {"double": Verb(Question, double), "never": Verb(Question, never)}


@contextlib.asynccontextmanager
async def listening(home):
    await asyncio.to_thread(home.mkdir, parents=True, exist_ok=True)
    made = Control(home, VERBS)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def said(home, *lines: bytes) -> list[Any]:
    """What the worker answers to `lines`, until it hangs up or has answered them all."""
    with control._address(home) as address:
        reader, writer = await asyncio.open_unix_connection(address)
    found = []
    try:
        for line in lines:
            writer.write(line)
            if not (answer := await reader.readline()):
                break
            found.append(json.loads(answer))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return found


async def test_a_worker_that_listens_answers_and_one_that_does_not_is_known_by_it(tmp_path):
    assert await ask(tmp_path / "nowhere", "double", Question(), Answer) is None
    async with listening(tmp_path):
        assert await ask(tmp_path, "double", Question(number=21), Answer) == Answer(doubled=42)
    assert await ask(tmp_path, "double", Question(), Answer) is None
    assert list(tmp_path.iterdir()) == []


async def test_only_the_owner_may_open_it(tmp_path):
    async with listening(tmp_path):
        assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600


async def test_a_home_with_a_long_path_can_be_talked_to(tmp_path):
    home = tmp_path / ("long-" * 30) / ("longer-" * 20)
    async with listening(home):
        assert await ask(home, "double", Question(number=4), Answer) == Answer(doubled=8)
    assert list(home.iterdir()) == []


async def test_where_no_such_path_can_be_had_the_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "_OPEN_FILES", tmp_path / "no-proc")
    home = tmp_path / ("long-" * 30)
    with pytest.raises(BitDewError, match="too long for a socket") as caught:
        async with listening(home):
            raise AssertionError
    assert caught.value.key == "storage.failed"
    assert "shorter" in caught.value.do


async def test_a_socket_that_a_killed_worker_left_is_replaced(tmp_path):
    crashed = Control(tmp_path, VERBS)
    await crashed.open()
    assert crashed._server is not None
    crashed._server.close()
    await crashed._server.wait_closed()
    assert (tmp_path / "control.sock").exists()
    assert await ask(tmp_path, "double", Question(), Answer) is None
    async with listening(tmp_path):
        assert await ask(tmp_path, "double", Question(number=1), Answer) == Answer(doubled=2)


async def test_what_goes_wrong_is_told_under_its_key(tmp_path):
    async with listening(tmp_path):
        with pytest.raises(BitDewError) as caught:
            await ask(tmp_path, "double", Question(number=13), Answer)
        assert (caught.value.key, caught.value.why, caught.value.fields["size"]) == (
            "storage.full",
            "of the test's own",
            13,
        )
        with pytest.raises(BitDewError) as caught:
            await ask(tmp_path, "double", Question(number=14), Answer)
        assert caught.value.key == "internal"
        with pytest.raises(BitDewError, match="knows no 'sing'"):
            await ask(tmp_path, "sing", Question(), Answer)
        assert (await said(tmp_path, b'{"verb": "double", "body": {"number": 1001}}\n'))[0]["error"]["fields"] == {
            "field": "number"
        }


async def test_several_things_can_be_said_in_one_call(tmp_path):
    async with listening(tmp_path):
        lines = [json.dumps({"verb": "double", "body": {"number": n}}).encode() + b"\n" for n in range(3)]
        assert await said(tmp_path, *lines) == [{"reply": {"doubled": 2 * n, "text": ""}} for n in range(3)]


async def test_a_line_that_is_too_long_is_refused_and_the_next_one_is_read(tmp_path):
    async with listening(tmp_path):
        refused, answered = await said(tmp_path, b"x" * (3 * limits.CONTROL) + b"\n", b'{"verb": "double"}\n')
        assert refused["error"]["key"] == "input.too-large"
        assert answered == {"reply": {"doubled": 0, "text": ""}}


async def test_more_calls_than_are_listened_to_are_hung_up(tmp_path):
    async with listening(tmp_path) as worker:
        calls = [asyncio.create_task(ask(tmp_path, "never", Question(), Answer)) for _ in range(limits.CONTROL_CALLS)]
        async with asyncio.timeout(5):
            while len(worker._calls) < limits.CONTROL_CALLS:
                await asyncio.sleep(0.01)
        with pytest.raises(BitDewError) as caught:
            await ask(tmp_path, "double", Question(), Answer)
        assert caught.value.key == "worker.unreachable"
    for call in calls:  # the worker ended while they waited
        with pytest.raises(BitDewError, match="does not answer"):
            await call


async def test_a_command_that_says_nothing_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "IDLE_SECONDS", 0.1)
    async with listening(tmp_path):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


@settings(max_examples=40)
@given(line=st.one_of(st.binary(max_size=200), st.text(max_size=50).map(lambda t: json.dumps({"verb": t}).encode())))
def test_whatever_is_said_gets_an_answer_of_the_same_form(tmp_path_factory, line):
    async def play():
        home = tmp_path_factory.mktemp("home")
        async with listening(home):
            for answer in await said(home, line.replace(b"\n", b"") + b"\n"):
                assert answer["error"]["key"] == "input.invalid"
                break
            else:
                raise AssertionError("no answer")

    asyncio.run(play())
