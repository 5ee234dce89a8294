"""Commands that follow a datum's copies: they show each change, or wait until all are held and say why they are not."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import error

from .data_views import placements, summary
from .waiting import saying_why

if TYPE_CHECKING:
    from collections.abc import Callable

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import WhereReply

    from .output import Output

MOST_REFUSALS: Final = 10
"""Hosts named by a command that waits; `bitdew explain` names all."""


async def watched(grid: BitDew, name: str, output: Output) -> None:
    """Show where a datum's copies are, now and after each change, until interrupted."""
    from rich.live import Live

    if output.as_json:
        async for reply in grid.watch(name):
            output.line(reply)
    elif not output.out.is_terminal:
        async for reply in grid.watch(name):
            output.show(summary(reply))
            output.show(placements(reply))
    else:
        with Live(console=output.out, auto_refresh=False) as live:
            async for reply in grid.watch(name):
                live.update(placements(reply, title=summary(reply)), refresh=True)


async def placed(grid: BitDew, name: str, output: Output) -> WhereReply:
    """Wait until as many copies are held as are wanted; for "everywhere", until nothing is missing."""
    waits = saying_why(output, lambda: why_missing(grid, name))
    with output.progress(f"Placing {name}") as report:
        async with waits as moved:
            return await _all_held(grid, name, report, moved)


async def _all_held(
    grid: BitDew, name: str, report: Callable[[int, int], None], moved: Callable[[], None]
) -> WhereReply:
    async with contextlib.aclosing(grid.watch(name)) as replies:
        async for reply in replies:
            moved()
            datum = reply.data
            if not datum.alive:
                why = datum.died_because or "it was removed"
                raise error("data.not-found", f"{name!r} ended before its copies were placed", why=why, name=name)
            wanted = datum.wanted if datum.wanted >= 0 else max(1, len(reply.placements))
            done = sum(min(one.done, datum.size) for one in reply.placements)
            report(min(done, wanted * datum.size), wanted * datum.size)
            if datum.held >= wanted and not (await grid.explain(name)).missing:
                return reply
    raise AssertionError("a watch has no end")


async def why_missing(grid: BitDew, name: str) -> list[str]:
    """Why copies are missing, by the scheduler's own words; nothing while all that are wanted are on their way."""
    reply = await grid.explain(name)
    if not reply.missing:
        return []
    refused = [f"  {one.host_name}: {one.reason}" for one in reply.hosts if one.verdict == "refused"]
    return [f"{name} waits for {reply.missing} more: {' '.join(reply.next)}", *refused[:MOST_REFUSALS]]
