"""Starts `bitdew` commands by forking a process that has imported them: a short command does little else than imports.

Run as a program, it listens at the socket that it is given by number. Each caller sends the words, the environment, the
current folder, and where output goes; it hears the exit code. What runs is `bitdew.cli.main.main`, in a process of its
own, as when the installed command runs.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self


class ForkedCommands:
    """The caller's side: a context manager, inside which commands can be run, by any thread."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bitdew-forked-")
        self._path = str(Path(self._folder.name) / "socket")

    def __enter__(self) -> Self:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self._path)
            listening.listen(64)
            number = listening.fileno()
            command = [sys.executable, "-P", __file__, str(number)]
            own = {"stdin": subprocess.PIPE, "start_new_session": True}
            self._process = subprocess.Popen(command, pass_fds=[number], **own)
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._folder.cleanup()

    def run(
        self, words: Sequence[str], environment: dict[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """`bitdew` with `words`, once it has ended.

        Raises:
            TimeoutError: It has not ended within `seconds`.
        """
        asked = json.dumps([list(words), environment, os.getcwd()]).encode()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, socket.socket(socket.AF_UNIX) as line:
            line.settimeout(seconds)
            try:
                line.connect(self._path)
            except ConnectionRefusedError as refused:
                raise RuntimeError(f"what forks commands has ended: {self._process.poll()}") from refused
            socket.send_fds(line, [len(asked).to_bytes(4)], [out.fileno(), err.fileno()])
            line.sendall(asked)
            code = int(line.recv(16) or b"-1")
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(["bitdew", *words], code, out.read().decode(), err.read().decode())


def serve(listening: socket.socket, run: Callable[[Sequence[str]], object]) -> None:
    """Fork for each caller, and once more for the command, whose end is waited for. Ends with whoever started it."""
    while True:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
        if sys.stdin in select.select([listening, sys.stdin], [], [])[0]:
            return  # the kernel closed the pipe of a starter that was killed
        line, _ = listening.accept()
        if os.fork():
            line.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listening.close()
        head, files, _, _ = socket.recv_fds(line, 4, 2)
        with line.makefile("rb") as reader:
            words, environment, folder = json.loads(reader.read(int.from_bytes(head)))
        if not (command := os.fork()):
            line.close()
            for number, file in enumerate([os.open(os.devnull, os.O_RDONLY), *files]):
                os.dup2(file, number)
                os.close(file)
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(folder)
            run(words)
        line.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]))
        os._exit(0)


if __name__ == "__main__":
    # What most commands import when they run.
    import bitdew.client.grid  # noqa: F401
    from bitdew.cli.main import main

    serve(socket.socket(fileno=int(sys.argv[1])), main)
