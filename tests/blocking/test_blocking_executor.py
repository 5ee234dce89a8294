"""The grid as an executor of the standard library: its futures are waited for, wrapped, given up and interrupted."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, as_completed, wait

import pytest

from bitdew import blocking
from bitdew.core.states import JobState

LIMITS = {"runtime": "1m", "memory": "256MB", "output": "1MB", "modules": [sys.modules[__name__]]}


@pytest.fixture
def hosts() -> int:
    return 0


@pytest.fixture
def dew(dew):
    yield dew
    assert list(dew.jobs()) == []
    assert list(dew.search("")) == []


def squared(x: int) -> int:
    return x * x


def fails(x: int) -> int:
    raise ValueError(x)


def until(condition) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_it_does_what_the_standard_librarys_executors_do(service, dew) -> None:
    service.add_machine()
    with dew.executor(**LIMITS) as pool:
        assert isinstance(pool, Executor)
        calls = [pool.submit(squared, n) for n in range(3)]
        failed = pool.submit(fails, 7)
        told: list[int] = []
        calls[0].add_done_callback(lambda call: told.append(call.result()))
        first, _rest = wait(calls, timeout=60, return_when=FIRST_COMPLETED)
        assert first
        assert sorted(one.result() for one in as_completed(calls, timeout=60)) == [0, 1, 4]
        with pytest.raises(ValueError, match="7") as fault:
            failed.result(60)
        assert "in fails" in str(fault.value.__cause__)
        assert list(pool.map(squared, range(4), timeout=60, chunksize=3)) == [0, 1, 4, 9]
        assert (calls[0].cancel(), calls[0].running(), told) == (False, False, [0])

        async def program() -> int:
            return await asyncio.wrap_future(pool.submit(squared, 5))

        assert asyncio.run(program()) == 25
    with pytest.raises(RuntimeError):
        pool.submit(squared, 1)


def test_a_future_that_is_given_up_gives_up_its_job_and_whoever_waits_is_told(service, dew) -> None:
    with dew.executor(**LIMITS) as pool:
        calls = [pool.submit(squared, n) for n in range(3)]
        until(lambda: all(one.running() for one in calls))
        threading.Timer(0.1, calls[1].cancel).start()
        done, _ = wait(calls, timeout=60, return_when=FIRST_COMPLETED)
        assert done == {calls[1]}
        with pytest.raises(CancelledError):
            calls[1].result()
        until(lambda: len(list(dew.jobs(JobState.QUEUED))) == 2)

        async def program() -> None:
            waiting = asyncio.ensure_future(asyncio.wrap_future(calls[0]))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})

        asyncio.run(program())
        assert calls[0].cancelled()
        with pytest.raises(TimeoutError):
            next(pool.map(squared, range(2), timeout=0.1))
        assert not calls[2].done()
        pool.shutdown(cancel_futures=True)
        assert calls[2].cancelled()


@pytest.fixture
def ctrl_c():
    """Ctrl-C comes as in a program in the foreground: a shell's background jobs are deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_gives_up_all_calls_wherever_it_comes(dew, ctrl_c) -> None:
    called = []
    with pytest.raises(KeyboardInterrupt), dew.executor(**LIMITS) as pool:  # noqa: PT012 (the block is what is tested)
        called.append(pool.submit(squared, 1))
        until(called[0].running)
        signal.raise_signal(signal.SIGINT)
    assert called[0].cancelled()
    main = threading.main_thread().ident or 0
    with pytest.raises(KeyboardInterrupt), dew.executor(**LIMITS) as pool:  # noqa: PT012 (the block is what is tested)
        called.append(pool.submit(squared, 2))
        until(called[1].running)
        # Now the block's end waits for it, in vain.
        threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    assert called[1].cancelled()


def test_a_connection_that_ends_leaves_no_call_and_no_future_waiting(service) -> None:
    with blocking.connect(service.folder / "operator") as dew:
        pool = dew.executor(**LIMITS)
        call = pool.submit(squared, 1)
        until(call.running)
        assert dew.job(call.job).state is JobState.QUEUED
        pool.shutdown(wait=False)
    assert call.cancelled()
    with pytest.raises(RuntimeError):
        pool.submit(squared, 2)
