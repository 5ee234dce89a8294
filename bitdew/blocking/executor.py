"""`JobExecutor`: the grid as a `concurrent.futures.Executor`, the twin of `CallPool`.

Owns its futures: they are those of the standard library, but that one can be given up as long as it has not ended.
"""

from __future__ import annotations

import time
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bitdew.client.batches import Call
from bitdew.client.calling import Packed, packed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType

    from bitdew.client.pool import CallPool

    from .portal import Portal

T = TypeVar("T")


class JobFuture(Future[T], Generic[T]):
    """What comes of a call. `cancel` gives up its job, whether it waits or runs; one that has ended stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._call: Call | None = None
        # Whoever waits for several is told by this alone that one was given up.
        self.add_done_callback(lambda _: self.cancelled() and self.set_running_or_notify_cancel())

    @property
    def job(self) -> str:
        """The uid of its job, as `bitdew job show` takes it; "" before it has one."""
        return self._call.job if self._call is not None else ""

    def running(self) -> bool:
        """Whether the service has its job, and that has not ended."""
        return bool(self.job) and not self.done()


class JobExecutor(Executor):
    """Calls Python functions on the grid's hosts, as `BlockingDew.executor` gives it.

        with dew.executor(needs="python3>=3.11") as pool:
            print(pool.submit(pow, 2, 10).result())

    At the block's end all calls are waited for. What interrupts it, as Ctrl-C does, gives them up.

    Attributes:
        twin: The pool itself, for use inside of the loop.
    """

    def __init__(self, portal: Portal, pool: CallPool) -> None:
        """Raises what `CallPool.start` does."""
        self._portal = portal
        self.twin = pool
        portal.call(pool.start())

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._portal.call(self.twin.end())
        else:
            self.shutdown()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As `CallPool.submit`; may be called from a future's callback too."""
        self.twin.require_open()
        return self._begun(packed(fn, (args, kwargs), modules=self.twin.modules))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Generator[T]:
        """As `Executor.map`: the results in their order. All are sent at once.

        Args:
            fn: What is called.
            iterables: What it is called with.
            timeout: Seconds from now within which each result must be there. Raises TimeoutError.
            chunksize: How many calls one job carries out.
            more: What newer releases of Python know beside these is not known here.

        Raises:
            TypeError: For `more`. Else as `CallPool.map`.
        """
        if more:
            raise TypeError(f"map() got an unexpected keyword argument {min(more)!r}")
        self.twin.require_open()
        ends = None if timeout is None else time.monotonic() + timeout
        calls: list[Future[Any]] = []
        try:
            calls.extend(map(self._begun, self.twin.chunks(fn, iterables, chunksize)))
        except BaseException:
            _cancel(calls)
            raise
        return _results(calls, ends)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `CallPool.shutdown`. If it is interrupted while it waits, what has not ended is given up."""
        self._portal.call(self.twin.shutdown(wait, cancel_futures=cancel_futures))

    def _begun(self, call: Packed) -> Future[Any]:
        future: JobFuture[Any] = JobFuture()
        future._call = Call.of(call, future)  # noqa: SLF001 (it is made here)
        self._portal.soon(self.twin.batches.add, future._call)  # noqa: SLF001
        return future


def _results(calls: list[Future[Any]], ends: float | None) -> Generator[Any]:
    calls.reverse()
    try:
        while calls:
            yield from calls[-1].result(None if ends is None else ends - time.monotonic())
            calls.pop()
    finally:
        _cancel(calls)


def _cancel(calls: list[Future[Any]]) -> None:
    for call in calls:
        call.cancel()
