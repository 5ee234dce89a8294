"""Tells a program of copies: it is started for each message, and finds it on its standard input as JSON.

Owns the process: no shell reads the words, it has few variables of the environment, its output is read to a bound and
thrown away but for the end of what it says on stderr when it fails, and it is killed with all that it started in its
session when its time is over. What it leaves running when it ends in time stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from bitdew.core.errors import error

from ..plugins.contract import Plugin, Replica
from .saying import What, message
from .settings import CommandBridge

KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL")
"""Variables of the worker's environment that the program has too."""
LAST_WORDS: Final = 500
"""Bytes of what a program that failed said last."""
_CHUNK: Final = 4096
_CHUNKS: Final = 32
"""More of them than a pipe holds: what something left running says for ever is not listened to."""


class Command(Plugin):
    """The plug-in."""

    def __init__(self, bridge: CommandBridge, host: str) -> None:
        """Nothing is started yet. `host` is this host's name."""
        self._words = bridge.words
        self._seconds = bridge.seconds
        self._host = host
        self.seconds = bridge.seconds + 2.0

    async def started(self, held: Sequence[Replica]) -> None:
        """Tell the program what is held."""
        await self._tell("started", held)

    async def held(self, copy: Replica) -> None:
        """Tell the program that `copy` is held."""
        await self._tell("held", [copy])

    async def dropping(self, copy: Replica) -> None:
        """Tell the program that `copy` is to go."""
        await self._tell("dropping", [copy])

    async def _tell(self, what: What, copies: Sequence[Replica]) -> None:
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {"BITDEW_EVENT": what}
        with _Hearing() as hearing:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._words,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=hearing.mouth,
                    env=environment,
                    cwd="/",
                    start_new_session=True,
                )
            except (OSError, ValueError) as cause:
                raise error("bridge.unreachable", f"{self._words[0]} can't be started", why=str(cause)) from cause
            writing = asyncio.ensure_future(_written(process, message(what, self._host, copies)))
            try:
                async with asyncio.timeout(self._seconds):
                    await asyncio.gather(writing, process.wait())
            except TimeoutError:
                why = f"it had {self._seconds:g} s, and was killed"
                raise error("bridge.unreachable", f"{self._words[0]} did not end", why=why) from None
            finally:
                if process.stdin is not None and (writing.cancelled() or not writing.done()):
                    process.stdin.transport.abort()  # it would be waited for as long as anything has its other end
                await _ended(process)
            said = hearing.last.decode(errors="replace").strip()
        if process.returncode:
            why = f"it ended with {process.returncode}" + (f": {said}" if said else "")
            refusal = f"{self._words[0]} did not take what it was told"
            raise error("bridge.unreachable", refusal, why=why, code=process.returncode)


async def _written(process: asyncio.subprocess.Process, text: bytes) -> None:
    """Give the program `text`; one that does not read it is not to blame."""
    assert process.stdin is not None  # noqa: S101 - it was asked for
    with contextlib.suppress(OSError):
        process.stdin.write(text)
        await process.stdin.drain()
    process.stdin.close()
    with contextlib.suppress(OSError):
        await process.stdin.wait_closed()


class _Hearing:
    """A pipe for what a program says, of which the end is kept.

    asyncio's own would be waited for until all that the program left running has closed it.

    Attributes:
        mouth: The end to write to.
    """

    def __enter__(self) -> Self:
        self._ear, self.mouth = os.pipe()
        os.set_blocking(self._ear, False)
        self._last = b""
        asyncio.get_running_loop().add_reader(self._ear, self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._ear)
        os.close(self._ear)
        os.close(self.mouth)

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._last = (self._last + os.read(self._ear, _CHUNK))[-LAST_WORDS:]

    @property
    def last(self) -> bytes:
        """What came last, up to now."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_CHUNKS):
                if not (chunk := os.read(self._ear, _CHUNK)):
                    break
                self._last = (self._last + chunk)[-LAST_WORDS:]
        return self._last


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Have the program end, and what it started, unless it has ended by itself: then what it left may stay."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
