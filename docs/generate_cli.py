"""The reference of the command line, from the commands themselves; and what of them other pages tell too."""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import typer.main
from markdown_table import table


def cli_page() -> Iterator[str]:
    """Every command, with its arguments and options."""
    from bitdew.cli.main import app

    yield from ["# Command line", ""]
    yield "Every command that prints takes `--json`. Exit codes stand with the [errors](errors.md)."
    yield ""
    yield from command_section(typer.main.get_command(app), "bitdew", 2)


def command_section(command: Any, name: str, level: int) -> Iterator[str]:
    """One command, and those below it. Typer's commands are click's by shape; their classes differ between releases."""
    yield from ["#" * min(level, 4) + f" `{name}`", "", (command.help or "").strip(), ""]
    shown = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    rows = [option_row(one) for one in shown]
    if rows:
        yield from table("argument or option", "default", "meaning", rows=rows)
    if command.epilog:
        told, colon, example = command.epilog.partition(": ")
        yield from [f"{told}:", "", "```", example, "```", ""] if colon else [command.epilog, ""]
    for below in sorted(getattr(command, "commands", {}).items()):
        if not below[1].hidden:
            yield from command_section(below[1], f"{name} {below[0]}", level + 1)


def option_row(one: Any) -> tuple[object, ...]:
    """An argument or option of a command as a row."""
    if one.param_type_name == "argument":
        return (f"`{one.metavar or one.name.upper()}`", "required" if one.required else "", one.help or "")
    value = "" if one.is_flag else f" {value_of(one.type_descriptor.annotation)}"
    spelled = ", ".join(f"`{flag}{value}`" for flag in [*one.opts, *one.secondary_opts])
    return (
        spelled,
        f"`{default}`" if (default := default_of(one)) not in {"", "required"} else default,
        (one.help or "") + (f" (environment: `{one.envvar}`)" if one.envvar else ""),
    )


def default_of(one: Any) -> str:
    """What an argument or option is when it is left out; "required", or "" for nothing that can be told."""
    default = getattr(one.default, "value", one.default)
    return "required" if one.required else "" if not default or callable(default) else str(default)


def value_of(annotation: Any) -> str:
    """What stands for an option's value: its choices, or its type."""
    kinds = [kind for kind in typing.get_args(annotation) or (annotation,) if kind is not type(None)]
    if inspect.isclass(kinds[0]) and issubclass(kinds[0], enum.Enum):
        return "/".join(str(one.value) for one in kinds[0])
    return {"str": "TEXT", "int": "N", "float": "N"}.get(kinds[0].__name__, kinds[0].__name__.upper())
