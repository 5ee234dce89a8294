"""A site of real processes: one service, workers, and commands, as people start them."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from forked import ForkedCommands

LONGEST = (
    "test_worker_disk.py",
    "test_hep_machines.py",
    "test_virtualbox_troubles.py",
    "test_leaving.py",
    "test_kept_running.py",
)
"""Files that take longest, of which some have a single test: begun last, they would keep all others waiting."""

BITDEW = [sys.executable, "-P", "-m", "bitdew"]
READY_SECONDS = 180.0
"""Patience for a process to start or end, and for what is waited for: far more than it takes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, the others in the order that they had."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


class Daemon:
    """A service or a worker: its process, and the JSON lines that it prints."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.lines: queue.Queue[dict] = queue.Queue()
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            [*BITDEW, *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            cwd=log.parent,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.ready = self.wait_for(lambda line: line.get("ready") or "error" in line)
        if "error" in self.ready:
            self.stop()
            pytest.fail(f"{arguments} did not start: {self.ready}; see {log}: {log.read_text()[-2000:]}")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put({"error": "it ended"})

    def wait_for(self, condition, seconds: float = READY_SECONDS) -> dict:
        """The first line from now on that fulfils `condition`."""
        until = time.monotonic() + seconds
        while True:
            line = self.lines.get(timeout=max(0.01, until - time.monotonic()))
            if condition(line) or line == {"error": "it ended"}:
                return line

    def kill(self) -> None:
        """The end without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """The orderly end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(READY_SECONDS)
        self._reader.join(READY_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        return code


def begun(site: Site, *arguments: object) -> subprocess.Popen[bytes]:
    """A command that was started, and goes on."""
    return subprocess.Popen(
        [*BITDEW, *map(str, arguments), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=site.environment,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[bytes], seconds: float = READY_SECONDS) -> tuple[int, str]:
    """Its exit code, and what it printed."""
    out, err = process.communicate(timeout=seconds)
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode()


class Site:
    """A folder with a service, workers, and a user's home."""

    def __init__(self, folder: Path, commands: ForkedCommands) -> None:
        self.folder = folder
        self._commands = commands
        self.environment = os.environ | {"BITDEW_HOME": str(folder / "home"), "COLUMNS": "120"}
        self.daemons: list[Daemon] = []
        self.service: Daemon | None = None

    def run(
        self, *arguments: object, code: int = 0, seconds: float = READY_SECONDS, prefix: Sequence[str] = ()
    ) -> dict:
        """What a command prints with --json; it must end with `code`. `prefix` is a program that runs it."""
        words = [*map(str, arguments)]
        words.insert(words.index("--") if "--" in words else len(words), "--json")  # before the command of a job
        if prefix:
            command = [*prefix, *BITDEW, *words]
            options = {"capture_output": True, "text": True, "env": self.environment}
            done = subprocess.run(command, check=False, timeout=seconds, **options)
        else:
            done = self._commands.run(words, self.environment, seconds)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stdout + done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: object, log: str) -> Daemon:
        daemon = Daemon([str(a) for a in arguments], self.environment, self.folder / f"{log}.log")
        self.daemons.append(daemon)
        return daemon

    def serve(self, *options: object) -> Daemon:
        port = self.service.ready["url"].rpartition(":")[2] if self.service else "0"
        self.service = self.start("serve", "--port", port, "--period", "5", *options, log="service")
        return self.service

    def worker(self, number: int, *options: object) -> Daemon:
        """Joins at the first start; later starts run what is there."""
        assert self.service is not None
        home = self.folder / f"host{number}"
        if (home / "worker.json").exists():
            return self.start("worker", "run", "--home", home, log=f"host{number}")
        token = self.run("token", "create", "--role", "worker")["token"]
        joining = ["--token", token, "--home", home, "--name", f"host{number}", "--listen", f"127.0.1.{number}"]
        return self.start("worker", "join", self.service.ready["url"], *joining, *options, log=f"host{number}")

    def copy(self, number: int, root: str) -> Path:
        return self.folder / f"host{number}" / "copies" / root

    def where(self, name: str) -> dict:
        return self.run("disk", "where", name)

    def until(self, condition, seconds: float = READY_SECONDS):
        """What `condition` gives, as soon as that is true."""
        limit = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < limit, "it never came true"
            time.sleep(0.1)
        return found

    def placement(self, name: str, number: int) -> dict:
        (found,) = [p for p in self.where(name)["placements"] if p["host_name"] == f"host{number}"]
        return found

    def end(self) -> None:
        """Stop everything, workers first, and see that nothing of it is left."""
        for daemon in reversed(self.daemons):
            if daemon.process.returncode is None:
                daemon.stop()
        left = [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(str(self.folder) in part for part in process.info["cmdline"] or ())
        ]
        for process in left:
            process.kill()
        assert not left


@pytest.fixture(scope="session")
def commands():
    """What runs `bitdew` without importing it each time."""
    with ForkedCommands() as forked:
        yield forked


@pytest.fixture
def site(tmp_path, commands):
    made = Site(tmp_path, commands)
    yield made
    made.end()
