"""The manual page `bitdew.1`, from the commands themselves: `make docs-generate` writes it, and tests hold it.

Owns how a command looks in man(7). What it says of one is said in the code, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import typer.main
from generate_cli import default_of, value_of

import bitdew
from bitdew.client.profiles import HOME_VARIABLE
from bitdew.core.errors import EXIT_CODES

NOTICE: Final = r""".\" Made from the code by docs/generate_man.py. Do not edit."""


def man_page() -> str:
    """The whole page."""
    from bitdew.cli.main import app

    return "\n".join([NOTICE, *_page(typer.main.get_command(app))]) + "\n"


def _page(root: Any) -> Iterator[str]:
    # Without a date: it would change where nothing else does.
    about = root.help.partition("\n")[0]
    yield f'.TH BITDEW 1 "" "BitDew {bitdew.__version__}" "User Commands"'
    yield from (".SH NAME", f"bitdew \\- {_text(about[0].lower() + about[1:].rstrip('.'))}")
    yield from (".SH SYNOPSIS", r".B bitdew", r"\fICOMMAND\fR [\fIOPTION\fR]... [\fIARGUMENT\fR]...")
    yield from (".SH DESCRIPTION", _text(about), ".PP", "These are the commands, and groups of commands:")
    for name, command in _below(root):
        yield from (".TP", f".B {_text(name)}", _text((command.help or "").partition("\n")[0]))
    yield from (
        ".PP",
        _text("Every command has -h, with an example, and takes --json. bitdew --version tells the version."),
    )
    yield ".SH COMMANDS"
    for name, command in _below(root):
        yield from _command(command, f"bitdew {name}")
    yield ".SH ENVIRONMENT"
    for variable, where in sorted(_variables(root).items()):
        yield from (".TP", f".B {variable}", _text(where))
    yield ".SH FILES"
    yield from (".TP", ".I ~/.local/share/bitdew", _text("Profiles, and what a service and a worker keep."))
    yield from (
        ".SH EXIT STATUS",
        "A failure says what happened to what, why, and what to do; its kind is the exit status.",
    )
    for code, meaning in EXIT_CODES.items():
        yield from (".TP", f".B {code}", _text(f"{meaning[0].upper()}{meaning[1:]}."))
    yield from (".SH EXAMPLES", ".TP", ".B bitdew demo", "A whole grid on this machine, from nothing to a booted disk.")


def _below(command: Any) -> list[tuple[str, Any]]:
    return [(name, one) for name, one in sorted(getattr(command, "commands", {}).items()) if not one.hidden]


def _command(command: Any, name: str) -> Iterator[str]:
    """One command, and those below it."""
    yield f".SS {_text(name)}"
    yield from _paragraphs(command.help or "")
    shown = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    for one in shown:
        default = default_of(one)
        told = (one.help or "") + ("" if default in {"", "required"} else f" Default: {default}.")
        yield from (".TP", _spelled(one), _text(told))
    if command.epilog:
        said, _, example = command.epilog.partition(": ")
        yield from (".PP", f"{_text(said)}:", ".PP", ".nf", f".RS 4\n{_text(example)}\n.RE", ".fi")
    for below, one in _below(command):
        yield from _command(one, f"{name} {below}")


def _paragraphs(text: str) -> Iterator[str]:
    for number, part in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        yield _text(part)


def _spelled(one: Any) -> str:
    """An argument or option, as people write it."""
    if one.param_type_name == "argument":
        return rf"\fI{_text(one.metavar or one.name.upper())}\fR"
    value = "" if one.is_flag else rf" \fI{_text(value_of(one.type_descriptor.annotation))}\fR"
    return ", ".join(rf"\fB{_text(flag)}\fR{value}" for flag in [*one.opts, *one.secondary_opts])


def _variables(root: Any) -> dict[str, str]:
    """The variables that options read, and what sets everything's place."""
    found = {HOME_VARIABLE: "The folder that everything is kept in, in place of the one below FILES."}
    waiting = [root]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        for one in command.params:
            if getattr(one, "envvar", None):
                found.setdefault(str(one.envvar), f"What {one.opts[0]} says: {one.help}")
    return found


def _text(text: str) -> str:
    """`text` on one line, where nothing is a request or an escape."""
    plain = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
    return r"\&" + plain if plain[:1] in {".", "'"} else plain
