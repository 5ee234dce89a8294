"""`bitdew worker leave`: the host leaves its service, and nothing of the worker is left on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bitdew.core.units import format_size, parse_duration

from .host_drain import left, summary
from .options import Home, Json, worker_home
from .output import Output
from .running import run

if TYPE_CHECKING:
    from pathlib import Path

    from bitdew.wire.models import DrainView
    from bitdew.worker.leaving.departure import Departed

    from .worker_documents import WorkerLeft


def add_to(app: typer.Typer) -> None:
    """Make it a command of `app`."""
    app.command("leave", epilog="Example: bitdew worker leave --timeout 1h")(leave)


def leave(
    now: Annotated[
        bool, typer.Option("--now", help="Hand nothing over: say what is lost by that, and leave at once.")
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Take back a leaving that was begun and cut off.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="How long handing over may take: 30m, 2h.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Leave the service: hand over what only this host has, end its machines, and remove all that the worker made.

    The worker goes on serving its copies while others fetch them. What is left in the end is also in the repository or
    on other hosts. Cut off at any point, the same command goes on; until it is through, the host gets nothing new.
    """
    folder, output = worker_home(home), Output(as_json=as_json)
    seconds = None if timeout is None else parse_duration(timeout).total_seconds()
    if cancel:
        _cancel(folder, output)
        return
    told = _Told(output, lost=now)
    departed = run(_leave(folder, told, now=now, seconds=seconds))
    output.document(_document(departed, lost=now), lambda: _shown(departed))


def _cancel(folder: Path, output: Output) -> None:
    from bitdew.worker.leaving.departure import stay

    from .worker_documents import WorkerStays

    view = run(stay(folder))
    name = view.host.name if view is not None else ""
    text = f"{name} stays, and may have copies and machines again." if name else "The service does not know this host."
    output.document(WorkerStays(stays=view is not None, name=name), lambda: [text])


async def _leave(folder: Path, told: _Told, *, now: bool, seconds: float | None) -> Departed:
    from bitdew.client.profiles import home_folder
    from bitdew.worker.leaving.departure import leave as depart
    from bitdew.worker.unit import uninstall

    parent = home_folder()
    return await depart(
        folder,
        tell=told,
        now=now,
        seconds=seconds,
        end_service=lambda: uninstall(folder),
        parent=parent if parent == folder.parent else None,
    )


class _Told:
    """Says how far it is, whenever that changed."""

    def __init__(self, output: Output, *, lost: bool) -> None:
        self._output = output
        self._lost = lost
        self._said = ""

    def __call__(self, view: DrainView) -> None:
        lines = [summary(view), *left(view, most=100 if self._lost else 3)]
        if self._lost:
            lost = [copy for copy in view.left if copy.only_here]
            head = f"Nothing is handed over: {len(lost)} copies that are nowhere else are lost" if lost else ""
            lines = [head or "Nothing is handed over; every copy here is elsewhere too.", *lines]
        if self._said != (said := "\n".join(lines)):
            self._said = said
            self._output.remark(said)


def _document(departed: Departed, *, lost: bool) -> WorkerLeft:
    from .worker_documents import WorkerLeft

    view = departed.left
    return WorkerLeft(
        name=departed.name,
        known=view is not None,
        lost=[copy for copy in view.left if copy.only_here] if view and lost else [],
        revoked=departed.revoked,
        freed=departed.freed,
        kept=[str(path) for path in departed.kept],
        unheard=list(departed.unheard),
    )


def _shown(departed: Departed) -> Iterator[str]:
    yield f"{departed.name or 'The host'} has left; {format_size(departed.freed)} are free again."
    if not departed.revoked:
        yield "Its identity could not be given up: have an operator run `bitdew host revoke` for it."
    for name in departed.unheard:
        yield f"{name} could not be told that nothing is held here any more, and may go by what it knew."
    for path in departed.kept:
        yield f"{path} is not the worker's, and stays."
