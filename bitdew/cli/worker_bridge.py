"""`bitdew worker bridge`: whom this host's worker tells which data it holds, and where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitdew.core.errors import error
from bitdew.core.units import parse_duration

from .options import Home, Json, worker_home
from .output import Output, table
from .running import run

if TYPE_CHECKING:
    from bitdew.worker.bridges.desk import BridgesView, ListenerLine

app = typer.Typer(
    help="Tell other systems on this host which data it holds, and where.", no_args_is_help=True, rich_markup_mode=None
)

Attr = Annotated[
    list[str] | None,
    typer.Option("--attr", metavar="NAME", help="Only data with this attribute, or a pattern: hep-*; repeatable."),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="NAME", help="Only data with this name, or a pattern: root-*; repeatable."),
]
Label = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="Only while this host has this label; repeatable."),
]
Name = Annotated[str | None, typer.Option("--name", help="What to call the bridge; its kind by default.")]


def add_to(worker: typer.Typer) -> None:
    """Make it a command of `worker`."""
    worker.add_typer(app, name="bridge")


@app.command("xwhep", epilog="Example: bitdew worker bridge xwhep --url http://127.0.0.1:4327 --attr root")
def xwhep(
    url: Annotated[
        str, typer.Option("--url", help="Where the XtremWeb-HEP worker's HTTP server listens.", show_default=False)
    ],
    name: Name = None,
    attr: Attr = None,
    data: DataOption = None,
    label: Label = None,
    again: Annotated[
        str, typer.Option("--again", metavar="DURATION", help="How often everything is told again: 30s.")
    ] = "30s",
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="The door is on another machine, and the way there can be trusted.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Tell the XtremWeb-HEP worker on this host which data packages it has, so that works which need them come here.

    Its door is told when a copy is held, and before one goes. It is told everything again after a restart of either
    side. A door that is closed or slow keeps nothing waiting.
    """
    chosen = {"url": url, "again": parse_duration(again).total_seconds(), "elsewhere": elsewhere}
    _add(home, name, "xwhep", chosen | _only(attr, data, label), as_json=as_json)


@app.command(
    "webhook",
    epilog="Example: bitdew worker bridge webhook --url https://hooks.example.org/bitdew --secret-file ~/hook.key",
)
def webhook(
    url: Annotated[str, typer.Option("--url", help="Where to post: https, or http on this host.", show_default=False)],
    secret_file: Annotated[
        Path,
        typer.Option(
            "--secret-file",
            help="A file that you alone can read, with what messages are signed with.",
            show_default=False,
        ),
    ],
    name: Name = None,
    attr: Attr = None,
    data: DataOption = None,
    label: Label = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Post JSON to a webhook when copies are held, and before they go, signed by HMAC-SHA-256."""
    from bitdew.meant import path_meant
    from bitdew.worker.bridges.webhook import read_secret

    path = path_meant(secret_file)
    read_secret(path)
    _add(home, name, "webhook", {"url": url, "secret_file": str(path)} | _only(attr, data, label), as_json=as_json)


@app.command(
    "command",
    context_settings={"allow_interspersed_args": False},  # what follows the program is the program's
    epilog="Example: bitdew worker bridge command --name condor /usr/local/bin/tell-condor hep",
)
def command(
    words: Annotated[
        list[str],
        typer.Argument(metavar="PROGRAM [ARG]...", help="What to start, and its arguments.", show_default=False),
    ],
    name: Name = None,
    attr: Attr = None,
    data: DataOption = None,
    label: Label = None,
    seconds: Annotated[
        str, typer.Option("--seconds", metavar="DURATION", help="How long it may run before it is killed.")
    ] = "10s",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Start a program when copies are held, and before they go, with JSON on its standard input. No shell is used."""
    import shutil

    program = shutil.which(words[0])
    if program is None:
        why = "there is no such program, or it can't be executed"
        raise error("input.invalid", f"{words[0][:200]!r} can't be started", why=why, field="program")
    chosen = {
        "words": [str(Path(program).absolute()), *words[1:]],
        "seconds": parse_duration(seconds).total_seconds(),
    }
    _add(home, name, "command", chosen | _only(attr, data, label), as_json=as_json)


@app.command("ls", epilog="Example: bitdew worker bridge ls --json")
def ls(home: Home = None, as_json: Json = False) -> None:
    """List the bridges and plug-ins that are told of this host's copies, and how that goes."""
    from bitdew.worker.bridges.desk import BridgesChange, change_bridges

    view = run(change_bridges(worker_home(home), BridgesChange()))
    Output(as_json=as_json).document(view, lambda: _shown(view))


@app.command("rm", epilog="Example: bitdew worker bridge rm xwhep")
def rm(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The bridge's name, from `ls`.", show_default=False)],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take a bridge away. Whom it leads to is told once that nothing is held."""
    from bitdew.core.ids import checked_name
    from bitdew.worker.bridges.desk import BridgesChange, change_bridges

    change = BridgesChange(remove=[checked_name(name, "bridge's name")])
    view = run(change_bridges(worker_home(home), change))
    Output(as_json=as_json).document(view, lambda: _shown(view))


def _only(attr: list[str] | None, data: list[str] | None, label: list[str] | None) -> dict[str, Any]:
    labels: dict[str, str] = {}
    for text in label or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise error("input.invalid", f"{text[:80]!r} is not a label", do="Write it like --label site=orsay.")
        labels[key.strip()] = value.strip()
    return {"only": {"attributes": attr or (), "data": data or (), "labels": labels}}


def _add(home: Path | None, name: str | None, kind: str, chosen: dict[str, Any], *, as_json: bool) -> None:
    """Set a bridge up, in the place of one that has its name already."""
    from pydantic import ValidationError

    from bitdew.core.ids import checked_name
    from bitdew.worker.bridges.desk import BridgesChange, change_bridges

    called = checked_name(name or kind, "bridge's name")
    try:
        change = BridgesChange.model_validate({"add": {called: {"kind": kind, **chosen}}})
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        place = [str(part) for part in first["loc"] if part not in {"add", called, kind, "only"}]
        why = first["msg"].removeprefix("Value error, ")
        raise error(
            "input.invalid", f"Such a bridge is impossible{_at(place)}", why=why, field=".".join(place)
        ) from None
    view = run(change_bridges(worker_home(home), change))
    Output(as_json=as_json).document(view, lambda: _shown(view))


def _at(place: list[str]) -> str:
    return f": its {place[0]}" if place else ""


def _shown(view: BridgesView) -> Iterator[Any]:
    if not view.running:
        yield "The worker does not run; these are told from its next start on."
    lines = [*view.bridges, *view.plugins]
    if not lines:
        yield "Nobody is told of this host's copies. Set one up: bitdew worker bridge xwhep --url http://127.0.0.1:PORT"
        return
    yield listeners_table(lines)
    for line in lines:
        if line.reason is not None:
            why = f" ({line.reason.why})" if line.reason.why else ""
            yield f"{line.name}: {line.reason.message}{why}"
        if line.remark:
            yield f"{line.name}: {line.remark}"


def listeners_table(lines: list[ListenerLine]) -> Any:
    """Who is told, and how that goes, for people."""
    rows = table("NAME", "KIND", "STATE", ">TOLD", ">WAITING", "OF", "TARGET")
    for line in lines:
        only = [*line.only.data, *(f"attr {one}" for one in line.only.attributes)]
        only += [f"{key}={value}" for key, value in line.only.labels.items()]
        told, waiting = str(line.known), str(line.waiting)
        rows.add_row(line.name, line.kind, line.state, told, waiting, ", ".join(only) or "everything", line.target)
    return rows
