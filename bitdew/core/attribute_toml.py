"""Attributes in a TOML file: a table `[attr.NAME]` for each, with the keys in it.

Owns this spelling alone, both ways, without loss. What TOML is, is the standard library's to say.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from .attribute import Attribute
from .attribute_keys import nearest, placed, shown
from .attribute_text import quote
from .errors import BitDewError, error
from .ids import checked_name

MOST_CHARACTERS: Final = 250_000
MOST_DOTS: Final = 64
"""Outside quotes, in one line: reading a dotted key takes time and memory by the square of its length."""

_PLACE: Final = re.compile(r"\s*\((?:at line (?P<line>\d+), column (?P<column>\d+)|at end of document)\)$")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*')
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def parse_toml(text: str) -> dict[str, Attribute]:
    """The attributes of a TOML file, by name, in its order.

    A lifetime may be a date or a moment of TOML's own, or a text. Tables of other things are refused, not skipped.

    Raises:
        UserError: `attribute.invalid`, `attribute.requires`, with the line of the fault as far as it is known.
    """
    document = _loaded(text)
    for key in document:
        if key != "attr":
            do = "Did you mean [attr.NAME]?" if nearest(key, ["attr"]) else "Each attribute is a table [attr.NAME]."
            raise error("attribute.invalid", f"{shown(key[:40])} is not a table of attributes", do=do)
    tables = document.get("attr", {})
    if not isinstance(tables, dict):
        raise error(
            "attribute.invalid", "attr is not a table of attributes", do="Each attribute is a table [attr.NAME]."
        )
    return {name: _attribute(text, name, table) for name, table in tables.items()}


def write_toml(attributes: Mapping[str, Attribute]) -> str:
    """The TOML file that gives `attributes`.

    Raises:
        UserError: `input.invalid` for a name that no attribute can have.
    """
    return "\n".join(_table(name, attribute) for name, attribute in attributes.items())


def _table(name: str, attribute: Attribute) -> str:
    checked_name(name, "name of an attribute")
    wishes = "".join(f"{key} = {_written(value)}\n" for key, value in attribute.to_dict().items())
    return f"[attr.{name if _BARE.fullmatch(name) else quote(name)}]\n{wishes}"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return str(value) if isinstance(value, int) else quote(value)


def _loaded(text: str) -> dict[str, Any]:
    if len(text) > MOST_CHARACTERS:
        raise _unreadable(text, f"it is longer than {MOST_CHARACTERS} characters", 1, 1)
    for number, written in enumerate(text.split("\n"), 1):
        if written.count(".") > MOST_DOTS and _QUOTED.sub("", written).count(".") > MOST_DOTS:
            raise _unreadable(text, f"it has more than {MOST_DOTS} dots outside quotes", number, 1)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        place = _PLACE.search(str(fault))
        why = str(fault)[: place.start()] if place else str(fault)
        lines = text.replace("\r\n", "\n").split("\n")
        line, column = len(lines), len(lines[-1]) + 1
        if place and place["line"]:
            line, column = int(place["line"]), int(place["column"])
        why = "a key or a table is given twice" if "overwrite" in why or "twice" in why else why
        raise _unreadable(text, why[:1].lower() + why[1:], line, column) from None
    except RecursionError:
        raise _unreadable(text, "it is nested too deep", 1, 1) from None
    except ValueError:  # a number of more digits than Python reads
        longest = max(re.finditer(r"[0-9_]+", text), key=lambda number: len(number[0]))
        line = text.count("\n", 0, longest.start()) + 1
        raise _unreadable(
            text, "a number is too long", line, longest.start() - text.rfind("\n", 0, longest.start())
        ) from None


def _unreadable(text: str, why: str, line: int, column: int) -> BitDewError:
    there = text.replace("\r\n", "\n").split("\n")[line - 1].strip()
    return error(
        "attribute.invalid",
        f"The file can't be read in line {line}, column {column}: {there[:40]!r}",
        why=why,
        do="Correct the line. A text stands in double quotes, each attribute is a table [attr.NAME].",
        line=line,
        column=column,
    )


def _attribute(text: str, name: str, table: Any) -> Attribute:
    key = ""
    try:
        _check_table(name, table)
        wishes: dict[str, Any] = {}
        for key, value in table.items():
            wishes[key] = value.isoformat() if key == "lifetime" and isinstance(value, date) else value
            Attribute.from_dict({key: wishes[key]})
        return Attribute.from_dict(wishes)
    except BitDewError as fault:
        line = _line_of(text, name, key)
        where = f"in [attr.{name if _BARE.fullmatch(name) else shown(name)}]" + (f", line {line}" if line else "")
        raise placed(fault, where, **({"line": line} if line else {})) from None


def _check_table(name: str, table: Any) -> None:
    try:
        checked_name(name, "name of an attribute")
    except BitDewError as fault:
        raise error("attribute.invalid", fault.message, why=fault.why, do="Choose another name.") from None
    if not isinstance(table, dict):
        raise error("attribute.invalid", f"{name} is not a table", do=f"Write its keys below [attr.{name}].")
    for key, value in table.items():
        if isinstance(value, dict):
            do = f"A name with dots stands in quotes: [attr.{quote(f'{name}.{key}'[:128])}]"
            raise error("attribute.invalid", f"{shown(key[:40])} can't be a table", do=do, attribute=key[:40])


def _line_of(text: str, name: str, key: str) -> int | None:
    """The line where `key` stands, or else the head of its table, if they are written plainly."""
    lines = text.split("\n")
    head = re.compile(rf"\s*\[\s*attr\s*\.\s*[\"']?{re.escape(name)}[\"']?\s*\]")
    pair = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
    first = next((i for i, line in enumerate(lines) if head.match(line)), None)
    if first is None:
        return None
    return next((i for i in range(first + 1, len(lines)) if key and pair.match(lines[i])), first) + 1
