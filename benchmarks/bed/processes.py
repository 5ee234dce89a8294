"""Real processes, as people start them, in a folder that goes with them.

Owns that nothing is left behind: each process has a session of its own, is stopped by its id, and ends by itself when
its stdin does, so that it does not outlive a benchmark that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

Line = dict[str, Any]
PEER: Final = Path(__file__).with_name("peer.py")
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
_ENDED: Final[Line] = {"ended": True}


class Process:
    """A program that prints JSON lines, the first of which says that it is ready."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._lines: queue.Queue[Line] = queue.Queue()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.log = log
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ready(self) -> Line:
        """The line that says that it is ready."""
        return self.line(lambda line: bool(line.get("ready")))

    def line(self, condition: Callable[[Line], bool], seconds: float = READY_SECONDS) -> Line:
        """The next line that fulfils `condition`.

        Raises:
            RuntimeError: if it ended, or nothing came in time.
        """
        until = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get(timeout=max(0.0, until - time.monotonic()))) is not _ENDED:
                if condition(line):
                    return line
        raise RuntimeError(f"{self.log.stem} did not print the line that was waited for")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-1000:]

    def say(self, line: Line) -> None:
        """Write a JSON line to its stdin."""
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()

    def ask_to_stop(self) -> None:
        """SIGTERM, if it is still there."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait for its end; make an end of it after a while."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        if self._process.stdout is not None:
            for raw in self._process.stdout:
                with contextlib.suppress(ValueError):
                    self._lines.put(json.loads(raw))
        self._lines.put(_ENDED)


class Site:
    """A folder with a service, workers and peers. A context manager; it ends all of them and removes the folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bitdew-bench-"))
        self._environment = os.environ | {"BITDEW_HOME": str(self.folder / "home")}
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        """From now on SIGTERM ends a benchmark as Ctrl-C does, in order."""
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for group in (self._processes[1:], self._processes[:1]):  # the service last
            for process in group:
                process.ask_to_stop()
            for process in group:
                process.wait()
        if kind is not None and issubclass(kind, Exception):
            for process in self._processes:
                print(f"The end of {process.log.name}:\n{process.tail()}", file=sys.stderr)
        shutil.rmtree(self.folder)

    @property
    def processes(self) -> Sequence[Process]:
        """All that run, the first started first."""
        return tuple(self._processes)

    def serve(self, *options: str, on: Sequence[str] = ()) -> Line:
        """Start the service; what it says of itself. `on` are the words that run a command on another host."""
        return self._bitdew("service", on, "serve", "--port", "0", *options).ready()

    def worker(self, number: int, url: str, token: str, *, listen: str = "", on: Sequence[str] = ()) -> Process:
        """Start a worker, on a loopback address of its own by default; it is not waited for."""
        mine = ["--home", str(self.folder / f"host{number}"), "--name", f"host{number}"]
        where = listen or f"127.0.1.{number}"
        return self._bitdew(
            f"host{number}",
            on,
            *("worker", "join", url, "--token", token, *mine, "--listen", where, "--quota", "2GB"),
        )

    def program(self, name: str, path: Path, *options: str, on: Sequence[str] = ()) -> Process:
        """Start one of the benchmarks' own programs, which prints JSON lines."""
        return self._start(name, [*on, sys.executable, "-P", str(path), *options])

    def peer(self, part: str, credentials: Path, *options: str) -> Process:
        """Start a part of the peer that something is compared with."""
        return self._start(f"peer-{part}", [sys.executable, "-P", str(PEER), part, str(credentials), *options])

    def _bitdew(self, name: str, on: Sequence[str], *arguments: str) -> Process:
        command = [*on, sys.executable, "-P", "-m", "bitdew", *arguments, "--json", "--stop-with-parent"]
        return self._start(name, command)

    def stop(self, process: Process) -> None:
        """End one process before the others."""
        process.ask_to_stop()
        process.wait()
        self._processes.remove(process)

    def _start(self, name: str, command: list[str]) -> Process:
        process = Process(command, self._environment, self.folder / f"{name}.log")
        self._processes.append(process)
        return process
