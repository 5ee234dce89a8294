"""The command `bitdew`: its groups, and how each command's end becomes an exit code."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, NoReturn

import typer

from bitdew.core.errors import BitDewError, error

from . import (
    attr,
    backup,
    data,
    demo,
    disk,
    explain,
    faults,
    health,
    host,
    job,
    profile,
    serve,
    streams,
    tokens,
    top,
    user,
    vm,
    worker,
)
from .elsewhere import elsewhere

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="bitdew",
    help="Place whole VM disks on volunteers' PCs by BitTorrent swarm, and boot them there.\n\n"
    "All commands and options on one page: man bitdew",
    epilog="Try it on this machine alone: bitdew demo",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
serve.add_to(app)
demo.add_to(app)
backup.add_to(app)
explain.add_to(app)
health.add_to(app)
top.add_to(app)
for name, group in {
    "token": tokens.app,
    "user": user.app,
    "profile": profile.app,
    "worker": worker.app,
    "attr": attr.app,
    "data": data.app,
    "disk": disk.app,
    "vm": vm.app,
    "job": job.app,
    "host": host.app,
}.items():
    app.add_typer(group, name=name)

UsageError = typer.BadParameter.__bases__[0]
"""What typer raises for wrong usage; it exports the name of one kind only."""


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    """Place whole VM disks on volunteers' PCs by BitTorrent swarm, and boot them there."""
    if version:
        import bitdew

        sys.stdout.write(f"bitdew {bitdew.__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command that `arguments` spell and exit."""
    streams.open_closed()
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in itertools.takewhile(lambda word: word != "--", given)
    try:
        code = _run(given, as_json=as_json)
        if (unwritten := streams.unwritten()) is not None:
            code = faults.report(unwritten, as_json=False)
    except BrokenPipeError:
        # The reader of our output is gone, `head` for one: that is no failure of ours, and no more is said.
        streams.stop_writing()
        code = 1
    sys.exit(code)


def _run(given: list[str], *, as_json: bool) -> int:
    try:
        ended = app(args=given, prog_name="bitdew", standalone_mode=False)
    except BitDewError as fault:
        return faults.report(fault, as_json=as_json)
    except KeyboardInterrupt:
        return faults.report(_interrupted(), as_json=as_json)
    except BrokenPipeError:
        raise
    except Exception as fault:  # noqa: BLE001 - what is none of ours must not reach the screen as a traceback
        return _usage(fault, given, as_json=as_json)
    if ended == 130:
        return faults.report(_interrupted(), as_json=as_json)
    return ended if isinstance(ended, int) else 0


def _usage(fault: Exception, given: list[str], *, as_json: bool) -> int:
    if type(fault).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(str(getattr(fault, "message", "")) + "\n")
        return 2
    if isinstance(fault, UsageError):
        context = getattr(fault, "ctx", None)
        command = context.command_path if context is not None else "bitdew"
        meant = elsewhere(context, given) if context is not None else []
        return faults.report(faults.wrong_usage(_sentence(fault), command, meant), as_json=as_json)
    if (unwritten := streams.of_writing(fault)) is not None:
        return faults.report(unwritten, as_json=False)
    if isinstance(fault, UnicodeEncodeError) and (odd := [word for word in given if not _is_text(word)]):
        return faults.report(faults.not_text(odd[0]), as_json=as_json)
    return faults.report(faults.defect(fault), as_json=as_json)


def _is_text(word: str) -> bool:
    """Whether it came as UTF-8: other bytes come as surrogates."""
    return not any("\ud800" <= sign <= "\udfff" for sign in word)


def _sentence(fault: Exception) -> str:
    formatted = getattr(fault, "format_message", None)
    return str(formatted() if callable(formatted) else fault).strip().rstrip(".")


def _interrupted() -> BitDewError:
    return error("interrupted", "The command was interrupted", why="SIGINT came")
