"""How the demo looks on a terminal while it runs, and its last table."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from bitdew.core.units import format_size

from .data_views import STYLES, summary
from .demo_run import Story, Watcher
from .output import Output, heading, printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from bitdew.wire.models import WhereReply


class PlainView(Watcher):
    """A line for each step: for pipes and files."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._held = -1

    def step(self, text: str) -> None:
        """A line for it."""
        self._output.remark(f"{text} …")

    def placements(self, reply: WhereReply) -> None:
        """A line when the number of copies changed."""
        if reply.data.held != self._held:
            self._held = reply.data.held
            self._output.remark(f"  {summary(reply)}")

    def console(self, text: str) -> None:
        """What the machine wrote."""
        for line in printable(text).splitlines():
            if line.strip():
                self._output.remark(f"  console: {line}")


class LiveView(Watcher):
    """A page that moves: the steps with their times, the current bar, the hosts, the console's last lines."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._steps: list[tuple[str, float]] = []
        self._bar: tuple[str, int, int] | None = None
        self._reply: WhereReply | None = None
        self._console = ""

    def step(self, text: str) -> None:
        """A line for it."""
        self._steps.append((text, time.monotonic()))
        self._bar = None
        self._draw()

    def bytes(self, what: str, done: int, total: int) -> None:
        """A bar under the steps."""
        self._bar = (what, done, total)
        self._draw(now=done >= total)

    def placements(self, reply: WhereReply) -> None:
        """A line when the number of copies changed."""
        self._reply = reply
        self._draw()

    def console(self, text: str) -> None:
        """What the machine wrote."""
        self._console += printable(text)
        self._draw()

    def _draw(self, *, now: bool = True) -> None:
        parts: list[Any] = []
        for (text, began), after in zip(self._steps, [*self._steps[1:], None], strict=True):
            took = f" {after[1] - began:.1f} s" if after else " …"
            parts.append(Text(f"{'✓' if after else '▸'} {text}{took}", style="dim" if after else "bold"))
        if self._bar and self._bar[1] < self._bar[2]:
            parts.append(_bar(*self._bar))
        if self._reply:
            parts.append(_hosts(self._reply))
        if self._console:
            lines = [line for line in self._console.splitlines() if line.strip()][-4:]
            parts += [Text(f"  │ {line}", style="cyan") for line in lines]
        self._live.update(Group(*parts), refresh=now)


@contextmanager
def watching(output: Output) -> Iterator[Watcher]:
    """The view that fits to where the output goes."""
    if output.as_json:
        yield Watcher()
    elif not output.live:
        yield PlainView(output)
    else:
        with Live(console=output.err, refresh_per_second=8, transient=True) as live:
            yield LiveView(live)


def ending(story: Story, *, clean: bool, seconds: float) -> Iterator[object]:
    """The last table and what it means."""
    rows = table("HOST", "STATE", "VERIFIED", ">SECONDS", ">FROM REPOSITORY", ">FROM PEERS")
    for one in story.hosts:
        took = "" if one["seconds"] is None else f"{one['seconds']:.1f}"
        sources = (format_size(one["from_repository"]), format_size(one["from_peers"]))
        rows.add_row(one["host"], one["state"], "yes" if one["verified"] else "no", took, *sources)
    yield rows
    yield (
        f"{story.verified} of {story.wishes.replicas} copies of {format_size(story.size)} are verified, after "
        f"{story.placed_seconds:.1f} s. The repository sent {format_size(story.egress)}: "
        f"{story.egress_ratio:.2f} times the disk, instead of {story.wishes.replicas}."
    )
    if story.booted:
        yield heading(f"A machine booted from the copy on {story.machine_host} in {story.hypervisor} and said:")
        said = story.line or "\n".join(story.console.strip().splitlines()[-4:])
        yield f"  {said}  ({story.boot_seconds:.1f} s)"
    yield from story.remarks
    left = "nothing is left behind" if clean else "something was left behind (see --json)"
    yield f"The demo took {seconds:.1f} s; {left}."


def _hosts(reply: WhereReply) -> Table:
    rows = table("host", "state", "bar", "sources")
    for one in reply.placements:
        bar = ProgressBar(total=max(1, one.size), completed=one.done, width=24)
        sources = f"{format_size(one.from_repository)} from the repository, {format_size(one.from_peers)} from peers"
        rows.add_row(f"  {one.host_name}", Text(one.state, style=STYLES.get(one.state, "")), bar, sources)
    return rows


def _bar(what: str, done: int, total: int) -> Table:
    row = table("what", "bar", "figures")
    figures = f"{format_size(done)} of {format_size(total)}"
    row.add_row(f"  {what}", ProgressBar(total=max(1, total), completed=done, width=24), figures)
    return row
