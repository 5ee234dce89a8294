"""One event loop on a thread of its own, and the way in: a call from any other thread, answered there.

Owns the thread and its loop. What is called is none of its business. It works inside of another loop's thread too, as
in a notebook: that loop is held up meanwhile, as by any blocking call.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

T = TypeVar("T")
C_co = TypeVar("C_co", covariant=True)
_END: Final = object()


class Endless(Protocol[C_co]):
    """What is iterated over in the loop: an asynchronous generator, or what can be closed like one."""

    def __anext__(self) -> Coroutine[Any, Any, C_co]:
        """The next one."""

    async def aclose(self) -> None:
        """End it."""


class Portal:
    """The way into an event loop. A context manager: the loop turns as long as it lasts."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        ready = threading.Event()
        # A daemon: a program that ends without ending its block must not hang on the way out.
        self._thread = threading.Thread(target=self._turn, args=(ready,), name="bitdew", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def _turn(self, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:  # at its end it cancels what is left, and waits for that
            self._loop = loop = runner.get_loop()
            loop.call_soon(ready.set)
            loop.run_forever()

    @property
    def is_open(self) -> bool:
        """Whether anything can be called."""
        return self._loop is not None

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which runs in the loop. If the caller is interrupted, it is cancelled and waited for.

        Raises:
            RuntimeError: outside of the block, or from within the loop itself.
        """
        try:
            loop = self._require()
        except RuntimeError:
            work.close()
            raise
        tasks, result = _started(loop, work)
        try:
            return result.result()
        except BaseException:
            if not result.done():  # a Ctrl-C, here in the caller
                loop.call_soon_threadsafe(_cancel, tasks)
                result.exception()
            raise

    def do(self, work: Callable[[], T]) -> T:
        """The result of a function that is called in the loop, and must return at once."""

        async def call() -> T:
            return work()

        return self.call(call())

    def _require(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or threading.current_thread() is self._thread:
            raise RuntimeError("use `with bitdew.blocking.connect() as ...`, and not from inside its own loop")
        return self._loop

    @contextmanager
    def during(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """`manager`, entered and left in one task of the loop. What it raises meanwhile is raised at the end."""
        entered: Future[Any] = Future()
        leave = asyncio.Event()

        async def hold() -> None:
            async with manager as value:
                entered.set_result(value)
                await leave.wait()

        loop = self._require()
        tasks, result = _started(loop, hold())
        either: list[Future[Any]] = [entered, result]
        try:
            wait(either, return_when=FIRST_COMPLETED)
            if result.done():
                result.result()
            yield entered.result()
        except BaseException:
            loop.call_soon_threadsafe(_cancel, tasks)
            wait([result])
            raise
        loop.call_soon_threadsafe(leave.set)
        result.result()

    def each(self, work: Endless[T]) -> Generator[T]:
        """What `work` yields, one by one; it goes on when the next one is asked for, and ends when nobody asks."""
        try:
            while (one := self.call(_next(work))) is not _END:
                yield one  # type: ignore[misc]
        finally:
            if self.is_open:  # else the loop's end has closed it
                self.call(_close(work))


def _started(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> tuple[list[asyncio.Task[T]], Future[T]]:
    """`work` as a task of `loop`, once that has come to it; and a future that is done when the task is, not before."""
    tasks: list[asyncio.Task[T]] = []
    result: Future[T] = Future()

    def end(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            result.set_exception(asyncio.CancelledError())
        elif (fault := task.exception()) is not None:
            result.set_exception(fault)
        else:
            result.set_result(task.result())

    def begin() -> None:
        tasks.append(loop.create_task(work))
        tasks[0].add_done_callback(end)

    loop.call_soon_threadsafe(begin)
    return tasks, result


def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


async def _next(work: Endless[T]) -> T | object:
    try:
        return await work.__anext__()
    except StopAsyncIteration:
        return _END


async def _close(work: Endless[Any]) -> None:
    await work.aclose()
