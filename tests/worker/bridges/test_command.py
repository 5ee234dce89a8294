"""The command: started for each thing with JSON on its standard input, without a shell, and within bounds."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import psutil
import pytest
from bitdew.worker.bridges.command import Command
from bitdew.worker.bridges.settings import CommandBridge
from pydantic import ValidationError

from bitdew.core.errors import BitDewError


def program(text, *arguments, seconds=20.0):
    words = (sys.executable, "-c", f"import json, os, sys, time\n{text}", *map(str, arguments))
    return Command(CommandBridge(words=words, seconds=seconds), "pc-7")


async def test_it_finds_the_event_on_its_standard_input_and_little_else(tmp_path, replica, monkeypatch):
    monkeypatch.setenv("BITDEW_TOKEN", "secret")
    out = tmp_path / "told"
    text = """
told = json.load(sys.stdin)
with open(sys.argv[1], "a") as file:
    print(json.dumps([told, dict(os.environ), os.getcwd(), sys.argv[2:]]), file=file)
"""
    command = program(text, out, "$HOME; rm -rf /", "*")
    await command.started([replica(1)])
    await command.held(replica(2))
    await command.dropping(replica(2))
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(told["event"], [one["name"] for one in told["copies"]]) for told, *_ in lines] == [
        ("started", ["disk-1"]),
        ("held", ["disk-2"]),
        ("dropping", ["disk-2"]),
    ]
    for told, environment, folder, words in lines:
        assert environment["BITDEW_EVENT"] == told["event"]
        assert "BITDEW_TOKEN" not in environment
        assert folder == "/"
        assert words == ["$HOME; rm -rf /", "*"]


async def test_one_that_fails_is_told_by_its_code_and_last_words(replica):
    with pytest.raises(BitDewError, match=r"it ended with 3: x+\nno pool here") as caught:
        await program("print('x' * 100000 + '\\nno pool here', file=sys.stderr); sys.exit(3)").held(replica(1))
    assert caught.value.key == "bridge.unreachable"
    assert len(str(caught.value)) < 1000


async def test_one_that_does_not_end_is_killed_with_what_it_started(tmp_path, replica):
    pids = tmp_path / "pids"
    text = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
    with pytest.raises(BitDewError, match="was killed"):
        await program(text, pids, seconds=3.0).held(replica(1))
    until = time.monotonic() + 10
    for pid in map(int, pids.read_text().split()):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)


async def test_what_it_leaves_running_keeps_nobody_waiting(tmp_path, replica):
    pid = tmp_path / "pid"
    text = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(child.pid))
"""
    began = time.monotonic()
    await program(text, pid, seconds=30.0).held(replica(1))
    assert time.monotonic() - began < 20
    psutil.Process(int(pid.read_text())).kill()


async def test_one_that_reads_nothing_of_much_is_not_to_blame(replica):
    await program("").started([replica(number) for number in range(3000)])


async def test_one_that_is_not_there_or_no_program_is_told(tmp_path, replica):
    text = tmp_path / "text"
    text.write_text("no program")
    for path in (tmp_path / "missing", text, tmp_path):
        with pytest.raises(BitDewError, match="can't be started") as caught:
            await Command(CommandBridge(words=(str(path),)), "pc-7").held(replica(1))
        assert caught.value.key == "bridge.unreachable"


@pytest.mark.parametrize(
    "words", [(), ("tell",), ("./tell",), ("/bin/tell", "a\0b"), ("/bin/tell",) * 65, ("/bin/tell", "x" * 4097)]
)
def test_an_impossible_command_is_refused(words):
    with pytest.raises(ValidationError):
        CommandBridge(words=words)
