"""`bitdew worker share`: the applications and libraries that this host offers, declared by its volunteer."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitdew.core.errors import error

from .options import Home, Json, worker_home
from .output import Output, table
from .running import run

if TYPE_CHECKING:
    from bitdew.worker.sharings.desk import SharingsView

app = typer.Typer(
    help="What this host shares: applications and libraries that jobs may ask for.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="What it is called: root, python3, numpy.", show_default=False)
]


def add_to(worker: typer.Typer) -> None:
    """Make it a command group of `worker`."""
    worker.add_typer(app, name="share")


@app.command("add", epilog="Example: bitdew worker share add root --command 'root-config --version'")
def add(
    name: Name,
    command: Annotated[
        str | None,
        typer.Option("--command", metavar="LINE", help="What prints its version: 'prog --version'. No shell reads it."),
    ] = None,
    python: Annotated[
        str | None, typer.Option("--python", metavar="MODULE", help="It is this Python module: it is imported.")
    ] = None,
    pkg_config: Annotated[
        str | None, typer.Option("--pkg-config", metavar="PACKAGE", help="It is a library that pkg-config knows.")
    ] = None,
    program: Annotated[
        list[str] | None,
        typer.Option("--program", metavar="PATH", help="A program that jobs may run, by its path or name; repeatable."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Share an application or a library. It is offered as soon as it was tried, and while it is there.

    Known names need no more: `bitdew worker share known` lists them. Of others say how they are asked for their
    version. Jobs may run the programs that are named here, or else the usual ones. Adding it again replaces what was
    said of it before.
    """
    declared = {
        "command": _words(command) if command is not None else (),
        "python": python or "",
        "pkg_config": pkg_config or "",
        "programs": tuple(program or ()),
    }
    folder, output = worker_home(home), Output(as_json=as_json)
    _show(run(_added(folder, name, declared, output)), output, only=name)


@app.command("rm", epilog="Example: bitdew worker share rm root")
def rm(name: Name, home: Home = None, as_json: Json = False) -> None:
    """Share it no more. It is withdrawn at once; what runs is not ended."""
    folder = worker_home(home)
    view = run(_removed(folder, name))
    Output(as_json=as_json).document(view, lambda: [f"{name} is shared no more."])


@app.command("ls", epilog="Example: bitdew worker share ls --again")
def ls(
    again: Annotated[bool, typer.Option("--again", help="Try everything again first.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List what this host shares: what is offered with which version, and what is not, and why."""
    from bitdew.worker.sharings.desk import show_sharings

    output = Output(as_json=as_json)
    _show(run(show_sharings(worker_home(home), again=again)), output)


@app.command("known", epilog="Example: bitdew worker share known")
def known(as_json: Json = False) -> None:
    """List the names that can be shared without saying how they are tried. Nothing of it is shared by itself."""
    from bitdew.worker.sharings.known import KNOWN

    from .worker_documents import KnownSharing, KnownSharings

    rows = [
        KnownSharing(
            name=one.name,
            kind=one.kind,
            tried=shlex.join(one.command) or (f"import {one.python}" if one.python else f"pkg-config {one.pkg_config}"),
            programs=list(one.programs),
            source=one.source,
        )
        for one in KNOWN.values()
    ]

    def shown() -> Iterator[Any]:
        listed = table("NAME", "KIND", "TRIED BY", "JOBS MAY RUN")
        for one in rows:
            listed.add_row(one.name, one.kind, one.tried, ", ".join(one.programs))
        yield listed

    Output(as_json=as_json).document(KnownSharings(known=rows), shown)


async def _added(folder: Path, name: str, declared: dict[str, Any], output: Output) -> SharingsView:
    from pydantic import ValidationError

    from bitdew.worker.adjusting import change_limits
    from bitdew.worker.limits import LimitsChange
    from bitdew.worker.sharings.declaration import Declaration, trial_of
    from bitdew.worker.sharings.desk import show_sharings

    try:
        one = Declaration(**declared)
        trial_of(name, one)
        change = LimitsChange(share={name: one})
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        why = first["msg"].removeprefix("Value error, ")
        raise error("input.invalid", f"{name[:80]!r} can't be shared like that", why=why, field="name") from None
    except ValueError as cause:
        do = f"Say how: bitdew worker share add {name[:80]} --command '… --version'"
        raise error("input.invalid", f"{name[:80]!r} can't be shared like that", why=str(cause), do=do) from None
    await change_limits(folder, change)
    output.remark(f"{name} is shared from now on. Trying it …")
    return await show_sharings(folder)


async def _removed(folder: Path, name: str) -> SharingsView:
    from bitdew.core.ids import checked_name
    from bitdew.worker.adjusting import change_limits
    from bitdew.worker.limits import LimitsChange
    from bitdew.worker.sharings.desk import show_sharings

    await change_limits(folder, LimitsChange(unshare=[checked_name(name)]))
    return await show_sharings(folder)


def _words(line: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(line))
    except ValueError as cause:
        raise error("input.invalid", "--command can't be read", why=str(cause), field="command") from None
    if not words:
        raise error(
            "input.invalid", "--command is empty", do="Write it like --command 'prog --version'.", field="command"
        )
    return words


def _show(view: SharingsView, output: Output, only: str | None = None) -> None:
    chosen = [one for one in view.sharings if only in {None, one.name}]

    def shown() -> Iterator[Any]:
        if not view.running:
            yield f"{view.name} does not run; it would share this:"
        if not chosen:
            yield "Nothing is shared. Share something: bitdew worker share add NAME"
            return
        rows = table("NAME", "VERSION", "KIND", "JOBS MAY RUN", "WHY NOT")
        for one in chosen:
            rows.add_row(one.name, one.version or "-", one.kind, ", ".join(one.programs.values()), one.why)
        yield rows

    output.document(view.model_copy(update={"sharings": chosen}), shown)
