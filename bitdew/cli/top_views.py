"""How the grid's picture looks: as much of it as the terminal has room for, what matters most first.

Owns the rates too: they are the difference between two looks.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rich.table import Table
from rich.text import Text

from bitdew.core.states import HostState, JobState
from bitdew.core.units import format_size

from .output import printable, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from rich.console import Console, ConsoleOptions, RenderResult

    from bitdew.wire import models as m

SPAN: Final = 15.0
"""Seconds that a rate looks back."""
ALL_ROWS: Final = 1000
"""Lines where there is no terminal to fill."""
STYLES: Final = {
    HostState.SUSPECT: "yellow",
    HostState.LOST: "red",
    HostState.BANNED: "red",
    JobState.FAILED: "red",
}


class Rates:
    """How fast what was looked at moves. Figures are None until there were two looks."""

    MOVING: ClassVar = (JobState.ASSIGNED, JobState.STAGING, JobState.RUNNING, JobState.STORING)

    def __init__(self) -> None:
        self._looks: deque[tuple[datetime, m.SummaryReply]] = deque()

    def take(self, seen: m.SummaryReply) -> None:
        """Another look."""
        if self._looks and seen.at <= self._looks[-1][0]:
            if seen.at == self._looks[-1][0]:
                return
            self._looks.clear()  # the service's clock was set back
        self._looks.append((seen.at, seen))
        while len(self._looks) > 2 and (seen.at - self._looks[1][0]).total_seconds() > SPAN:
            self._looks.popleft()

    def of(self, data: str) -> float | None:
        """Bytes a second that the hosts get of a datum together."""
        before, after = (_moved(look, data) for look in self._ends())
        return None if before is None or after is None else self._per_second(before, after)

    def left(self, data: str) -> float | None:
        """Seconds until the copies that are on their way are there."""
        rate, swarm = self.of(data), self._swarm(data)
        return None if not rate or swarm is None else max(0.0, swarm.size * swarm.intended - swarm.done) / rate

    @property
    def repository(self) -> float | None:
        """Bytes a second that leave the repository."""
        before, after = self._ends()
        return (
            None if before is None or after is None else self._per_second(before.repository_sent, after.repository_sent)
        )

    @property
    def jobs_per_minute(self) -> float | None:
        """Jobs that become done in a minute."""
        before, after = (None if look is None else look.jobs.get(JobState.DONE, 0) for look in self._ends())
        rate = None if before is None or after is None else self._per_second(before, after)
        return None if rate is None else 60 * rate

    def _ends(self) -> tuple[m.SummaryReply | None, m.SummaryReply | None]:
        if len(self._looks) < 2:
            return None, None
        return self._looks[0][1], self._looks[-1][1]

    def _per_second(self, before: float, after: float) -> float:
        seconds = (self._looks[-1][0] - self._looks[0][0]).total_seconds()
        return max(0.0, after - before) / seconds  # what is less was forgotten meanwhile, or counts anew

    def _swarm(self, data: str) -> m.SwarmSummary | None:
        seen = self._looks[-1][1].swarms if self._looks else ()
        return next((one for one in seen if one.data == data), None)


def _moved(look: m.SummaryReply | None, data: str) -> int | None:
    """Bytes that hosts have of a datum."""
    found = None if look is None else next((one for one in look.swarms if one.data == data), None)
    return None if found is None else found.done + found.held * found.size


class Picture:
    """The grid at one moment, drawn into whatever room there is.

    Attributes:
        away: What is the matter, while the service does not answer; the picture is an old one then.
    """

    def __init__(self, seen: m.SummaryReply | None, rates: Rates, away: str = "") -> None:
        self._seen = seen
        self._rates = rates
        self.away = away

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = (options.height or console.height) if console.is_terminal else ALL_ROWS
        if self.away:
            yield Text(printable(self.away), style="bold red", no_wrap=True, overflow="ellipsis")
            room -= 1
        if self._seen is None:
            return
        head = list(self._head(self._seen))
        yield from head
        sections = [one for one in self._sections(self._seen) if one.rows]
        for section, rows in _shared(sections, room - len(head) - 1):
            yield Text("")
            yield section.drawn(rows)

    def _head(self, seen: m.SummaryReply) -> Iterable[Text]:
        rate = self._rates.repository
        sends = f"sends {format_size(rate)}/s" if rate is not None else f"sent {format_size(seen.repository_sent)}"
        plans = "" if seen.leads else ", another service plans"
        yield _line(
            f"{seen.name} at {seen.at:%H:%M:%S} UTC{plans}",
            f"the repository {sends} to {seen.repository_peers} hosts, {format_size(seen.repository_free)} free",
            style="bold",
        )
        yield _counts("hosts", seen.hosts)
        yield _counts("copies", seen.copies, f"of {seen.data} data, {format_size(seen.data_bytes)}")
        yield _counts("machines", seen.machines)
        pace = self._rates.jobs_per_minute
        yield _counts("jobs", seen.jobs, "" if pace is None else f"{pace:.0f} done a minute")

    def _sections(self, seen: m.SummaryReply) -> Iterable[_Section]:
        yield _Section(
            ("TROUBLES",),
            [[Text(printable(_since(seen.at, one.since) + one.what), style="yellow")] for one in seen.troubles],
        )
        swarms = f"SWARMS FILLING: {seen.swarms_filling}"
        yield _Section(
            (swarms, ">SIZE", ">HELD", ">GETTING", ">DONE", ">RATE", ">LEFT"),
            [
                [
                    one.name,
                    format_size(one.size),
                    f"{one.held} of {'all' if one.wanted < 0 else one.wanted}",
                    str(one.intended),
                    f"{100 * one.done // max(1, one.size * one.intended)} %",
                    _rate(self._rates.of(one.data)),
                    _left(self._rates.left(one.data)),
                ]
                for one in seen.swarms
            ],
        )
        yield _Section(
            ("JOBS OF", ">QUEUED", ">RUNNING"),
            [
                [
                    _person(one),
                    str(one.jobs.get(JobState.QUEUED, 0)),
                    str(sum(number for state, number in one.jobs.items() if state is not JobState.QUEUED)),
                ]
                for one in seen.owners
            ],
        )
        yield _Section(
            ("BUSY HOST", "STATE", ">GETTING", ">MACHINES", ">JOBS", ">CPUS"),
            [
                [
                    one.name,
                    Text(one.state, style=STYLES.get(one.state, "")),
                    *map(str, (one.transfers, one.machines, one.jobs, one.cpus)),
                ]
                for one in seen.busy_hosts
            ],
        )
        yield _Section(
            ("MACHINE", "DISK", "STATE", "HOST", ">SINCE"),
            [
                [one.uid[:8], one.disk, str(one.state), one.host_name, _since(seen.at, one.since).rstrip(" :")]
                for one in seen.live_machines
            ],
        )
        yield _Section(
            ("JOB", "NAME", "OF", "HOST", ">SINCE"),
            [
                [
                    one.uid[:8],
                    one.name,
                    _person(one),
                    one.host_name,
                    _since(seen.at, one.since).rstrip(" :"),
                ]
                for one in seen.live_jobs
            ],
        )


class _Section:
    """One list of the picture."""

    def __init__(self, columns: Sequence[str], rows: list[list[str | Text]]) -> None:
        self._columns = columns
        self.rows = rows

    def drawn(self, rows: int) -> Table:
        """So many of its rows, each on one line."""
        made = table(*self._columns)
        for column in made.columns:
            column.no_wrap, column.overflow = True, "ellipsis"
        for row in self.rows[:rows]:
            made.add_row(*row)
        return made


def _shared(sections: Sequence[_Section], room: int) -> list[tuple[_Section, int]]:
    """How many rows of each section are drawn: one of each by turns, those that stand first before the others."""
    given = dict.fromkeys(range(len(sections)), 0)
    for turn in range(max((len(one.rows) for one in sections), default=0)):
        for number, section in enumerate(sections):
            needs = 1 if turn else 3  # the first has a heading above it, and an empty line above that
            if turn < len(section.rows) and given[number] == turn and needs <= room:
                given[number], room = turn + 1, room - needs
    return [(sections[number], rows) for number, rows in given.items() if rows]


def _person(one: m.OwnerSummary | m.JobSummary) -> str:
    return one.owner_name or one.owner[:8]


def _line(*parts: str, style: str = "") -> Text:
    return Text(printable("; ".join(part for part in parts if part)), style=style, no_wrap=True, overflow="ellipsis")


def _counts(what: str, counts: Mapping[Any, int], more: str = "") -> Text:
    line = Text(f"{what:9}", no_wrap=True, overflow="ellipsis")
    there = [(state, number) for state, number in counts.items() if number]
    for place, (state, number) in enumerate(there):
        line.append(", " if place else "")
        line.append(f"{number} {state}", style=STYLES.get(state, ""))
    return line.append(("; " if there else "none; ") + more if more else "" if there else "none")


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{format_size(rate)}/s"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else _span(seconds)


def _since(now: datetime, since: datetime | None) -> str:
    return "" if since is None else f"{_span(max(0.0, (now - since).total_seconds()))}: "


def _span(seconds: float) -> str:
    """A duration in its two largest units at most: 45 s, 3 min 20 s, 2 h 5 min, 3 d."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d"
