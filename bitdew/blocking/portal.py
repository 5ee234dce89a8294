"""One event loop on a thread of its own, and the way in: a call from any other thread, answered there.

Owns the thread and its loop. What is called is none of its business. It works inside of another loop's thread too, as
in a notebook: that loop is held up meanwhile, as by any blocking call.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

T = TypeVar("T")
C_co = TypeVar("C_co", covariant=True)
_END: Final = object()
_OUTSIDE: Final = "use `with bitdew.blocking.connect() as ...`, and not from inside its own loop"


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
        under_way = _UnderWay(work)
        try:
            under_way.start(loop)
            return under_way.result.result()
        except BaseException:
            if not under_way.result.done():  # a Ctrl-C, here in the caller
                under_way.cancel(loop)
                wait([under_way.result])
            raise

    def do(self, work: Callable[[], T]) -> T:
        """The result of a function that is called in the loop, and must return at once."""

        async def call() -> T:
            return work()

        return self.call(call())

    def soon(self, work: Callable[..., object], *given: object) -> None:
        """Have a function called in the loop, from any thread, and do not wait for it.

        Raises:
            RuntimeError: outside of the block.
        """
        if self._loop is None:
            raise RuntimeError(_OUTSIDE)
        self._loop.call_soon_threadsafe(work, *given)

    def _require(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or threading.current_thread() is self._thread:
            raise RuntimeError(_OUTSIDE)
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
        under_way = _UnderWay(hold())
        either: list[Future[Any]] = [entered, under_way.result]
        try:
            under_way.start(loop)
            wait(either, return_when=FIRST_COMPLETED)
            if under_way.result.done():
                under_way.result.result()
            yield entered.result()
        except BaseException:
            under_way.cancel(loop)
            wait([under_way.result])
            raise
        loop.call_soon_threadsafe(leave.set)
        under_way.result.result()

    def each(self, work: Endless[T]) -> Generator[T]:
        """What `work` yields, one by one; it goes on when the next one is asked for, and ends when nobody asks."""
        try:
            while (one := self.call(_next(work))) is not _END:
                yield one  # type: ignore[misc]
        finally:
            if self.is_open:  # else the loop's end has closed it
                self.call(_close(work))


class _UnderWay(Generic[T]):
    """Work that becomes a task of a loop. It may be cancelled at any moment, also before it came there.

    Attributes:
        result: Done when the task is, not before.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.result: Future[T] = Future()
        self._work = work
        self._task: asyncio.Task[T] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop begin with it."""
        loop.call_soon_threadsafe(self._begin, loop)

    def cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop cancel it; `result` tells when that is done."""
        loop.call_soon_threadsafe(self._cancel)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._work)
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:  # whoever started it was interrupted before the loop was told
            self._work.close()
            self.result.set_exception(asyncio.CancelledError())

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.result.set_exception(asyncio.CancelledError())
        elif (fault := task.exception()) is not None:
            self.result.set_exception(fault)
        else:
            self.result.set_result(task.result())


async def _next(work: Endless[T]) -> T | object:
    try:
        return await work.__anext__()
    except StopAsyncIteration:
        return _END


async def _close(work: Endless[Any]) -> None:
    await work.aclose()
