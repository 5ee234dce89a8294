"""Transfers of this program: started, followed, waited for, paused, limited, cancelled.

Owns the tasks of those under way. How bytes move is `put`'s and `get`'s matter; transfers between hosts are the grid's,
and are followed by a datum's events.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from .flow import TAPS, Tap

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator

    Progress = Callable[[int, int], None]

T = TypeVar("T")
AT_ONCE: Final = 8
"""Transfers that move at a time; the others wait for their turn."""


class TransferState(StrEnum):
    """How a transfer stands."""

    WAITING = "waiting"
    MOVING = "moving"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Transfer(Generic[T]):
    """One transfer. Await it for its result: what `put` or `get` gives, or raises.

    Attributes:
        name: The datum's name.
        done: Bytes that are through.
        total: Bytes that are to pass, once that is known.
    """

    def __init__(self, name: str, tap: Tap) -> None:
        self.name = name
        self.done = 0
        self.total = 0
        self._tap = tap
        self._task: asyncio.Task[T] | None = None
        self._moving = False
        self._changed = asyncio.Event()

    @property
    def state(self) -> TransferState:
        """How it stands."""
        if self._task is not None and self._task.done():
            if self._task.cancelled():
                return TransferState.CANCELLED
            return TransferState.DONE if self._task.exception() is None else TransferState.FAILED
        if not self._tap.is_open:
            return TransferState.PAUSED
        return TransferState.MOVING if self._moving else TransferState.WAITING

    @property
    def is_over(self) -> bool:
        """Whether nothing moves any more."""
        return self._task is not None and self._task.done()

    def __await__(self) -> Generator[Any, None, T]:
        """The result. Whoever waits may be cancelled: the transfer goes on."""
        return self._result().__await__()

    async def _result(self) -> T:
        assert self._task is not None  # noqa: S101 (begun)
        return await asyncio.shield(self._task)

    def __repr__(self) -> str:
        return f"<Transfer of {self.name}: {self.state}, {self.done} of {self.total} bytes>"

    # Steering -------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Let nothing pass until `resume`; a piece that is on its way is brought to its end.

        A service forgets what was sent of an upload that stands still for an hour.
        """
        self._tap.shut()
        self._changed.set()

    def resume(self) -> None:
        """Go on."""
        self._tap.open()
        self._changed.set()

    def limit(self, rate: int) -> None:
        """Let so many bytes pass in a second, 1024 at least; 0 for any number. Raises ValueError."""
        self._tap.rate = rate

    async def cancel(self) -> None:
        """End it, and return when it has ended. What was moved stays: the same call goes on with it."""
        assert self._task is not None  # noqa: S101 (begun)
        self._task.cancel()
        await asyncio.wait({self._task})

    async def follow(self) -> AsyncGenerator[Transfer[T]]:
        """The transfer itself, now and whenever more is through or its state changes, until it is over."""
        while True:
            self._changed.clear()
            yield self
            if self.is_over:
                return
            await self._changed.wait()

    # Inside ---------------------------------------------------------------------------------------------------------

    def moved(self, done: int, total: int) -> None:
        """So many bytes of so many are through."""
        self.done, self.total = done, total
        self._changed.set()

    def begin(self, work: Coroutine[Any, Any, T], turn: asyncio.Semaphore) -> None:
        """Begin, when it is its turn."""

        async def run() -> T:
            try:
                async with turn:
                    self._moving = True
                    self._changed.set()
                    return await work
            finally:
                work.close()  # if its turn never came

        def over(task: asyncio.Task[T]) -> None:
            self._changed.set()
            if not task.cancelled():
                task.exception()  # whoever waits for it is told; nobody has to

        self._task = asyncio.create_task(run(), name=f"transfer of {self.name}")
        self._task.add_done_callback(over)

    @property
    def task(self) -> asyncio.Task[T]:
        """The task that moves it."""
        assert self._task is not None  # noqa: S101 (begun)
        return self._task


class Transfers:
    """The transfers that were started here and are not over, or were not asked for since."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._tap = Tap()
        self._turn = asyncio.Semaphore(at_once)
        self._started: dict[Transfer[Any], None] = {}

    def __iter__(self) -> Iterator[Transfer[Any]]:
        """Those that are not over, in the order in which they were started."""
        return iter([one for one in self._started if not one.is_over])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def start(self, name: str, work: Callable[[Progress], Coroutine[Any, Any, T]], rate: int = 0) -> Transfer[T]:
        """Move something in the background; `work` is handed what to call with the bytes that are through."""
        transfer: Transfer[T] = Transfer(name, Tap(rate))
        before = TAPS.set((transfer._tap, self._tap))  # noqa: SLF001 (the task inherits it)
        try:
            transfer.begin(work(transfer.moved), self._turn)
        finally:
            TAPS.reset(before)
        self._started[transfer] = None
        transfer.task.add_done_callback(lambda _task: self._started.pop(transfer, None))
        return transfer

    def limit(self, rate: int) -> None:
        """Let so many bytes of all of them together pass in a second; 0 for any number."""
        self._tap.rate = rate

    async def wait(self, *transfers: Transfer[Any], some: int | None = None) -> list[Transfer[Any]]:
        """Return once `some` of these transfers are over, or all of them; those that are.

        Args:
            transfers: Which; all that are not over by default.
            some: How many have to be over; all by default.

        How they ended is told by their states, and by awaiting them.
        """
        asked = transfers or tuple(self)
        wanted = len(asked) if some is None else min(some, len(asked))
        while sum(one.is_over for one in asked) < wanted:
            left = [one.task for one in asked if not one.is_over]
            await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        return [one for one in asked if one.is_over]

    async def end(self) -> None:
        """Cancel what is not over, and return when all of it has ended."""
        tasks = [one.task for one in self]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
