"""What many ask for at the same time is done together, and nobody suffers from another's fault or departure."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bitdew.batching import Batcher

Batch = Sequence[Any]


class Work:
    """Does batches when it is let, and notes them."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, batch: Batch) -> list[Any]:
        self.batches.append(list(batch))
        await self.open.wait()
        return [f"done {one}" for one in batch]


async def begun(work: Work, number: int = 1) -> None:
    while len(work.batches) < number:
        await asyncio.sleep(0)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(found, asyncio.CancelledError)


async def test_who_is_alone_is_done_at_once_and_who_comes_meanwhile_is_done_together() -> None:
    work = Work()
    batcher = Batcher[str, str](work, name="test", most=10)
    assert await batcher.ask("a") == "done a"
    work.open.clear()
    tasks = [asyncio.create_task(batcher.ask("b"))]
    await begun(work, 2)
    tasks += [asyncio.create_task(batcher.ask(one)) for one in "cde"]
    await asyncio.sleep(0)
    work.open.set()
    assert await asyncio.gather(*tasks) == ["done b", "done c", "done d", "done e"]
    assert work.batches == [["a"], ["b"], ["c", "d", "e"]]


async def test_a_batch_has_a_bound_and_the_order_is_that_of_asking() -> None:
    work = Work()
    batcher = Batcher[int, str](work, name="test", most=3)
    await asyncio.gather(*(batcher.ask(number) for number in range(8)))
    assert work.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_two_that_are_to_be_apart_are_done_one_after_the_other_and_hold_up_nobody_else() -> None:
    work = Work()
    batcher = Batcher[str, str](work, name="test", most=3, apart=lambda asked: asked[0])
    await asyncio.gather(*(batcher.ask(one) for one in ("a1", "a2", "b1", "a3", "b2", "c1", "d1")))
    assert work.batches == [["a1", "b1", "c1"], ["a2", "b2", "d1"], ["a3"]]


async def test_who_leaves_before_its_turn_is_left_out_and_need_not_wait() -> None:
    work = Work()
    work.open.clear()
    batcher = Batcher[str, str](work, name="test", most=10)
    first, gone, other = (asyncio.create_task(batcher.ask(one)) for one in ("first", "gone", "other"))
    gone.cancel()  # before it even asked
    await begun(work)
    late, last = (asyncio.create_task(batcher.ask(one)) for one in ("late", "last"))
    await asyncio.sleep(0)
    for task in (late, last):  # of whom the last leaves an empty queue
        task.cancel()
        await cancelled(task)
    assert not first.done()
    work.open.set()
    assert await asyncio.gather(first, other) == ["done first", "done other"]
    assert work.batches == [["first", "other"]]
    await cancelled(gone)
    assert await batcher.ask("next") == "done next"
    assert work.batches[1:] == [["next"]]


async def test_who_is_cancelled_in_its_turn_waits_for_the_end_and_nobody_else_notices() -> None:
    work = Work()
    work.open.clear()
    batcher = Batcher[str, str](work, name="test", most=10)
    gone, other = (asyncio.create_task(batcher.ask(one)) for one in ("gone", "other"))
    await begun(work)
    gone.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not gone.done()  # what it asked is under way: whoever cancels it knows afterwards that nothing is
    work.open.set()
    assert await other == "done other"
    await cancelled(gone)


async def test_an_exception_of_the_batch_is_everybodys_and_one_of_an_outcome_its_callers_only() -> None:
    async def work(batch: Batch) -> list[Any]:
        if "bad" in batch:
            raise ZeroDivisionError
        return [KeyError(one) if one == "wrong" else one for one in batch]

    batcher = Batcher[str, str](work, name="test", most=10)
    found = await asyncio.gather(*(batcher.ask(one) for one in ("a", "bad")), return_exceptions=True)
    assert [type(one) for one in found] == [ZeroDivisionError, ZeroDivisionError]
    found = await asyncio.gather(*(batcher.ask(one) for one in ("a", "wrong")), return_exceptions=True)
    assert found[0] == "a"
    assert isinstance(found[1], KeyError)


async def test_where_it_is_wanted_each_is_tried_alone_after_a_failure() -> None:
    batches: list[list[str]] = []

    async def work(batch: Batch) -> list[str]:
        batches.append(list(batch))
        if "bad" in batch:
            raise ZeroDivisionError
        if "away" in batch:
            raise OSError
        return list(batch)

    batcher = Batcher[str, str](
        work, name="test", most=10, again_alone=lambda fault: isinstance(fault, ZeroDivisionError)
    )
    found = await asyncio.gather(*(batcher.ask(one) for one in ("a", "bad", "b")), return_exceptions=True)
    assert [str(found[0]), type(found[1]), found[2]] == ["a", ZeroDivisionError, "b"]
    assert batches == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]
    found = await asyncio.gather(*(batcher.ask(one) for one in ("a", "away")), return_exceptions=True)
    assert [type(one) for one in found] == [OSError, OSError]
    assert batches[4:] == [["a", "away"]]


async def test_too_few_outcomes_are_a_defect_that_everybody_hears_of() -> None:
    async def work(batch: Batch) -> list[str]:
        return list(batch[1:])

    batcher = Batcher[str, str](work, name="test", most=10)
    found = await asyncio.gather(*(batcher.ask(one) for one in "ab"), return_exceptions=True)
    assert [str(one) for one in found] == ["test: 1 outcomes for 2 callers"] * 2


async def test_who_comes_while_a_turn_is_entered_comes_along_and_it_is_left_before_anybody_is_answered() -> None:
    lock, work = asyncio.Lock(), Work()

    @asynccontextmanager
    async def within() -> AsyncIterator[None]:
        async with lock:
            yield

    batcher = Batcher[str, str](work, name="test", most=10, within=within)
    await lock.acquire()
    tasks = [asyncio.create_task(batcher.ask("first"))]
    for _ in range(5):
        await asyncio.sleep(0)
    tasks += [asyncio.create_task(batcher.ask(one)) for one in "ab"]
    await asyncio.sleep(0)
    lock.release()
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert not lock.locked()
    await asyncio.gather(*tasks)
    assert work.batches == [["first", "a", "b"]]


async def test_the_last_who_leaves_sees_to_it_that_nothing_is_entered_behind_its_back() -> None:
    lock, entered, work = asyncio.Lock(), list[bool](), Work()

    @asynccontextmanager
    async def within() -> AsyncIterator[None]:
        async with lock:
            entered.append(True)
            yield
            entered.append(False)

    batcher = Batcher[str, str](work, name="test", most=10, within=within)
    await lock.acquire()
    first, last = (asyncio.create_task(batcher.ask(one)) for one in ("first", "last"))
    for _ in range(5):
        await asyncio.sleep(0)
    first.cancel()
    await cancelled(first)
    last.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not last.done()
    lock.release()
    await cancelled(last)
    assert (entered, work.batches) == ([True, False], [])


async def test_what_can_not_be_entered_is_told_to_all_who_wait() -> None:
    @asynccontextmanager
    async def within() -> AsyncIterator[None]:
        raise OSError("the database is away")
        yield

    work = Work()
    batcher = Batcher[str, str](work, name="test", most=2, within=within)
    found = await asyncio.gather(*(batcher.ask(one) for one in "abc"), return_exceptions=True)
    assert [str(one) for one in found] == ["the database is away"] * 3
    assert work.batches == []


async def test_something_inside_that_is_cancelled_ends_its_batch_and_not_the_next() -> None:
    inside = asyncio.get_running_loop().create_future()

    async def work(batch: Batch) -> list[str]:
        if "bad" in batch:
            await inside
        return list(batch)

    batcher = Batcher[str, str](work, name="test", most=1)
    bad, good = (asyncio.create_task(batcher.ask(one)) for one in ("bad", "good"))
    await asyncio.sleep(0)
    inside.cancel()
    assert await good == "good"
    await cancelled(bad)


async def test_the_work_sees_nothing_of_the_first_callers_context() -> None:
    mine = contextvars.ContextVar("mine", default="nobody's")
    mine.set("the caller's")

    async def work(batch: Batch) -> list[str]:
        return [mine.get() for _one in batch]

    assert await Batcher[str, str](work, name="test", most=1).ask("a") == "nobody's"


async def test_closing_waits_for_all_that_was_asked() -> None:
    work = Work()
    work.open.clear()
    batcher = Batcher[int, str](work, name="test", most=2)
    tasks = [asyncio.create_task(batcher.ask(number)) for number in range(5)]
    await begun(work)
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    assert not closing.done()
    work.open.set()
    await closing
    assert work.batches == [[0, 1], [2, 3], [4]]
    await asyncio.gather(*tasks)
    await batcher.close()


async def test_when_all_tasks_are_cancelled_as_at_the_end_of_a_loop_everybody_is() -> None:
    work = Work()
    work.open.clear()
    batcher = Batcher[str, str](work, name="test", most=1)
    callers = [asyncio.create_task(batcher.ask(name)) for name in "abc"]
    await begun(work)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await cancelled(*callers)
    work.open.set()
    assert await batcher.ask("next") == "done next"


# Any order of events --------------------------------------------------------------------------------------------------

MOST = 3


class Callers(RuleBasedStateMachine):
    """Callers come and leave, batches succeed and fail, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.tasks: dict[tuple[str, int], asyncio.Task[Any]] = {}
        self.turn_of: dict[tuple[str, int], int] = {}
        self.done: list[tuple[str, int]] = []
        self.left_early: set[tuple[str, int]] = set()
        self.entering: asyncio.Future[None] | None = None
        self.running: asyncio.Future[str] | None = None
        self.batches: list[list[tuple[str, int]]] = []
        self.batcher = Batcher[tuple[str, int], Any](
            self.do,
            name="test",
            most=MOST,
            apart=lambda asked: asked[0],
            again_alone=lambda fault: isinstance(fault, ZeroDivisionError),
            within=self.within,
        )

    @asynccontextmanager
    async def within(self) -> AsyncIterator[None]:
        assert self.entering is None
        self.entering = self.loop.create_future()
        await self.entering
        self.entering = None
        yield

    async def do(self, batch: Sequence[tuple[str, int]]) -> list[Any]:
        assert self.running is None, "one batch at a time"
        assert self.entering is None
        self.batches.append(list(batch))
        for one in batch:
            assert one not in self.done
            assert one not in self.left_early
            self.turn_of[one] = len(self.batches)
        self.running = self.loop.create_future()
        outcome = await self.running
        self.running = None
        if outcome == "fails":
            raise OSError
        if outcome == "is defective":
            raise ZeroDivisionError
        self.done += batch
        return [KeyError(one) if outcome == "one is wrong" and one is batch[0] else one for one in batch]

    def settle(self) -> None:
        """Let the loop do all that it can."""

        async def turns() -> None:
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    @rule(key=st.sampled_from("abcde"), others=st.lists(st.sampled_from("abcde"), max_size=5))
    def come(self, key: str, others: list[str]) -> None:
        for one in (key, *others):
            asked = (one, len(self.tasks))
            self.tasks[asked] = self.loop.create_task(self.batcher.ask(asked))
        self.settle()

    @precondition(lambda self: any(not task.done() for task in self.tasks.values()))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from([one for one, task in self.tasks.items() if not task.done()]))
        if asked not in self.turn_of:
            self.left_early.add(asked)
        if not self.tasks[asked].cancelling():
            self.tasks[asked].cancel()
        self.settle()

    @precondition(lambda self: self.entering is not None)
    @rule()
    def enter(self) -> None:
        assert self.entering is not None
        self.entering.set_result(None)
        self.settle()

    @precondition(lambda self: self.running is not None)
    @rule(outcome=st.sampled_from(["succeeds", "succeeds", "fails", "is defective", "one is wrong"]))
    def end(self, outcome: str) -> None:
        assert self.running is not None
        self.running.set_result(outcome)
        self.settle()

    @invariant()
    def batches_are_bounded_and_apart_and_in_order(self) -> None:
        for batch in self.batches:
            assert 0 < len(batch) <= MOST
            assert len({key for key, _ in batch}) == len(batch)
        for key in "abcde":
            turns = [self.turn_of[one] for one in self.tasks if one[0] == key and one in self.turn_of]
            assert turns == sorted(turns)

    @invariant()
    def everybody_gets_its_own(self) -> None:
        for asked, task in self.tasks.items():
            if not task.done():
                continue
            if task.cancelled():
                assert task.cancelling()
            elif task.exception() is None:
                assert task.result() == asked
                assert asked in self.done
            else:
                assert isinstance(task.exception(), KeyError | OSError | ZeroDivisionError)

    @invariant()
    def nothing_goes_on_when_nobody_is_left(self) -> None:
        if all(task.done() for task in self.tasks.values()):
            assert self.entering is None
            assert self.running is None
            assert self.batcher._turns is None
            assert not self.batcher._queue

    def teardown(self) -> None:
        while self.entering is not None or self.running is not None:
            if self.entering is not None:
                self.enter()
            if self.running is not None:
                self.end("succeeds")
        assert all(task.done() for task in self.tasks.values())
        self.nothing_goes_on_when_nobody_is_left()
        self.everybody_gets_its_own()
        for task in self.tasks.values():
            if not task.cancelled():
                task.exception()
        self.loop.close()


TestCallers = Callers.TestCase
