"""VirtualBox's own bindings, used through a process in the Python that has them.

Owns that process: it is started when something is asked, answers one question at a time, and is stopped when it does
not answer in time. What it does stands in `virtualbox_bound`. It must not decide whether the bindings are used: who
makes it wants them, and where they don't work, that is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from bitdew.core.errors import BitDewError, error

_MOST: Final = 1024 * 1024
_BEGUN_WITHIN: Final = 30.0  # seconds until it has found VirtualBox's service, which may have to start
_GONE_WITHIN: Final = 2.0
_CONTROLS: Final = frozenset({"pause", "resume", "acpipowerbutton", "poweroff", "screenshotpng"})


class SilentError(Exception):
    """Whatever was asked did not answer in time, and was stopped."""


class _LostError(Exception):
    """The process has ended; why."""


class Bindings:
    """The bindings in a process. All methods block; they may be called by several threads.

    Args:
        python: The name or path of the Python that has the module `vboxapi`.
        home: The folder that it runs in.
        environment: What it is to have for its environment.
    """

    def __init__(self, python: str, home: Path, environment: Callable[[], dict[str, str]]) -> None:
        self.python = python
        self._home = home
        self._environment = environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._version = ""

    @staticmethod
    def know(words: tuple[str, ...]) -> bool:
        """Whether they do what these words of VBoxManage's say: all that is asked of a machine that is there."""
        if len(words) >= 3 and words[0] == "controlvm":
            return words[2] in _CONTROLS
        return words == ("list", "vms") or (words[:1], words[2:]) == (("showvminfo",), ("--machinereadable",))

    def version(self) -> str:
        """VirtualBox's version, as they tell it.

        Raises:
            HostError: `hypervisor.failed`, if they don't work.
        """
        with self._lock:
            try:
                self._begin()
            except (_LostError, SilentError) as problem:
                self._end()
                raise self._failed(str(problem)) from problem
            return self._version

    def ask(self, words: tuple[str, ...], within: float) -> tuple[int, str]:
        """As VBoxManage: an exit code and what is said.

        Raises:
            SilentError: no answer in time.
            HostError: `hypervisor.failed`, if they don't work.
        """
        with self._lock:
            for last in (False, True):
                try:
                    self._begin(within)
                    return self._exchange(words, within)
                except _LostError as problem:  # it was idle for long, or the service ended or was killed
                    self._end()
                    if last:
                        raise self._failed(str(problem)) from problem
                except SilentError:
                    self._end()
                    raise
        raise AssertionError

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _begin(self, within: float = _BEGUN_WITHIN) -> None:
        if self._process is not None:
            return
        if sys.platform == "win32":
            raise _LostError("they are used on Unix alone")  # a pipe can't be waited for otherwise
        path = shutil.which(self.python)
        if path is None:
            raise _LostError(f"{self.python} not found")
        source = Path(__file__).with_name("virtualbox_bound.py").read_text("utf-8")
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
            self._process = subprocess.Popen(
                [path, "-I", "-B", "-c", source],  # it may not see this file's folder
                cwd=self._home,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                bufsize=0,
                start_new_session=True,  # Ctrl-C at the worker's terminal is not for VirtualBox's service
            )
        except OSError as problem:
            raise _LostError(problem.strerror or str(problem)) from problem
        _, self._version = self._read(within)

    def _exchange(self, words: tuple[str, ...], within: float) -> tuple[int, str]:
        process = self._process
        if process is None or process.stdin is None:
            raise _LostError("it was not started")
        try:
            process.stdin.write(json.dumps(words).encode() + b"\n")
        except OSError as problem:
            raise _LostError(problem.strerror or str(problem)) from problem
        return self._read(within)

    def _read(self, within: float) -> tuple[int, str]:
        """One answer, at most a megabyte."""
        process = self._process
        if process is None or process.stdout is None:
            raise _LostError("it was not started")
        deadline, line = time.monotonic() + within, b""
        while not line.endswith(b"\n") and len(line) <= _MOST:
            if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise SilentError(f"it did not answer within {within:.0f} seconds")
            if not (more := os.read(process.stdout.fileno(), 65536)):
                raise _LostError(self._last_words() or "it ended")
            line += more
        try:
            code, told = json.loads(line)
            return int(code), str(told)
        except (ValueError, TypeError) as problem:
            raise _LostError(f"it answered {line[:80]!r}") from problem

    def _last_words(self) -> str:
        if self._said is None:
            return ""
        self._said.seek(0)
        lines = self._said.read(_MOST).decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            try:
                process.wait(_GONE_WITHIN)  # its input has ended
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._said is not None:
            self._said.close()
            self._said = None

    def _failed(self, why: str) -> BitDewError:
        return error("hypervisor.failed", f"VirtualBox's bindings do not work in {self.python}", why=why)
