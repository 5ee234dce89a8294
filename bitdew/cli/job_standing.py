"""Standing jobs on the command line: what `--each` asks for, and how one is shown, explained and cancelled."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from bitdew.core.errors import BitDewError, error

from .output import Output, heading, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import StandingExplanation, StandingView

SHORT = 8


def attribute_of(text: str) -> str:
    """The attribute that `--each` names.

    Raises:
        UserError: `input.invalid`.
    """
    key, sign, name = text.partition("=")
    if key.strip() != "attr" or not sign or not name.strip():
        do = "Write it like --each attr=events, where events is an attribute: bitdew attr ls"
        raise error("input.invalid", f"{text[:80]!r} names no attribute", do=do, field="each")
    return name.strip()


async def standing_of(grid: BitDew, uid: str) -> StandingView | None:
    """The standing job that is called so, if one is."""
    try:
        return await grid.standing_job(uid)
    except BitDewError as fault:
        if fault.key != "job.not-found":
            raise
        return None


def show(output: Output, view: StandingView) -> None:
    """Show one."""

    def shown() -> Iterator[object]:
        state = "makes no more jobs" if view.ended else "makes jobs"
        yield heading(f"{view.uid[:SHORT]} {view.name}: a standing job that {state}")
        yield f"Command: {shlex.join(view.spec.command)}"
        yield f"For each datum with the attribute: {view.attribute}; it stands at {view.path}"
        yield f"Jobs: {view.made} made, {_counted(view)}; at most {view.at_once} under way"
        yield f"Data that wait: {view.waiting}"

    output.document(view, shown)


def explain(output: Output, found: StandingExplanation) -> None:
    """Tell which data it made jobs for."""

    def shown() -> Iterator[object]:
        yield heading(f"{found.standing.uid[:SHORT]} {found.standing.name}: a standing job")
        yield from found.why
        if found.matches:
            rows = table("DATUM", "SEEN (UTC)", "JOB", "STATE")
            for one in found.matches:
                job = one.job[:SHORT] if one.job else "none"
                state = one.state or ("removed" if one.job else "there before it")
                rows.add_row(one.name, f"{one.at:%Y-%m-%d %H:%M:%S}", job, state)
            yield rows

    output.document(found, shown)


def rows_of(views: Sequence[StandingView]) -> Table:
    """Standing jobs as a table."""
    rows = table("UID", "NAME", "ATTRIBUTE", ">MADE", ">WAITING", "JOBS", "SINCE (UTC)", "ENDED")
    for one in views:
        ended = f"by {one.ended_by}" if one.ended else ""
        since = f"{one.created:%Y-%m-%d %H:%M:%S}"
        counted = _counted(one)
        rows.add_row(one.uid[:SHORT], one.name, one.attribute, str(one.made), str(one.waiting), counted, since, ended)
    return rows


def _counted(view: StandingView) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(view.counts.items())) or "none there"
