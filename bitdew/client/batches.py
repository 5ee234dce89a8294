"""Calls as batches of jobs: sent together as they come, settled as their jobs end, given up, and forgotten.

Owns that nothing of a call is left once it has ended: no job, no input, no result. What a call is, and what is believed
of its result, is `calling`'s matter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import new_uid
from bitdew.core.states import JOB, JobState
from bitdew.tasks import causes_of

from .calling import ARCHIVE, MOST_HEAD, MOST_RESULT, Packed, again, archive, came_of
from .connection import POLL
from .following import patiently
from .job_events import outcome_of
from .submitting import TAKE_BACK, put_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from bitdew.core.job import JobSpec
    from bitdew.wire import models as m

    from .grid import BitDew
    from .submitting import JobOptions

T = TypeVar("T")
MOST_TOGETHER: Final = 256
"""Calls that are sent together at most."""
BYTES_TOGETHER: Final = 384 * 1024
"""Bytes that several calls have together at most: with what runs them, they go to the service in one request."""
READS: Final = 8
"""Results that are fetched at a time."""
BREATH: Final = 0.2
"""Seconds in which ends gather that are looked at together."""
TOLD: Final = 200
"""Jobs that were looked at and are still there, at most: each look at new ones tells of them too."""
LOG: Final = 4000
"""Characters of its log's end that tell why a call's process broke."""
_INVALID: Final = (asyncio.InvalidStateError, futures.InvalidStateError)


class Promise(Protocol):
    """Where a call's result goes: a future of asyncio's, or one of threads'."""

    def set_result(self, value: Any, /) -> None: ...  # noqa: D102
    def set_exception(self, fault: Any, /) -> None: ...  # noqa: D102
    def cancel(self) -> bool: ...  # noqa: D102
    def cancelled(self) -> bool: ...  # noqa: D102
    def add_done_callback(self, call: Callable[[Any], object], /) -> None: ...  # noqa: D102


@dataclass(eq=False, slots=True)
class Call:
    """One call on its way.

    Attributes:
        name: The function's.
        packed: What is called, until it is sent.
        promise: Where its result goes.
        job: The uid of its job, once it has one.
    """

    name: str
    packed: Packed | None
    promise: Promise
    job: str = ""

    @classmethod
    def of(cls, packed: Packed, promise: Promise) -> Call:
        """The call of what is `packed`."""
        return cls(packed.name, packed, promise)

    def give(self, value: Any) -> None:
        """This came of it. Whoever gave it up meanwhile does not hear of it."""
        with contextlib.suppress(*_INVALID):
            self.promise.set_result(value)

    def fail(self, fault: Exception) -> None:
        """It came to nothing."""
        with contextlib.suppress(*_INVALID):
            self.promise.set_exception(fault)


@dataclass(eq=False, slots=True)
class _Batch:
    """Calls that were sent together: an array of jobs that read one archive.

    Attributes:
        array: The jobs' array.
        archive: The uid of the datum, once it is there.
        open: Those that have not ended, by their number.
        told: The jobs of those that have, and are not forgotten.
        has_jobs: Whether the service has them.
    """

    array: str
    open: dict[int, Call]
    archive: str = ""
    told: set[str] = field(default_factory=set)
    has_jobs: bool = False


class Batches:
    """The calls of a pool that have not ended.

    Attributes:
        inputs: What their jobs read beside the calls: names of data, and places in the jobs' folders.
        fault: Why it is over with all of them, if it is.
    """

    def __init__(self, grid: BitDew, spec: JobSpec, options: JobOptions, *, trust: bool) -> None:
        self.inputs: list[tuple[str, str]] = []
        self.fault: BitDewError | None = None
        self._grid = grid
        self._spec = spec
        self._options = options
        self._trust = trust
        self._first = new_uid()[:16]  # what the uids of all its arrays begin with
        self._number = 0
        self._queue: deque[Call] = deque()
        self._dropped: set[Call] = set()
        self._batches: dict[str, _Batch] = {}
        self._closed = False
        self._to_send, self._to_look, self._to_drop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._reading = asyncio.Semaphore(READS)
        self._sending = asyncio.Lock()
        self._work: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send calls and to look for ends, until it is closed and all have ended."""
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.create_task(self._turn(), name="calls")

    def add(self, call: Call) -> None:
        """Have a call sent. To be called in the loop, to which its promise need not belong."""
        if self._closed or self.fault is not None:  # since whoever asks has looked
            call.promise.cancel()
            return
        self._queue.append(call)
        call.promise.add_done_callback(lambda promise: self._heard(promise, call))
        self._tell()

    def close(self) -> None:
        """No call comes any more."""
        self._closed = True
        self._tell()

    async def over(self) -> None:
        """Return once it is closed and nothing is left. Whoever is cancelled meanwhile does not end it."""
        if self._work is not None:
            await asyncio.wait({self._work})
        await self._forget_all()

    async def end(self) -> None:
        """Give up what has not ended, and leave nothing of it: as far as the service answers within some seconds."""
        self._closed = True
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait({self._work})
        for call in [*self._queue, *self._open()]:
            call.promise.cancel()
        self._queue.clear()
        await self._forget_all()

    async def cancel_waiting(self) -> None:
        """Give up those that no host has begun with. Raises BitDewError."""
        waiting = list(self._queue)
        for call in waiting:
            call.promise.cancel()
        async with self._sending:  # what is just being sent has jobs then
            queued = await self._grid.any_jobs(prefix=self._first, states=[JobState.QUEUED], wait=0)
        known = {call.job: call for call in self._open()}
        for one in queued:
            if one.uid in known:
                known[one.uid].promise.cancel()

    # Turning ----------------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        try:
            async with asyncio.TaskGroup() as parts:
                for part in (self._send, self._look, self._drop):
                    parts.create_task(part())
        except* Exception as group:  # noqa: BLE001 (no call may wait for what is broken)
            cause = causes_of(group)[0]
            internal = error("internal", "The calls can't be followed any more", why=repr(cause))
            self.fault = fault = cause if isinstance(cause, BitDewError) else internal
            for call in [*self._queue, *self._open()]:
                call.fail(again(fault))
            self._queue.clear()

    def _tell(self) -> None:
        """Something has changed."""
        for event in (self._to_send, self._to_look, self._to_drop):
            event.set()

    def _heard(self, promise: Promise, call: Call) -> None:
        """A promise is kept, or was given up: in whatever thread."""
        if promise.cancelled() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._give_up, call)

    def _give_up(self, call: Call) -> None:
        if call in self._queue:
            self._queue.remove(call)
        else:
            self._dropped.add(call)
        self._tell()

    def _open(self) -> list[Call]:
        return [call for batch in self._batches.values() for call in batch.open.values()]

    @property
    def _is_over(self) -> bool:
        return self._closed and not self._queue and not self._batches

    # Sending ----------------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        while not self._closed or self._queue:
            self._to_send.clear()
            if self._queue:
                async with self._sending:
                    if batch := self._taken():  # else they were given up meanwhile
                        await self._ask(batch)
            else:
                await self._to_send.wait()

    def _taken(self) -> _Batch | None:
        """The next calls that go together. What comes while others are sent gathers."""
        size = 0
        calls: list[Call] = []
        while self._queue and len(calls) < MOST_TOGETHER:
            more = self._queue[0].packed.size if self._queue[0].packed else 0
            if calls and size + more > BYTES_TOGETHER:
                break
            calls.append(self._queue.popleft())
            size += more
        if not calls:
            return None
        self._number += 1
        batch = _Batch(f"{self._first}{self._number:016x}", dict(enumerate(calls)))
        self._batches[batch.array] = batch
        return batch

    async def _ask(self, batch: _Batch) -> None:
        try:
            given = [call.packed for call in batch.open.values() if call.packed is not None]
            raw = await asyncio.to_thread(archive, given, trust=self._trust)
            await _to_know(self._put(batch, raw))
            for view in await _to_know(self._submitted(batch)):
                batch.open[view.index].job = view.uid
        except BitDewError as fault:
            if fault.key == "service.unreachable":
                raise
            for call in batch.open.values():
                call.fail(again(fault))
            await self._forget(batch)
        else:
            for call in batch.open.values():
                call.packed = None
            batch.has_jobs = True
            self._tell()

    async def _put(self, batch: _Batch, raw: bytes) -> None:
        # Its own, though another one may be the same: it goes with this batch.
        batch.archive = await put_bytes(self._grid, raw, f"calls-{batch.array}")

    async def _submitted(self, batch: _Batch) -> list[m.JobView]:
        names = {call.name for call in batch.open.values()}
        return await self._grid.submit(
            self._spec,
            name=self._options.get("name") or (names.pop() if len(names) == 1 else "calls"),
            inputs=[(batch.archive, ARCHIVE), *self.inputs],
            values=[str(number) for number in batch.open],
            provision=self._options.get("provision"),
            machines=self._options.get("machines", 1),
            request=batch.array,
        )

    async def _drop(self) -> None:
        """Give up the jobs of calls that were given up."""
        while not self._is_over:
            self._to_drop.clear()
            if not self._dropped:
                await self._to_drop.wait()
                continue
            dropped, self._dropped = self._dropped, set()
            async with self._sending:  # what is just being sent has jobs then
                batches = list(self._batches.values())
            for batch in batches:
                gone = [call for call in batch.open.values() if call in dropped]
                whole = len(gone) == len(batch.open)
                for uid in [batch.array] if gone and whole else [call.job for call in gone]:
                    with contextlib.suppress(BitDewError):
                        await self._grid.cancel_job(uid)

    # Settling ---------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        while not self._is_over:
            self._to_look.clear()
            if any(batch.has_jobs for batch in self._batches.values()):
                await self._look_once()
            else:
                await self._to_look.wait()

    async def _look_once(self) -> None:
        """Settle what has ended; if nothing has, wait for that."""
        told = {uid for batch in self._batches.values() for uid in batch.told}
        ended = await patiently(
            self._grid,
            lambda: self._grid.any_jobs(prefix=self._first, states=sorted(JOB.ends()), wait=0 if told else POLL),
        )
        fresh = [view for view in ended if view.uid not in told and view.array in self._batches]
        async with asyncio.TaskGroup() as group:
            for view in fresh:
                group.create_task(self._settle(view, self._batches[view.array]))
        for batch in [one for one in self._batches.values() if one.has_jobs and not one.open]:
            await self._forget(batch)
        if not fresh or len(told) > TOLD:  # they would come with each look: nothing could be waited for
            for batch in list(self._batches.values()):
                for uid in batch.told:
                    with contextlib.suppress(BitDewError):
                        await self._grid.remove_job(uid)
                batch.told.clear()
        await asyncio.sleep(BREATH)

    async def _settle(self, view: m.JobView, batch: _Batch) -> None:
        async with self._reading:
            call = batch.open.get(view.index)
            if call is not None and not call.promise.cancelled():
                try:
                    call.give(await self._value(view, call))
                except Exception as fault:  # noqa: BLE001 (what the call raised, or why it did not come to that)
                    call.fail(fault.with_traceback(None))  # where it came from here says nothing
            batch.open.pop(view.index, None)
            batch.told.add(view.uid)

    async def _value(self, view: m.JobView, call: Call) -> Any:
        outcome = outcome_of(view)
        if outcome.fault is not None:
            if outcome.exit_code is not None:
                with contextlib.suppress(BitDewError):
                    outcome.fault.add_note(f"It wrote last:\n{(await self._grid.job_log(view.uid)).text[-LOG:]}")
            raise outcome.fault
        left = next((one for one in outcome.results if one.size <= MOST_HEAD + MOST_RESULT), None)
        if left is None:
            why = "it left nothing, or more than a call may"
            raise error("job.garbled", f"What {outcome.host} gave back of {call.name} is no result", why=why)
        raw = await patiently(self._grid, lambda: self._grid.read(left.data, 0, left.size))
        return await asyncio.to_thread(came_of, raw, call.name, outcome.host, trust=self._trust)

    async def _forget_all(self) -> None:
        """End what is left, after an interruption or a fault."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TAKE_BACK):
                for batch in list(self._batches.values()):
                    with contextlib.suppress(BitDewError):  # it may never have come there
                        await self._grid.cancel_job(batch.array)
                    await self._forget(batch)

    async def _forget(self, batch: _Batch) -> None:
        """Nothing of it is needed any more."""
        with contextlib.suppress(BitDewError):  # they were forgotten one by one, or there never were any
            await self._grid.remove_job(batch.array)
        if batch.archive:
            with contextlib.suppress(BitDewError):  # it went with the jobs, if there were any
                await self._grid.remove_input(batch.archive)
        self._batches.pop(batch.array, None)
        self._tell()


async def _to_know(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. Whoever is cancelled meanwhile knows what has become of it, and that nothing does later."""
    asking = asyncio.create_task(work, name="calls are sent")
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        await asyncio.wait({asking}, timeout=TAKE_BACK)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        raise
