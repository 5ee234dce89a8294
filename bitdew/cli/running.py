"""How a command runs: one event loop, ended in order by Ctrl-C and SIGTERM alike.

Owns signals. A command of a few calls is cancelled by them; a daemon is told to stop and ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from bitdew.core.errors import BitDewError, error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, MutableMapping

    from bitdew.client.grid import BitDew

T = TypeVar("T")
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end. A signal cancels it, so that it ends in order.

    Raises:
        UserError: `interrupted`.
    """
    return asyncio.run(_cancelled_by_signals(work))


def ask(profile: str, url: str | None, question: Callable[[BitDew], Coroutine[Any, Any, T]]) -> T:
    """What the service of `profile` answers to `question`."""

    async def work() -> T:
        from bitdew.client.grid import BitDew

        async with BitDew.connect(profile, url) as grid:
            return await question(grid)

    return run(work())


async def _cancelled_by_signals(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    came: list[str] = []

    def cancel(name: str) -> None:
        came.append(name)
        task.cancel()

    with signals(cancel):
        try:
            return await task
        except asyncio.CancelledError:
            if not came:
                raise
            raise error("interrupted", "The command was interrupted", why=f"{came[0]} came", signal=came[0]) from None


@asynccontextmanager
async def stop_event(*, with_parent: bool = False) -> AsyncIterator[asyncio.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set, and with `with_parent` the end of stdin too.

    A starter that holds the other end of stdin is followed into its death however it dies: the kernel closes it.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read() -> None:
        with suppress(BlockingIOError):
            if not os.read(0, 4096):
                loop.remove_reader(0)
                stop.set()

    if with_parent:
        loop.add_reader(0, read)
    try:
        with signals(lambda _name: stop.set()):
            yield stop
    finally:
        if with_parent:
            loop.remove_reader(0)


@contextmanager
def signals(react: Callable[[str], None]) -> Iterator[None]:
    """Call `react` with the name of each signal that asks to stop, for as long as this lasts."""
    loop = asyncio.get_running_loop()
    # What was started with `nohup` outlives its terminal. A shell has its background jobs ignore SIGINT too; but who
    # sends that to one of them by its id means it.
    deaf = {number for number in STOPS if signal.getsignal(number) is signal.SIG_IGN} - {signal.SIGINT}
    taken = [number for number in STOPS if number not in deaf]
    for number in taken:
        loop.add_signal_handler(number, react, number.name)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def configure_log(*, as_json: bool, quiet: bool = False) -> None:
    """Send structured logs to stderr: as JSON for programs, as lines for people; `quiet` keeps warnings alone."""
    import logging

    import stamina.instrumentation
    import structlog

    # It would say every retry in words of its own; who retries here says so itself, as an event.
    stamina.instrumentation.set_on_retry_hooks([])
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    ending: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if as_json
        # The plain formatter: the pretty one prints variables, and secrets among them.
        else [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _in_its_own_words,
            *ending,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)


def _in_its_own_words(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An error of ours says what happened, why, and what to do: there is nothing to look for in a traceback."""
    given = event.get("exc_info")
    fault = sys.exc_info()[1] if given is True else given
    if isinstance(fault, BitDewError):
        del event["exc_info"]
        event.update(key=fault.key, fault=fault.message, why=fault.why, do=fault.do)
    return event


def gap_in_output(*, as_json: bool) -> Callable[[int], str]:
    """How a daemon says that lines were left out, because nobody read them in time."""
    if as_json:
        from .documents import OutputLeftOut
        from .output import json_line

        return lambda lines: json_line(OutputLeftOut(lines=lines))
    return lambda lines: f"({lines} lines are left out here: nobody read them in time)"
