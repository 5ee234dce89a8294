"""What a daemon prints never holds it up: a reader that is slow, or stopped, costs lines and nothing else.

Owns stdout and stderr while a daemon runs. A terminal that was stopped by Ctrl-S, or a pipe that nobody empties, takes
no more after some kilobytes; whoever writes to it then waits, and with it everything that the daemon is there for. Here
a thread waits instead. Lines that come while its queue is full are left out, and how many that were is said.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_WAITING: Final = 2 * 2**20
"""Characters that are kept for a slow reader."""
LAST_WORDS_SECONDS: Final = 2.0
"""How long the end waits for what is still to be written."""


@contextmanager
def unhurried(gap: Callable[[int], str]) -> Iterator[None]:
    """Have stdout and stderr written to by threads for as long as this lasts, where they are files of the system's.

    Args:
        gap: The line that says how many lines were left out before it.
    """
    before = sys.stdout, sys.stderr
    made = {id(stream): Unhurried(stream, gap) for stream in before if _has_descriptor(stream)}
    sys.stdout, sys.stderr = (made.get(id(stream), stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for one in made.values():
            one.finish(LAST_WORDS_SECONDS)


class Unhurried(io.TextIOBase):
    """Writes whole lines to a stream of the system's, without ever waiting for it.

    The stream is used by its descriptor alone: a thread that is stuck in it must not hold its lock, which the
    interpreter wants at its end.
    """

    def __init__(self, stream: TextIO, gap: Callable[[int], str]) -> None:
        super().__init__()
        self._stream = stream
        self._gap = gap
        self._descriptor = stream.fileno()
        self._begun = ""
        self._waiting: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._ended = False
        self._change = threading.Condition()
        stream.flush()
        self._thread = threading.Thread(target=self._work, name="writes what was said", daemon=True)
        self._thread.start()

    def write(self, text: str, /) -> int:
        """Have the lines that end in `text` written; what begins one is kept until it ends."""
        with self._change:
            *whole, self._begun = (self._begun + text).split("\n")
            for line in whole:
                self._put(line + "\n")
        return len(text)

    def _put(self, line: str) -> None:
        if self._size + len(line) > MOST_WAITING:
            self._dropped += 1
            return
        said = [self._gap(self._dropped) + "\n", line] if self._dropped else [line]
        self._dropped = 0
        self._waiting.extend(said)
        self._size += sum(map(len, said))
        self._change.notify()

    def isatty(self) -> bool:
        """Whether somebody watches."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor, for those who want to know the terminal's width."""
        return self._descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As the stream's: what can be drawn depends on it."""
        return self._stream.encoding

    def finish(self, seconds: float) -> None:
        """Take no more, and wait at most so long for what is still to be written."""
        with self._change:
            if self._begun:
                self._put(self._begun)
            self._ended = True
            self._change.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while (line := self._next()) is not None:
            rest = line.encode(self.encoding, "backslashreplace")
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:  # nobody reads any more: what is said from now on is left out, and never missed
                return

    def _next(self) -> str | None:
        """The next line; None when there will be no more."""
        with self._change:
            while not self._waiting and not self._ended:
                self._change.wait()
            if not self._waiting:
                return None
            line = self._waiting.popleft()
            self._size -= len(line)
            return line


def _has_descriptor(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError):  # a test's, or none at all
        return False
    return True
