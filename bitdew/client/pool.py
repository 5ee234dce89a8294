"""`CallPool`: Python functions called on the grid's hosts, as `Dew.executor` gives it.

Owns the shapes in which a program asks for calls. How they travel is `batches`' matter.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import BrokenExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from bitdew.core.errors import error

from .batches import Batches, Call
from .calling import ARCHIVE, Packed, packed
from .submitting import JobOptions, spec_of, staged

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
    from types import ModuleType, TracebackType

    from .grid import BitDew

T = TypeVar("T")


class CallPool:
    """Calls Python functions on the grid's hosts. An asynchronous context manager.

        async with dew.executor(needs="python3>=3.11") as pool:
            print(await pool.submit(pow, 2, 10))

    The block ends once all calls have; where it is cancelled, they are given up.

    Attributes:
        batches: The calls that have not ended.
        modules: Modules whose functions and classes go along.
    """

    def __init__(
        self,
        grid: BitDew,
        options: JobOptions,
        *,
        python: str = "python3",
        modules: Sequence[ModuleType] = (),
        trust_results: bool = False,
    ) -> None:
        """Raises UserError `input.invalid`, `attribute.requires`."""
        if refused := {"outputs", "keep"} & options.keys():
            do = "Give back what is to come back, or submit a job: dew.submit(…, outputs=…)"
            raise error("input.invalid", f"Calls can't be given {min(refused)}", why="they leave no files", do=do)
        spec = spec_of((python, ARCHIVE, "{}"), cast("JobOptions", {**options, "outputs": "result"}))
        self._grid = grid
        self._options = options
        self._closed = False
        self.modules = tuple(modules)
        self.batches = Batches(grid, spec, options, trust=trust_results)

    async def __aenter__(self) -> Self:
        """Raises what `BitDew.put` does, for inputs that are put first."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            await self.end()
        else:
            await self.shutdown()

    async def start(self) -> None:
        """Put what its jobs read, and begin. Raises what `BitDew.put` does."""
        self.batches.inputs = await staged(self._grid, self._options)
        self.batches.start()

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> asyncio.Future[T]:
        """Call a function on some host. Await what this gives for its result; cancel it, and its job is given up.

        It is packed at once. What it raises is raised here, with the traceback there as its cause.

        Raises:
            UserError: `input.invalid`, `input.too-large`.
            RuntimeError: After `shutdown`.
        """
        self.require_open()
        return self._begun(packed(function, (args, kwargs), modules=self.modules))

    async def map(
        self, function: Callable[..., T], /, *iterables: Iterable[Any], chunksize: int = 1
    ) -> AsyncGenerator[T]:
        """The results of calling a function with each of these, in their order; all are sent at once.

        Args:
            function: What is called.
            iterables: What it is called with, as in Python's own `map`.
            chunksize: How many calls one job carries out.
        """
        self.require_open()
        calls = [self._begun(one) for one in self.chunks(function, iterables, chunksize)]
        try:
            while calls:
                for value in await calls[0]:
                    yield value
                del calls[0]
        finally:
            for call in calls:
                call.cancel()

    async def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: Whether to return once all have ended. Else they go on for as long as the connection is there.
            cancel_futures: Whether those are given up that no host has begun with.

        Raises:
            BitDewError: those of the connection, with `cancel_futures`.
        """
        self.close()
        try:
            if cancel_futures:
                await self.batches.cancel_waiting()
            if wait:
                await self.batches.over()
        except asyncio.CancelledError:
            await self.end()
            raise

    async def end(self) -> None:
        """Give up what has not ended, and leave nothing of it."""
        self._closed = True
        await self.batches.end()

    # For its twin -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more calls."""
        self._closed = True
        self.batches.close()

    def require_open(self) -> None:
        """Raises RuntimeError: after `shutdown`. BrokenExecutor: where the service was away for too long."""
        if self.batches.fault is not None:
            raise BrokenExecutor(str(self.batches.fault)) from self.batches.fault
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def chunks(self, function: Callable[..., Any], iterables: Iterable[Iterable[Any]], size: int) -> Generator[Packed]:
        """Calls of `function` with each of these, so many together.

        Raises:
            ValueError: for a size below 1. UserError: as `submit`.
        """
        if size < 1:
            raise ValueError("chunksize must be >= 1.")
        each = zip(*iterables, strict=False)
        while some := list(islice(each, size)):
            yield packed(function, some, chunk=True, modules=self.modules)

    def _begun(self, call: Packed) -> asyncio.Future[Any]:
        promise: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.batches.add(Call.of(call, promise))
        return promise
