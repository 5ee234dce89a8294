"""Where a plug-in's code runs: a thread of its own, so that code which blocks keeps nobody else waiting.

Owns the thread and the bound of each call. It must not know what is called. What the interpreter's lock holds up, it
can't help; a thread that does not return can't be ended, and is left behind when the worker ends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from bitdew.core.errors import BitDewError, error

T = TypeVar("T")

ENDING_SECONDS: Final = 2.0
"""How long the thread may take to end."""
_WHY: Final = 200
"""Characters of what a plug-in raised."""


@dataclass(slots=True)
class _Job:
    call: Callable[[], Any]
    seconds: float
    outcome: concurrent.futures.Future[Any] = field(default_factory=concurrent.futures.Future)


class PluginThread:
    """Makes one call at a time to one plug-in. Close it at the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._busy = False  # a call was begun and has not returned
        self._cancel: Callable[[], object] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call has not returned yet."""
        return self._busy

    async def call(self, function: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
        """What `function` returns, or what comes of it if it returns an awaitable; within `seconds`.

        Raises:
            HostError: `plugin.failed`, if it raises, takes longer, or an earlier call has not returned yet. Errors of
                our own are passed on as they are.
        """
        if self._busy:
            raise error("plugin.failed", f"{self._name} has not returned from an earlier call", plugin=self._name)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"plug-in {self._name}", daemon=True)
            self._thread.start()
        job = _Job(lambda: function(*arguments), seconds)
        self._busy = True
        self._jobs.put(job)
        try:
            async with asyncio.timeout(seconds + 0.5):  # an awaitable is ended by its own thread, at `seconds`
                return await asyncio.wrap_future(job.outcome)
        except TimeoutError:
            why = f"it had {seconds:g} s, and goes on"
            raise error("plugin.failed", f"{self._name} did not return", why=why, plugin=self._name) from None

    async def close(self) -> bool:
        """End the thread; False if it does not end."""
        thread = self._thread
        if thread is None:
            return True
        self._jobs.put(None)
        with contextlib.suppress(TypeError, RuntimeError):  # there is none, or its loop has just ended
            self._cancel()  # type: ignore[misc]
        await asyncio.to_thread(thread.join, ENDING_SECONDS)
        return not thread.is_alive()

    # On the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.closing(asyncio.Runner()) as runner:
            while (job := self._jobs.get()) is not None:
                if not job.outcome.set_running_or_notify_cancel():
                    self._busy = False
                    continue
                result, fault = self._done(job, runner)
                self._busy = False
                if fault is None:
                    job.outcome.set_result(result)
                else:
                    job.outcome.set_exception(fault)

    def _done(self, job: _Job, runner: asyncio.Runner) -> tuple[Any, BitDewError | None]:
        try:
            found = job.call()
            if inspect.isawaitable(found):
                found = runner.run(self._awaited(found, job.seconds))
        except BitDewError as fault:
            return None, fault
        except TimeoutError as fault:
            why = str(fault)[:_WHY] or f"it had {job.seconds:g} s"
            return None, error("plugin.failed", f"{self._name} did not return", why=why, plugin=self._name)
        except BaseException as fault:  # noqa: BLE001 - code of others: nothing that it raises may end this thread
            why = f"{type(fault).__name__}: {str(fault)[:_WHY]}"
            return None, error("plugin.failed", f"{self._name} raised an error", why=why, plugin=self._name)
        return found, None

    async def _awaited(self, work: Any, seconds: float) -> Any:
        task = asyncio.ensure_future(_tamed(work))
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            async with asyncio.timeout(seconds):
                return await task
        finally:
            self._cancel = None


async def _tamed(work: Any) -> Any:
    """What comes of `work`; where that would end a program, it ends this call alone."""
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as fault:
        raise RuntimeError(f"{type(fault).__name__}: {fault}") from fault
