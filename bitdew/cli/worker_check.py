"""`bitdew worker check`: whether this host can work, and what to mend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .options import Home, Json, worker_home
from .output import Output, table
from .running import run

if TYPE_CHECKING:
    from bitdew.worker.checking.findings import CheckView

_WORDS: Final = {"fine": "ok", "warning": "WARNING", "problem": "PROBLEM"}


def add_to(app: typer.Typer) -> None:
    """Make it a command of `app`."""
    app.command("check", epilog="Example: bitdew worker check https://grid.example.org:8440")(check)


def check(
    url: Annotated[
        str,
        typer.Argument(
            metavar="[URL]", help="The service to ask, before this host has joined one.", show_default=False
        ),
    ] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Look over this host: what works, what does not, and what to do about it.

    The service and its clock, certificates, the swarm's port, disk, memory, limits, hypervisors, KVM, rules and
    sharings. Nothing is changed. It works before joining, and beside a worker that runs. The exit code is 1 if there is
    a problem, and 0 if there are warnings at most.
    """
    from bitdew.worker.checking.check import check as look_over

    output = Output(as_json=as_json)
    output.remark("Looking over this host, which takes some seconds …")
    view = run(look_over(worker_home(home), url))
    output.document(view, lambda: _shown(view))
    if not view.ready:
        raise typer.Exit(1)


def _shown(view: CheckView) -> Iterator[Any]:
    rows = table("", "CHECKED", "FOUND")
    for one in view.findings:
        rows.add_row(_WORDS[one.state], one.what, one.found)
    yield rows
    for one in view.findings:
        if one.do:
            yield f"{one.what}: {one.do}"
    problems = sum(one.state == "problem" for one in view.findings)
    warnings = sum(one.state == "warning" for one in view.findings)
    yield f"{problems} problem(s), {warnings} warning(s)." if problems or warnings else "Everything is fine."
