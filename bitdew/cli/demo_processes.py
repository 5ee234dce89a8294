"""The demo's processes: real ones, started, waited for, and ended to the last.

Owns that nothing survives: neither what was started here nor what those started in turn. Four layers, each for when
the one before fails: an orderly stop by SIGTERM; SIGKILL to the process group after a while; on Linux, orphans are
handed to us by the kernel (PR_SET_CHILD_SUBREAPER) and ended by their ids; and each child stops by itself when its
stdin ends, which the kernel brings about even if the demo itself is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psutil

from bitdew.core.errors import error
from bitdew.wire.models import ErrorView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from typing import IO

T = TypeVar("T")
READY_SECONDS: Final = 60.0
"""Seconds until a process must be ready; it takes one or two, on a machine that has the time."""
STOP_SECONDS: Final = 15.0
"""Seconds for an orderly stop. Closing a swarm takes up to five."""
KILL_SECONDS: Final = 3.0
LONGEST_LINE: Final = 256 * 1024
_PR_SET_CHILD_SUBREAPER: Final = 36


class Child:
    """One process of the demo: `bitdew` with some arguments."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self._drain: asyncio.Task[None] | None = None

    async def ready(self) -> dict[str, Any]:
        """Wait until it says that it is ready; what it said.

        Raises:
            BitDewError: the one that it ended with; `internal`, if it said nothing of the kind.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                while line := await self._line():
                    said = _json(line)
                    if "error" in said:
                        raise ErrorView.model_validate(said["error"]).to_error()
                    if said.get("ready"):
                        self._drain = asyncio.create_task(self._read_on())
                        return said
        code = self.process.returncode
        why = f"it was not ready after {READY_SECONDS:g} s" if code is None else f"it ended with the code {code}"
        tail = await asyncio.to_thread(_tail, self.log)
        raise error("internal", f"{self.name} of the demo did not start", why=f"{why}; its log ends: {tail}")

    def signal(self, number: int) -> None:
        """Send a signal to it alone, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it and its process group at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def wait(self, seconds: float) -> bool:
        """Wait until it has ended; False if it did not in time."""
        try:
            async with asyncio.timeout(seconds):
                await self.process.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Give back what the parent holds of it, after it has ended."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self._drain is not None:
            self._drain.cancel()
            await asyncio.wait({self._drain})

    async def _line(self) -> bytes:
        assert self.process.stdout is not None  # noqa: S101 - it was started with a pipe
        return await self.process.stdout.readline()

    async def _read_on(self) -> None:
        """Keep its stdout empty: a full pipe would stop it."""
        with contextlib.suppress(ValueError):  # a line beyond the limit: nothing that anyone waits for
            while await self._line():
                pass


class Children:
    """All processes of one demo."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        """`folder` is the demo's own; those of our programs that have its path on the command line are the demo's."""
        self.folder = folder
        self.forced: list[str] = []
        self._environment = environment
        self._all: list[Child] = []
        become_subreaper()

    async def start(self, name: str, *arguments: str, **variables: str) -> Child:
        """Start `bitdew` with `arguments` and environment `variables`.

        It gets a session of its own, so that a terminal's Ctrl-C reaches the demo alone.
        """
        log = self.folder / "logs" / f"{name}.log"
        with await asyncio.to_thread(_open_log, log) as stream:
            starting = asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "bitdew", *arguments, "--json", "--stop-with-parent"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stream,
                env=self._environment | variables,
                limit=LONGEST_LINE,
                start_new_session=True,
            )
            return await to_the_end(self._started(name, starting, log))

    async def _started(self, name: str, starting: Awaitable[asyncio.subprocess.Process], log: Path) -> Child:
        child = Child(name, await starting, log)
        self._all.append(child)
        return child

    async def stop(self) -> None:
        """End every process: the last ones started first, but the first one (the service) after all others."""
        for group in (self._all[1:], self._all[:1]):
            await self._stop(group)
        self.forced += await asyncio.to_thread(end_orphans, self.folder)

    async def _stop(self, group: Iterable[Child]) -> None:
        children = list(group)
        for child in children:
            child.signal(signal.SIGTERM)
        ended = await asyncio.gather(*(child.wait(STOP_SECONDS) for child in children))
        for child, in_time in zip(children, ended, strict=True):
            if not in_time:
                self.forced.append(child.name)
            # Even one that ended may have left some of its group behind.
            child.kill()
        await asyncio.gather(*(child.wait(KILL_SECONDS) for child in children))
        await asyncio.gather(*(child.close() for child in children))


async def to_the_end(work: Awaitable[T]) -> T:
    """`work`'s result. A cancellation takes effect after it has ended: what it makes is never lost sight of."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise


def become_subreaper() -> None:
    """On Linux: be handed the processes whose parents ended, so that they can be found. Elsewhere: nothing."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def belonging(folder: Path) -> list[psutil.Process]:
    """Our descendants, and what else is the demo's by its command line. Blocks for a moment.

    `folder` on a command line alone says little: the user may follow a log there. So it counts for our own programs.
    """
    me = psutil.Process()
    found = {process.pid: process for process in me.children(recursive=True)}
    above = {process.pid for process in (me, *me.parents())}
    mine = me.username()
    for process in psutil.process_iter(["cmdline", "username"]):
        # Those above may have the folder's name in their own arguments: whoever gave it to us with --dir.
        if process.pid in above or process.info["username"] != mine:
            continue
        if _of_demo(process.info["cmdline"] or [], str(folder)):
            found[process.pid] = process
    return [process for process in found.values() if _alive(process)]


def _of_demo(command: list[str], folder: str) -> bool:
    """Whether a process with this command line is one that a demo in `folder` starts: `bitdew`, or a machine."""
    if not any(folder in part for part in command):
        return False
    pairs = list(itertools.pairwise(command))
    machine = any(option == "-name" and value.startswith("bitdew-") for option, value in pairs)
    return ("-m", "bitdew") in pairs or machine


def end_orphans(folder: Path) -> list[str]:
    """End what `belonging` finds, by id, and wait for it; the names of what was ended. Blocks for seconds at most."""
    ended: list[str] = []
    for end in (psutil.Process.terminate, psutil.Process.kill):
        left = belonging(folder)
        for process in left:
            with contextlib.suppress(psutil.Error):
                ended.append(process.name())
                end(process)
        psutil.wait_procs(left, timeout=KILL_SECONDS)
        if not left:
            break
    _reap()
    return ended


def _reap() -> None:
    """Take the exit codes of orphans that were handed to us, so that none stays as a zombie."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ChildProcessError):
            if process.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(process.pid, os.WNOHANG)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return path.open("ab")


def _tail(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[-1500:].strip() or "(empty)"
    except OSError:
        return "(no log)"


def _json(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
