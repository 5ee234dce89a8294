"""Attributes as options of a command: `--replica 3 --ft --lifetime 7d --pin pc1 --pin pc2`.

Owns this spelling alone, both ways, without loss. A command's other options are for the command line to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .attribute import Attribute
from .attribute_keys import KEYS, Kind, checked_key, from_text, placed, shown, twice
from .errors import BitDewError, error

MOST_ARGUMENTS: Final = 1000


def to_options(attribute: Attribute) -> list[str]:
    """The arguments that give `attribute`; none for one that wishes nothing."""
    options: list[str] = []
    for key, value in attribute.to_dict().items():
        if KEYS[key].kind is Kind.SWITCH:
            options.append(f"--{key}")
        else:
            for one in value if isinstance(value, list) else [value]:
                options += [f"--{key}", str(one)]
    return options


def from_options(argv: Sequence[str]) -> Attribute:
    """The attribute that the arguments give; `--replica 3` and `--replica=3` are the same.

    Raises:
        UserError: `attribute.invalid`, `attribute.requires`, with the argument of the fault as `argument`, from 1.
    """
    if len(argv) > MOST_ARGUMENTS:
        raise error("attribute.invalid", f"{len(argv)} arguments are too many", why=f"{MOST_ARGUMENTS} are the most")
    wishes: dict[str, Any] = {}
    at = 0
    while at < len(argv):
        start = at
        try:
            key, given, value = _option(argv[at])
            at += 1
            if KEYS[key].kind is Kind.SWITCH:
                read = _switch(key, given, value)
            elif given or at < len(argv):
                read = from_text(key, value if given else argv[at])
                at += not given
            else:
                raise error(
                    "attribute.invalid", f"--{key} has no value", do=f"Write it like --{key} VALUE.", attribute=key
                )
            _take(wishes, key, read)
        except BitDewError as fault:
            raise placed(fault, f"in argument {start + 1}", argument=start + 1) from None
    return Attribute.from_dict(wishes)


def _option(text: str) -> tuple[str, bool, str]:
    """The key of an option, and whether it brings its value, and that."""
    if not text.startswith("--"):
        do = "Text with spaces is one argument: put it in quotes." if text[:1] != "-" else "Options begin with '--'."
        raise error("attribute.invalid", f"{shown(text)} is not an option of an attribute", do=do)
    word, given, value = text[2:].partition("=")
    try:
        return checked_key(word), bool(given), value
    except BitDewError as fault:
        do = (
            fault.do.replace("'", "'--", 1)
            if "'" in fault.do
            else f"The options are {', '.join(f'--{k}' for k in KEYS)}."
        )
        raise error("attribute.invalid", f"{shown(text[:42])} is not an option of an attribute", do=do) from None


def _switch(key: str, given: bool, value: str) -> bool:
    if given:
        raise error("attribute.invalid", f"--{key} takes no value", why=f"it has {shown(value)}", attribute=key)
    return True


def _take(wishes: dict[str, Any], key: str, value: Any) -> None:
    """Add what one option gives; what takes a list may be given several times, anything else once."""
    if KEYS[key].kind is Kind.LIST:
        Attribute.from_dict({key: [value]})
        wishes.setdefault(key, []).append(value)
    elif key in wishes:
        raise twice(key)
    else:
        Attribute.from_dict({key: value})
        wishes[key] = value
