"""The processes that run machines: finding one, waiting for its end, ending it.

Owns process identity. A pid alone proves nothing, since pids are reused: a process is a machine's if it belongs to this
user and carries the machine's uid in its command line, checked after a pidfd pinned it, so that no signal goes astray.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from bitdew.core.ids import Uid

from .qemu_command import machine_of

Recognizer = Callable[[list[str]], Uid | None]
"""The machine that a process with this command line runs, if any: each driver has its own."""

_GLANCE: Final = 0.2
"""Seconds between two looks where the system has no pidfd (anything but Linux)."""


class MachineProcess:
    """A process that runs a machine. Close it, or use it as a context."""

    def __init__(self, pid: int, uid: Uid, descriptor: int | None, recognize: Recognizer = machine_of) -> None:
        self.pid = pid
        self._uid = uid
        self._descriptor = descriptor
        self._recognize = recognize

    @classmethod
    def find(cls, uid: Uid, hint: int = 0, recognize: Recognizer = machine_of) -> MachineProcess | None:
        """The process of this machine: the one with pid `hint` if that is it, else any. Blocks for milliseconds."""
        candidates = [hint] if hint else []
        for search_all in (False, True):
            if search_all:
                candidates = [pid for pid, found in _machines(recognize) if found == uid]
            for pid in candidates:
                if process := cls._pin(pid, uid, recognize):
                    return process
        return None

    @classmethod
    def _pin(cls, pid: int, uid: Uid, recognize: Recognizer) -> MachineProcess | None:
        descriptor: int | None = None
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        except (AttributeError, OSError):  # no pidfd on this system
            descriptor = None
        if machine_with_pid(pid, recognize) == uid:
            return cls(pid, uid, descriptor, recognize)
        if descriptor is not None:
            os.close(descriptor)
        return None

    async def ended(self) -> None:
        """Return when the process has ended."""
        if self._descriptor is None:
            # There is no event to wait for on this system.
            while await asyncio.to_thread(machine_with_pid, self.pid, self._recognize) == self._uid:  # noqa: ASYNC110
                await asyncio.sleep(_GLANCE)
            return
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        watched = os.dup(self._descriptor)  # a reader of its own: several may wait
        loop.add_reader(watched, end.set)
        try:
            await end.wait()
        finally:
            loop.remove_reader(watched)
            os.close(watched)

    async def ended_within(self, seconds: float) -> bool:
        """Whether the process ends within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self.ended()
        except TimeoutError:
            return False
        return True

    async def kill(self) -> None:
        """End the process at once, and return when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            if self._descriptor is None:
                os.kill(self.pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        await self.ended()

    def close(self) -> None:
        """Let go of the process, which runs on."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def machine_with_pid(pid: int, recognize: Recognizer = machine_of) -> Uid | None:
    """The machine that this process runs, if it is alive, this user's, and runs one. Blocks."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or process.uids().real != os.getuid():
            return None
        return recognize(process.cmdline())
    except psutil.Error:
        return None


def machines_below(folder: Path) -> set[Uid]:
    """The machines that run in folders inside `folder`, even if those have been removed. Blocks for milliseconds."""
    root = folder.resolve()
    found: set[Uid] = set()
    for pid, uid in _machines():
        with contextlib.suppress(psutil.Error):
            if Path(psutil.Process(pid).cwd()).parent == root:
                found.add(uid)
    return found


def _machines(recognize: Recognizer = machine_of) -> list[tuple[int, Uid]]:
    return [(pid, uid) for pid in psutil.pids() if (uid := machine_with_pid(pid, recognize)) is not None]
