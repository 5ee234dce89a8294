"""What many callers ask for at the same time, done together: one transaction, one wait for the disk, for all of them.

Owns whose turn it is, and what becomes of a caller that goes away. What is done with a batch is its maker's.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class _Caller(Generic[Asked, Answer]):
    """One caller, with what it asked.

    Attributes:
        outcome: What it gets: an answer, or an exception to raise.
        begun: Whether its turn has come.
        left: Whether it was cancelled before that.
    """

    asked: Asked
    outcome: asyncio.Future[Answer | Exception]
    begun: bool = False
    left: bool = False


class Batcher(Generic[Asked, Answer]):
    """Does what callers ask in batches, one batch after the other, in the order in which they came.

    Whoever comes while a batch is being done is in the next one. Nothing is waited for to fill a batch: a caller who is
    alone is a batch of one, at once. The work is done in a task of this object's own, in an empty context; that task
    ends when nobody waits, and before the last caller does, even if that one is cancelled.
    """

    def __init__(
        self,
        do: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]],
        *,
        name: str,
        most: int,
        apart: Callable[[Asked], Hashable] | None = None,
        again_alone: Callable[[Exception], bool] = lambda _fault: False,
        within: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
    ) -> None:
        """Nothing runs before somebody asks.

        Args:
            do: Does what is asked, and returns for each, in the same order, the answer or the exception that its caller
                gets. An exception that it raises is everybody's.
            name: What the task is called.
            most: How many are done together at most: whoever comes next waits for all of them.
            apart: Two for which this is the same are never in one batch: the second waits for the outcome of the first.
            again_alone: Whether, after `do` raised this for several, each is tried once more by itself: nothing of what
                was asked was done then.
            within: Entered before a batch is chosen, and left before anybody is answered: whoever comes while it is
                being entered still comes along.
        """
        self._do = do
        self._name = name
        self._most = most
        self._apart = apart
        self._again_alone = again_alone
        self._within = within
        self._queue: deque[_Caller[Asked, Answer]] = deque()
        self._batch: Sequence[_Caller[Asked, Answer]] = ()
        self._gone: list[_Caller[Asked, Answer]] = []
        self._turns: asyncio.Task[None] | None = None

    async def ask(self, asked: Asked) -> Answer:
        """The answer of `do`, or what it raised.

        A caller who is cancelled before its turn is left out: nothing is done for it. One who is cancelled in its turn
        harms nobody else: what it asked is done to the end, and the cancellation is raised then.
        """
        caller = _Caller[Asked, Answer](asked, asyncio.get_running_loop().create_future())
        self._queue.append(caller)
        if self._turns is None:
            # In a context of its own: the first caller's belongs to that caller alone.
            self._turns = asyncio.create_task(self._take_turns(), name=self._name, context=contextvars.Context())
        try:
            await asyncio.wait({caller.outcome})
        except asyncio.CancelledError:
            caller.left = not caller.begun
            # Whoever leaves last sees to it that nothing goes on behind everybody's back.
            if caller.begun or not (self._batch or self._awaited()):
                await asyncio.wait({caller.outcome})
            raise
        outcome = caller.outcome.result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Return when all that was asked before is done."""
        while self._turns is not None:
            await asyncio.wait({self._turns})

    def _awaited(self) -> bool:
        """Whether anybody waits for a turn."""
        return any(not caller.left for caller in self._queue)

    async def _take_turns(self) -> None:
        try:
            while self._awaited():
                await asyncio.sleep(0)  # whoever is ready in this turn of the loop still comes along
                outcomes = await self._take_turn()
                for caller, outcome in zip(self._batch, outcomes, strict=False):
                    caller.outcome.set_result(outcome)
                self._let_go((*self._batch[len(outcomes) :], *self._gone))
        finally:
            self._turns = None
            self._let_go((*self._batch, *self._gone, *self._queue))
            self._queue.clear()

    async def _take_turn(self) -> Sequence[Answer | Exception]:
        """The outcome of each in the batch; of none, if it was cancelled by what it waited for."""
        try:
            async with self._within():
                self._choose()
                return await self._outcomes(self._batch) if self._batch else ()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return ()
        except Exception as fault:  # noqa: BLE001 - whoever asked is told
            if not self._batch:  # it could not be entered: for nobody
                self._choose()
            return [fault] * len(self._batch)

    async def _outcomes(self, batch: Sequence[_Caller[Asked, Answer]]) -> Sequence[Answer | Exception]:
        try:
            return await self._together(batch)
        except Exception as fault:  # noqa: BLE001 - whoever asked is told
            if len(batch) > 1 and self._again_alone(fault):
                return [outcome for caller in batch for outcome in await self._outcomes([caller])]
            return [fault] * len(batch)

    async def _together(self, batch: Sequence[_Caller[Asked, Answer]]) -> Sequence[Answer | Exception]:
        outcomes = await self._do([caller.asked for caller in batch])
        if len(outcomes) != len(batch):
            raise AssertionError(f"{self._name}: {len(outcomes)} outcomes for {len(batch)} callers")
        return outcomes

    def _choose(self) -> None:
        """Make those who came first the batch."""
        batch: dict[Hashable, _Caller[Asked, Answer]] = {}
        later: list[_Caller[Asked, Answer]] = []
        while self._queue and len(batch) < self._most:
            caller = self._queue.popleft()
            if caller.left:
                self._gone.append(caller)
                continue
            key = caller if self._apart is None else self._apart(caller.asked)
            if key in batch:
                later.append(caller)
            else:
                batch[key] = caller
        self._queue.extendleft(reversed(later))
        self._batch = list(batch.values())
        for caller in self._batch:
            caller.begun = True

    def _let_go(self, callers: Sequence[_Caller[Asked, Answer]]) -> None:
        for caller in callers:
            caller.outcome.cancel()
        self._batch, self._gone = (), []
