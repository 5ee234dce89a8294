"""Running a program that a volunteer declared, to see what it says: within bounds, and with nothing of it left over.

Owns the bounds: no shell, no input, seconds, kilobytes, and a process group of its own, which is killed whole however
the program ended. It blocks.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

SECONDS: Final = 20.0
"""How long a program may take: importing ROOT takes several."""
LONGEST: Final = 64 * 1024
"""Bytes that are read of what it prints; one that prints more has said nothing."""
_LOOK_SECONDS: Final = 0.05
_HIDDEN: Final = "BITDEW_"
_GIVEN_UP: Final = "it was given up"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it.

    Attributes:
        text: What it printed, on its output and its error output.
        fault: Why that does not count; "" if it ended well.
        hung: Whether it was its time that ran out.
    """

    text: str
    fault: str = ""
    hung: bool = False


def environment(of: Mapping[str, str]) -> dict[str, str]:
    """The environment `of` this process for such a program: without what is ours, tokens among it; in plain words."""
    return {name: value for name, value in of.items() if not name.startswith(_HIDDEN)} | {"LC_ALL": "C.UTF-8"}


def ask(command: Sequence[str], *, seconds: float = SECONDS, given_up: threading.Event | None = None) -> Answer:
    """Run `command`, whose first word is a whole path; what it says.

    Args:
        command: The program and its arguments.
        seconds: How long it may take.
        given_up: Ends it at once when it is set.
    """
    if given_up is not None and given_up.is_set():
        return Answer("", _GIVEN_UP)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment(os.environ),
            start_new_session=True,
        )
    except (OSError, ValueError) as fault:
        return Answer("", f"{command[0]} can't be run: {getattr(fault, 'strerror', None) or fault}")
    try:
        said, problem, hung = _listen(process, time.monotonic() + seconds, given_up or threading.Event())
    finally:
        # Before its leader is waited for: until then no other process group can have this number.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
    text = said[:LONGEST].decode("utf-8", "replace")
    if hung:
        problem = f"it did not end within {seconds:g} seconds"
    elif not problem and code != 0:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()[:200]
        problem = f"it ended with {code}" + (f": {last}" if last else "")
    return Answer(text, problem, hung)


def _listen(process: subprocess.Popen[bytes], until: float, given_up: threading.Event) -> tuple[bytes, str, bool]:
    """What it prints until it has ended, why that does not count, and whether its time ran out."""
    said = bytearray()
    stream = process.stdout
    assert stream is not None  # noqa: S101 (a pipe was asked for)
    os.set_blocking(stream.fileno(), False)
    open_ = True
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            ended = _has_ended(process.pid)
            while open_ and (part := _read(stream.fileno())) is not None:
                said += part
                open_ = bool(part)
                if len(said) > LONGEST:
                    return bytes(said), f"it printed more than {LONGEST} bytes", False
                if not part:
                    selector.unregister(stream)
            if ended:
                return bytes(said), "", False
            if given_up.is_set():
                return bytes(said), _GIVEN_UP, False
            if time.monotonic() >= until:
                return bytes(said), "", True
            selector.select(_LOOK_SECONDS)


def _read(descriptor: int) -> bytes | None:
    """What can be read at once: b"" at the end, None if there is nothing yet."""
    try:
        return os.read(descriptor, 16 * 1024)
    except BlockingIOError:
        return None


def _has_ended(pid: int) -> bool:
    """Whether the process ended. It stays to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
