"""`bitdew top`: the live picture of the grid.

Owns when it is asked, and what is said while nobody answers. How it looks is `top_views`' matter.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bitdew.core.errors import BitDewError

from .options import Json, Profile, Url
from .output import Output
from .running import run
from .top_views import Picture, Rates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bitdew.wire import models as m

    from .documents import GridPicture

PAUSE: Final = 2.0
"""Seconds after which a service that is away is asked again."""
SOONEST: Final = 0.25
"""Seconds between two questions, at least."""

Every = Annotated[
    float, typer.Option("--every", min=1, max=3600, metavar="SECONDS", help="How often it is drawn anew.")
]
Once = Annotated[
    bool, typer.Option("--once", help="Print one picture and end; where something moves, after another look.")
]


def add_to(app: typer.Typer) -> None:
    """Make `bitdew top` a command of `app`."""
    app.command(
        "top",
        epilog="Example: bitdew top --once",
    )(top)


def top(
    every: Every = 2.0, once: Once = False, profile: Profile = "default", url: Url = None, as_json: Json = False
) -> None:
    """Watch the grid: hosts, swarms that fill, machines, jobs and troubles. Ctrl-C ends it.

    What moves has a rate from one look to the next, and the time that is left at that rate. The service reads all this
    once for everybody who watches. In a pipe or a file it is one picture after the other; with --json a line for each:
    `bitdew top --json --every 60 >> grid.jsonl` keeps a record.
    """
    output = Output(as_json=as_json)
    run(_once(output, profile, url) if once else _watch(output, profile, url, every))


async def _once(output: Output, profile: str, url: str | None) -> None:
    from bitdew.client.grid import BitDew

    rates = Rates()
    async with BitDew.connect(profile, url) as grid:
        seen = await grid.summary()
        rates.take(seen)
        if seen.swarms or any(seen.jobs.get(state) for state in rates.MOVING):
            await asyncio.sleep(max(SOONEST, seen.again))
            seen = await grid.summary()
            rates.take(seen)
    output.document(document(seen, rates), lambda: [Picture(seen, rates)])


async def _watch(output: Output, profile: str, url: str | None, every: float) -> None:
    from bitdew.client.grid import BitDew

    rates = Rates()
    last: m.SummaryReply | None = None
    with _screen(output) as draw:
        async with BitDew.connect(profile, url) as grid:
            while True:
                try:
                    last = await grid.summary()
                except BitDewError as fault:
                    if not _may_pass(fault):
                        raise
                    draw(Picture(last, rates, away=f"{fault.message}: asking again"), None)
                    await asyncio.sleep(PAUSE)
                    continue
                rates.take(last)
                draw(Picture(last, rates), document(last, rates))
                await asyncio.sleep(max(every, last.again, SOONEST))


def _may_pass(fault: BitDewError) -> bool:
    """Whether it may be over soon, without that whoever watches does anything."""
    return fault.key in {"service.unreachable", "storage.failed"}


@contextmanager
def _screen(output: Output) -> Iterator[Callable[[Picture, GridPicture | None], None]]:
    """Where pictures are drawn: over each other on a terminal, one after the other elsewhere."""
    if output.as_json:
        from .documents import GridAway

        yield lambda picture, found: output.line(found or GridAway(why=picture.away))
    elif not output.out.is_terminal:
        yield lambda picture, _: output.show(picture)
    else:
        from rich.live import Live

        with Live(console=output.out, screen=True, auto_refresh=False) as live, _resizing(live.refresh):
            yield lambda picture, _: live.update(picture, refresh=True)


@contextmanager
def _resizing(draw: Callable[[], None]) -> Iterator[None]:
    """Have `draw` called whenever the terminal has another size."""
    loop, number = asyncio.get_running_loop(), getattr(signal, "SIGWINCH", None)
    if number is None:
        yield
        return
    loop.add_signal_handler(number, draw)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)


def document(seen: m.SummaryReply, rates: Rates) -> GridPicture:
    """What programs are told: the summary, with the rates."""
    from .documents import GridPicture, SwarmPicture

    swarms = [
        SwarmPicture(**one.model_dump(), rate=rates.of(one.data), left=rates.left(one.data)) for one in seen.swarms
    ]
    more = {"repository_rate": rates.repository, "jobs_per_minute": rates.jobs_per_minute}
    return GridPicture(**{**dict(seen), "swarms": swarms, **more})
