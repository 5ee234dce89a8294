"""Commands are called as the installed one calls them, in this process; a service and a worker are real processes."""

import functools
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
import typer.main

from bitdew.cli.main import main
from bitdew.cli.shapes import SHAPES, models


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its one JSON document, without the name of its shape."""
        found = json.loads(self.out)
        return {key: value for key, value in found.items() if key != "schema"}

    @property
    def key(self) -> str:
        """The key of the error that it printed as JSON."""
        return self.document["error"]["key"]


MADE_ONCE = functools.cache(typer.main.get_command)
"""The tree of commands takes typer a tenth of a second, which is most of what a refused command takes."""


def require_known_shapes(words: list[str], out: str) -> None:
    """Fail, if a document says no schema, or one that the table does not have for this command."""
    command = max((one for one in SHAPES if words[: len(one.split())] == one.split()), key=len, default="")
    for line in out.splitlines():
        document = json.loads(line)
        name = document["schema"].removesuffix("/1")
        assert name in (*SHAPES.get(command, ()), "ErrorReply"), (
            f"bitdew {command} printed {name}: see bitdew/cli/shapes.py"
        )
        if name != "ErrorReply":
            assert list(document)[1:] == list(models()[name].model_fields)


@pytest.fixture
def bitdew(capsys, monkeypatch, tmp_path):
    """`bitdew` with the given arguments, with a home of the test's own."""
    monkeypatch.delenv("BITDEW_PROFILE", raising=False)
    monkeypatch.setenv("BITDEW_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(typer.main, "get_command", MADE_ONCE)

    def run(*arguments: object) -> Ended:
        words = [str(one) for one in arguments]
        with pytest.raises(SystemExit) as ended:
            main(words)
        printed = capsys.readouterr()
        if "--json" in words:
            require_known_shapes(words, printed.out)
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    yield run
    structlog.reset_defaults()  # commands send the log to the stderr that they found


@pytest.fixture
def home(tmp_path):
    """Where `bitdew` and a daemon that is told so keep everything."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


class Daemon:
    """A `bitdew` process that says when it is ready."""

    def __init__(self, *arguments: object, home):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BITDEW_")}
        command = [sys.executable, "-P", "-m", "bitdew", *map(str, arguments), "--json", "--stop-with-parent"]
        self.log = (home / f"{arguments[0]}.log").open("wb+")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment | {"BITDEW_HOME": str(home)},
            start_new_session=True,
        )
        self.ready = json.loads(self.line())

    def line(self, seconds: float = 60.0) -> bytes:
        """The next line that it prints."""
        until = time.monotonic() + seconds
        while select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))[0]:
            return self.process.stdout.readline()
        self.log.seek(0)
        raise TimeoutError(self.log.read().decode())

    def ended(self, seconds: float = 30.0) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(seconds)

    def close(self) -> int:
        """End it, and give back what is held of it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            for stream in (self.process.stdin, self.process.stdout, self.log):
                stream.close()


@pytest.fixture
def daemon(tmp_path):
    """Starts daemons; ends them with the test."""
    started = []

    def start(*arguments: object, home=tmp_path):
        started.append(Daemon(*arguments, home=home))
        return started[-1]

    yield start
    for one in reversed(started):
        one.close()
